"""Verdicts in a study: blind, in the inspector's own order, each exactly once, and never a label.

Within a trial the parts come in one fixed order (study_parts.order), so how many verdicts there are says which part is
next. That makes delivery safe to repeat: what is stored already is passed over, and a verdict for any other part than
the next one is refused. The newest verdict may be taken back until the next one is given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, select

from storage import studies
from storage.db import Database
from storage.labels import usable_seconds
from storage.study_parts import order
from storage.tables import StudyPartRow, StudyVerdictRow

VERDICTS = ("good", "bad")
UNDO = "undo"  # a message that takes the verdict on its part back


@dataclass(frozen=True)
class Message:
    """One key press, as it arrives from a browser: any of its values may be anything."""

    trial: int  # from 1
    image_id: int
    verdict: str  # good | bad | undo
    seconds: float | None = None  # time the image was on the screen


@dataclass(frozen=True)
class Recorded:
    """What became of the messages of one call."""

    given: tuple[int, ...]  # verdicts of this inspector now stored, in each trial
    refused: tuple[tuple[int, str], ...]  # place among the messages, reason for people
    closed: bool


@dataclass(frozen=True)
class StoredVerdict:
    """One stored verdict."""

    image_id: int
    inspector: str
    trial: int
    verdict: str  # good | bad
    seconds: float | None
    created_at: datetime


def record(
    db: Database, *, project_id: int, study_id: int, inspector: str, messages: Sequence[Message] = ()
) -> Recorded:
    """Store verdicts of one inspector in the order in which they were given, in one transaction.

    Never raises because of a message: one that cannot be stored is refused alone.

    Raises:
        SsnError: the project has no such study, or `inspector` is not a name.
    """
    studies.check_inspector(inspector)
    inspector = inspector.strip()
    with db.write() as session:
        study = studies.row_of(session, study_id, project_id=project_id, lock=True)
        parts = session.scalars(select(StudyPartRow.image_id).where(StudyPartRow.study_id == study_id)).all()
        mine = select(StudyVerdictRow).where(
            StudyVerdictRow.study_id == study_id, StudyVerdictRow.inspector == inspector
        )
        stored = {(row.trial, row.image_id): row.verdict for row in session.scalars(mine)}
        desk = _Desk(
            orders=[order(parts, seed=study.seed, inspector=inspector, trial=t + 1) for t in range(study.trials)],
            verdicts=dict(stored),
            closed=study.closed_at is not None,
        )
        usable = [_usable(one, study.trials) for one in messages]
        refused = [(place, "This is not a verdict of this study") for place, good in enumerate(usable) if not good]
        places = [place for place, good in enumerate(usable) if good]
        for number, one in _net([messages[place] for place in places], stored):
            reason = desk.take(one)
            if reason is not None:
                refused.append((places[number], reason))
        for trial, image_id in stored:
            if (trial, image_id) in desk.touched:
                session.execute(
                    delete(StudyVerdictRow).where(
                        StudyVerdictRow.study_id == study_id,
                        StudyVerdictRow.inspector == inspector,
                        StudyVerdictRow.trial == trial,
                        StudyVerdictRow.image_id == image_id,
                    )
                )
        session.flush()
        session.add_all(
            StudyVerdictRow(
                study_id=study_id,
                image_id=one.image_id,
                inspector=inspector,
                trial=one.trial,
                verdict=one.verdict,
                seconds=usable_seconds(one.seconds),
            )
            for one in desk.touched.values()
            if one is not None
        )
        return Recorded(given=desk.given(), refused=tuple(sorted(refused)), closed=desk.closed)


def all_verdicts(db: Database, *, study_id: int) -> list[StoredVerdict]:
    """Everything said in a study, oldest first. For results and export: not to be shown while others still judge."""
    statement = select(StudyVerdictRow).where(StudyVerdictRow.study_id == study_id).order_by(StudyVerdictRow.id)
    with db.read() as session:
        return [
            StoredVerdict(row.image_id, row.inspector, row.trial, row.verdict, row.seconds, row.created_at)
            for row in session.scalars(statement)
        ]


@dataclass
class _Desk:
    """One inspector's verdicts while messages are taken one by one."""

    orders: list[list[int]]  # of each trial
    verdicts: dict[tuple[int, int], str]  # (trial, image) -> good | bad
    closed: bool

    def __post_init__(self) -> None:
        # (trial, image) -> the message to store, or None where a stored one goes
        self.touched: dict[tuple[int, int], Message | None] = {}

    def given(self) -> tuple[int, ...]:
        counts = [0] * len(self.orders)
        for trial, _image in self.verdicts:
            counts[trial - 1] += 1
        return tuple(counts)

    def take(self, one: Message) -> str | None:
        """Apply a message; the reason where it is refused."""
        key = (one.trial, one.image_id)
        said = self.verdicts.get(key)
        if said == one.verdict or (said is None and one.verdict == UNDO):
            return None  # it has arrived before
        if self.closed:
            return "The study was closed meanwhile"
        return self._take_back(key) if one.verdict == UNDO else self._give(key, one, said)

    def _give(self, key: tuple[int, int], one: Message, said: str | None) -> str | None:
        if said is not None:
            return "This part has a verdict already in this trial"
        if key != self._next():
            return "This part is not the next one"
        self.verdicts[key] = one.verdict
        self.touched[key] = one
        return None

    def _take_back(self, key: tuple[int, int]) -> str | None:
        following = self._next()
        if following is None:
            return "All trials are finished, so results may have been seen"
        if key != self._newest():
            return "Only the newest verdict can be taken back"
        del self.verdicts[key]
        self.touched[key] = None
        return None

    def _next(self) -> tuple[int, int] | None:
        """(trial, image) of the part whose turn it is; None when all trials are finished."""
        for trial, (images, n) in enumerate(zip(self.orders, self.given(), strict=True), start=1):
            if n < len(images):
                return trial, images[n]
        return None

    def _newest(self) -> tuple[int, int] | None:
        counts = [(trial, n) for trial, n in enumerate(self.given(), start=1) if n]
        if not counts:
            return None
        trial, n = counts[-1]
        return trial, self.orders[trial - 1][n - 1]


def _net(messages: Sequence[Message], stored: Mapping[tuple[int, int], str]) -> list[tuple[int, Message]]:
    """The messages with their places, without what a later one of the same call takes back.

    A call may repeat what an earlier one has stored: "good, undo, bad" to a part that is bad already changes nothing,
    and is no contradiction either.
    """
    said: dict[tuple[int, int], list[tuple[int, Message]]] = {}
    for place, one in enumerate(messages):
        of_part = said.setdefault((one.trial, one.image_id), [])
        if one.verdict == UNDO:
            of_part.clear()
        of_part.append((place, one))
    for part, of_part in said.items():
        if [one.verdict for _place, one in of_part] == [UNDO, stored.get(part)]:
            of_part.clear()
    return sorted((found for of_part in said.values() for found in of_part), key=lambda found: found[0])


def _usable(one: Message, trials: int) -> bool:
    numbers = (one.trial, one.image_id)
    return (
        all(isinstance(number, int) and not isinstance(number, bool) for number in numbers)
        and 1 <= one.trial <= trials
        and one.verdict in (*VERDICTS, UNDO)
    )
