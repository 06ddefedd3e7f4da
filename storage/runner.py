"""Where workers run. `LocalRunner` starts them as processes of this machine; a cluster engine can take its place."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import psutil

from storage import jobs
from storage.db import Database
from storage.job_rows import Job
from storage.settings import Settings

ROOT = Path(__file__).resolve().parent.parent  # `python -m storage.worker` is found from here
WORKER_COMMAND = (sys.executable, "-m", "storage.worker")
# Environment variables of a worker, unless they are set already.
WORKER_DEFAULTS = {
    # Threads of torch that wait for each other must not spin: beside any other work, be it only the page, spinning
    # takes the time that the others need. Benchmarks write down what was in force.
    "OMP_WAIT_POLICY": "passive",
    # glibc gives each thread an arena of its own, and what one has freed no other can use: networks that learn side by
    # side leave each other's gaps empty (benchmarks/README.md, "Scoring many images").
    "MALLOC_ARENA_MAX": "1",
}
_SAME_PROCESS_SECONDS = 1.0  # psutil derives the creation time from the boot time, which the clock may shift a little
_KILL_WAIT_SECONDS = 5.0
_CRASH_PAUSE_SECONDS = 10.0


class Runner(jobs.ProcessTable, Protocol):
    """Starts workers, and knows whether they live."""

    def start(self, job_id: int) -> None:
        """Start a worker because `job_id` is waiting; the worker claims the oldest job that may run."""
        ...


class LocalRunner:
    """Workers as processes of this machine, independent of the one that starts them.

    A worker has its own session, so it survives the end of the web server and a Ctrl-C in its terminal. (A service
    manager that kills the whole control group takes the workers along; their jobs become interrupted and can resume.)

    Args:
        settings: of this installation; handed to the worker as environment variables.
        command: what to run; the job's id is appended as `--job ID`.
    """

    def __init__(self, settings: Settings, *, command: Sequence[str] = WORKER_COMMAND) -> None:
        self._settings = settings
        self._command = tuple(command)
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._crashed: dict[int, float] = {}  # job -> monotonic seconds
        self._lock = threading.Lock()

    def start(self, job_id: int) -> None:
        """Start a worker for `job_id`, unless the one started for it before is still there.

        A worker that broke down before it could claim anything is not started again for ten seconds: pages ask every
        second.
        """
        with self._lock:
            self._bury()
            since_crash = time.monotonic() - self._crashed.get(job_id, -_CRASH_PAUSE_SECONDS)
            if job_id not in self._children and since_crash >= _CRASH_PAUSE_SECONDS:
                self._children[job_id] = self._spawn(job_id)

    def is_alive(self, job: Job) -> bool:
        """Whether the very process that claimed the job exists; a reused pid and a zombie do not count."""
        return _process_of(job) is not None

    def kill(self, job: Job) -> None:
        """Kill the job's process and all its descendants, and wait up to 5 s for them to be gone."""
        process = _process_of(job)
        if process is None or process.pid == os.getpid():
            return
        try:
            family = [process, *process.children(recursive=True)]
        except psutil.NoSuchProcess:
            return
        for member in family:
            try:
                member.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(family, timeout=_KILL_WAIT_SECONDS)

    def wait(self, timeout: float) -> None:
        """Wait until the workers started here have ended (tests, command line); TimeoutExpired after `timeout` s."""
        deadline = time.monotonic() + timeout
        with self._lock:
            children = list(self._children.values())
        for child in children:
            child.wait(max(0.0, deadline - time.monotonic()))

    def _bury(self) -> None:
        """Collect the children that have ended: they would stay zombies of a long-lived server."""
        for job_id, child in list(self._children.items()):
            status = child.poll()
            if status is not None:
                del self._children[job_id]
            if status is not None and status > 0:  # not a signal: killed workers may be followed at once
                self._crashed[job_id] = time.monotonic()

    def _spawn(self, job_id: int) -> subprocess.Popen[bytes]:
        log = self._settings.data_dir / "jobs" / str(job_id) / "log.txt"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            if sys.platform == "win32":
                flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
            else:
                flags = 0
            return subprocess.Popen(  # noqa: S603  # our own interpreter and module, no shell
                [*self._command, "--job", str(job_id)],
                cwd=ROOT,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                creationflags=flags,
            )

    def _environment(self) -> dict[str, str]:
        asked = {name: value for name, value in os.environ.items() if not name.startswith("SSN_")}
        environment = {**WORKER_DEFAULTS, **asked}
        environment["SSN_DATA_DIR"] = str(self._settings.data_dir)
        environment["SSN_DATABASE_URL"] = self._settings.database_url
        environment["SSN_WORKER_STALE_SECONDS"] = str(self._settings.worker_stale_seconds)
        environment["SSN_TAP_CACHE_GB"] = str(self._settings.tap_cache_gb)
        if self._settings.weights_dir is not None:
            # Relative to the folder this process was started in, not to the worker's.
            environment["SSN_WEIGHTS_DIR"] = str(self._settings.weights_dir.expanduser().resolve())
        environment["PYTHONUNBUFFERED"] = "1"  # the log is read while the worker writes it
        environment["PYTHONIOENCODING"] = "utf-8"
        return environment


def start_if_needed(db: Database, runner: Runner, *, stale_seconds: float = 60.0) -> list[Job]:
    """Bring the rows in line with the processes, then start workers for the queued jobs that may run now.

    Called at the app's start and while jobs are watched: it also puts the queue in motion again after a worker that was
    killed. Returns the jobs whose status changed.
    """
    changed = jobs.reap(db, stale_seconds=stale_seconds, runner=runner)
    for job in jobs.startable(db):
        runner.start(job.id)
    return changed


def _process_of(job: Job) -> psutil.Process | None:
    if job.pid is None or job.process_created is None:
        return None
    try:
        process = psutil.Process(job.pid)
        created = process.create_time()
        zombie = process.status() == psutil.STATUS_ZOMBIE
    except (psutil.NoSuchProcess, psutil.AccessDenied):  # denied: another user's process, so not our worker
        return None
    return None if zombie or abs(created - job.process_created) > _SAME_PROCESS_SECONDS else process
