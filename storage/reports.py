"""Reports on models: written, listed, read and deleted.

A report is one HTML file below `reports/<model>/` in the data folder and one row. The row is what counts: while there
is one, the model cannot be deleted (lineage.py). File and row come into being in one transaction that holds the model's
row, so what lies in the folder without a row is left over from a process that died, and is removed with the next
writing.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from ssn_core.errors import SsnError
from ssn_core.report.document import render
from ssn_core.report.facts import Dated
from storage import registry, report_facts
from storage.db import Database
from storage.files import write_atomically
from storage.job_context import JobContext
from storage.tables import ImageRow, ModelRow, PredictionRow, ReportRow, utc_now

MAX_PURPOSE = 2000  # characters
# Up to here a report takes about a second and is written while the page waits.
QUICK_IMAGES = 5_000  # of the project
QUICK_PIXELS = 6_000_000  # of its largest image: a dozen are decoded
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Report:
    """One written report."""

    id: int
    model_id: int
    sha256: str
    path: str  # relative to the data folder
    inspector: str
    created_at: datetime


def list_reports(db: Database, *, model_id: int) -> list[Report]:
    """The reports on a model, newest first."""
    statement = select(ReportRow).where(ReportRow.model_id == model_id).order_by(ReportRow.id.desc())
    with db.read() as session:
        return [_report(row) for row in session.scalars(statement)]


def purpose(model: registry.Model) -> str:
    """What the model is for, as a person typed it for an earlier report; "" before."""
    found = (model.summary or {}).get("purpose")
    return found if isinstance(found, str) else ""


def set_purpose(db: Database, *, model_id: int, text: str) -> registry.Model:
    """Keep what the model is for, with the model: the next report begins with it.

    Args:
        text: several lines are kept; signs that cannot be printed are not, nor what comes after 2,000 characters.

    Raises:
        SsnError: there is no such model.
    """
    lines = ("".join(sign if sign.isprintable() else " " for sign in line).rstrip() for line in text.splitlines())
    kept = "\n".join(lines).strip()[:MAX_PURPOSE]
    with db.write() as session:
        row = _locked(session, model_id)
        row.summary = {**(row.summary or {}), "purpose": kept}
    return registry.get(db, model_id=model_id)


def is_quick(db: Database, *, model: registry.Model) -> bool:
    """Whether a report takes no longer than a page may wait (else a job of kind "report" writes it)."""
    mine = ImageRow.project_id == model.project_id
    with db.read() as session:
        n = session.scalar(select(func.count()).select_from(ImageRow).where(mine)) or 0
        if n > QUICK_IMAGES:
            return False
        scored = select(func.max(ImageRow.width * ImageRow.height)).join(
            PredictionRow, PredictionRow.image_id == ImageRow.id
        )
        largest = session.scalar(scored.where(mine, PredictionRow.model_id == model.id)) or 0
    return largest <= QUICK_PIXELS


def write(
    db: Database, *, model_id: int, inspector: str, progress: Callable[[str, int, int], None] | None = None
) -> Report:
    """Write a report on a model as it is now.

    Args:
        inspector: who writes it; "" is allowed.
        progress: called with (phase, done, total), total 0 where it is not known.

    Raises:
        SsnError: there is no such model, or the disk refuses the file.
    """

    def nothing(_phase: str, _done: int, _total: int) -> None: ...

    tell = progress or nothing
    model = registry.get(db, model_id=model_id)
    facts = report_facts.gather(db, model=model, purpose=purpose(model), progress=tell)
    tell("Writing the report", 0, 0)
    now = utc_now()
    who = inspector.strip()[:100]
    written = f"{report_facts.moment(now)} by {who}" if who else report_facts.moment(now)
    dates = [Dated("Report written", written), *report_facts.dates(db, model=model)]
    return _store(db, model_id=model_id, data=render(facts, dates), inspector=who, now=now)


def read(db: Database, *, report_id: int) -> bytes:
    """The file of a report, exactly as it was written.

    Raises:
        SsnError: there is no such report, its file is gone, or it was changed since.
    """
    report = _get(db, report_id)
    action = "Put it back from a backup, or write a new report"
    try:
        data = _path(db, report.path).read_bytes()
    except OSError as error:
        raise SsnError("The report's file cannot be read", value=report.path, action=action) from error
    if hashlib.sha256(data).hexdigest() != report.sha256:
        raise SsnError("The report's file was changed after it was written", value=report.path, action=action)
    return data


def delete(db: Database, *, report_id: int) -> None:
    """Delete a report: its row, then its file. Deleting it again does nothing."""
    with db.write() as session:
        row = session.get(ReportRow, report_id)
        if row is None:
            return
        path = _path(db, row.path)
        session.delete(row)
    try:
        path.unlink(missing_ok=True)
    except OSError as error:  # open in another program: the next writing removes it
        _log.warning("The file of a deleted report stays for now: %s", error)


def run_job(context: JobContext) -> Mapping[str, Any]:
    """The job of kind "report". Payload: model_id, inspector."""
    payload = context.job.payload
    report = write(
        context.db,
        model_id=int(payload["model_id"]),
        inspector=str(payload.get("inspector", "")),
        progress=context.progress,
    )
    return {"report_id": report.id, "model_id": report.model_id}


def _store(db: Database, *, model_id: int, data: bytes, inspector: str, now: datetime) -> Report:
    sha256 = hashlib.sha256(data).hexdigest()
    relative = f"reports/{model_id}/{now:%Y%m%d-%H%M%S-%f}-{sha256[:12]}.html"
    target = db.data_dir / relative
    try:
        with db.write() as session:
            _locked(session, model_id)
            known = set(session.scalars(select(ReportRow.path).where(ReportRow.model_id == model_id)))
            _remove_leftovers(target.parent, {_path(db, path).name for path in known})
            row = ReportRow(model_id=model_id, sha256=sha256, path=relative, inspector=inspector, created_at=now)
            session.add(row)
            session.flush()
            write_atomically(target, data)
            return _report(row)
    except OSError as error:
        raise SsnError(
            "The report cannot be written",
            value=error.strerror or str(error),
            action="Make room in the data folder, then try again",
        ) from error


def _remove_leftovers(folder: Path, known: set[str]) -> None:
    """Remove files that no row names. Only with the model's row locked: nobody else is writing here."""
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        if path.name not in known and path.is_file():
            path.unlink(missing_ok=True)


def _path(db: Database, relative: str) -> Path:
    root = (db.data_dir / "reports").resolve()
    path = (db.data_dir / relative).resolve()
    if not path.is_relative_to(root):
        raise SsnError("A report lies in the data folder", value=relative, expected="a file below reports/")
    return path


def _get(db: Database, report_id: int) -> Report:
    with db.read() as session:
        row = session.get(ReportRow, report_id)
    if row is None:
        raise SsnError("There is no such report", value=report_id, action="Choose a report from the list")
    return _report(row)


def _locked(session: Session, model_id: int) -> ModelRow:
    row = session.get(ModelRow, model_id, with_for_update=True)
    if row is None:
        raise SsnError("There is no such model", value=model_id, action="Choose a model from the list")
    return row


def _report(row: ReportRow) -> Report:
    return Report(row.id, row.model_id, row.sha256, row.path, row.inspector, row.created_at)
