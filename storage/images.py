"""The images of a project, for reading. They come in through imports.py and never change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Select, or_, select

from ssn_core.errors import SsnError
from storage import number_columns
from storage.db import Database, chunks
from storage.tables import ImageRow, LabelEventRow

_PAGE = 1000  # rows that `every` reads at a time
NO_LABEL = "none"  # the filter's word for images without a verdict
LABEL_FILTERS = ("good", "bad", "unsure", NO_LABEL)


@dataclass(frozen=True)
class Image:
    """One image, with its current label."""

    id: int
    project_id: int
    sha256: str
    name: str  # as it was called where it came from; to be shown, never to be opened
    extension: str  # of the stored file, such as ".png"
    width: int  # pixels, upright
    height: int
    group_key: str
    part: str  # train | calibration | test
    label: str | None  # good | bad | unsure | None
    label_inspector: str | None  # who gave the current label
    has_mask: bool
    mask_sha256: str | None


def select_images() -> Select[ImageRow, str]:
    """Rows that `from_row` takes: each image, and the inspector of its current label (None without one)."""
    return select(ImageRow, LabelEventRow.inspector).outerjoin(
        LabelEventRow, LabelEventRow.id == ImageRow.label_event_id
    )


def from_row(row: ImageRow, inspector: str | None) -> Image:
    """The frozen image of one row of `select_images()`."""
    return Image(
        id=row.id,
        project_id=row.project_id,
        sha256=row.sha256,
        name=row.name,
        extension=row.extension,
        width=row.width,
        height=row.height,
        group_key=row.group_key,
        part=row.part,
        label=row.label,
        label_inspector=inspector if row.label is not None else None,
        has_mask=row.mask_sha256 is not None,
        mask_sha256=row.mask_sha256,
    )


def page(
    db: Database, *, project_id: int, labels: tuple[str, ...] | None = None, after_id: int | None = None, limit: int
) -> list[Image]:
    """The next images in the order they came in.

    Args:
        labels: any of "good", "bad", "unsure", "none"; None for all images.
        after_id: the last image of the page before; None for the first page.
        limit: at most so many.
    """
    statement = select_images().where(ImageRow.project_id == project_id, *_labelled(labels))
    if after_id is not None:
        statement = statement.where(ImageRow.id > after_id)
    with db.read() as session:
        return [from_row(row, who) for row, who in session.execute(statement.order_by(ImageRow.id).limit(limit))]


def every(db: Database, *, project_id: int, labels: tuple[str, ...] | None = None) -> Iterator[Image]:
    """All images with these labels in the order they came in, read page by page: memory does not grow with them."""
    after: int | None = None
    while found := page(db, project_id=project_id, labels=labels, after_id=after, limit=_PAGE):
        yield from found
        after = found[-1].id


def ids(db: Database, *, project_id: int, labels: tuple[str, ...] | None = None) -> list[int]:
    """The numbers of all images with these labels, in the order they came in."""
    found: list[int] = numbers(db, project_id=project_id, labels=labels).tolist()
    return found


def numbers(db: Database, *, project_id: int, labels: tuple[str, ...] | None = None) -> NDArray[np.int64]:
    """As :func:`ids`, (N,), for arithmetic on a hundred thousand of them."""
    statement = select(ImageRow.id).where(ImageRow.project_id == project_id, *_labelled(labels))
    return number_columns.read(db, statement, order_by=[ImageRow.id])


def get(db: Database, *, image_id: int) -> Image:
    """One image.

    Raises:
        SsnError: there is none with this number.
    """
    found = get_many(db, image_ids=[image_id])
    if not found:
        raise SsnError("There is no such image", value=image_id, action="Choose an image from the board")
    return found[0]


def get_many(db: Database, *, image_ids: Sequence[int]) -> list[Image]:
    """These images, in the order asked for; numbers without an image are left out."""
    found: dict[int, Image] = {}
    with db.read() as session:
        for chunk in chunks(image_ids):
            for row, who in session.execute(select_images().where(ImageRow.id.in_(chunk))):
                found[row.id] = from_row(row, who)
    return [found[image_id] for image_id in image_ids if image_id in found]


def _labelled(labels: tuple[str, ...] | None) -> list[ColumnElement[bool]]:
    if labels is None or set(labels) >= set(LABEL_FILTERS):
        return []
    unknown = set(labels) - set(LABEL_FILTERS)
    if unknown:
        raise ValueError(f"unknown label filters {sorted(unknown)}; expected some of {LABEL_FILTERS}")
    verdicts = [label for label in labels if label != NO_LABEL]
    # One condition where one is enough: an OR, be it of nothing, keeps SQLite from the index.
    wanted: list[ColumnElement[bool]] = [ImageRow.label.in_(verdicts)] if verdicts or NO_LABEL not in labels else []
    if NO_LABEL in labels:
        wanted.append(ImageRow.label.is_(None))
    return [or_(*wanted)]
