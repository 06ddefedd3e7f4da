"""Imports: images, labels and masks from a folder, an upload or a CSV into a project, as a job.

Images are known by the SHA-256 of their bytes: importing twice adds nothing. One bad file never stops an import; the
report names each file that was not taken, with the reason. Work is committed in batches, so an import that was
interrupted goes on where it stopped.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import func, select

from ssn_core.errors import LayoutError, SettingError
from ssn_core.sources import Scan, scan
from storage import archives, import_groups, jobs, label_advice, projects
from storage.db import Database, chunks, insert_for
from storage.delivery import MAX_INSPECTOR_LENGTH
from storage.import_batch import Target, import_batch
from storage.tables import ImportEntryRow, LabelEventRow

BATCH_SIZE = 50  # files in one transaction: what an interruption costs at most
_MAX_THREADS = 4  # each may hold one decoded image of up to 100 megapixels
_SAMPLES = 8
_SHOWN_PATH = 100  # characters of a path in a message

Progress = Callable[[str, int, int], None]


class ImportContext(Protocol):
    """What the import job needs of the worker's job context."""

    @property
    def db(self) -> Database: ...

    @property
    def job(self) -> jobs.Job: ...

    def progress(self, phase: str, done: int, total: int, **metrics: Any) -> None: ...


@dataclass(frozen=True)
class Preview:
    """What would be imported."""

    layout: str
    title: str  # of the layout, for people
    n_images: int
    n_good: int
    n_bad: int
    n_unlabelled: int
    n_masks: int
    n_groups: int
    ignored: tuple[tuple[str, str], ...]  # name, reason
    problems: tuple[str, ...]  # doubts, for people
    sample_names: tuple[str, ...]


@dataclass(frozen=True)
class ImportReport:
    """What became of the files of an import."""

    added: int
    already_there: int
    rejected: int
    labelled: int  # labels that were taken over


@dataclass(frozen=True)
class ImportEntry:
    """What became of one file."""

    name: str
    outcome: str  # added | already_there | rejected
    reason: str  # why it was rejected, or a note
    image_id: int | None


def locate(text: str) -> Path:
    """The path that somebody typed; "~" is the home folder of whoever runs this program.

    Raises:
        LayoutError: it can be no path.
    """
    try:
        path = Path(text.strip()).expanduser()
        path.exists()  # some names (too long, with a NUL) are refused only when the disk is asked
    except (OSError, RuntimeError, ValueError) as error:
        shown = text.strip() if len(text) <= _SHOWN_PATH else f"{text.strip()[:_SHOWN_PATH]}..."
        raise LayoutError(
            "This cannot be the path of a folder or file", value=shown, expected="a folder or a .csv file"
        ) from error
    return path


def preview(*, source: Path, layout: str | None = None) -> Preview:
    """Look at a source without importing anything.

    Args:
        source: a folder, a CSV file or a staging folder (`archives.stage_uploads`).
        layout: one of `ssn_core.sources.LAYOUTS`; None: recognised.

    Raises:
        LayoutError: nothing there can be imported.
    """
    found = _scan(source, layout)
    return Preview(
        layout=found.layout,
        title=found.title,
        n_images=len(found.items),
        n_good=found.count("good"),
        n_bad=found.count("bad"),
        n_unlabelled=found.count(None),
        n_masks=found.n_masks,
        n_groups=found.n_groups,
        ignored=(*archives.rejected_in(source), *found.ignored),
        problems=found.problems,
        sample_names=tuple(item.name for item in found.items[:_SAMPLES]),
    )


def submit(db: Database, *, project_id: int, source: Path, layout: str | None, staged: bool, inspector: str) -> int:
    """Queue an import and return its job.

    Args:
        source: as for `preview`; must stay as it is until the import is done.
        staged: the source is a staging folder, to be deleted after the import has succeeded.
        inspector: who imports; named in the label events. 1 to 100 characters.

    Raises:
        SsnError: there is no such project.
        LayoutError: there is no such source.
        SettingError: the inspector's name is empty or too long.
    """
    projects.get(db, project_id=project_id)
    inspector = inspector.strip()
    if not 1 <= len(inspector) <= MAX_INSPECTOR_LENGTH:
        raise SettingError(
            "The inspector's name cannot be used",
            value=inspector[:40],
            expected=f"1 to {MAX_INSPECTOR_LENGTH} characters",
        )
    source = source.absolute()
    if not source.exists():
        raise LayoutError("There is no such folder or file", value=str(source), action="Choose another source")
    if staged and not archives.is_staging(db.data_dir, source):
        raise ValueError(f"not a staging folder, so it must not be deleted after the import: {source}")
    payload = {"source": str(source), "layout": layout, "staged": staged, "inspector": inspector}
    return jobs.submit(db, kind="import", project_id=project_id, payload=payload)


def run_job(context: ImportContext) -> dict[str, int]:
    """The handler of import jobs; returns the report. A staging folder is deleted once everything is in.

    Also the time to sweep up uploads that nobody came back for: here they were made, and no page waits.
    """
    done = run(context.db, job_id=context.job.id, progress=lambda *state: context.progress(*state))
    if context.job.payload["staged"]:
        archives.discard(context.db.data_dir, Path(context.job.payload["source"]))
    sweep_staging(context.db)
    if done.added and context.job.project_id is not None:
        label_advice.prepare(context.db, project_id=context.job.project_id)
    return asdict(done)


