import os
import subprocess
import sys
import time

import psutil
import pytest

from storage import jobs
from storage.runner import LocalRunner, start_if_needed


def claim_for(db, process, *, created=None):
    jobs.submit(db, kind="train", project_id=None, payload={})
    return jobs.claim(db, pid=process.pid, process_created=created or psutil.Process(process.pid).create_time())


@pytest.fixture
def sleeper():
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield process
    process.kill()
    process.wait()


class RecordingRunner:
    """Starts nothing and remembers what it was asked to start."""

    def __init__(self):
        self.started = []

    def start(self, job_id):
        self.started.append(job_id)

    def is_alive(self, _job):
        return False

    def kill(self, job):
        raise AssertionError(f"nothing to kill in {job}")


def test_a_process_is_alive_until_it_is_killed_and_a_zombie_is_not(db, settings, sleeper):
    runner = LocalRunner(settings)
    job = claim_for(db, sleeper)
    assert runner.is_alive(job)
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert psutil.Process(sleeper.pid).status() == psutil.STATUS_ZOMBIE  # we are its parent and have not waited yet
    assert not runner.is_alive(job)
    runner.kill(job)  # nothing to do, and no error


def test_a_reused_pid_is_neither_alive_nor_killed(db, settings, sleeper):
    runner = LocalRunner(settings)
    job = claim_for(db, sleeper, created=psutil.Process(sleeper.pid).create_time() - 3600)
    assert not runner.is_alive(job)
    runner.kill(job)
    time.sleep(0.1)
    assert sleeper.poll() is None
    assert [one.status for one in jobs.reap(db, stale_seconds=60, runner=runner)] == ["interrupted"]
    assert sleeper.poll() is None


def test_killing_takes_the_whole_process_tree(db, settings):
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import subprocess, sys, time\n"
            "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
            "print(child.pid, flush=True); time.sleep(600)",
        ],
        stdout=subprocess.PIPE,
    )
    child = psutil.Process(int(parent.stdout.readline()))
    runner = LocalRunner(settings)
    runner.kill(claim_for(db, parent))
    parent.wait(10)
    parent.stdout.close()
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_the_runner_never_kills_its_own_process(db, settings):
    runner = LocalRunner(settings)
    runner.kill(claim_for(db, psutil.Process()))
    assert psutil.Process().is_running()


def test_a_worker_gets_the_settings_its_log_and_a_session_of_its_own(settings, monkeypatch):
    monkeypatch.setenv("SSN_DATA_DIR", "/somewhere/else")
    script = "import os, sys; print(sys.argv[1:], os.environ['SSN_DATA_DIR'], os.getsid(0) == os.getpid(), os.getcwd())"
    runner = LocalRunner(settings, command=(sys.executable, "-c", script))
    runner.start(12)
    runner.wait(30)
    log = (settings.data_dir / "jobs" / "12" / "log.txt").read_text()
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # noqa: PTH100, PTH120
    assert log == f"['--job', '12'] {settings.data_dir} True {root}\n"


@pytest.mark.parametrize(("name", "ours"), [("OMP_WAIT_POLICY", "passive"), ("MALLOC_ARENA_MAX", "1")])
def test_threads_of_a_worker_neither_spin_nor_hoard_memory_unless_asked_to(settings, monkeypatch, name, ours):
    script = f"import os; print(os.environ[{name!r}], os.environ['SSN_TAP_CACHE_GB'])"
    for asked, expected in ((None, ours), ("other", "other")):
        monkeypatch.delenv(name, raising=False)
        if asked:
            monkeypatch.setenv(name, asked)
        runner = LocalRunner(settings, command=(sys.executable, "-c", script))
        runner.start(20 + bool(asked))
        runner.wait(30)
        log = settings.data_dir / "jobs" / str(20 + bool(asked)) / "log.txt"
        assert log.read_text() == f"{expected} {settings.tap_cache_gb}\n"


def test_a_job_whose_worker_is_still_starting_gets_no_second_one(settings):
    runner = LocalRunner(settings, command=(sys.executable, "-c", "print('started'); import time; time.sleep(1)"))
    for _ in range(3):
        runner.start(1)
    runner.wait(30)
    assert (settings.data_dir / "jobs" / "1" / "log.txt").read_text() == "started\n"
    runner.start(1)
    runner.wait(30)
    assert (settings.data_dir / "jobs" / "1" / "log.txt").read_text() == "started\n" * 2


def test_a_worker_that_cannot_even_start_is_not_started_again_and_again(settings):
    runner = LocalRunner(settings, command=(sys.executable, "-c", "print('broken'); raise SystemExit(1)"))
    for _ in range(3):
        runner.start(1)
        runner.wait(30)
    assert (settings.data_dir / "jobs" / "1" / "log.txt").read_text() == "broken\n"


def test_workers_are_started_only_for_jobs_that_may_run_now(db):
    train, _second, imported = (
        jobs.submit(db, kind=kind, project_id=None, payload={}) for kind in ("train", "train", "import")
    )
    runner = RecordingRunner()
    assert start_if_needed(db, runner) == []
    assert runner.started == [train, imported]


def test_a_dead_workers_place_is_given_to_the_next_job(db):
    first, second = (jobs.submit(db, kind="train", project_id=None, payload={}) for _ in range(2))
    jobs.claim(db, pid=2**22 + 1, process_created=1.0)
    runner = RecordingRunner()
    assert [(job.id, job.status) for job in start_if_needed(db, runner)] == [(first, "interrupted")]
    assert runner.started == [second]
