"""Labels: events, appended and never changed.

Delivery is exactly once: a browser tab numbers its events 1, 2, 3 ..., sends each until it is acknowledged, and what
arrives twice is stored once. An event that can never be stored is acknowledged too, and reported as rejected, so that
it does not block those behind it. An image's current label is its newest event's verdict, kept on the image in the
same transaction.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select, tuple_, update
from sqlalchemy.orm import Session

from storage.db import Database, chunks, insert_for
from storage.delivery import BAD_NUMBER, NUMBER_TAKEN, Recorded, is_count, is_numbered, wrong_inspector
from storage.tables import ImageRow, LabelEventRow, utc_now

VERDICTS = ("good", "bad", "unsure", "cleared")
ORIGINS = ("import", "board", "single", "review", "opinion")


@dataclass(frozen=True)
class LabelEvent:
    """One thing said about an image, as it arrives."""

    client: str  # one browser tab (or one import); 1 to 64 characters
    seq: int  # 1, 2, 3 ... within the client
    image_id: int
    verdict: str  # good | bad | unsure | cleared
    inspector: str  # 1 to 100 characters
    origin: str  # import | board | single | review | opinion
    is_undo: bool = False  # takes the client's event before it back; `verdict` is what was there before
    seconds: float | None = None  # time the image was on the screen
    map_seen: bool | None = None  # the model's map of it had been on the screen before; None: not known


@dataclass(frozen=True)
class Event:
    """One stored event."""

    id: int
    image_id: int
    verdict: str
    inspector: str
    origin: str
    is_undo: bool
    seconds: float | None
    map_seen: bool | None
    created_at: datetime


def record(db: Database, *, project_id: int, events: Sequence[LabelEvent]) -> Recorded:
    """Store events and bring the images' labels up to date, in one transaction.

    Events of one client are stored in the order of their numbers. Never raises because of an event.
    """
    with db.write() as session:
        return append(session, project_id=project_id, events=events)


def append(session: Session, *, project_id: int, events: Sequence[LabelEvent]) -> Recorded:
    """`record` inside the caller's write transaction."""
    acks: dict[str, int] = {}
    rejected: list[tuple[str, int, str]] = []
    usable: list[LabelEvent] = []
    for event in events:
        reason = _unusable(event)
        if reason is None:
            usable.append(event)
        else:
            rejected.append((event.client, event.seq, reason))
        if is_numbered(event.client, event.seq):
            acks[event.client] = max(event.seq, acks.get(event.client, 0))
    known = _lock_images(session, project_id, {event.image_id for event in usable})
    mine: dict[tuple[str, int], LabelEvent] = {}
    for event in sorted(usable, key=lambda event: event.seq):  # stable, so only the order within a client matters
        if event.image_id not in known:
            rejected.append((event.client, event.seq, "There is no such image in this project"))
        elif mine.setdefault((event.client, event.seq), event) != event:
            rejected.append((event.client, event.seq, NUMBER_TAKEN))
    stored = _insert(session, project_id, list(mine.values()))
    if len(stored) < len(mine):
        rejected.extend(_contradicted(session, [event for key, event in mine.items() if key not in stored]))
    _bring_up_to_date(session, stored)
    return Recorded(acks=acks, rejected=rejected, stored=len(stored))


def history(db: Database, *, image_id: int) -> list[Event]:
    """Everything ever said about an image, oldest first."""
    statement = select(LabelEventRow).where(LabelEventRow.image_id == image_id).order_by(LabelEventRow.id)
    with db.read() as session:
        return [_event(row) for row in session.scalars(statement)]


def project_history(db: Database, *, project_id: int, limit: int, before_id: int | None = None) -> list[Event]:
    """The newest events of a project, newest first; `before_id`: the last event of the page before."""
    statement = select(LabelEventRow).where(LabelEventRow.project_id == project_id)
    if before_id is not None:
        statement = statement.where(LabelEventRow.id < before_id)
    with db.read() as session:
        return [_event(row) for row in session.scalars(statement.order_by(LabelEventRow.id.desc()).limit(limit))]


def count_by_inspector(db: Database, *, project_id: int) -> dict[str, int]:
    """How many images bear a label that this inspector gave (the current label counts), most first."""
    n = func.count()
    statement = (
        select(LabelEventRow.inspector, n)
        .join(ImageRow, ImageRow.label_event_id == LabelEventRow.id)
        .where(ImageRow.project_id == project_id, ImageRow.label.is_not(None))
        .group_by(LabelEventRow.inspector)
        .order_by(n.desc(), LabelEventRow.inspector)
    )
    with db.read() as session:
        return dict(session.execute(statement).all())


