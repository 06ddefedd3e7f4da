"""The thresholds of a model as versions: saved, looked back on, restored; never overwritten.

The database is the truth: a version is an event, and the model's row repeats the newest one. The model folder carries a
copy (`operating_point.json`), so that the folder alone is enough to judge parts by. The copy is written after the
database has it; where that failed, or a process died between the two, it is written again when the model is next used
(:func:`folder_in_force`) or saved.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from ssn_core import honest, operating_point, rules
from ssn_core.errors import ModelFolderError, SsnError
from ssn_core.operating_point import MAX_HOW, MAX_INSPECTOR, OperatingPoint
from storage import predictions, registry
from storage.db import Database
from storage.files import write_atomically
from storage.tables import ModelRow, ThresholdEventRow

_log = logging.getLogger(__name__)
FROM_BEFORE = "Set before versions were kept"


@dataclass(frozen=True)
class Version:
    """One version of a model's thresholds; fields as in :class:`storage.tables.ThresholdEventRow`."""

    id: int  # 0: the only one of a model from before versions were kept; it gets one when another follows
    number: int  # as people see it: 1 is the model's first version, the training's own
    model_id: int
    threshold: float  # a score at or above it means bad
    threshold_low: float | None  # scores from here up to `threshold` go to a person
    how: str  # in words; ssn_core.rules writes them and knows the rule in them
    inspector: str  # "" for the training itself
    created_at: datetime


def save(
    db: Database, *, model_id: int, threshold: float, threshold_low: float | None = None, how: str, inspector: str
) -> Version:
    """Put thresholds in force: a new version, the model's row in the same transaction, then the model folder's copy.

    Args:
        threshold: a score at or above it means bad.
        threshold_low: scores from here up to `threshold` go to a person; None: everything is decided.
        how: they were found, in words; cut after 200 characters.
        inspector: who saves them; cut after 100 characters.

    Raises:
        SettingError: a threshold is not finite, or the lower one lies above the other; nothing is saved.
        SsnError: there is no such model.
        ModelFolderError: they are saved and in force, but could not be copied into the model's folder (a full disk).
    """
    operating_point.check_thresholds(threshold, threshold_low)
    with db.write() as session:
        version = _append(session, model_id, threshold, threshold_low, how, inspector)
    _copy(db, model_id)
    return version


def history(db: Database, *, model_id: int) -> list[Version]:
    """All versions of a model, newest first; the training's own suggestion is the last one.

    A model from before versions were kept has one, with the threshold it has.

    Raises:
        SsnError: there is no such model.
    """
    with db.read() as session:
        return _history(session, _model(session, model_id))


def in_force(db: Database, *, model_id: int) -> Version:
    """The newest version.

    Raises:
        SsnError: there is no such model.
    """
    return history(db, model_id=model_id)[0]


def cuts(version: Version, held_out: predictions.HeldOut) -> honest.Cuts:
    """The thresholds that each held-out image is to be counted at while this version is in force."""
    crosswise = held_out.kind == "out_of_fold" and rules.rule_of(version.how) is not None
    return honest.cuts(
        held_out.labels,
        held_out.scores,
        held_out.blocks if crosswise else None,  # dealt when asked for
        held_out=held_out.kind,
        threshold=version.threshold,
        threshold_low=version.threshold_low,
        how=version.how,
    )


def restore(db: Database, *, version_id: int, inspector: str) -> Version:
    """Put an earlier version in force again, as a new version with the old thresholds.

    Raises:
        SsnError: there is no such version.
        ModelFolderError: as in :func:`save`.
    """
    with db.write() as session:
        old = session.get(ThresholdEventRow, version_id)
        if old is None:
            raise SsnError("There is no such version", value=version_id, action="Choose a version from the list")
        number = sum(event.id <= old.id for event in _events(session, old.model_id))
        how = rules.restored(number, old.how)
        version = _append(session, old.model_id, old.threshold, old.threshold_low, how, inspector)
    _copy(db, version.model_id)
    return version


