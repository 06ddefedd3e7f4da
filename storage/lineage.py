"""The history of a project's models: where each one comes from, archiving, and deletion without a trace left half.

A model is archived when it is no longer to be offered anywhere; its scores and figures stay. It is deleted with all
that rests on it alone, and never while something else rests on it: it is active, a report or a study of agreement
names it, or a job works with it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy import delete as delete_from
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from ssn_core.errors import SsnError
from storage import deleted_models, registry, snapshots
from storage.db import Database, chunks
from storage.job_rows import ACTIVE
from storage.tables import (
    ImageRow,
    JobRow,
    MapVerdictRow,
    ModelRow,
    PredictionRow,
    ProjectRow,
    ReportRow,
    StudyRow,
    ThresholdEventRow,
    utc_now,
)

_log = logging.getLogger(__name__)
_OWN = (PredictionRow, ThresholdEventRow, MapVerdictRow)  # rows that are deleted with their model


@dataclass(frozen=True)
class Entry:
    """One model with its place in the project's history."""

    model: registry.Model
    active: bool
    parent: registry.Model | None  # the model that was active when it was trained; None: the first, or deleted since
    training: str | None  # status of the training, which activates it at its end; None: it is done
    kept_by: str | None  # why it cannot be deleted, as a sentence; None: it can

    @property
    def in_training(self) -> bool:
        """Whether the training runs or waits to go on; else it was cut off, or is done."""
        return self.training in ACTIVE


@dataclass(frozen=True)
class Loss:
    """What goes when a model is deleted."""

    predictions: int  # images with a score (and a map) of it
    threshold_events: int
    map_verdicts: int
    inspections: int  # runs of Inspect whose results can then no longer be shown
    children: int  # models trained while it was active; they stay, and no longer know their parent
    n_bytes: int  # of the model's folder; its maps come on top


def entries(db: Database, *, project_id: int) -> list[Entry]:
    """All models of a project, archived ones too, newest first."""
    models = registry.list_models(db, project_id=project_id, include_archived=True)
    by_id = {model.id: model for model in models}
    with db.read() as session:
        active = session.scalar(select(ProjectRow.active_model_id).where(ProjectRow.id == project_id))
        kept = _kept_by(session, list(by_id))
        unfinished = select(JobRow.id, JobRow.status).join(ModelRow, ModelRow.job_id == JobRow.id)
        unfinished = unfinished.where(ModelRow.project_id == project_id, JobRow.status != "succeeded")
        training = {row.id: row.status for row in session.execute(unfinished)}
    return [
        Entry(
            model,
            model.id == active,
            by_id.get(model.parent_id or 0),
            training.get(model.job_id or 0),
            kept.get(model.id),
        )
        for model in models
    ]


def archive(db: Database, *, model_id: int) -> registry.Model:
    """Offer a model nowhere any more. Its scores, figures and files stay; archiving it again does nothing.

    Raises:
        SsnError: it is the active one, its training still runs, or there is none with this number.
    """
    with db.write() as session:
        row = _locked(session, model_id)
        reason = _is_active(session, row) or _is_in_training(session, row)
        if reason is not None:
            raise SsnError(f"This model cannot be archived: {reason}")
        row.archived_at = row.archived_at or utc_now()
    return registry.get(db, model_id=model_id)


def bring_back(db: Database, *, model_id: int) -> registry.Model:
    """Offer an archived model again; it does not become active by that.

    Raises:
        SsnError: there is none with this number.
    """
    with db.write() as session:
        _locked(session, model_id).archived_at = None
    return registry.get(db, model_id=model_id)


def loss(db: Database, *, model_id: int) -> Loss:
    """What `delete` would take.

    Raises:
        SsnError: there is no such model.
    """
    model = registry.get(db, model_id=model_id)
    with db.read() as session:
        return _loss(session, model, _folders(db, model)["model"])


def delete(db: Database, *, model_id: int, inspector: str = "") -> Loss:
    """Delete a model with its scores, maps, threshold versions, map verdicts and folder; images and labels stay.

    The folders are renamed away inside the transaction and removed after its commit: whatever is cut off in between is
    settled at the next start (:func:`settle`), either way whole.

    Args:
        inspector: who deletes it; kept in the record of the deletion.

    Raises:
        SsnError: something rests on it (as `Entry.kept_by` says), its files cannot be moved, or there is none.
    """
    model = registry.get(db, model_id=model_id)
    folders = _folders(db, model)
    try:
        with db.write() as session:
            row = _locked(session, model_id)
            reason = _kept_by(session, [model_id]).get(model_id)
            if reason is not None:
                raise SsnError(f"This model cannot be deleted: {reason}")
            lost = _loss(session, model, folders["model"])
            _delete_rows(session, row)
            if _is_shared(session, model):
                del folders["model"]
            record = {
                "model": model.name,
                "project": model.project_id,
                "recipe": model.recipe,
                "trained_at": model.created_at.isoformat(),
                "deleted_at": utc_now().isoformat(),
                "inspector": inspector,
                "lost": asdict(lost),
            }
            deleted_models.move_aside(db.data_dir, model_id=model_id, folders=folders, record=record)
    except OSError as error:
        raise SsnError(
            "The model's files cannot be moved, so it was not deleted",
            value=error.strerror or str(error),
            action="Close what uses them, then try again",
        ) from error
    except IntegrityError as error:
        raise SsnError("This model cannot be deleted: something was just written that rests on it") from error
    finally:
        settle(db)
    return lost


