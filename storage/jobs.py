"""Jobs: rows that say what is to be done, by which process it is being done, and how far it is.

Status changes follow one table (`TRANSITIONS`) and are single conditional UPDATEs, so two processes can never both
make the same change. A running job belongs to the process written in its row (pid and creation time); everything that
process writes is conditional on still owning the row, so a worker that was given up cannot disturb its successor.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, and_, func, or_, select, text, update
from sqlalchemy.orm import Session, aliased

from ssn_core.errors import SettingError, SsnError
from storage.db import Database
from storage.job_points import add_points, points
from storage.job_rows import ACTIVE, TRANSITIONS, Job, LostJobError, TransitionError, checked, job_from, owned, plain
from storage.reaping import CANCEL_GRACE_SECONDS, ProcessTable, reap
from storage.tables import JobRow, utc_now

__all__ = [
    "ACTIVE",
    "CANCEL_GRACE_SECONDS",
    "CAPACITY",
    "LANES",
    "TRANSITIONS",
    "Job",
    "LostJobError",
    "ProcessTable",
    "TransitionError",
    "active",
    "add_points",
    "claim",
    "finish",
    "folder",
    "get",
    "heartbeat",
    "list_jobs",
    "log_path",
    "log_tail",
    "points",
    "progress",
    "reap",
    "request_cancel",
    "resume",
    "startable",
    "submit",
]

# What computes on the GPU or on all cores runs alone; imports mostly wait for the disk and may run beside it. What
# nobody waits for runs aside, at low priority: it must not keep a training from starting. An estimate of what more
# labels bring trains a dozen networks, and the comparison of images, which gives the next images to label, must not
# wait until it ends: it has a lane of its own, at the lowest priority.
LANES: Mapping[str, str] = {
    "train": "compute",
    "score": "compute",
    "inspect": "compute",
    "benchmark": "compute",
    "import": "import",
    "demo": "import",
    "report": "import",
    "thumbnails": "import",
    "describe": "aside",
    "gain": "estimate",
}
CAPACITY: Mapping[str, int] = {"compute": 1, "import": 2, "aside": 1, "estimate": 1}  # running jobs per lane

_CLAIM_LOCK = 0x55_4E_4A  # any constant: PostgreSQL's name for "someone is claiming a job"


def submit(db: Database, *, kind: str, project_id: int | None, payload: Mapping[str, Any]) -> int:
    """Queue a job and return its id. `payload` must be plain JSON.

    Raises:
        SettingError: there is no such kind of job.
    """
    if kind not in LANES:
        raise SettingError("There is no such kind of job", value=kind, expected=" or ".join(LANES))
    with db.write() as session:
        row = JobRow(kind=kind, project_id=project_id, payload=plain(payload))
        session.add(row)
        session.flush()
        return row.id


def get(db: Database, *, job_id: int) -> Job:
    """One job.

    Raises:
        SsnError: there is no such job.
    """
    with db.read() as session:
        return _get(session, job_id)


def list_jobs(
    db: Database, *, project_id: int | None, kinds: Collection[str] | None = None, limit: int = 50
) -> list[Job]:
    """The newest jobs first; `project_id` None means of all projects, `kinds` None of every kind."""
    with db.read() as session:
        statement = select(JobRow).where(*_wanted(project_id, kinds)).order_by(JobRow.id.desc()).limit(limit)
        return [job_from(row) for row in session.scalars(statement)]


def active(db: Database, *, project_id: int | None = None, kinds: Collection[str] | None = None) -> list[Job]:
    """Queued and running jobs, oldest first; None means any."""
    with db.read() as session:
        statement = select(JobRow).where(JobRow.status.in_(ACTIVE), *_wanted(project_id, kinds)).order_by(JobRow.id)
        return [job_from(row) for row in session.scalars(statement)]


def startable(db: Database, *, leaving: int | None = None) -> list[Job]:
    """The queued jobs whose lane has room, oldest first; a hint for starting workers, as :func:`claim` decides.

    `leaving` is a running job whose process is about to end: its place counts as free.
    """
    jobs = active(db)
    room = dict(CAPACITY)
    for job in jobs:
        if job.status == "running" and job.id != leaving:
            room[LANES[job.kind]] -= 1
    ready = []
    for job in jobs:
        if job.status == "queued" and room[LANES[job.kind]] > 0:
            room[LANES[job.kind]] -= 1
            ready.append(job)
    return ready


def claim(db: Database, *, pid: int, process_created: float, kinds: Collection[str] | None = None) -> Job | None:
    """Take the oldest queued job whose lane has room, for the process given; None when there is none.

    One atomic statement: of any number of processes that ask at once, exactly one gets the job.
    """
    queued = aliased(JobRow)
    oldest = (
        select(queued.id)
        .where(queued.status == "queued", queued.cancel_requested_at.is_(None), _has_room(queued.kind))
        .order_by(queued.id)
        .limit(1)
    )
    if kinds is not None:
        oldest = oldest.where(queued.kind.in_(kinds))
    now = utc_now()
    statement = (
        update(JobRow)
        .where(JobRow.id == oldest.scalar_subquery(), JobRow.status == "queued")
        .values(
            status=checked("queued", "running"),
            pid=pid,
            process_created=process_created,
            heartbeat_at=now,
            started_at=now,
            phase="Starting",
        )
        .returning(JobRow)
    )
    with db.write() as session:
        _one_claim_at_a_time(session)
        row = session.scalars(statement).one_or_none()
        return None if row is None else job_from(row)


def heartbeat(db: Database, *, job: Job) -> bool:
    """Say that the worker of `job` is alive; returns whether a cancel has been requested.

    Raises:
        LostJobError: the job no longer belongs to that worker.
    """
    return _write_as_owner(db, job, {})


def progress(
    db: Database,
    *,
    job: Job,
    phase: str,
    done: int,
    total: int,
    metrics: Mapping[str, Any],
    eta_seconds: float | None,
) -> bool:
    """Write how far `job` is (and a heartbeat); returns whether a cancel has been requested.

    Raises:
        LostJobError: the job no longer belongs to that worker.
    """
    values = {
        "phase": phase[:64],
        "done": int(done),
        "total": int(total),
        "metrics": plain(metrics),
        "eta_seconds": eta_seconds,
    }
    return _write_as_owner(db, job, values)


def finish(
    db: Database, *, job: Job, status: str, result: Mapping[str, Any] | None = None, error: str | None = None
) -> Job:
    """The worker's last word on `job`: "succeeded" or "failed". The progress stays as it was: nothing jumps to 100 %.

    Raises:
        LostJobError: the job no longer belongs to that worker.
    """
    values: dict[str, Any] = {
        "status": checked("running", status),
        "finished_at": utc_now(),
        "error": error,
        "eta_seconds": None,
        "result": None if result is None else plain(result),
    }
    with db.write() as session:
        row = session.scalars(update(JobRow).where(owned(job)).values(**values).returning(JobRow)).one_or_none()
        if row is None:
            raise LostJobError(f"Job {job.id} no longer belongs to process {job.pid}")
        return job_from(row)


def request_cancel(db: Database, *, job_id: int) -> Job:
    """Ask for a job to be cancelled and return it as it is now.

    A queued job is cancelled at once. A running one stays "running" until its process is gone (:func:`reap`). A job
    that has ended stays as it is: it was quicker.
    """
    now = utc_now()
    with db.write() as session:
        session.execute(
            update(JobRow)
            .where(JobRow.id == job_id, JobRow.status == "queued")
            .values(status=checked("queued", "cancelled"), cancel_requested_at=now, finished_at=now, phase="Cancelled")
        )
        session.execute(
            update(JobRow)
            .where(JobRow.id == job_id, JobRow.status == "running", JobRow.cancel_requested_at.is_(None))
            .values(cancel_requested_at=now)
        )
        return _get(session, job_id)


def resume(db: Database, *, job_id: int) -> Job:
    """Queue an interrupted, failed or cancelled job again, as its next attempt; the worker finds its checkpoint.

    Raises:
        TransitionError: the job is queued, running or has succeeded.
        SsnError: there is no such job.
    """
    values = {
        "status": "queued",
        "attempt": JobRow.attempt + 1,
        "phase": "Waiting",
        "done": 0,
        "total": 0,
        "metrics": {},
    }
    emptied = (
        "result", "error", "eta_seconds", "pid", "process_created", "heartbeat_at", "cancel_requested_at",
        "started_at", "finished_at",
    )  # fmt: skip
    with db.write() as session:
        sources = [status for status, targets in TRANSITIONS.items() if "queued" in targets]
        row = session.scalars(
            update(JobRow)
            .where(JobRow.id == job_id, JobRow.status.in_(sources))
            .values(**values, **dict.fromkeys(emptied))
            .returning(JobRow)
        ).one_or_none()
        if row is None:
            checked(_get(session, job_id).status, "queued")  # raises: it says which status stands in the way
            raise AssertionError("unreachable: the row changed inside the transaction")
        return job_from(row)


def folder(db: Database, *, job_id: int) -> Path:
    """The job's own folder (log, checkpoint), absolute; not necessarily there yet."""
    return db.data_dir / "jobs" / str(job_id)


