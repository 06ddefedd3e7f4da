"""Second opinions: labelled images are shown again, blind, to others than those who labelled them.

A round draws images labelled good or bad and keeps their label and its inspector of that moment. Each image gets
`wanted` further verdicts from other inspectors, who see neither label nor score nor what others said. Where they and
the label differ, somebody who has not judged the image yet settles it with a third verdict, blind as well, which is
appended to the labels. No other verdict of a round becomes a label.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from ssn_core.errors import SettingError, SsnError
from storage import projects, studies
from storage.db import Database
from storage.study_parts import Candidate, choose, order
from storage.tables import ImageRow, LabelEventRow, OpinionImageRow, OpinionRoundRow, OpinionVerdictRow, utc_now

MIN_IMAGES, MAX_IMAGES = 2, 500
MAX_WANTED = 3
SECOND, THIRD = "second", "third"


@dataclass(frozen=True)
class Round:
    """One round."""

    id: int
    project_id: int
    name: str
    wanted: int  # blind verdicts on each image beside the label
    seed: int
    created_by: str
    created_at: datetime
    closed_at: datetime | None
    n_images: int

    @property
    def is_closed(self) -> bool:
        """No verdict is taken any more."""
        return self.closed_at is not None


@dataclass(frozen=True)
class Said:
    """One blind verdict."""

    inspector: str
    verdict: str  # good | bad
    created_at: datetime


@dataclass(frozen=True)
class Case:
    """One image of a round with everything that was said of it."""

    image_id: int
    wanted: int
    first_inspector: str
    first_verdict: str  # good | bad
    opinions: tuple[Said, ...]  # oldest first
    settled: Said | None

    @property
    def complete(self) -> bool:
        """It has as many further verdicts as were asked for."""
        return len(self.opinions) >= self.wanted

    @property
    def disputed(self) -> bool:
        """Complete, and not all said the same; it stays so when it is settled."""
        return self.complete and any(one.verdict != self.first_verdict for one in self.opinions)

    def judged_by(self, inspector: str) -> bool:
        """Whether this inspector labelled the image or gave an opinion on it."""
        return inspector == self.first_inspector or any(one.inspector == inspector for one in self.opinions)

    def is_for(self, inspector: str, stage: str) -> bool:
        """Whether this inspector is to judge it now, as a "second" opinion or to settle it as a "third" one."""
        if self.judged_by(inspector):
            return False
        return not self.complete if stage == SECOND else self.disputed and self.settled is None


def create(
    db: Database,
    *,
    project_id: int,
    name: str,
    inspector: str,
    n_images: int,
    wanted: int = 1,
    labelled_by: str | None = None,
    seed: int | None = None,
) -> Round:
    """Draw images labelled good or bad, half of each as far as there are, and ask for opinions on them.

    Images of an open round are left out, and an item (group) gives a second image only where there is no other left.

    Args:
        wanted: further verdicts on each image, 1 to 3.
        labelled_by: only images that bear this inspector's label.
        seed: of the draw and of every order; None for a random one.

    Raises:
        SettingError: a value out of its range, or no name.
        TooFewLabelsError: fewer images than that, or only good or only bad ones.
        SsnError: there is no such project, or `inspector` is no name.
    """
    name = studies.checked_name(name, "round")
    for what, value, low, high in (("images", n_images, MIN_IMAGES, MAX_IMAGES), ("opinions", wanted, 1, MAX_WANTED)):
        if not low <= value <= high:
            raise SettingError(f"The number of {what} is not usable", value=value, expected=f"{low} to {high}")
    studies.check_inspector(inspector)
    projects.get(db, project_id=project_id)
    seed = secrets.randbelow(2**31) if seed is None else seed
    with db.write() as session:
        labelled = session.execute(_candidates(project_id, labelled_by)).all()
        by_id = {image_id: (str(label), who) for image_id, _, label, who in labelled}
        drawn = choose(
            [Candidate(image_id, group, str(label)) for image_id, group, label, _ in labelled],
            n=n_images,
            borderline=0.0,
            seed=seed,
        )
        row = OpinionRoundRow(project_id=project_id, name=name, wanted=wanted, seed=seed, created_by=inspector.strip())
        session.add(row)
        session.flush()
        session.add_all(
            OpinionImageRow(
                round_id=row.id,
                image_id=part.image_id,
                first_verdict=by_id[part.image_id][0],
                first_inspector=by_id[part.image_id][1],
            )
            for part in drawn
        )
        session.flush()
        return _round(session, row)


def count_candidates(db: Database, *, project_id: int, labelled_by: str | None = None) -> int:
    """How many images a new round could draw from."""
    with db.read() as session:
        statement = select(func.count()).select_from(_candidates(project_id, labelled_by).subquery())
        return session.scalar(statement) or 0


def list_rounds(db: Database, *, project_id: int) -> list[Round]:
    """The project's rounds, newest first."""
    statement = (
        select(OpinionRoundRow).where(OpinionRoundRow.project_id == project_id).order_by(OpinionRoundRow.id.desc())
    )
    with db.read() as session:
        return [_round(session, row) for row in session.scalars(statement).all()]


