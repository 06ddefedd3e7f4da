"""The worker process: claims one job, does it, starts a successor if more is waiting, and ends.

One process for each job: its end gives back all memory, on the GPU too, and a crash takes nothing else along.
Run as `python -m storage.worker --job ID`; the id only says whose log the first lines go to.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import FrameType

import psutil
from sqlalchemy.exc import DBAPIError

from ssn_core.errors import SsnError
from storage import jobs
from storage.db import Database, connect
from storage.handlers import HANDLERS, load
from storage.job_context import Cancelled, JobContext
from storage.job_rows import Job, LostJobError
from storage.runner import LocalRunner, Runner, start_if_needed
from storage.settings import Settings, get_settings

HEARTBEAT_SECONDS = 2.0
_LEAVING_WAIT_SECONDS = 2 * jobs.CANCEL_GRACE_SECONDS  # a cancelled predecessor is killed before that
_LOST_GRACE_SECONDS = 30.0
_LOW_PRIORITY = 5  # nice value: the pages stay quick while all cores compute
# Lane -> on top of it, for jobs that nobody waits for: beside them a training is hardly slower.
_ASIDE_PRIORITY: Mapping[str, int] = {"aside": 10, "estimate": 14}

log = logging.getLogger("storage.worker")


def work(
    db: Database,
    *,
    handlers: Mapping[str, str],
    runner: Runner,
    stale_seconds: float = 60.0,
    on_start: Callable[[JobContext], None] | None = None,
) -> Job | None:
    """Claim one job, do it and start a successor; returns the job as it ended, or None if there was none to claim.

    A cancelled job is returned as still running: only its process's end makes it cancelled (`jobs.reap`).
    """
    job = _claim(db, runner=runner, stale_seconds=stale_seconds)
    if job is None:
        return None
    context = JobContext(db, job)
    if on_start is not None:
        on_start(context)
    log.info("Job %d (%s), attempt %d, process %d", job.id, job.kind, job.attempt, os.getpid())
    with _Heartbeat(db, context):
        ended = _run(context, handlers)
    if ended is None:
        log.warning("Job %d belongs to another process now", job.id)
        return None
    log.info("Job %d ends: %s", job.id, "stopped" if ended.status == "running" else ended.status)
    _start_successors(db, ended, runner=runner, stale_seconds=stale_seconds)
    return ended


def main(
    arguments: Sequence[str] | None = None,
    *,
    handlers: Mapping[str, str] = HANDLERS,
    settings: Settings | None = None,
    runner: Runner | None = None,
) -> int:
    """The process's entry point; returns the exit status (0, also when there was nothing to do)."""
    parser = argparse.ArgumentParser(prog="python -m storage.worker", description="Run one waiting job.")
    parser.add_argument("--job", type=int, help="the job whose log takes the first lines")
    parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("alembic").setLevel(logging.WARNING)  # its greeting would open every job's log
    settings = settings or get_settings()
    if sys.platform != "win32":
        os.nice(_LOW_PRIORITY)
    db = connect(settings)
    work(
        db,
        handlers=handlers,
        runner=runner or LocalRunner(settings),
        stale_seconds=settings.worker_stale_seconds,
        on_start=_take_over_the_process,
    )
    db.close()
    return 0


def _claim(db: Database, *, runner: Runner, stale_seconds: float) -> Job | None:
    """A job, waiting for a cancelled predecessor to be gone if that is what stands in the way."""
    me = psutil.Process()
    deadline = time.monotonic() + _LEAVING_WAIT_SECONDS
    while True:
        jobs.reap(db, stale_seconds=stale_seconds, runner=runner)
        job = jobs.claim(db, pid=me.pid, process_created=me.create_time())
        if job is not None:
            return job
        waiting = jobs.active(db)
        lanes = {jobs.LANES[one.kind] for one in waiting if one.status == "queued"}
        leaving = any(one.is_cancelling and jobs.LANES[one.kind] in lanes for one in waiting)
        if not leaving or time.monotonic() > deadline:
            return None  # whoever holds the lane starts a successor at its end
        time.sleep(0.2)


def _run(context: JobContext, handlers: Mapping[str, str]) -> Job | None:
    """Run the handler and write how it ended; None when the job was lost to another process."""
    db, job = context.db, context.job
    try:
        try:
            result = load(handlers[job.kind])(context)
            context.close()
            return jobs.finish(db, job=job, status="succeeded", result=result or {})
        except Cancelled:
            context.close()
            return jobs.get(db, job_id=job.id)  # still "running": true until this process is gone
        except LostJobError:
            raise
        except SsnError as error:
            log.warning("%s", error)
            context.close()
            return jobs.finish(db, job=job, status="failed", error=str(error))
        except Exception as error:  # a bug: the page says so, the log keeps the traceback
            log.exception("Job %d failed", job.id)
            context.close()
            message = f"Internal error: {type(error).__name__}: {error}. The job's log has the details."
            return jobs.finish(db, job=job, status="failed", error=message)
    except LostJobError:
        return None


def _start_successors(db: Database, ended: Job, *, runner: Runner, stale_seconds: float) -> None:
    if ended.status != "running":
        start_if_needed(db, runner, stale_seconds=stale_seconds)
    elif ended.cancel_requested_at is not None:
        # Our own row still counts as running, and must: the successor waits until this process is gone.
        for job in jobs.startable(db, leaving=ended.id):
            runner.start(job.id)
    # Else we were told to end (SIGTERM, a shutdown): a successor would only be told the same.


class _Heartbeat:
    """Says every two seconds that the worker lives, and hears of a cancel even while the handler reports nothing."""

    def __init__(self, db: Database, context: JobContext) -> None:
        self._db = db
        self._context = context
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> _Heartbeat:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._done.wait(HEARTBEAT_SECONDS):
            try:
                if jobs.heartbeat(self._db, job=self._context.job):
                    self._context.stop()
            except DBAPIError:
                log.warning("A heartbeat could not be written; trying again", exc_info=True)
            except LostJobError:
                self._leave()
                return

    def _leave(self) -> None:
        """The job was given to another process: stop, and if the handler does not listen, end the process."""
        self._context.stop()
        if not self._done.wait(_LOST_GRACE_SECONDS):
            log.error("Job %d was lost and its handler does not stop; ending the process", self._context.job.id)
            logging.shutdown()
            os._exit(1)


def _take_over_the_process(context: JobContext) -> None:
    """Send all output to the log of the job that was claimed, and let SIGTERM stop it in an orderly way.

    The process may have been started for another job: whoever comes first takes the oldest.
    """
    if sys.platform != "win32":
        os.nice(_ASIDE_PRIORITY.get(jobs.LANES[context.job.kind], 0))
    path = jobs.log_path(context.db, job_id=context.job.id)
    with path.open("ab") as file:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(file.fileno(), stream.fileno())

    def stop(_number: int, _frame: FrameType | None) -> None:
        context.stop()

    signal.signal(signal.SIGTERM, stop)


if __name__ == "__main__":
    sys.exit(main())
