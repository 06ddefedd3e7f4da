"""Verdicts of second opinions as they come from a browser: blind, each once; one that settles becomes a label."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from storage import labels, second_opinions, studies
from storage.db import Database
from storage.delivery import is_count
from storage.labels import LabelEvent, usable_seconds
from storage.second_opinions import SECOND, THIRD, Case
from storage.study_verdicts import UNDO, VERDICTS, Message, Recorded
from storage.tables import ImageRow, LabelEventRow, OpinionRoundRow, OpinionVerdictRow


def record(
    db: Database,
    *,
    project_id: int,
    round_id: int,
    inspector: str,
    stage: str,
    messages: Sequence[Message] = (),
) -> Recorded:
    """Store verdicts of one inspector in the order in which they were given, in one transaction.

    What is stored already is passed over. Never raises because of a message: one that cannot be stored is refused
    alone.

    Args:
        stage: "second" or "third".

    Raises:
        SsnError: the project has no such round, or `inspector` is not a name.
        ValueError: an unknown stage.
    """
    if stage not in (SECOND, THIRD):
        raise ValueError(f"unknown stage {stage!r}")
    studies.check_inspector(inspector)
    inspector = inspector.strip()
    refused: list[tuple[int, str]] = []
    with db.write() as session:
        row = second_opinions.row_of(session, round_id, project_id=project_id, lock=True)
        for place, message in enumerate(messages):
            image_id = message.image_id
            found = second_opinions.cases_of(session, row, image_id=image_id) if is_count(image_id) else []
            if not found:
                refused.append((place, "This image is not part of the round"))
                continue
            if message.verdict not in (*VERDICTS, UNDO):
                refused.append((place, "This is not a verdict of a second opinion"))
                continue
            reason = _take(session, row, found[0], inspector, stage, message)
            if reason is not None:
                refused.append((place, reason))
            session.flush()  # the next message may be about the same image
        given = len(session.scalars(second_opinions.given_by(round_id, inspector, stage)).all())
        return Recorded(given=(given,), refused=tuple(refused), closed=row.closed_at is not None)


def _take(
    session: Session, row: OpinionRoundRow, case: Case, inspector: str, stage: str, message: Message
) -> str | None:
    """Apply one message; the reason where it is refused."""
    mine = session.scalar(
        select(OpinionVerdictRow).where(
            OpinionVerdictRow.round_id == row.id,
            OpinionVerdictRow.image_id == case.image_id,
            OpinionVerdictRow.inspector == inspector,
        )
    )
    if (None if mine is None else mine.verdict) == (None if message.verdict == UNDO else message.verdict):
        return None  # it has arrived before
    if row.closed_at is not None:
        return "The round was closed meanwhile"
    if message.verdict == UNDO:
        assert mine is not None  # noqa: S101  # else the message has arrived before
        return _take_back(session, row, case, mine)
    if mine is not None:
        return "You have judged this image already"
    if case.first_inspector == inspector:
        return "You gave the first verdict on this image yourself"
    if stage == THIRD and case.settled is not None:
        return "Somebody else has settled this image meanwhile"
    if stage == THIRD and not case.disputed:
        return "Nobody disagrees on this image"
    session.add(
        OpinionVerdictRow(
            round_id=row.id,
            image_id=case.image_id,
            inspector=inspector,
            verdict=message.verdict,
            settles=stage == THIRD,
            seconds=usable_seconds(message.seconds),
        )
    )
    if stage == THIRD:
        _label(session, row.project_id, case.image_id, message.verdict, inspector, message.seconds)
    return None


def _take_back(session: Session, row: OpinionRoundRow, case: Case, mine: OpinionVerdictRow) -> str | None:
    newest = session.scalar(
        select(func.max(OpinionVerdictRow.id)).where(
            OpinionVerdictRow.round_id == row.id, OpinionVerdictRow.inspector == mine.inspector
        )
    )
    if newest != mine.id:
        return "Only the newest verdict can be taken back"
    if not mine.settles and case.settled is not None:
        return "The image was settled meanwhile"
    if mine.settles:
        _take_label_back(session, row.project_id, mine)
    session.execute(delete(OpinionVerdictRow).where(OpinionVerdictRow.id == mine.id))
    return None


def _take_label_back(session: Session, project_id: int, mine: OpinionVerdictRow) -> None:
    """The label becomes what it was before the third verdict, unless somebody has labelled the image since."""
    image = session.get(ImageRow, mine.image_id)
    events = select(LabelEventRow).where(LabelEventRow.image_id == mine.image_id).order_by(LabelEventRow.id.desc())
    newest = session.scalars(events.limit(2)).all()
    if image is None or not newest or newest[0].id != image.label_event_id:
        return
    if (newest[0].origin, newest[0].inspector) == ("opinion", mine.inspector):
        before = newest[1].verdict if len(newest) > 1 else "cleared"
        _label(session, project_id, mine.image_id, before, mine.inspector, None, is_undo=True)


def _label(
    session: Session,
    project_id: int,
    image_id: int,
    verdict: str,
    inspector: str,
    seconds: float | None,
    *,
    is_undo: bool = False,
) -> None:
    event = LabelEvent(
        client=f"opinion-{uuid.uuid4().hex}",
        seq=1,
        image_id=image_id,
        verdict=verdict,
        inspector=inspector,
        origin="opinion",
        is_undo=is_undo,
        seconds=seconds,
        map_seen=False,
    )
    recorded = labels.append(session, project_id=project_id, events=[event])
    if recorded.rejected:
        raise ValueError(f"the label of image {image_id} was refused: {recorded.rejected[0][2]}")
