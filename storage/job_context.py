"""What a job's handler works with: progress, curves, cancellation, a log and a folder."""

from __future__ import annotations

import logging
import math
import threading
import time
from pathlib import Path
from typing import Any

from storage import jobs
from storage.db import Database
from storage.job_rows import Job

WRITE_SECONDS = 0.25  # progress reaches the database at most this often


class Cancelled(Exception):  # noqa: N818  # a request that is obeyed, not an error
    """Raised inside a handler, from `progress` or `check`, when it has to stop."""


class JobContext:
    """What a handler works with.

    Attributes:
        db: the database.
        job: the job as it was claimed (`job.payload` says what to do, `job.attempt` is 0 at the first run).
        log: goes to the job's log file.
        folder: the job's own folder, for checkpoints; it exists and is kept between attempts.
    """

    def __init__(self, db: Database, job: Job) -> None:
        self.db = db
        self.job = job
        self.log = logging.getLogger(f"storage.jobs.{job.kind}")
        self.folder: Path = jobs.folder(db, job_id=job.id)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._stop = threading.Event()  # set by the heartbeat and by SIGTERM
        self._metrics: dict[str, Any] = {}
        self._points: dict[str, list[tuple[int, float]]] = {}
        self._phase: tuple[str, int] | None = None  # name, and its total
        self._phase_start = (0.0, 0)  # monotonic seconds, and `done` at that time
        self._last_write = -math.inf
        self._last_done = 0

    def progress(self, phase: str, done: int, total: int, **metrics: Any) -> None:
        """Say how far the job is: `done` of `total` (0: not known) in `phase`, and the latest figures.

        Figures given once stay until replaced. Cheap to call often: it writes at most four times a second.

        Raises:
            Cancelled: the job has to stop; let it pass.
        """
        self.check()
        now = time.monotonic()
        self._metrics.update(metrics)
        new_phase = self._phase != (phase, total)
        if new_phase:
            self._phase, self._phase_start = (phase, total), (now, done)
        complete = 0 < total <= done and done != self._last_done
        if not (new_phase or complete) and now - self._last_write < WRITE_SECONDS:
            return
        self._last_done = done
        self._write_points()
        cancel = jobs.progress(
            self.db,
            job=self.job,
            phase=phase,
            done=done,
            total=total,
            metrics=self._metrics,
            eta_seconds=self._eta(now, done, total),
        )
        self._last_write = time.monotonic()
        if cancel:
            self.stop()
        self.check()

    def points(self, series: str, step: int, value: float) -> None:
        """Add one point to a curve; written together with the next progress."""
        self._points.setdefault(series, []).append((step, value))

    def check(self) -> None:
        """Raise Cancelled if the job has to stop: for long stretches without progress."""
        if self._stop.is_set():
            raise Cancelled

    def stop(self) -> None:
        """Make the next `progress` or `check` raise Cancelled."""
        self._stop.set()

    def close(self) -> None:
        """Write what is still buffered."""
        self._write_points()

    def _write_points(self) -> None:
        waiting, self._points = self._points, {}
        for series, points in waiting.items():
            jobs.add_points(self.db, job_id=self.job.id, attempt=self.job.attempt, series=series, points=points)

    def _eta(self, now: float, done: int, total: int) -> float | None:
        started, first = self._phase_start
        # At a phase's end nothing is left of it, but the next one may take a while to begin: "0 s left" would be wrong.
        if not first < done < total or now - started < 1.0:
            return None
        return (total - done) * (now - started) / (done - first)
