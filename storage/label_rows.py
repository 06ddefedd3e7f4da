"""What label files are written from: a project's events, the verdicts that stand, and the labels of now."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import groupby

from sqlalchemy import select

from storage import label_formats
from storage.db import Database
from storage.label_formats import FileEvent
from storage.tables import ImageRow, LabelEventRow

PAGE = 5000  # events read at once


def events(db: Database, *, project_id: int) -> Iterator[FileEvent]:
    """Every event of a project, in the order in which they were stored."""
    last = 0
    while True:
        statement = (
            select(LabelEventRow, ImageRow.name, ImageRow.sha256)
            .join(ImageRow, ImageRow.id == LabelEventRow.image_id)
            .where(LabelEventRow.project_id == project_id, LabelEventRow.id > last)
            .order_by(LabelEventRow.id)
            .limit(PAGE)
        )
        with db.read() as session:
            page = [(row.id, _file_event(row, name, sha256)) for row, name, sha256 in session.execute(statement)]
        if not page:
            return
        yield from (event for _, event in page)
        last = page[-1][0]


def standing(db: Database, *, project_id: int) -> Iterator[FileEvent]:
    """The verdict of each inspector on each image that stands, the oldest first; image by image."""
    statement = (
        select(LabelEventRow, ImageRow.name, ImageRow.sha256)
        .join(ImageRow, ImageRow.id == LabelEventRow.image_id)
        .where(LabelEventRow.project_id == project_id)
        .order_by(LabelEventRow.image_id, LabelEventRow.created_at, LabelEventRow.id)
    )
    with db.read() as session:
        said = (
            (row.image_id, _file_event(row, name, sha256))
            for row, name, sha256 in session.execute(statement.execution_options(yield_per=PAGE))
        )
        for _, about_one in groupby(said, key=lambda one: one[0]):
            yield from _what_stands(event for _, event in about_one)


def _what_stands(said: Iterable[FileEvent]) -> list[FileEvent]:
    """Of all that was said about an image, oldest first, each inspector's newest verdict that nobody took back.

    An undo makes the inspector's verdict before it stand again, where there is one: its own verdict may be what
    somebody else had said.
    """
    of_each: dict[str | None, list[tuple[int, FileEvent]]] = {}
    for place, event in enumerate(said):
        mine = of_each.setdefault(event.inspector, [])
        if not event.is_undo:
            mine.append((place, event))
        elif mine:
            mine.pop()
    newest = sorted((mine[-1] for mine in of_each.values() if mine), key=lambda one: one[0])
    return [event for _, event in newest if event.verdict != "cleared"]


def labels_by_stem(db: Database, *, project_id: int) -> dict[str, str | None]:
    """Image name without extension -> label; images that share one go by their SHA-256."""
    statement = select(ImageRow.name, ImageRow.sha256, ImageRow.label).where(ImageRow.project_id == project_id)
    with db.read() as session:
        rows = session.execute(statement.order_by(ImageRow.id)).all()
    stems = [label_formats.stem(name) for name, _, _ in rows]
    seen = Counter(stems)
    return {one if seen[one] == 1 else sha256: label for one, (_, sha256, label) in zip(stems, rows, strict=True)}


def _file_event(row: LabelEventRow, name: str, sha256: str) -> FileEvent:
    return FileEvent(
        image=name,
        sha256=sha256,
        verdict=row.verdict,
        inspector=row.inspector,
        origin=row.origin,
        is_undo=row.is_undo,
        seconds=row.seconds,
        map_seen=row.map_seen,
        client=row.client,
        seq=row.seq,
        time=row.created_at,
    )