def folder_in_force(db: Database, model: registry.Model) -> Path:
    """The model's folder, absolute, with the thresholds in force in it: what to load a model from.

    A folder that cannot be written to is used as it is: within this program the database's thresholds count.

    Raises:
        ModelFolderError: the folder is gone, or lies outside the data folder.
    """
    path = registry.model_path(db, model)
    try:
        _copy(db, model.id)
    except ModelFolderError as error:
        _log.warning("%s", error)
    return path


def _append(
    session: Session, model_id: int, threshold: float, threshold_low: float | None, how: str, inspector: str
) -> Version:
    model = _model(session, model_id, lock=True)
    if not _events(session, model_id):
        session.add(_first_event(model))
        session.flush()
    event = ThresholdEventRow(
        model_id=model_id,
        threshold=float(threshold),
        threshold_low=None if threshold_low is None else float(threshold_low),
        how=_line(how, MAX_HOW),
        inspector=_line(inspector, MAX_INSPECTOR),
    )
    session.add(event)
    model.threshold, model.threshold_low = event.threshold, event.threshold_low
    session.flush()
    return _version(event, len(_events(session, model_id)))


def _history(session: Session, model: ModelRow) -> list[Version]:
    events = _events(session, model.id) or [_first_event(model)]
    return [_version(event, len(events) - place) for place, event in enumerate(events)]


def _events(session: Session, model_id: int) -> list[ThresholdEventRow]:
    statement = (
        select(ThresholdEventRow).where(ThresholdEventRow.model_id == model_id).order_by(ThresholdEventRow.id.desc())
    )
    return list(session.scalars(statement))


def _first_event(model: ModelRow) -> ThresholdEventRow:
    """What stands for the thresholds of a model from before versions were kept."""
    untouched = model.threshold == model.suggested_threshold and model.threshold_low is None
    return ThresholdEventRow(
        model_id=model.id,
        threshold=model.threshold,
        threshold_low=model.threshold_low,
        how=rules.FROM_TRAINING if untouched else FROM_BEFORE,
        inspector="",
        created_at=model.created_at,
    )


def _copy(db: Database, model_id: int) -> None:
    """Bring the model folder's copy up to date. A folder that is gone has none: it is put right when it is back.

    After each writing the database is asked again: of two processes that save at once, the one that writes last sees
    what the other has committed before, so the newest version stays in the folder whoever is slower.
    """
    written: OperatingPoint | None = None
    while True:
        with db.read() as session:
            row = _model(session, model_id)
            newest, folder, name = _history(session, row)[0], row.folder, row.name
        point = OperatingPoint(
            newest.threshold, newest.threshold_low, newest.how, newest.inspector, newest.created_at, newest.number
        )
        path = db.data_dir / folder
        if point == written or not path.is_dir() or _found(path) == point:
            return
        try:
            write_atomically(path / operating_point.FILE_NAME, operating_point.to_json(point))
        except OSError as error:
            raise ModelFolderError(
                f"The thresholds of model {name!r} are saved and in force here, but not yet in the model's folder",
                value=f"{path}: {error.strerror or error}",
                action="Make room or let the folder be written to; it is put right when the model is next used. Until "
                "then, judge no parts from a copy of the folder",
            ) from error
        written = point


def _found(folder: Path) -> OperatingPoint | None:
    try:
        return operating_point.read(folder)
    except ModelFolderError:
        return None  # damaged: written again


def _model(session: Session, model_id: int, *, lock: bool = False) -> ModelRow:
    # Locked, the row and the newest event cannot part ways when two processes save (SQLite has one writer anyway).
    row = session.get(ModelRow, model_id, with_for_update=lock)
    if row is None:
        raise SsnError("There is no such model", value=model_id, action="Choose a model from the list")
    return row


def _version(event: ThresholdEventRow, number: int) -> Version:
    values = {field.name: getattr(event, field.name) for field in fields(Version) if field.name != "number"}
    return Version(**{**values, "id": event.id or 0}, number=number)


def _line(text: str, longest: int) -> str:
    printable = "".join(sign if sign.isprintable() else " " for sign in text)
    return " ".join(printable.split())[:longest].strip()
