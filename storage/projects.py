"""Projects: one kind of part, its images, labels and models."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from ssn_core.errors import SettingError, SsnError
from storage.db import Database
from storage.tables import ImageRow, ProjectRow

MAX_NAME_LENGTH = 200
MIN_SIZE, MAX_SIZE = 64, 2048


@dataclass(frozen=True)
class Project:
    """One project."""

    id: int
    name: str
    created_at: datetime
    image_height: int  # pixels; the network's input
    image_width: int
    active_model_id: int | None
    verdict_first: bool  # maps and scores stay hidden until an image has a verdict


@dataclass(frozen=True)
class LabelCounts:
    """How far the labelling is. total = good + bad + unsure + unlabelled."""

    total: int
    good: int
    bad: int
    unsure: int
    unlabelled: int

    @property
    def labelled(self) -> int:
        """Images with any verdict: good, bad or unsure."""
        return self.total - self.unlabelled


@dataclass(frozen=True)
class Counts(LabelCounts):
    """The label counts, and what else the images have."""

    with_mask: int
    bad_with_mask: int  # of the images labelled bad
    groups: int


def create(db: Database, *, name: str, image_height: int = 256, image_width: int = 256) -> Project:
    """Create an empty project.

    Args:
        name: 1 to 200 characters after stripping; unique, whatever the case of its letters.
        image_height: pixels, 64 to 2048; the size that images are scaled to for the network.
        image_width: pixels, 64 to 2048.

    Raises:
        SettingError: the name is empty, too long or taken; a size is out of range.
    """
    name = _checked_name(name)
    _check_sizes(image_height, image_width)
    row = ProjectRow(name=name, name_key=_key(name), image_height=image_height, image_width=image_width)
    try:
        with db.write() as session:
            session.add(row)
    except IntegrityError as error:
        raise _taken(name) from error
    return _project(row)


def list_projects(db: Database) -> list[Project]:
    """All projects, by name."""
    with db.read() as session:
        return [_project(row) for row in session.scalars(select(ProjectRow).order_by(ProjectRow.name_key))]


def get(db: Database, *, project_id: int) -> Project:
    """One project.

    Raises:
        SsnError: there is none with this number.
    """
    with db.read() as session:
        row = session.get(ProjectRow, project_id)
    if row is None:
        raise _missing(project_id)
    return _project(row)


def rename(db: Database, *, project_id: int, name: str) -> Project:
    """Give a project another name.

    Raises:
        SettingError: the name is empty, too long or taken.
        SsnError: there is no such project.
    """
    name = _checked_name(name)
    try:
        with db.write() as session:
            row = session.get(ProjectRow, project_id)
            if row is None:
                raise _missing(project_id)
            row.name, row.name_key = name, _key(name)
    except IntegrityError as error:
        raise _taken(name) from error
    return _project(row)


def set_image_size(db: Database, *, project_id: int, image_height: int, image_width: int) -> Project:
    """Set the network's input size for models trained from now on; existing models keep theirs.

    Raises:
        SettingError: a size outside 64 to 2048 pixels.
        SsnError: there is no such project.
    """
    _check_sizes(image_height, image_width)
    with db.write() as session:
        row = session.get(ProjectRow, project_id)
        if row is None:
            raise _missing(project_id)
        row.image_height, row.image_width = image_height, image_width
    return _project(row)


def set_verdict_first(db: Database, *, project_id: int, value: bool) -> Project:
    """Hide the model's map and score of every image without a verdict, so that they cannot sway the first one; or not.

    Raises:
        SsnError: there is no such project.
    """
    with db.write() as session:
        row = session.get(ProjectRow, project_id)
        if row is None:
            raise _missing(project_id)
        row.verdict_first = value
    return _project(row)


def label_counts(db: Database, *, project_id: int) -> LabelCounts:
    """The label counts alone: one covering index, about 7 ms at 100,000 images. All zero for an unknown project."""
    statement = select(ImageRow.label, func.count()).where(ImageRow.project_id == project_id).group_by(ImageRow.label)
    with db.read() as session:
        found = dict(session.execute(statement).all())
    return LabelCounts(
        total=sum(found.values()),
        good=found.get("good", 0),
        bad=found.get("bad", 0),
        unsure=found.get("unsure", 0),
        unlabelled=found.get(None, 0),
    )


def counts(db: Database, *, project_id: int) -> Counts:
    """Everything there is to count in a project. All zero for an unknown project."""
    labels = label_counts(db, project_id=project_id)
    mine = ImageRow.project_id == project_id
    # DISTINCT in a subquery walks the index; COUNT(DISTINCT) would build a table of all keys first
    groups = select(ImageRow.group_key).where(mine).distinct().subquery()
    with db.read() as session:
        with_mask = session.scalar(select(func.count(ImageRow.mask_sha256)).where(mine))
        bad_with_mask = session.scalar(select(func.count(ImageRow.mask_sha256)).where(mine, ImageRow.label == "bad"))
        n_groups = session.scalar(select(func.count()).select_from(groups))
    return Counts(
        total=labels.total,
        good=labels.good,
        bad=labels.bad,
        unsure=labels.unsure,
        unlabelled=labels.unlabelled,
        with_mask=with_mask or 0,
        bad_with_mask=bad_with_mask or 0,
        groups=n_groups or 0,
    )


def _checked_name(name: str) -> str:
    name = unicodedata.normalize("NFC", " ".join(name.split()))
    if not 1 <= len(name) <= MAX_NAME_LENGTH or not name.isprintable():
        raise SettingError(
            "This project name cannot be used",
            value=name if len(name) <= MAX_NAME_LENGTH else f"{name[:40]}...",
            expected=f"1 to {MAX_NAME_LENGTH} printable characters",
            action="Choose another name",
        )
    return name


def _check_sizes(image_height: int, image_width: int) -> None:
    for what, value in (("height", image_height), ("width", image_width)):
        if not MIN_SIZE <= value <= MAX_SIZE:
            raise SettingError(
                f"The image {what} is out of range", value=value, expected=f"{MIN_SIZE} to {MAX_SIZE} pixels"
            )


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name.casefold())


def _taken(name: str) -> SettingError:
    return SettingError("There is a project of this name already", value=name, action="Choose another name")


def _missing(project_id: int) -> SsnError:
    return SsnError("There is no such project", value=project_id, action="Choose a project from the list")


def _project(row: ProjectRow) -> Project:
    return Project(
        id=row.id,
        name=row.name,
        created_at=row.created_at,
        image_height=row.image_height,
        image_width=row.image_width,
        active_model_id=row.active_model_id,
        verdict_first=row.verdict_first,
    )
