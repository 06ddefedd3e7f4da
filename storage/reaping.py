"""Keeping job rows honest: what a row says about its process is compared with the process itself."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Protocol

from sqlalchemy import select

from storage.db import Database
from storage.job_rows import Job, checked, job_from, owned
from storage.tables import JobRow, utc_now

CANCEL_GRACE_SECONDS = 20.0  # a worker that has not stopped by then is killed
_WAKE_SECONDS = 5.0  # a machine that slept has stale heartbeats until its workers wake: look twice before killing


class ProcessTable(Protocol):
    """What :func:`reap` needs to know about the processes that run jobs."""

    def is_alive(self, job: Job) -> bool:
        """Whether the very process that claimed the job still exists (a zombie does not)."""
        ...

    def kill(self, job: Job) -> None:
        """End that process and its children, and wait briefly until they are gone."""
        ...


def reap(db: Database, *, stale_seconds: float, runner: ProcessTable) -> list[Job]:
    """Bring the rows in line with the processes; returns the jobs that changed.

    - Its process is gone: "cancelled" if that was requested, else "interrupted".
    - A cancel was requested more than 20 s ago: the process tree is killed, and marked only when it is gone.
    - Silent for `stale_seconds` although the process exists: killed likewise, then "interrupted".

    Cheap when nothing has changed: one SELECT and one look at each running job's process.
    """
    changed = []
    with db.read() as session:
        rows = session.scalars(select(JobRow).where(JobRow.status == "running").order_by(JobRow.id)).all()
        running = [job_from(row) for row in rows]
    for job in running:
        if runner.is_alive(job):
            if not (_cancel_is_overdue(job) or _is_silent(db, job, stale_seconds)):
                continue
            runner.kill(job)
            if runner.is_alive(job):
                continue  # still on its way out: its memory is not free yet
        ended = _mark_gone(db, job)
        if ended is not None:
            changed.append(ended)
    return changed


def _mark_gone(db: Database, job: Job) -> Job | None:
    with db.write() as session:
        # Read again inside the write: a cancel may have arrived, or the worker may have finished, since the first look.
        row = session.scalars(select(JobRow).where(owned(job)).with_for_update()).one_or_none()
        if row is None:
            return None
        cancelled = row.cancel_requested_at is not None
        row.status = checked("running", "cancelled" if cancelled else "interrupted")
        row.phase = "Cancelled" if cancelled else row.phase
        row.error = None if cancelled else "The worker process ended before the job was done. Resume it to go on."
        row.eta_seconds = None
        row.finished_at = utc_now()
        session.flush()
        return job_from(row)


def _cancel_is_overdue(job: Job) -> bool:
    return job.cancel_requested_at is not None and utc_now() - job.cancel_requested_at > timedelta(
        seconds=CANCEL_GRACE_SECONDS
    )


def _is_silent(db: Database, job: Job, stale_seconds: float) -> bool:
    def silent(one: Job) -> bool:
        return one.heartbeat_at is None or utc_now() - one.heartbeat_at > timedelta(seconds=stale_seconds)

    if not silent(job):
        return False
    deadline = time.monotonic() + min(_WAKE_SECONDS, stale_seconds)
    while time.monotonic() < deadline:
        time.sleep(0.25)
        with db.read() as session:
            row = session.get_one(JobRow, job.id)
            if not silent(job_from(row)):
                return False
    return True
