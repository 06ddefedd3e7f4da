"""Limit samples: images that show where good ends and bad begins, pinned so that every inspector judges by the same.

A pin is a row with a beginning and, once it is taken away, an end: what the reference was on a given day stays known.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Select, select, update
from sqlalchemy.orm import Session

from ssn_core.errors import SettingError, SsnError
from storage.db import Database
from storage.delivery import wrong_inspector
from storage.tables import ImageRow, LimitSampleRow, utc_now

VERDICTS = ("good", "bad")
MOST = 40  # pinned at once: a strip of more is no reference that anybody looks at


@dataclass(frozen=True)
class LimitSample:
    """One pinned image."""

    image_id: int
    name: str  # of the image's file, to be shown
    width: int  # pixels, upright
    height: int
    verdict: str  # good | bad
    inspector: str  # who pinned it
    created_at: datetime


def of_project(db: Database, *, project_id: int) -> list[LimitSample]:
    """What is pinned now: the good ones first, each kind in the order of pinning."""
    statement = (
        select(LimitSampleRow, ImageRow)
        .join(ImageRow, ImageRow.id == LimitSampleRow.image_id)
        .where(LimitSampleRow.project_id == project_id, LimitSampleRow.removed_at.is_(None))
        .order_by(LimitSampleRow.verdict.desc(), LimitSampleRow.id)
    )
    with db.read() as session:
        return [
            LimitSample(
                image_id=image.id,
                name=image.name,
                width=image.width,
                height=image.height,
                verdict=row.verdict,
                inspector=row.inspector,
                created_at=row.created_at,
            )
            for row, image in session.execute(statement)
        ]


def pin(db: Database, *, project_id: int, image_id: int, verdict: str, inspector: str) -> None:
    """Pin an image for one side of the limit; pinning it anew on the same side changes nothing.

    Args:
        verdict: "good" or "bad"; need not be the image's label for ever, so it is kept here.
        inspector: who pins; 1 to 100 characters.

    Raises:
        SettingError: another verdict, no usable name, or too many pins already.
        SsnError: the project has no such image.
    """
    if verdict not in VERDICTS:
        raise SettingError("A limit sample is good or bad", value=str(verdict)[:40], expected=" or ".join(VERDICTS))
    inspector = _checked(inspector)
    with db.write() as session:
        image = session.get(ImageRow, image_id)
        if image is None or image.project_id != project_id:
            raise SsnError("There is no such image in this project", value=image_id)
        there = {row.image_id: row for row in session.scalars(_pinned(project_id))}
        old = there.get(image_id)
        if old is not None and old.verdict == verdict:
            return
        if old is None and len(there) >= MOST:
            raise SettingError(
                "There are too many limit samples",
                value=len(there),
                expected=f"at most {MOST}",
                action="Unpin one first",
            )
        _take_away(session, project_id, image_id, inspector)
        session.add(LimitSampleRow(project_id=project_id, image_id=image_id, verdict=verdict, inspector=inspector))


def unpin(db: Database, *, project_id: int, image_id: int, inspector: str) -> None:
    """Take a pin away; nothing happens when there is none.

    Raises:
        SettingError: no usable name.
    """
    inspector = _checked(inspector)
    with db.write() as session:
        _take_away(session, project_id, image_id, inspector)


def _pinned(project_id: int) -> Select[LimitSampleRow]:
    return select(LimitSampleRow).where(LimitSampleRow.project_id == project_id, LimitSampleRow.removed_at.is_(None))


def _take_away(session: Session, project_id: int, image_id: int, inspector: str) -> None:
    session.execute(
        update(LimitSampleRow)
        .where(
            LimitSampleRow.project_id == project_id,
            LimitSampleRow.image_id == image_id,
            LimitSampleRow.removed_at.is_(None),
        )
        .values(removed_at=utc_now(), removed_by=inspector)
    )


def _checked(inspector: str) -> str:
    reason = wrong_inspector(inspector)
    if reason is not None:
        raise SettingError("The inspector's name cannot be used", value=str(inspector)[:40], expected=reason)
    return inspector.strip()
