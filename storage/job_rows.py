"""What a job is: its row as a value, the table of its status changes, and who may write to it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_

from ssn_core.errors import SsnError
from storage.tables import JobRow

TRANSITIONS: Mapping[str, frozenset[str]] = {
    "queued": frozenset({"running", "cancelled"}),
    "running": frozenset({"succeeded", "failed", "cancelled", "interrupted"}),
    "succeeded": frozenset(),
    "failed": frozenset({"queued"}),
    "cancelled": frozenset({"queued"}),
    "interrupted": frozenset({"queued"}),
}
ACTIVE = ("queued", "running")


class TransitionError(SsnError):
    """A job cannot change from the status it has to the one asked for."""


class LostJobError(Exception):
    """This process no longer owns the job it was working on (not for people: it ends the worker)."""


@dataclass(frozen=True)
class Job:
    """One job as it was when it was read; fields as in :class:`storage.tables.JobRow`."""

    id: int
    kind: str
    project_id: int | None
    status: str
    payload: dict[str, Any]
    result: dict[str, Any] | None
    error: str | None
    phase: str
    done: int
    total: int
    metrics: dict[str, Any]
    eta_seconds: float | None
    attempt: int
    pid: int | None
    process_created: float | None
    heartbeat_at: datetime | None
    cancel_requested_at: datetime | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @property
    def is_active(self) -> bool:
        """Queued or running."""
        return self.status in ACTIVE

    @property
    def is_cancelling(self) -> bool:
        """A cancel was requested and the process has not gone yet."""
        return self.status == "running" and self.cancel_requested_at is not None

    @property
    def can_resume(self) -> bool:
        """Whether :func:`resume` would accept it."""
        return "queued" in TRANSITIONS[self.status]

    @property
    def fraction(self) -> float | None:
        """How much is done, 0..1; None while the total is not known."""
        return min(1.0, self.done / self.total) if self.total else None


def checked(status: str, target: str) -> str:
    """The one place that consults the table: `target` if a job may change to it from `status`."""
    if target not in TRANSITIONS[status]:
        allowed = sorted(TRANSITIONS[status])
        raise TransitionError(
            f"A job that is {status} cannot become {target}",
            expected=" or ".join(allowed) if allowed else "no further change",
            action="Reload the page to see how the job stands",
        )
    return target


def owned(job: Job) -> ColumnElement[bool]:
    """The condition that the row still belongs to the process that `job` was claimed by."""
    return and_(
        JobRow.id == job.id,
        JobRow.status == "running",
        JobRow.attempt == job.attempt,
        JobRow.pid == job.pid,
        JobRow.process_created == job.process_created,
    )


def job_from(row: JobRow) -> Job:
    """The row as a value."""
    return Job(**{field.name: getattr(row, field.name) for field in fields(Job)})


def plain(value: Any) -> Any:
    """`value` as JSON that every database takes: NumPy numbers become Python's, and NaN and infinity become None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, str | bool | int | None):
        return value
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, bool | int) else str(value)