def run(db: Database, *, job_id: int, progress: Progress) -> ImportReport:
    """Do an import, or what an interrupted attempt has left of it.

    Args:
        progress: called with (phase, done, total); may raise to stop: what is committed stays.

    Raises:
        LayoutError: the source is gone, or holds nothing that can be imported.
        SsnError: the data folder cannot be written.
    """
    job = jobs.get(db, job_id=job_id)
    if job.project_id is None:
        raise ValueError(f"job {job_id} belongs to no project")
    source = Path(job.payload["source"])
    progress("Reading names", 0, 0)
    found = _scan(source, job.payload["layout"])
    with _threads() as executor:
        groups = import_groups.plan(
            db, project_id=job.project_id, items=found.items, executor=executor, progress=progress
        )
        target = Target(job_id, job.project_id, inspector=job.payload["inspector"], client=_client(job_id))
        settled = _settled(db, job_id)
        waiting = [item for item in found.items if item.name not in settled]
        total = len(found.items)
        done = total - len(waiting)
        for items in chunks(waiting, BATCH_SIZE):
            tell = partial(_tell, progress, done, total)
            import_batch(db, target=target, items=items, groups=groups, executor=executor, tell=tell)
            done += len(items)
        progress("Importing", done, total)
    _write_ignored(db, job_id, [*archives.rejected_in(source), *found.ignored])
    return report(db, job_id=job_id)


def report(db: Database, *, job_id: int) -> ImportReport:
    """What became of the files of an import so far."""
    with db.read() as session:
        found = dict(
            session.execute(
                select(ImportEntryRow.outcome, func.count())
                .where(ImportEntryRow.job_id == job_id)
                .group_by(ImportEntryRow.outcome)
            ).all()
        )
        labelled = session.scalar(select(func.count()).where(LabelEventRow.client == _client(job_id)))
    return ImportReport(
        added=found.get("added", 0),
        already_there=found.get("already_there", 0),
        rejected=found.get("rejected", 0),
        labelled=labelled or 0,
    )


def entries(db: Database, *, job_id: int, outcome: str | None = None, limit: int | None = None) -> list[ImportEntry]:
    """The report's lines, in the order in which the files were dealt with; of one outcome, or all."""
    statement = select(ImportEntryRow).where(ImportEntryRow.job_id == job_id)
    if outcome is not None:
        statement = statement.where(ImportEntryRow.outcome == outcome)
    with db.read() as session:
        rows = session.scalars(statement.order_by(ImportEntryRow.id).limit(limit))
        return [ImportEntry(row.name, row.outcome, row.reason, row.image_id) for row in rows]


def sweep_staging(db: Database) -> int:
    """Delete forgotten staging folders, but none that a waiting or running job needs; returns how many."""
    payloads = [job.payload for job in jobs.active(db)]
    needed = [payload.get("staging") or payload.get("source") for payload in payloads]  # of inspections and imports
    return archives.sweep(db.data_dir, keep=[Path(folder) for folder in needed if folder])


def _scan(source: Path, layout: str | None) -> Scan:
    try:
        return scan(source, layout=layout)
    except LayoutError as error:
        rejected = archives.rejected_in(source)
        if not rejected:
            raise
        name, reason = rejected[0]
        raise LayoutError(
            f"{error.what}; {len(rejected)} left out before, for example {name!r} ({reason})",
            expected=error.expected,
            action=error.action,
        ) from error


@contextmanager
def _threads() -> Iterator[Executor]:
    executor = ThreadPoolExecutor(min(_MAX_THREADS, os.cpu_count() or 1), thread_name_prefix="import")
    try:
        yield executor
    finally:
        executor.shutdown(wait=True, cancel_futures=True)  # a cancelled import waits for the files in hand only


def _tell(progress: Progress, before: int, total: int, in_batch: int) -> None:
    progress("Importing", before + in_batch, total)


def _client(job_id: int) -> str:
    return f"import-{job_id}"


def _settled(db: Database, job_id: int) -> set[str]:
    """Names of the files that an earlier attempt dealt with."""
    with db.read() as session:
        return set(session.scalars(select(ImportEntryRow.name).where(ImportEntryRow.job_id == job_id)))


def _write_ignored(db: Database, job_id: int, ignored: list[tuple[str, str]]) -> None:
    """Add what was never taken for an image to the report; comes last, so that it cannot pass for settled files."""
    with db.write() as session:
        written = select(ImportEntryRow.name, ImportEntryRow.reason).where(
            ImportEntryRow.job_id == job_id, ImportEntryRow.outcome == "rejected"
        )
        there = {(name, reason) for name, reason in session.execute(written)}
        rows = [
            {"job_id": job_id, "name": name, "outcome": "rejected", "reason": reason}
            for name, reason in ignored
            if (name, reason) not in there
        ]
        for chunk in chunks(rows):
            session.execute(insert_for(session, ImportEntryRow).values(list(chunk)))
