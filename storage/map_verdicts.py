"""Map verdicts: what people say about where a model's map looks; events, appended and never changed.

Delivery is exactly once, as for labels (delivery.py). The newest event of a model and image holds; "cleared" takes it
back. From them comes the localisation hit rate, which needs no mask: only images that are labelled bad and that the
scoring network had not seen count.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import ColumnElement, Select, func, select, tuple_
from sqlalchemy.orm import Session

from storage import registry
from storage.db import Database, chunks, insert_for
from storage.delivery import BAD_NUMBER, NUMBER_TAKEN, Recorded, is_count, is_numbered, wrong_inspector
from storage.tables import ImageRow, MapVerdictRow, ModelRow, PredictionRow, utc_now

VERDICTS = ("on_defect", "elsewhere", "unsure", "cleared")
NO_SUCH = "This model has no map of such an image in this project"


@dataclass(frozen=True)
class MapVerdict:
    """One thing said about a map, as it arrives."""

    client: str  # one browser tab; 1 to 64 characters
    seq: int  # 1, 2, 3 ... within the client
    model_id: int
    image_id: int
    verdict: str  # on_defect | elsewhere | unsure | cleared
    inspector: str  # 1 to 100 characters


class Localisation(NamedTuple):
    """How often the map looks at the defect, as people judged it, on held-out images labelled bad."""

    hits: int
    elsewhere: int
    unsure: int

    @property
    def decided(self) -> int:
        """Images that the hit rate rests on: `hits` of so many."""
        return self.hits + self.elsewhere


def record(db: Database, *, project_id: int, events: Sequence[MapVerdict]) -> Recorded:
    """Store map verdicts in one transaction, those of one client in the order of their numbers.

    Never raises because of an event.
    """
    acks: dict[str, int] = {}
    rejected: list[tuple[str, int, str]] = []
    usable: dict[tuple[str, int], MapVerdict] = {}
    for event in sorted(events, key=lambda one: one.seq if is_count(one.seq) else 0):
        reason = _unusable(event)
        if reason is None and usable.setdefault((event.client, event.seq), event) != event:
            reason = NUMBER_TAKEN
        if reason is not None:
            rejected.append((event.client, event.seq, reason))
        if is_numbered(event.client, event.seq):
            acks[event.client] = max(event.seq, acks.get(event.client, 0))
    with db.write() as session:
        known = _scored(session, project_id, usable.values())
        mine = {key: event for key, event in usable.items() if (event.model_id, event.image_id) in known}
        rejected += [(client, seq, NO_SUCH) for client, seq in usable if (client, seq) not in mine]
        stored = _insert(session, list(mine.values()))
        if len(stored) < len(mine):
            rejected += _contradicted(session, [event for key, event in mine.items() if key not in stored])
    return Recorded(acks=acks, rejected=rejected, stored=len(stored))


def newest(db: Database, *, model_id: int, image_ids: Sequence[int]) -> dict[int, str]:
    """image -> on_defect | elsewhere | unsure, for those of the images whose map was judged."""
    found: dict[int, str] = {}
    with db.read() as session:
        for chunk in chunks(image_ids):
            rows = session.execute(_newest(model_id).where(MapVerdictRow.image_id.in_(chunk)))
            found.update((image, verdict) for image, verdict in rows)
    return {image: verdict for image, verdict in found.items() if verdict != "cleared"}


def localisation_rate(db: Database, model_id: int) -> Localisation:
    """(hits, elsewhere, unsure): how many maps were judged to look at the defect, elsewhere, or could not be told.

    Only held-out images that are labelled bad today count. The hit rate is hits / (hits + elsewhere), with
    `ssn_core.rates.rate_interval(hits, hits + elsewhere)`.

    Raises:
        SsnError: there is no such model.
    """
    verdicts = _newest(model_id).subquery()
    statement = (
        select(verdicts.c.verdict, func.count())
        .join(PredictionRow, PredictionRow.image_id == verdicts.c.image_id)
        .join(ImageRow, ImageRow.id == verdicts.c.image_id)
        .where(*_held_out_bad(db, model_id))
        .group_by(verdicts.c.verdict)
    )
    with db.read() as session:
        counts: dict[str, int] = dict(session.execute(statement).all())
    return Localisation(*(counts.get(verdict, 0) for verdict in ("on_defect", "elsewhere", "unsure")))


def held_out_bad(db: Database, *, model_id: int) -> int:
    """How many maps there are to be judged: of held-out images that are labelled bad today.

    Raises:
        SsnError: there is no such model.
    """
    statement = (
        select(func.count())
        .select_from(PredictionRow)
        .join(ImageRow, ImageRow.id == PredictionRow.image_id)
        .where(*_held_out_bad(db, model_id))
    )
    with db.read() as session:
        return session.scalar(statement) or 0


def _held_out_bad(db: Database, model_id: int) -> list[ColumnElement[bool]]:
    model = registry.get(db, model_id=model_id)
    return [
        ImageRow.project_id == model.project_id,  # lets an index find the few bad images among a hundred thousand
        ImageRow.label == "bad",
        PredictionRow.model_id == model_id,
        PredictionRow.role == model.held_out,
    ]


def _newest(model_id: int) -> Select[int, str]:
    """(image, verdict) of the newest event of each image under a model."""
    last = select(func.max(MapVerdictRow.id)).where(MapVerdictRow.model_id == model_id).group_by(MapVerdictRow.image_id)
    return select(MapVerdictRow.image_id, MapVerdictRow.verdict).where(MapVerdictRow.id.in_(last))


def _unusable(event: MapVerdict) -> str | None:
    """Why an event can never be stored, or None. Its values come from a browser, so their types are checked too."""
    if not is_numbered(event.client, event.seq):
        return BAD_NUMBER
    if not (is_count(event.model_id) and is_count(event.image_id)):
        return NO_SUCH
    if event.verdict not in VERDICTS:
        return f"Unknown verdict {str(event.verdict)[:40]!r}; expected one of {', '.join(VERDICTS)}"
    return wrong_inspector(event.inspector)


def _scored(session: Session, project_id: int, events: Collection[MapVerdict]) -> set[tuple[int, int]]:
    """(model, image) pairs of the project that have a score, and so a map."""
    found: set[tuple[int, int]] = set()
    wanted = sorted({(event.model_id, event.image_id) for event in events})
    for chunk in chunks(wanted):
        statement = (
            select(PredictionRow.model_id, PredictionRow.image_id)
            .join(ImageRow, ImageRow.id == PredictionRow.image_id)
            .join(ModelRow, ModelRow.id == PredictionRow.model_id)
            .where(
                ImageRow.project_id == project_id,
                ModelRow.project_id == project_id,
                tuple_(PredictionRow.model_id, PredictionRow.image_id).in_(chunk),
            )
        )
        found.update((model, image) for model, image in session.execute(statement))
    return found


def _insert(session: Session, events: list[MapVerdict]) -> set[tuple[str, int]]:
    """Insert what is new; (client, seq) of the new ones."""
    stored: set[tuple[str, int]] = set()
    now = utc_now()
    for chunk in chunks(events):
        values = [
            {
                "model_id": event.model_id,
                "image_id": event.image_id,
                "verdict": event.verdict,
                "inspector": event.inspector.strip(),
                "client": event.client,
                "seq": event.seq,
                "created_at": now,
            }
            for event in chunk
        ]
        statement = (
            insert_for(session, MapVerdictRow)
            .values(values)  # one statement: the ids rise in the order of the values
            .on_conflict_do_nothing(index_elements=["client", "seq"])
            .returning(MapVerdictRow.client, MapVerdictRow.seq)
        )
        stored.update((client, seq) for client, seq in session.execute(statement))
    return stored


def _contradicted(session: Session, repeated: list[MapVerdict]) -> list[tuple[str, int, str]]:
    """Of events whose number was taken already, those that say something else than what is stored."""
    found: dict[tuple[str, int], tuple[object, ...]] = {}
    for chunk in chunks(repeated):
        statement = select(
            MapVerdictRow.client,
            MapVerdictRow.seq,
            MapVerdictRow.model_id,
            MapVerdictRow.image_id,
            MapVerdictRow.verdict,
        ).where(tuple_(MapVerdictRow.client, MapVerdictRow.seq).in_([(one.client, one.seq) for one in chunk]))
        for client, seq, *said in session.execute(statement):
            found[client, seq] = (said[0], said[1], said[2])
    return [
        (event.client, event.seq, NUMBER_TAKEN)
        for event in repeated
        if found.get((event.client, event.seq)) != (event.model_id, event.image_id, event.verdict)
    ]
