"""Studies of agreement (measurement system analysis): set up, judged blind by several inspectors, closed.

A study keeps its parts with the reference and the model's verdict of the moment it began, so later labels and
thresholds do not change it. Its verdicts are never labels (study_verdicts.py), and nobody sees results before
:func:`may_see_results` allows it.
"""

from __future__ import annotations

import math
import secrets
from dataclasses import asdict, dataclass, fields
from datetime import datetime

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from ssn_core.errors import SettingError, SsnError
from storage import predictions, projects, registry
from storage.db import Database
from storage.delivery import wrong_inspector
from storage.study_parts import Candidate, Part, choose, distance, order
from storage.tables import ImageRow, StudyPartRow, StudyRow, StudyVerdictRow, utc_now

MAX_NAME_LENGTH = 200
MIN_PARTS, MAX_PARTS = 6, 200  # fewer may leave no bad part beside the borderline ones
MAX_TRIALS = 10
MIN_BORDERLINE, MAX_BORDERLINE = 0.3, 0.5


@dataclass(frozen=True)
class Limits:
    """What a rater has to reach, as rates 0..1. The defaults are the usual ones (AIAG, MSA reference manual)."""

    effectiveness: float = 0.90  # at least: share of parts judged right in every trial
    miss_rate: float = 0.02  # at most: bad parts called good (escapes)
    false_alarm_rate: float = 0.05  # at most: good parts called bad (overkill)


@dataclass(frozen=True)
class Study:
    """One study."""

    id: int
    project_id: int
    model_id: int | None  # one more rater; None: there was no model
    name: str
    trials: int
    seed: int
    limits: Limits
    created_by: str
    created_at: datetime
    closed_at: datetime | None
    n_parts: int
    n_borderline: int

    @property
    def is_closed(self) -> bool:
        """No verdict is taken any more."""
        return self.closed_at is not None


@dataclass(frozen=True)
class Progress:
    """How far one inspector has come."""

    inspector: str
    given: tuple[int, ...]  # verdicts in each trial
    last_at: datetime
    n_parts: int

    @property
    def finished(self) -> bool:
        """Every part was judged in every trial."""
        return all(n == self.n_parts for n in self.given)

    @property
    def complete_trials(self) -> int:
        """Trials in which every part was judged."""
        return sum(n == self.n_parts for n in self.given)


def create(
    db: Database,
    *,
    project_id: int,
    name: str,
    inspector: str,
    n_parts: int = 30,
    borderline: float = 0.4,
    trials: int = 2,
    limits: Limits | None = None,
    seed: int | None = None,
) -> Study:
    """Set up a study and draw its parts from the images labelled good or bad, which are the reference.

    With an active model, borderline parts are those whose held-out scores are closest to its thresholds in force;
    without one (or without a held-out score) all parts are drawn at random.

    Args:
        name: 1 to 200 characters.
        borderline: the share of borderline parts, 0.3 to 0.5.
        seed: of the draw and of every order; None for a random one.

    Raises:
        SettingError: a value out of its range, or no name.
        TooFewLabelsError: too few images, or only good or only bad ones, are labelled.
        SsnError: there is no such project.
    """
    limits = limits or Limits()
    name = checked_name(name, "study")
    _check(n_parts, borderline, trials, limits)
    check_inspector(inspector)
    seed = secrets.randbelow(2**31) if seed is None else seed
    project = projects.get(db, project_id=project_id)
    model = None if project.active_model_id is None else registry.get(db, model_id=project.active_model_id)
    parts = choose(_candidates(db, project_id, model), n=n_parts, borderline=borderline, seed=seed)
    with db.write() as session:
        row = StudyRow(
            project_id=project_id,
            model_id=None if model is None else model.id,
            name=name,
            trials=trials,
            seed=seed,
            limits=asdict(limits),
            created_by=inspector.strip(),
        )
        session.add(row)
        session.flush()
        session.add_all(StudyPartRow(study_id=row.id, **asdict(part)) for part in parts)
        session.flush()
        return _study(session, row)


def list_studies(db: Database, *, project_id: int) -> list[Study]:
    """The project's studies, newest first."""
    statement = select(StudyRow).where(StudyRow.project_id == project_id).order_by(StudyRow.id.desc())
    with db.read() as session:
        return [_study(session, row) for row in session.scalars(statement).all()]


def get(db: Database, *, study_id: int) -> Study:
    """One study.

    Raises:
        SsnError: there is none with this number.
    """
    with db.read() as session:
        return _study(session, row_of(session, study_id))


def parts(db: Database, *, study_id: int) -> list[Part]:
    """The parts of a study, by image number."""
    with db.read() as session:
        return [
            Part(row.image_id, row.reference, row.borderline, row.model_verdict)
            for row in session.scalars(_parts(study_id))
        ]


def orders(db: Database, *, study: Study, inspector: str) -> list[list[int]]:
    """For each trial the image numbers in the order in which this inspector meets them."""
    with db.read() as session:
        ids = [row.image_id for row in session.scalars(_parts(study.id))]
    return [order(ids, seed=study.seed, inspector=inspector, trial=trial) for trial in range(1, study.trials + 1)]


