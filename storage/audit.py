"""The audit: who said what and when, of a project or of one image; nothing here changes anything."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import ColumnElement, Select, case, func, select
from sqlalchemy.orm import Session, aliased

from storage import second_opinions
from storage.db import Database
from storage.tables import (
    ImageRow,
    LabelEventRow,
    LabelFileRow,
    MapVerdictRow,
    ModelRow,
    OpinionImageRow,
    OpinionRoundRow,
    StudyRow,
    StudyVerdictRow,
)

PAGE = 5000  # events read at once for an export


@dataclass(frozen=True)
class Filter:
    """Which events; None lets everything through. All conditions hold together."""

    inspector: str | None = None
    verdict: str | None = None  # good | bad | unsure | cleared
    origin: str | None = None  # import | board | single | review | opinion
    name: str | None = None  # a part of the image's name, in any case
    since: datetime | None = None  # aware; included
    until: datetime | None = None  # aware; not included
    map_seen: bool | None = None  # given after (True) or before (False) the model's map was on the screen


@dataclass(frozen=True)
class Entry:
    """One label event, with its image."""

    id: int
    image_id: int
    name: str  # of the image
    verdict: str
    inspector: str
    origin: str
    is_undo: bool
    seconds: float | None
    map_seen: bool | None
    created_at: datetime
    file: str | None  # the label file that brought it, and who read it in; None: said here
    is_current: bool  # it decides the image's label


@dataclass(frozen=True)
class Moment:
    """One thing that was said about an image, of whatever kind."""

    created_at: datetime
    kind: str  # label | map | second opinion | third verdict | study
    verdict: str
    inspector: str
    detail: str  # where, in words
    is_undo: bool = False


class MindChanges(NamedTuple):
    """What became of first verdicts once the model's map had been seen.

    A case is an inspector and an image: their last verdict given before they saw the map, and their first one after.
    A verdict that was taken back right away counts as none.
    """

    looked: int  # cases with a verdict after the map, of those with one before it
    good_to_bad: int
    bad_to_good: int
    other: int  # to or from unsure

    @property
    def changed(self) -> int:
        """Cases in which the verdict after is another one than before."""
        return self.good_to_bad + self.bad_to_good + self.other


def events(
    db: Database, *, project_id: int, wanted: Filter | None = None, limit: int, before_id: int | None = None
) -> list[Entry]:
    """The newest label events, newest first.

    Args:
        limit: at most so many.
        before_id: the last event of the page before; None for the first page.
    """
    statement = _events(project_id, wanted or Filter()).order_by(LabelEventRow.id.desc()).limit(limit)
    if before_id is not None:
        statement = statement.where(LabelEventRow.id < before_id)
    with db.read() as session:
        return [
            Entry(
                id=row.id,
                image_id=row.image_id,
                name=name,
                verdict=row.verdict,
                inspector=row.inspector,
                origin=row.origin,
                is_undo=row.is_undo,
                seconds=row.seconds,
                map_seen=row.map_seen,
                created_at=row.created_at,
                file=None if file is None else f"{file}, read in by {reader}",
                is_current=current == row.id,
            )
            for row, name, current, file, reader in session.execute(statement)
        ]


def count(db: Database, *, project_id: int, wanted: Filter | None = None) -> int:
    """How many events there are."""
    asked = wanted or Filter()
    statement = select(func.count()).select_from(LabelEventRow).where(*_conditions(project_id, asked))
    if asked.name:  # only then: a look at every event's image takes most of the time
        statement = statement.join(ImageRow, ImageRow.id == LabelEventRow.image_id)
    with db.read() as session:
        return session.scalar(statement) or 0


def all_events(db: Database, *, project_id: int, wanted: Filter | None = None) -> Iterator[Entry]:
    """Every event, newest first, page by page: for an export."""
    page = events(db, project_id=project_id, wanted=wanted, limit=PAGE)
    while page:
        yield from page
        page = events(db, project_id=project_id, wanted=wanted, limit=PAGE, before_id=page[-1].id)


def inspectors(db: Database, *, project_id: int) -> dict[str, int]:
    """inspector -> events of theirs, by name: from an index alone."""
    statement = (
        select(LabelEventRow.inspector, func.count())
        .where(LabelEventRow.project_id == project_id)
        .group_by(LabelEventRow.inspector)
        .order_by(LabelEventRow.inspector)
    )
    with db.read() as session:
        return dict(session.execute(statement).all())


def about_image(db: Database, *, image_id: int, asking: str) -> list[Moment]:
    """Everything that was said about an image, oldest first: labels, maps, second opinions, closed studies.

    Args:
        asking: who looks: opinions of an open round are told only to those who have nothing to say on the image any
            more, and verdicts of a study when it is closed, so that nobody is swayed.
    """
    said = (
        select(LabelEventRow, LabelFileRow.name, LabelFileRow.inspector)
        .outerjoin(LabelFileRow, LabelFileRow.id == LabelEventRow.file_id)
        .where(LabelEventRow.image_id == image_id)
    )
    on_maps = (
        select(MapVerdictRow, ModelRow.name)
        .join(ModelRow, ModelRow.id == MapVerdictRow.model_id)
        .where(MapVerdictRow.image_id == image_id)
    )
    in_studies = (
        select(StudyVerdictRow, StudyRow.name)
        .join(StudyRow, StudyRow.id == StudyVerdictRow.study_id)
        .where(StudyVerdictRow.image_id == image_id, StudyRow.closed_at.is_not(None))
    )
    found: list[Moment] = []
    with db.read() as session:
        for row, file, reader in session.execute(said):
            where = row.origin if file is None else f"from {file}, read in by {reader}"
            if row.map_seen:
                where += ", after seeing the map"
            found.append(Moment(row.created_at, "label", row.verdict, row.inspector, where, row.is_undo))
        for judged, model in session.execute(on_maps):
            found.append(Moment(judged.created_at, "map", judged.verdict, judged.inspector, f"map of {model}"))
        for given, study in session.execute(in_studies):
            detail = f"{study}, trial {given.trial}"
            found.append(Moment(given.created_at, "study", given.verdict, given.inspector, detail))
        found += _opinions(session, image_id, asking)
    return sorted(found, key=lambda one: one.created_at)


def mind_changes(db: Database, *, project_id: int, inspector: str | None = None) -> MindChanges:
    """How often people changed their mind after they had seen the model's map; of one inspector, or of all."""
    # One pass in order: comparing each event with all others of its case would take minutes with 100,000 labels.
    of_case, order = (LabelEventRow.image_id, LabelEventRow.inspector), LabelEventRow.id
    looked_at = select(LabelEventRow.image_id).where(
        LabelEventRow.project_id == project_id, LabelEventRow.map_seen.is_(True)
    )
    with_map = func.sum(case((LabelEventRow.map_seen.is_(True), 1), else_=0))
    judged = select(
        LabelEventRow.verdict.label("now"),
        LabelEventRow.map_seen.label("map_seen"),
        func.lag(LabelEventRow.verdict).over(partition_by=of_case, order_by=order).label("then"),
        with_map.over(partition_by=of_case, order_by=order, rows=(None, 0)).label("seen"),
    ).where(
        LabelEventRow.project_id == project_id,
        LabelEventRow.verdict != "cleared",
        LabelEventRow.is_undo.is_(False),
        LabelEventRow.id.not_in(_taken_back(project_id)),  # a slip of the finger is no change of mind
        LabelEventRow.map_seen.is_not(None),
        LabelEventRow.image_id.in_(looked_at),
    )
    if inspector is not None:
        judged = judged.where(LabelEventRow.inspector == inspector)
    one = judged.subquery()
    # The first verdict after the map: whatever came before it was given before the map.
    first = (one.c.map_seen.is_(True), one.c.seen == 1, one.c.then.is_not(None))
    statement = select(one.c.then, one.c.now, func.count()).where(*first).group_by(one.c.then, one.c.now)
    with db.read() as session:
        counts = {(first, second): n for first, second, n in session.execute(statement)}
    changed = {pair: n for pair, n in counts.items() if pair[0] != pair[1]}
    to_bad, to_good = changed.pop(("good", "bad"), 0), changed.pop(("bad", "good"), 0)
    return MindChanges(sum(counts.values()), to_bad, to_good, sum(changed.values()))