def _unusable(event: LabelEvent) -> str | None:
    """Why an event can never be stored, or None. Its values come from a browser, so their types are checked too."""
    if not is_numbered(event.client, event.seq):
        return BAD_NUMBER
    if not is_count(event.image_id):
        return "There is no such image in this project"
    if event.verdict not in VERDICTS:
        return f"Unknown verdict {str(event.verdict)[:40]!r}; expected one of {', '.join(VERDICTS)}"
    if event.origin not in ORIGINS:
        return f"Unknown origin {str(event.origin)[:40]!r}; expected one of {', '.join(ORIGINS)}"
    return wrong_inspector(event.inspector)


def usable_seconds(value: object) -> float | None:
    """A time that makes sense, or None: a wrong clock is no reason to lose a verdict."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        seconds = float(value)
    except OverflowError:  # JSON knows whole numbers of any length
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def _lock_images(session: Session, project_id: int, image_ids: set[int]) -> set[int]:
    """Those that belong to the project; locked (where the database locks rows) so that the newest event wins."""
    found: set[int] = set()
    for chunk in chunks(sorted(image_ids)):
        statement = select(ImageRow.id).where(ImageRow.project_id == project_id, ImageRow.id.in_(chunk))
        found.update(session.scalars(statement.order_by(ImageRow.id).with_for_update()))
    return found


def _insert(session: Session, project_id: int, events: list[LabelEvent]) -> dict[tuple[str, int], tuple[int, int, str]]:
    """Insert what is new; (client, seq) -> (event id, image id, verdict) of the new ones."""
    stored: dict[tuple[str, int], tuple[int, int, str]] = {}
    now = utc_now()
    for chunk in chunks(events):
        values = [
            {
                "project_id": project_id,
                "image_id": event.image_id,
                "verdict": event.verdict,
                "inspector": event.inspector.strip(),
                "origin": event.origin,
                "is_undo": bool(event.is_undo),
                "client": event.client,
                "seq": event.seq,
                "seconds": usable_seconds(event.seconds),
                "map_seen": event.map_seen if isinstance(event.map_seen, bool) else None,
                "created_at": now,
            }
            for event in chunk
        ]
        statement = (
            insert_for(session, LabelEventRow)
            .values(values)  # one statement: the ids rise in the order of the values
            .on_conflict_do_nothing(index_elements=["client", "seq"])
            .returning(
                LabelEventRow.client,
                LabelEventRow.seq,
                LabelEventRow.id,
                LabelEventRow.image_id,
                LabelEventRow.verdict,
            )
        )
        for client, seq, event_id, image_id, verdict in session.execute(statement):
            stored[client, seq] = (event_id, image_id, verdict)
    return stored


def _contradicted(session: Session, repeated: list[LabelEvent]) -> list[tuple[str, int, str]]:
    """Of events whose number was taken already, those that say something else than what is stored."""
    found: dict[tuple[str, int], tuple[int, str]] = {}
    for chunk in chunks(repeated):
        numbers = [(event.client, event.seq) for event in chunk]
        statement = select(
            LabelEventRow.client, LabelEventRow.seq, LabelEventRow.image_id, LabelEventRow.verdict
        ).where(tuple_(LabelEventRow.client, LabelEventRow.seq).in_(numbers))
        for client, seq, image_id, verdict in session.execute(statement):
            found[client, seq] = (image_id, verdict)
    return [
        (event.client, event.seq, NUMBER_TAKEN)
        for event in repeated
        if found.get((event.client, event.seq)) != (event.image_id, event.verdict)
    ]


def _bring_up_to_date(session: Session, stored: dict[tuple[str, int], tuple[int, int, str]]) -> None:
    newest: dict[int, tuple[int, str]] = {}
    for event_id, image_id, verdict in stored.values():
        if event_id > newest.get(image_id, (0, ""))[0]:
            newest[image_id] = (event_id, verdict)
    if newest:
        session.execute(
            update(ImageRow),
            [
                {"id": image_id, "label": None if verdict == "cleared" else verdict, "label_event_id": event_id}
                for image_id, (event_id, verdict) in newest.items()
            ],
        )


def _event(row: LabelEventRow) -> Event:
    return Event(
        id=row.id,
        image_id=row.image_id,
        verdict=row.verdict,
        inspector=row.inspector,
        origin=row.origin,
        is_undo=row.is_undo,
        seconds=row.seconds,
        map_seen=row.map_seen,
        created_at=row.created_at,
    )