def cases(db: Database, *, round_id: int) -> list[Case]:
    """The images of a round, by number, with everything said of them: never to be shown to one who still judges."""
    with db.read() as session:
        return cases_of(session, row_of(session, round_id))


def to_judge(db: Database, *, found: Round, inspector: str, stage: str = SECOND) -> list[int]:
    """The images that this inspector has judged at this stage, in that order, and then those still to be judged.

    What is still to be judged comes in an order of the inspector's own, so that two who begin together seldom judge
    the same image.
    """
    with db.read() as session:
        row = row_of(session, found.id)
        given = session.scalars(given_by(found.id, inspector, stage)).all()
        left = [one.image_id for one in cases_of(session, row) if one.is_for(inspector, stage)]
    return [*given, *order(left, seed=found.seed, inspector=inspector, trial=1)]


def close(db: Database, *, round_id: int) -> Round:
    """End a round: no verdict is taken any more and everybody may see what was said. Closing twice changes nothing.

    Raises:
        SsnError: there is no such round.
    """
    with db.write() as session:
        row = row_of(session, round_id, lock=True)
        row.closed_at = row.closed_at or utc_now()
        session.flush()
        return _round(session, row)


def row_of(session: Session, round_id: int, *, project_id: int | None = None, lock: bool = False) -> OpinionRoundRow:
    """The round's row; locked, verdicts and closing wait for each other (SQLite has one writer anyway).

    Raises:
        SsnError: there is none with this number (in this project).
    """
    row = session.get(OpinionRoundRow, round_id, with_for_update=lock)
    if row is None or project_id not in (None, row.project_id):
        raise SsnError("There is no such round of second opinions", value=round_id, action="Choose one from the list")
    return row


def cases_of(session: Session, row: OpinionRoundRow, *, image_id: int | None = None) -> list[Case]:
    """`cases` inside a session; of one image only, where it is named."""
    opinions: dict[int, list[Said]] = {}
    settled: dict[int, Said] = {}
    verdicts = select(OpinionVerdictRow).where(OpinionVerdictRow.round_id == row.id).order_by(OpinionVerdictRow.id)
    drawn = select(OpinionImageRow).where(OpinionImageRow.round_id == row.id).order_by(OpinionImageRow.image_id)
    if image_id is not None:
        verdicts = verdicts.where(OpinionVerdictRow.image_id == image_id)
        drawn = drawn.where(OpinionImageRow.image_id == image_id)
    for one in session.scalars(verdicts):
        said = Said(one.inspector, one.verdict, one.created_at)
        if one.settles:
            settled[one.image_id] = said
        else:
            opinions.setdefault(one.image_id, []).append(said)
    return [
        Case(
            image_id=one.image_id,
            wanted=row.wanted,
            first_inspector=one.first_inspector,
            first_verdict=one.first_verdict,
            opinions=tuple(opinions.get(one.image_id, ())),
            settled=settled.get(one.image_id),
        )
        for one in session.scalars(drawn)
    ]


def given_by(round_id: int, inspector: str, stage: str) -> Select[int]:
    """The images that an inspector has judged at a stage, in that order."""
    return (
        select(OpinionVerdictRow.image_id)
        .where(
            OpinionVerdictRow.round_id == round_id,
            OpinionVerdictRow.inspector == inspector,
            OpinionVerdictRow.settles.is_(stage == THIRD),
        )
        .order_by(OpinionVerdictRow.id)
    )


def inspectors_of(found: Sequence[Case]) -> list[str]:
    """Everybody who has said something in a round, by name."""
    return sorted({one.first_inspector for one in found} | {said.inspector for one in found for said in one.opinions})


def _candidates(project_id: int, labelled_by: str | None) -> Select[int, str, str | None, str]:
    busy = (
        select(OpinionImageRow.image_id)
        .join(OpinionRoundRow, OpinionRoundRow.id == OpinionImageRow.round_id)
        .where(OpinionRoundRow.project_id == project_id, OpinionRoundRow.closed_at.is_(None))
    )
    statement = (
        select(ImageRow.id, ImageRow.group_key, ImageRow.label, LabelEventRow.inspector)
        .join(LabelEventRow, LabelEventRow.id == ImageRow.label_event_id)
        .where(ImageRow.project_id == project_id, ImageRow.label.in_(("good", "bad")), ImageRow.id.not_in(busy))
        .order_by(ImageRow.id)
    )
    return statement if labelled_by is None else statement.where(LabelEventRow.inspector == labelled_by)


def _round(session: Session, row: OpinionRoundRow) -> Round:
    names = [field.name for field in fields(Round) if field.name != "n_images"]
    n_images = session.scalar(
        select(func.count()).select_from(OpinionImageRow).where(OpinionImageRow.round_id == row.id)
    )
    return Round(**{name: getattr(row, name) for name in names}, n_images=n_images or 0)