def log_path(db: Database, *, job_id: int) -> Path:
    """The job's log, absolute; not necessarily there yet."""
    return folder(db, job_id=job_id) / "log.txt"


def log_tail(db: Database, *, job_id: int, n_bytes: int = 20_000) -> str:
    """The end of the job's log, at most `n_bytes`, from the start of a line; empty when there is none."""
    path = log_path(db, job_id=job_id)
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - n_bytes))
        data = file.read(n_bytes)
    if size > n_bytes:
        data = data[data.find(b"\n") + 1 :]
    return data.decode("utf-8", errors="replace")


def _has_room(kind: Any) -> ColumnElement[bool]:
    choices = []
    for lane, capacity in CAPACITY.items():
        members = [name for name, its_lane in LANES.items() if its_lane == lane]
        other = aliased(JobRow)
        taken = (
            select(func.count()).select_from(other).where(other.status == "running", other.kind.in_(members))
        ).scalar_subquery()
        choices.append(and_(kind.in_(members), taken < capacity))
    return or_(*choices)


def _one_claim_at_a_time(session: Session) -> None:
    # The statement alone never gives one job to two processes. But on PostgreSQL two claims of different jobs may each
    # not see the other's, and so overfill a lane; SQLite's write lock rules that out already.
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _CLAIM_LOCK})


def _write_as_owner(db: Database, job: Job, values: dict[str, Any]) -> bool:
    with db.write() as session:
        found = session.execute(
            update(JobRow)
            .where(owned(job))
            .values(heartbeat_at=utc_now(), **values)
            .returning(JobRow.id, JobRow.cancel_requested_at)
        ).one_or_none()
    if found is None:
        raise LostJobError(f"Job {job.id} no longer belongs to process {job.pid}")
    return found.cancel_requested_at is not None


def _wanted(project_id: int | None, kinds: Collection[str] | None) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if project_id is not None:
        conditions.append(JobRow.project_id == project_id)
    if kinds is not None:
        conditions.append(JobRow.kind.in_(kinds))
    return conditions


def _get(session: Session, job_id: int) -> Job:
    row = session.get(JobRow, job_id, populate_existing=True)
    if row is None:
        raise SsnError("There is no such job", value=job_id, action="Reload the page")
    return job_from(row)