def progress(db: Database, *, study: Study) -> list[Progress]:
    """How far each inspector who has begun has come, in the order in which they began."""
    columns = (StudyVerdictRow.inspector, StudyVerdictRow.trial)
    statement = (
        select(*columns, func.count(), func.min(StudyVerdictRow.id), func.max(StudyVerdictRow.created_at))
        .where(StudyVerdictRow.study_id == study.id)
        .group_by(*columns)
        .order_by(func.min(StudyVerdictRow.id))
    )
    given: dict[str, list[int]] = {}
    last: dict[str, datetime] = {}
    with db.read() as session:
        for inspector, trial, n, _first, at in session.execute(statement):
            given.setdefault(inspector, [0] * study.trials)[trial - 1] = n
            last[inspector] = max(at, last.get(inspector, at))
    return [Progress(who, tuple(counts), last[who], study.n_parts) for who, counts in given.items()]


def state_of(study: Study, begun: list[Progress]) -> str:
    """ "closed", "new" (nobody has begun), "running", or "finished": all who have begun are done."""
    if study.is_closed:
        return "closed"
    if not begun:
        return "new"
    return "finished" if all(one.finished for one in begun) else "running"


def may_see_results(study: Study, begun: list[Progress], inspector: str) -> bool:
    """Whether this inspector may see results: of a closed study, or of a finished one after their own trials.

    Whoever is still to judge parts must not see what others said of them.
    """
    if study.is_closed:
        return True
    return state_of(study, begun) == "finished" and any(one.inspector == inspector for one in begun)


def close(db: Database, *, study_id: int) -> Study:
    """End a study: no verdict is taken any more and everybody may see its results. Closing twice changes nothing.

    Raises:
        SsnError: there is no such study.
    """
    with db.write() as session:
        row = row_of(session, study_id, lock=True)
        row.closed_at = row.closed_at or utc_now()
        session.flush()
        return _study(session, row)


def checked_name(name: str, what: str) -> str:
    """A name in one printable line.

    Raises:
        SettingError: not 1 to 200 characters.
    """
    printable = " ".join("".join(sign if sign.isprintable() else " " for sign in name).split())
    if not 1 <= len(printable) <= MAX_NAME_LENGTH:
        raise SettingError(f"The {what} needs a name", value=name[:40], expected=f"1 to {MAX_NAME_LENGTH} characters")
    return printable


def check_inspector(name: object) -> None:
    """Refuse what is no inspector's name; it may come from a browser.

    Raises:
        SsnError: not 1 to 100 characters that can be stored.
    """
    reason = wrong_inspector(name)
    if reason is not None:
        raise SsnError(reason)


def row_of(session: Session, study_id: int, *, project_id: int | None = None, lock: bool = False) -> StudyRow:
    """The study's row; locked, verdicts and closing wait for each other (SQLite has one writer anyway).

    Raises:
        SsnError: there is none with this number (in this project).
    """
    row = session.get(StudyRow, study_id, with_for_update=lock)
    if row is None or project_id not in (None, row.project_id):
        raise SsnError("There is no such study", value=study_id, action="Choose a study from the list")
    return row


def _candidates(db: Database, project_id: int, model: registry.Model | None) -> list[Candidate]:
    scores: dict[int, float] = {}
    if model is not None:
        held_out = predictions.held_out(db, model_id=model.id)
        scores = dict(zip(held_out.image_ids, map(float, held_out.scores), strict=True))
    statement = select(ImageRow.id, ImageRow.group_key, ImageRow.label).where(
        ImageRow.project_id == project_id, ImageRow.label.in_(("good", "bad"))
    )
    with db.read() as session:
        found = session.execute(statement).all()
    return [_candidate(image_id, group, str(label), scores.get(image_id), model) for image_id, group, label in found]


def _candidate(image_id: int, group: str, label: str, score: float | None, model: registry.Model | None) -> Candidate:
    if score is None or model is None:
        return Candidate(image_id, group, label)
    away = distance(score, model.threshold, model.threshold_low)
    return Candidate(image_id, group, label, score=score, verdict=model.verdict(score), distance=away)


def _parts(study_id: int) -> Select[StudyPartRow]:
    return select(StudyPartRow).where(StudyPartRow.study_id == study_id).order_by(StudyPartRow.image_id)


def _study(session: Session, row: StudyRow) -> Study:
    flags = [part.borderline for part in session.scalars(_parts(row.id))]
    names = [field.name for field in fields(Study) if field.name not in ("limits", "n_parts", "n_borderline")]
    return Study(
        **{name: getattr(row, name) for name in names},
        limits=Limits(**row.limits),
        n_parts=len(flags),
        n_borderline=sum(flags),
    )


def _check(n_parts: int, borderline: float, trials: int, limits: Limits) -> None:
    ranges = [
        ("number of parts", n_parts, MIN_PARTS, MAX_PARTS),
        ("share of borderline parts", borderline, MIN_BORDERLINE, MAX_BORDERLINE),
        ("number of trials", trials, 1, MAX_TRIALS),
        *((f"limit of the {name.replace('_', ' ')}", value, 0.0, 1.0) for name, value in asdict(limits).items()),
    ]
    for what, value, low, high in ranges:
        if not (math.isfinite(value) and low <= value <= high):
            raise SettingError(f"The {what} is not usable", value=value, expected=f"{low:g} to {high:g}")
