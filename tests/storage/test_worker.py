import itertools
import json
import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from types import SimpleNamespace

import psutil
import pytest
from sqlalchemy import update

from storage import handlers, job_context, jobs
from storage.job_context import Cancelled, JobContext
from storage.runner import LocalRunner, start_if_needed
from storage.tables import JobRow, utc_now
from storage.worker import work
from tests.storage.job_worker import COMMAND, HANDLERS

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")


def submit(db, do, *, kind="train", **payload):
    return jobs.submit(db, kind=kind, project_id=None, payload={"do": do, **payload})


def until(condition, *, timeout=30.0):
    """The first true value of `condition`, looked at again and again."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
    return value


def ended(db, job_id, runner):
    """The job once it has ended, with the rows kept honest meanwhile as a page does."""

    def look():
        jobs.reap(db, stale_seconds=60, runner=runner)
        job = jobs.get(db, job_id=job_id)
        return None if job.is_active else job

    return until(look)


def running(db, job_id, *, done=0):
    def look():
        job = jobs.get(db, job_id=job_id)
        return job if job.status == "running" and job.done >= done else None

    return until(look)


@pytest.fixture
def runner(db, settings):
    local = LocalRunner(settings, command=COMMAND)
    yield local
    for job in jobs.active(db):
        local.kill(job)
    local.wait(30)


class NoRunner:
    """For workers inside this process: what they start is remembered, not started."""

    def __init__(self):
        self.started = []

    def start(self, job_id):
        self.started.append(job_id)

    def is_alive(self, job):
        return job.pid == os.getpid()

    def kill(self, job):
        raise AssertionError(f"nothing to kill in {job}")


def test_a_worker_process_does_a_job_from_start_to_end(db, runner):
    job_id = submit(db, "count", steps=5)
    runner.start(job_id)
    job = ended(db, job_id, runner)
    assert (job.status, job.error, job.result) == ("succeeded", None, {"first": 0, "steps": 5})
    assert (job.phase, job.done, job.total, job.metrics) == ("Counting", 5, 5, {"loss": 0.2})
    assert jobs.points(db, job_id=job_id) == [("model", step, 1 / (step + 1)) for step in range(5)]
    runner.wait(30)
    log = jobs.log_tail(db, job_id=job_id)
    assert "counted to 5" in log
    assert f"process {job.pid}" in log
    assert not psutil.pid_exists(job.pid)


@posix
def test_a_killed_worker_leaves_an_interrupted_job_that_resumes_from_its_checkpoint(db, runner):
    job_id = submit(db, "count", steps=40, pause=0.1)
    runner.start(job_id)
    job = running(db, job_id, done=3)
    os.kill(job.pid, signal.SIGKILL)
    job = ended(db, job_id, runner)
    assert (job.status, job.result) == ("interrupted", None)
    assert 3 <= job.done < 40
    assert jobs.resume(db, job_id=job_id).attempt == 1
    start_if_needed(db, runner)
    resumed = until(lambda: (one := jobs.get(db, job_id=job_id)).status == "succeeded" and one)
    assert resumed.result["first"] >= job.done
    steps = [step for _, step, _ in jobs.points(db, job_id=job_id)]
    assert steps == sorted(set(steps))
    assert set(range(resumed.result["first"], 40)) <= set(steps)


def test_a_cancel_is_shown_only_after_the_process_is_gone(db, runner):
    job_id = submit(db, "count", steps=1000, pause=0.05)
    runner.start(job_id)
    process = psutil.Process(running(db, job_id, done=1).pid)
    jobs.request_cancel(db, job_id=job_id)
    seen = []

    def look():
        # In this order: the status is read before the process, so a "cancelled" with a living process is caught.
        job = jobs.get(db, job_id=job_id)
        alive = process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        seen.append((job.status, alive))
        jobs.reap(db, stale_seconds=60, runner=runner)
        return job.status == "cancelled"

    until(look)
    assert ("cancelled", True) not in seen
    assert seen[0] == ("running", True)
    assert jobs.get(db, job_id=job_id).done < 1000


def test_a_worker_that_ignores_the_cancel_is_killed_with_its_children(db, runner):
    job_id = submit(db, "deaf")
    runner.start(job_id)
    job = running(db, job_id)
    child = until(lambda: (jobs.folder(db, job_id=job_id) / "child.txt").exists()) and psutil.Process(
        int((jobs.folder(db, job_id=job_id) / "child.txt").read_text())
    )
    jobs.request_cancel(db, job_id=job_id)
    time.sleep(1.0)
    assert jobs.reap(db, stale_seconds=60, runner=runner) == []  # within its grace it is left alone
    assert runner.is_alive(job)
    with db.write() as session:
        past = utc_now() - timedelta(seconds=jobs.CANCEL_GRACE_SECONDS + 1)
        session.execute(update(JobRow).where(JobRow.id == job_id).values(cancel_requested_at=past))
    assert [one.status for one in jobs.reap(db, stale_seconds=60, runner=runner)] == ["cancelled"]
    assert not runner.is_alive(job)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_a_worker_starts_its_successor_and_computing_jobs_never_overlap(db, runner, tmp_path):
    file = str(tmp_path / "spans.txt")
    ids = [submit(db, "span", kind=kind, pause=0.3, file=file) for kind in ("train", "score", "inspect")]
    for job_id in ids:  # three workers at once: one claims, two find the lane taken and leave
        runner.start(job_id)
    until(lambda: all(jobs.get(db, job_id=job_id).status == "succeeded" for job_id in ids), timeout=60)
    spans = [line.split() for line in (tmp_path / "spans.txt").read_text().splitlines()]
    assert [kind for kind, _, _ in spans] == ["train", "score", "inspect"]
    assert all(float(before[2]) <= float(after[1]) for before, after in itertools.pairwise(spans))


def test_an_import_runs_beside_a_training(db, runner):
    training = submit(db, "count", steps=1000, pause=0.05)
    importing = submit(db, "count", kind="import", steps=3)
    start_if_needed(db, runner)
    assert ended(db, importing, runner).status == "succeeded"
    assert jobs.get(db, job_id=training).status == "running"


@posix
def test_the_less_a_job_is_waited_for_the_lower_its_priority(db, runner):
    for kind in ("train", "import", "describe", "gain"):
        submit(db, "count", kind=kind, steps=1000, pause=0.05)
    start_if_needed(db, runner)
    nice = {}
    for job in jobs.list_jobs(db, project_id=None):
        running(db, job.id, done=1)  # four workers at once: who takes which job is not said
        nice[job.kind] = psutil.Process(jobs.get(db, job_id=job.id).pid).nice()
    expected = {"train": 5, "import": 5, "describe": 15, "gain": 19}
    assert nice == {kind: min(19, os.nice(0) + more) for kind, more in expected.items()}


def test_after_a_cancel_the_next_job_waits_for_the_process_to_go_and_then_runs(db, runner):
    first, second = submit(db, "count", steps=1000, pause=0.05), submit(db, "count", steps=2)
    runner.start(first)
    running(db, first, done=1)
    jobs.request_cancel(db, job_id=first)
    # No page looks meanwhile: the worker itself passes the place on, and its successor marks the first as cancelled.
    job = until(lambda: (one := jobs.get(db, job_id=second)).status == "succeeded" and one)
    cancelled = jobs.get(db, job_id=first)
    assert cancelled.status == "cancelled"
    assert cancelled.finished_at <= job.started_at


def test_a_successor_waits_for_a_cancelled_job_that_is_on_its_way_out(db):
    first, second = submit(db, "count", steps=1), submit(db, "count", steps=1)
    jobs.claim(db, pid=1, process_created=1.0)
    jobs.request_cancel(db, job_id=first)

    class LeavesAtTheThirdLook(NoRunner):
        looks = 0

        def is_alive(self, job):
            self.looks += job.id == first
            return super().is_alive(job) or self.looks < 3

    assert work(db, handlers=HANDLERS, runner=LeavesAtTheThirdLook()).id == second
    assert jobs.get(db, job_id=first).status == "cancelled"


def test_only_a_cancelled_worker_passes_its_place_on_not_one_that_is_shut_down(db):
    first, second = submit(db, "count", steps=2), submit(db, "count", steps=2)
    runner = NoRunner()
    told_to_end = work(db, handlers=HANDLERS, runner=runner, on_start=JobContext.stop)
    assert (told_to_end.status, runner.started) == ("running", [])
    jobs.finish(db, job=told_to_end, status="failed")
    jobs.resume(db, job_id=first)
    work(db, handlers=HANDLERS, runner=runner, on_start=lambda context: jobs.request_cancel(db, job_id=first))
    assert (jobs.get(db, job_id=first).status, runner.started) == ("running", [second])


def test_a_worker_that_finds_the_lane_taken_leaves_at_once(db):
    submit(db, "count", steps=1)
    waiting = submit(db, "count", steps=1)
    jobs.claim(db, pid=os.getpid(), process_created=1.0)
    runner = NoRunner()
    started = time.monotonic()
    assert work(db, handlers=HANDLERS, runner=runner) is None
    assert time.monotonic() - started < 5
    assert (jobs.get(db, job_id=waiting).status, runner.started) == ("queued", [])


@posix
def test_a_terminated_worker_stops_and_its_job_is_interrupted(db, runner):
    first, second = submit(db, "count", steps=1000, pause=0.05), submit(db, "count", steps=2)
    runner.start(first)
    job = running(db, first, done=1)
    os.kill(job.pid, signal.SIGTERM)
    assert ended(db, first, runner).status == "interrupted"
    assert jobs.get(db, job_id=second).status == "queued"  # a machine that goes down starts nothing new


@posix
def test_a_worker_survives_the_process_that_started_it(db, settings, runner):
    job_id = submit(db, "count", steps=8, pause=0.2)
    code = (
        "import os, sys\n"
        "from storage.runner import LocalRunner\n"
        "from storage.settings import Settings\n"
        "from tests.storage.job_worker import COMMAND\n"
        f"settings = Settings(data_dir={str(settings.data_dir)!r}, database_url={settings.database_url!r})\n"
        f"LocalRunner(settings, command=COMMAND).start({job_id})\n"
        "os.kill(os.getpid(), 9)\n"
    )
    server = subprocess.run([sys.executable, "-c", code], check=False)
    assert server.returncode == -signal.SIGKILL
    assert ended(db, job_id, runner).status == "succeeded"


def test_the_real_command_line_starts_and_leaves_when_nothing_waits(db, settings):
    local = LocalRunner(settings)
    local.start(1)
    local.wait(60)
    assert jobs.log_tail(db, job_id=1) == ""


def test_an_error_for_people_becomes_the_jobs_message(db):
    job_id = submit(db, "refuse")
    work(db, handlers=HANDLERS, runner=NoRunner())
    job = jobs.get(db, job_id=job_id)
    assert job.status == "failed"
    assert job.error == "There are too few bad images: 0. Expected at least 2. Label 2 more."


def test_a_bug_in_a_handler_fails_the_job_and_leaves_its_traceback_in_the_log(db, runner):
    job_id = submit(db, "crash")
    runner.start(job_id)
    job = ended(db, job_id, runner)
    assert job.status == "failed"
    assert job.error.startswith("Internal error: ZeroDivisionError: division by zero")
    assert "log" in job.error
    assert "Traceback" in jobs.log_tail(db, job_id=job_id)
    assert jobs.points(db, job_id=job_id) == [("model", 1, 0.5)]  # what was buffered is not lost


def test_a_handler_that_cannot_be_found_fails_the_job_instead_of_leaving_it_running(db):
    job_id = submit(db, "count")
    work(db, handlers={"train": "storage.no_such_module:run"}, runner=NoRunner())
    job = jobs.get(db, job_id=job_id)
    assert (job.status, "no_such_module" in job.error) == ("failed", True)


def test_a_worker_without_a_job_does_nothing(db):
    runner = NoRunner()
    assert work(db, handlers=HANDLERS, runner=runner) is None
    assert runner.started == []


def test_a_failed_job_does_not_hold_up_the_next(db):
    submit(db, "refuse")
    second = submit(db, "count", steps=1)
    runner = NoRunner()
    work(db, handlers=HANDLERS, runner=runner)
    assert runner.started == [second]


def test_progress_is_written_a_few_times_a_second_and_at_every_change_of_phase(db):
    submit(db, "count")
    context = JobContext(db, jobs.claim(db, pid=1, process_created=1.0))
    context.progress("Reading", 0, 5, device="cpu")
    context.progress("Reading", 3, 5)
    assert jobs.get(db, job_id=context.job.id).done == 0  # too soon
    context.progress("Reading", 5, 5)
    assert jobs.get(db, job_id=context.job.id).done == 5
    context.progress("Training", 0, 10**6, loss=1.0)
    started, written = time.monotonic(), set()
    while (elapsed := time.monotonic() - started) < 1.2 or jobs.get(db, job_id=context.job.id).eta_seconds is None:
        context.progress("Training", int(1e5 * elapsed), 10**6)
        written.add(jobs.get(db, job_id=context.job.id).done)
    assert len(written) <= 2 + elapsed / 0.25
    job = jobs.get(db, job_id=context.job.id)
    assert job.metrics == {"device": "cpu", "loss": 1.0}
    assert job.eta_seconds == pytest.approx((10**6 - job.done) / 1e5, rel=0.3)


def test_a_phase_at_its_end_has_no_time_left_to_tell(db, monkeypatch):
    submit(db, "count")
    context = JobContext(db, jobs.claim(db, pid=1, process_created=1.0))
    seconds = itertools.count(0.0, 2.0)
    monkeypatch.setattr(job_context, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    for done, known in ((0, False), (50, True), (100, False)):
        context.progress("Reading images", done, 100)
        assert (jobs.get(db, job_id=context.job.id).eta_seconds is not None) is known, done


def test_a_phase_of_unknown_length_is_throttled_too_and_has_no_eta(db):
    submit(db, "count")
    context = JobContext(db, jobs.claim(db, pid=1, process_created=1.0))
    for done in range(50):
        context.progress("Reading", done, 0)
    job = jobs.get(db, job_id=context.job.id)
    assert (job.done, job.total, job.eta_seconds) == (0, 0, None)


def test_progress_raises_when_a_cancel_was_requested(db):
    job_id = submit(db, "count")
    context = JobContext(db, jobs.claim(db, pid=1, process_created=1.0))
    context.progress("Reading", 0, 5)
    context.check()
    jobs.request_cancel(db, job_id=job_id)
    with pytest.raises(Cancelled):
        context.progress("Reading", 5, 5)
    with pytest.raises(Cancelled):
        context.check()


def test_opening_the_app_imports_neither_handlers_nor_torch():
    code = "import sys, json, storage.jobs, storage.runner; print(json.dumps(sorted(sys.modules)))"
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout
    loaded = set(json.loads(output))
    assert not loaded & {"torch", "torchvision", "storage.training_jobs", "storage.imports", "sklearn"}


def test_there_is_a_handler_for_every_kind_of_job():
    assert set(handlers.HANDLERS) == set(jobs.LANES)


def test_a_heartbeat_goes_on_while_the_handler_says_nothing(db, runner):
    job_id = submit(db, "deaf")
    runner.start(job_id)
    first = running(db, job_id).heartbeat_at
    until(lambda: jobs.get(db, job_id=job_id).heartbeat_at > first + timedelta(seconds=1.5), timeout=15)