def _taken_back(project_id: int) -> Select[int]:
    """The verdicts after which their inspector's next word on the image was an undo."""
    before, undo = aliased(LabelEventRow), aliased(LabelEventRow)
    verdict = select(func.max(before.id)).where(
        before.image_id == undo.image_id, before.inspector == undo.inspector, before.id < undo.id
    )
    return select(func.coalesce(verdict.correlate(undo).scalar_subquery(), 0)).where(
        undo.project_id == project_id, undo.is_undo.is_(True)
    )


def _conditions(project_id: int, wanted: Filter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = [LabelEventRow.project_id == project_id]
    if wanted.inspector is not None:
        conditions.append(LabelEventRow.inspector == wanted.inspector)
    if wanted.verdict is not None:
        conditions.append(LabelEventRow.verdict == wanted.verdict)
    if wanted.origin is not None:
        conditions.append(LabelEventRow.origin == wanted.origin)
    if wanted.name:
        conditions.append(ImageRow.name.icontains(wanted.name, autoescape=True))
    if wanted.since is not None:
        conditions.append(LabelEventRow.created_at >= wanted.since)
    if wanted.until is not None:
        conditions.append(LabelEventRow.created_at < wanted.until)
    if wanted.map_seen is not None:
        conditions.append(LabelEventRow.map_seen.is_(wanted.map_seen))
    return conditions


def _events(project_id: int, wanted: Filter) -> Select[LabelEventRow, str, int | None, str, str]:
    return (
        select(LabelEventRow, ImageRow.name, ImageRow.label_event_id, LabelFileRow.name, LabelFileRow.inspector)
        .join(ImageRow, ImageRow.id == LabelEventRow.image_id)
        .outerjoin(LabelFileRow, LabelFileRow.id == LabelEventRow.file_id)
        .where(*_conditions(project_id, wanted))
    )


def _opinions(session: Session, image_id: int, asking: str) -> Iterator[Moment]:
    drawn = select(OpinionImageRow.round_id).where(OpinionImageRow.image_id == image_id)
    for row in session.scalars(select(OpinionRoundRow).where(OpinionRoundRow.id.in_(drawn))).all():
        [found] = second_opinions.cases_of(session, row, image_id=image_id)
        still = any(found.is_for(asking, stage) for stage in (second_opinions.SECOND, second_opinions.THIRD))
        if row.closed_at is None and (still or not found.complete):
            continue
        for one in found.opinions:
            yield Moment(one.created_at, "second opinion", one.verdict, one.inspector, row.name)
        if found.settled is not None:
            settled = found.settled
            yield Moment(settled.created_at, "third verdict", settled.verdict, settled.inspector, row.name)