def settle(db: Database) -> None:
    """Complete or undo deletions that were cut off: what the database still knows comes back, the rest is removed.

    Called after every deletion and once at the start of the app. What cannot be moved or removed now stays for the
    next start and goes to the log.
    """
    numbers = deleted_models.numbers(db.data_dir)
    if not numbers:
        return
    with db.write() as session:  # waits for a deletion that is under way in another process
        known: dict[int, str] = {}
        for chunk in chunks(numbers):
            statement = select(ModelRow.id, ModelRow.folder).where(ModelRow.id.in_(chunk)).with_for_update()
            known.update((row.id, row.folder) for row in session.execute(statement))
        for number, folder in known.items():
            with _left_for_later(number):
                folders = {"model": db.data_dir / folder, "maps": _maps(db, number)}
                deleted_models.put_back(db.data_dir, model_id=number, folders=folders)
    for number in numbers:  # outside the transaction: a hundred thousand maps take a while to go
        if number not in known:
            with _left_for_later(number):
                deleted_models.remove(db.data_dir, model_id=number)


@contextmanager
def _left_for_later(model_id: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        _log.warning("Files of deleted model %d are left for the next start: %s", model_id, error)


def names(db: Database, *, project_id: int, changes: tuple[snapshots.LabelChange, ...]) -> dict[str, tuple[int, str]]:
    """SHA-256 -> (image's number, its name) of changed images; those that are no longer there are left out."""
    found: dict[str, tuple[int, str]] = {}
    with db.read() as session:
        for chunk in chunks([change.sha256 for change in changes]):
            statement = select(ImageRow.sha256, ImageRow.id, ImageRow.name)
            statement = statement.where(ImageRow.project_id == project_id, ImageRow.sha256.in_(chunk))
            found.update({sha256: (number, name) for sha256, number, name in session.execute(statement)})
    return found


def _folders(db: Database, model: registry.Model) -> dict[str, Path]:
    return {"model": db.data_dir / model.folder, "maps": _maps(db, model.id)}


def _maps(db: Database, model_id: int) -> Path:
    return db.data_dir / "maps" / str(model_id)


def _is_shared(session: Session, model: registry.Model) -> bool:
    """Whether another model has the same folder (a training that went on after its model had been deleted)."""
    return session.scalar(select(ModelRow.id).where(ModelRow.folder == model.folder).limit(1)) is not None


def _delete_rows(session: Session, row: ModelRow) -> None:
    for table in _OWN:
        session.execute(delete_from(table).where(table.model_id == row.id))
    session.execute(update(ModelRow).where(ModelRow.parent_id == row.id).values(parent_id=None))
    session.delete(row)
    session.flush()  # whatever still refers to it is refused here, before any file is touched


def _loss(session: Session, model: registry.Model, folder: Path) -> Loss:
    def count(table: Any, *where: ColumnElement[bool]) -> int:
        return session.scalar(select(func.count()).select_from(table).where(*where)) or 0

    inspections = select(JobRow.payload).where(JobRow.kind == "inspect", JobRow.status == "succeeded")
    return Loss(
        predictions=count(PredictionRow, PredictionRow.model_id == model.id),
        threshold_events=count(ThresholdEventRow, ThresholdEventRow.model_id == model.id),
        map_verdicts=count(MapVerdictRow, MapVerdictRow.model_id == model.id),
        inspections=sum(payload.get("model_id") == model.id for payload in session.scalars(inspections)),
        children=count(ModelRow, ModelRow.parent_id == model.id),
        n_bytes=sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
    )


def _kept_by(session: Session, model_ids: list[int]) -> dict[int, str]:
    """Why models cannot be deleted, the first reason of each."""
    kept: dict[int, str] = {}

    def add(ids: Any, reason: str) -> None:
        for number in ids:
            if number is not None:
                kept.setdefault(number, reason)

    for chunk in chunks(model_ids):
        active = select(ProjectRow.active_model_id).where(ProjectRow.active_model_id.in_(chunk))
        add(session.scalars(active), "It is the active model; activate another one first")
        reports = select(ReportRow.model_id).where(ReportRow.model_id.in_(chunk))
        add(session.scalars(reports), "A report rests on it")
        studies = select(StudyRow.model_id).where(StudyRow.model_id.in_(chunk))
        add(session.scalars(studies), "A study of agreement rests on it")
    jobs = session.execute(select(JobRow.id, JobRow.payload).where(JobRow.status.in_(ACTIVE))).all()
    working = "A job is working with it; wait for it or cancel it"
    for _, payload in jobs:
        add((payload.get("model_id"), *payload.get("model_ids", ())), working)
    trained = select(ModelRow.id).where(ModelRow.job_id.in_([job_id for job_id, _ in jobs]))
    add(session.scalars(trained), working)
    return kept


def _is_active(session: Session, row: ModelRow) -> str | None:
    active = session.scalar(select(ProjectRow.active_model_id).where(ProjectRow.id == row.project_id))
    return "It is the active model; activate another one first" if active == row.id else None


def _is_in_training(session: Session, row: ModelRow) -> str | None:
    running = registry.training(session, row) in ACTIVE
    return "Its training still runs, and will activate it at the end" if running else None


def _locked(session: Session, model_id: int) -> ModelRow:
    row = session.get(ModelRow, model_id, with_for_update=True)
    if row is None:
        raise SsnError("There is no such model", value=model_id, action="Choose a model from the list")
    return row
