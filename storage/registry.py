"""The models of a project: which there are, which one is active, and at which threshold it calls a part bad."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from ssn_core.errors import ModelFolderError, SettingError, SsnError
from ssn_core.operating_point import Verdict, check_thresholds, verdict
from ssn_core.rules import FROM_TRAINING
from storage import deleted_models
from storage.db import Database
from storage.job_rows import ACTIVE, plain
from storage.tables import JobRow, ModelRow, ProjectRow, ThresholdEventRow

HELD_OUT = ("test", "out_of_fold")
MAX_NAME_LENGTH = 200


@dataclass(frozen=True)
class Model:
    """One trained model; fields as in :class:`storage.tables.ModelRow`."""

    id: int
    project_id: int
    job_id: int | None
    name: str
    folder: str  # relative to the data folder
    recipe: str
    backbone: str
    created_at: datetime
    held_out: str  # test | out_of_fold: the role of the predictions that are honest
    threshold: float  # in force; a score at or above it means bad
    threshold_low: float | None  # scores from here up to `threshold` go to a person; None = everything is decided
    suggested_threshold: float
    scale_low: float  # the one fixed colour scale, in the map's units
    scale_high: float
    summary: dict[str, Any]
    parent_id: int | None  # the model that was active when this one was trained
    archived_at: datetime | None

    def verdict(self, score: float) -> Verdict:
        """What a score means at the thresholds in force: "good", "bad" or "check" (a person decides)."""
        return verdict(score, self.threshold, self.threshold_low)


def register(
    db: Database,
    *,
    project_id: int,
    job_id: int | None,
    name: str,
    folder: str,
    recipe: str,
    backbone: str,
    held_out: str,
    threshold: float,
    suggested_threshold: float,
    scale_low: float,
    scale_high: float,
    summary: Mapping[str, Any],
    how: str = FROM_TRAINING,
    parent_id: int | None = None,
    activate: bool = True,
) -> Model:
    """Enter a trained model, whose folder is complete, and (by default) make it the project's active one.

    Its threshold is the first version of its thresholds (:mod:`storage.thresholds`).

    Args:
        folder: of the model, relative to the data folder.
        held_out: "test" or "out_of_fold": which of its predictions were made without having seen the image.
        summary: plain JSON; NaN and infinity become None.
        how: how the threshold was found, in words (:mod:`ssn_core.rules`).
        parent_id: the model that was active when this one was trained; forgotten if it was deleted meanwhile.

    Raises:
        SettingError: a threshold or the colour scale is not usable.
        ModelFolderError: the folder lies outside the data folder.
        SsnError: there is no such project.
    """
    if held_out not in HELD_OUT:
        raise ValueError(f"held_out is one of {HELD_OUT}, not {held_out!r}")
    check_thresholds(threshold)
    check_thresholds(suggested_threshold)
    if not (math.isfinite(scale_low) and math.isfinite(scale_high) and scale_low < scale_high):
        raise SettingError(
            "The model's colour scale is not usable",
            value=(scale_low, scale_high),
            expected="two finite numbers, the low end below the high",
            action="Train the model again",
        )
    _inside(db, folder)
    with db.write() as session:
        project = _project(session, project_id)
        row = ModelRow(
            project_id=project_id,
            job_id=job_id,
            name=name.strip()[:MAX_NAME_LENGTH],
            folder=folder,
            recipe=recipe,
            backbone=backbone,
            held_out=held_out,
            threshold=float(threshold),
            suggested_threshold=float(suggested_threshold),
            scale_low=float(scale_low),
            scale_high=float(scale_high),
            summary=plain(summary),
            parent_id=None if parent_id is None or session.get(ModelRow, parent_id) is None else parent_id,
        )
        session.add(row)
        session.flush()
        if row.id <= (taken := deleted_models.highest(db.data_dir)):  # SQLite gives a deleted number again
            row.id = taken + 1
            session.flush()
        session.add(  # the first version of its thresholds (thresholds.py)
            ThresholdEventRow(
                model_id=row.id,
                threshold=row.threshold,
                threshold_low=None,
                how=how,
                inspector="",
                created_at=row.created_at,
            )
        )
        if activate:
            project.active_model_id = row.id
        return _model(row)


def list_models(db: Database, *, project_id: int, include_archived: bool = False) -> list[Model]:
    """The project's models, newest first; archived ones only where they are asked for."""
    statement = select(ModelRow).where(ModelRow.project_id == project_id).order_by(ModelRow.id.desc())
    if not include_archived:
        statement = statement.where(ModelRow.archived_at.is_(None))
    with db.read() as session:
        return [_model(row) for row in session.scalars(statement)]


def get(db: Database, *, model_id: int) -> Model:
    """One model.

    Raises:
        SsnError: there is none with this number.
    """
    with db.read() as session:
        return _model(_row(session, model_id))


def of_job(db: Database, *, job_id: int) -> Model | None:
    """The model that this training job has registered, or None."""
    statement = select(ModelRow).where(ModelRow.job_id == job_id).order_by(ModelRow.id.desc()).limit(1)
    with db.read() as session:
        row = session.scalars(statement).one_or_none()
        return None if row is None else _model(row)


def training(session: Session, row: ModelRow) -> str | None:
    """Status of the training that made it as long as that is not done: images are still to be scored."""
    job = None if row.job_id is None else session.get(JobRow, row.job_id)
    return None if job is None or job.status == "succeeded" else job.status


def activate(db: Database, *, model_id: int, job_id: int | None = None) -> Model:
    """Make it the one model that reviews and inspects in its project.

    Args:
        job_id: the training that ends with this; nobody else may activate a model whose training is not done.

    Raises:
        SsnError: there is no such model, it is archived, or its training is not done.
    """
    with db.write() as session:
        row = _row(session, model_id)
        if row.archived_at is not None:
            raise SsnError(
                "An archived model cannot be the active one",
                value=row.name,
                action="Bring it back first, then activate it",
            )
        status = training(session, row)
        if status is not None and row.job_id != job_id:
            raise SsnError(
                "A model whose training is not done cannot be the active one yet",
                value=row.name,
                action="Wait for it: it makes the model the active one itself"
                if status in ACTIVE
                else "Resume the training on the Train page: at its end it makes the model the active one",
            )
        _project(session, row.project_id).active_model_id = row.id
        return _model(row)


def model_path(db: Database, model: Model) -> Path:
    """The model's folder, absolute.

    Raises:
        ModelFolderError: it is gone, or lies outside the data folder.
    """
    path = _inside(db, model.folder)
    if not path.is_dir():
        raise ModelFolderError(
            f"The folder of model {model.name!r} is gone",
            value=str(path),
            action="Put it back from a backup, or train the model again",
        )
    return path


def _inside(db: Database, folder: str) -> Path:
    root = db.data_dir.resolve()
    path = (root / folder).resolve()
    if path == root or not path.is_relative_to(root):
        raise ModelFolderError("A model's folder lies inside the data folder", value=folder, expected=f"below {root}")
    return path


def _row(session: Session, model_id: int) -> ModelRow:
    row = session.get(ModelRow, model_id)
    if row is None:
        raise SsnError("There is no such model", value=model_id, action="Choose a model from the list")
    return row


def _project(session: Session, project_id: int) -> ProjectRow:
    row = session.get(ProjectRow, project_id)
    if row is None:
        raise SsnError("There is no such project", value=project_id, action="Choose a project from the list")
    return row


def _model(row: ModelRow) -> Model:
    return Model(**{field.name: getattr(row, field.name) for field in fields(Model)})
