import multiprocessing
import os
import threading
from datetime import timedelta

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import update

from ssn_core.errors import SettingError, SsnError
from storage import jobs
from storage.db import connect
from storage.tables import JobRow, utc_now

ME = {"pid": os.getpid(), "process_created": psutil.Process().create_time()}


class FakeProcesses:
    """A process table of the test's own: the pids that live, and whether killing them works."""

    def __init__(self, *alive, immortal=False):
        self.alive = set(alive)
        self.immortal = immortal
        self.killed = []

    def is_alive(self, job):
        return job.pid in self.alive

    def kill(self, job):
        self.killed.append(job.id)
        if not self.immortal:
            self.alive.discard(job.pid)


def submit(db, kind="train", **payload):
    return jobs.submit(db, kind=kind, project_id=None, payload=payload)


def claim(db, pid=1000, **kwargs):
    return jobs.claim(db, pid=pid, process_created=1.5, **kwargs)


def change(db, job_id, **values):
    with db.write() as session:
        session.execute(update(JobRow).where(JobRow.id == job_id).values(**values))


def test_a_submitted_job_waits_and_is_claimed_with_its_payload(db):
    job_id = submit(db, recipe="gap-cam", share=0.02)
    waiting = jobs.get(db, job_id=job_id)
    assert (waiting.status, waiting.phase, waiting.attempt, waiting.is_active) == ("queued", "Waiting", 0, True)
    job = claim(db)
    assert (job.id, job.status, job.pid, job.process_created) == (job_id, "running", 1000, 1.5)
    assert job.payload == {"recipe": "gap-cam", "share": 0.02}
    assert job.started_at is not None
    assert jobs.get(db, job_id=job_id) == job


def test_an_unknown_kind_is_refused_by_name_and_an_unknown_job_by_number(db):
    with pytest.raises(SettingError, match="'bake'"):
        submit(db, kind="bake")
    with pytest.raises(SsnError, match="77"):
        jobs.get(db, job_id=77)


def test_jobs_are_claimed_oldest_first_and_by_kind_where_asked(db):
    first, second = submit(db, kind="import"), submit(db, kind="train")
    assert claim(db, kinds=["train"]).id == second
    assert claim(db).id == first
    assert claim(db) is None


def test_computing_jobs_exclude_each_other_and_two_imports_run_beside_one(db):
    train = submit(db, kind="train")
    imports = [submit(db, kind="import") for _ in range(3)]
    score, inspect = submit(db, kind="score"), submit(db, kind="inspect")
    assert [claim(db, pid).id for pid in (1, 2, 3)] == [train, *imports[:2]]
    assert claim(db, 4) is None
    jobs.finish(db, job=jobs.get(db, job_id=train), status="succeeded")
    assert claim(db, 5).id == score
    assert claim(db, 6) is None
    jobs.finish(db, job=jobs.get(db, job_id=imports[0]), status="failed", error="x")
    assert claim(db, 7).id == imports[2]
    jobs.finish(db, job=jobs.get(db, job_id=score), status="succeeded")
    assert claim(db, 8).id == inspect


def test_a_comparison_of_images_waits_for_no_estimate_of_what_labels_bring(db):
    first, second, comparison = submit(db, kind="gain"), submit(db, kind="gain"), submit(db, kind="describe")
    assert claim(db, 1).id == first
    assert [job.id for job in jobs.startable(db)] == [comparison]
    assert claim(db, 2).id == comparison
    assert claim(db, 3) is None  # one estimate at a time
    later = submit(db, kind="describe")
    jobs.finish(db, job=jobs.get(db, job_id=comparison), status="succeeded")
    assert claim(db, 4).id == later
    jobs.finish(db, job=jobs.get(db, job_id=first), status="succeeded")
    assert claim(db, 5).id == second


def test_what_could_start_now_is_known_without_claiming_it(db):
    train, score, imported = submit(db, kind="train"), submit(db, kind="score"), submit(db, kind="import")
    assert [job.id for job in jobs.startable(db)] == [train, imported]
    claim(db)
    assert [job.id for job in jobs.startable(db)] == [imported]
    assert [job.id for job in jobs.startable(db, leaving=train)] == [score, imported]


def _race(settings, start, rest, rounds, results):
    db = connect(settings)
    me = psutil.Process()
    for number in range(rounds):
        start.wait(60)
        job = jobs.claim(db, pid=me.pid, process_created=me.create_time())
        results.put((number, None if job is None else job.id))
        rest.wait(60)
        if job is not None:
            jobs.finish(db, job=job, status="succeeded")
    db.close()


def test_of_processes_that_race_for_a_job_exactly_one_gets_it(db, settings):
    rounds, racers = 60, 3
    context = multiprocessing.get_context("spawn")
    start, rest, results = context.Barrier(racers + 1), context.Barrier(racers + 1), context.Queue()
    processes = [
        context.Process(target=_race, args=(settings, start, rest, rounds, results), daemon=True) for _ in range(racers)
    ]
    for process in processes:
        process.start()
    for number in range(rounds):
        job_id = submit(db, kind=("train", "import")[number % 2])
        start.wait(60)
        outcomes = [results.get(timeout=60) for _ in range(racers)]
        rest.wait(60)
        assert sorted(outcomes, key=str) == sorted([(number, job_id)] + [(number, None)] * (racers - 1), key=str)
    for process in processes:
        process.join(60)
        assert process.exitcode == 0


def _claim_all(settings, start, results):
    db = connect(settings)
    me = psutil.Process()
    start.wait(60)
    while (job := jobs.claim(db, pid=me.pid, process_created=me.create_time())) is not None:
        running = [one.id for one in jobs.active(db, kinds=["train", "score"]) if one.status == "running"]
        jobs.finish(db, job=job, status="succeeded")
        results.put((job.id, running))
    results.put(None)
    db.close()


def test_racing_processes_never_run_two_computing_jobs_at_once(db, settings):
    wanted = [submit(db, kind=kind) for kind in ("train", "score") * 30]
    context = multiprocessing.get_context("spawn")
    start, results = context.Barrier(3), context.Queue()
    processes = [context.Process(target=_claim_all, args=(settings, start, results), daemon=True) for _ in range(3)]
    for process in processes:
        process.start()
    seen, open_ends = [], len(processes)
    while open_ends:
        item = results.get(timeout=60)
        if item is None:
            open_ends -= 1
        else:
            seen.append(item)
    for process in processes:
        process.join(60)
    # A racer that finds the lane taken gives up, so some jobs may be left; none was ever run beside another.
    assert all(running == [job_id] for job_id, running in seen)
    assert len({job_id for job_id, _ in seen}) == len(seen) > 0
    left = [job.id for job in jobs.active(db)]
    assert sorted([job_id for job_id, _ in seen] + left) == wanted


def test_progress_is_written_and_says_whether_a_cancel_was_requested(db):
    job_id = submit(db)
    job = claim(db)
    step = {"phase": "Training", "done": 3, "total": 10, "metrics": {"loss": 0.5}, "eta_seconds": 7.0}
    assert jobs.progress(db, job=job, **step) is False
    assert jobs.heartbeat(db, job=job) is False
    now = jobs.request_cancel(db, job_id=job_id)
    assert (now.status, now.is_cancelling) == ("running", True)
    assert jobs.heartbeat(db, job=job) is True
    assert jobs.progress(db, job=job, **step) is True
    seen = jobs.get(db, job_id=job_id)
    assert (seen.phase, seen.done, seen.total, seen.eta_seconds) == ("Training", 3, 10, 7.0)
    assert (seen.metrics, seen.fraction) == ({"loss": 0.5}, 0.3)


def test_figures_that_json_does_not_know_are_made_plain(db):
    numpy = pytest.importorskip("numpy")
    submit(db)
    metrics = {"loss": float("nan"), "epoch": numpy.int64(3), "auroc": numpy.float32(0.5), "best": [numpy.inf, None]}
    jobs.progress(db, job=claim(db), phase="x", done=0, total=0, metrics=metrics, eta_seconds=None)
    assert jobs.active(db)[0].metrics == {"loss": None, "epoch": 3, "auroc": 0.5, "best": [None, None]}


def test_a_failed_job_keeps_its_progress_and_its_message(db):
    job_id = submit(db)
    job = claim(db)
    jobs.progress(db, job=job, phase="Training", done=3, total=10, metrics={}, eta_seconds=7.0)
    ended = jobs.finish(db, job=job, status="failed", error="Too few.")
    assert (ended.status, ended.error, ended.done, ended.eta_seconds) == ("failed", "Too few.", 3, None)
    assert ended.finished_at is not None
    assert jobs.get(db, job_id=job_id) == ended


def test_every_transition_outside_the_table_is_refused(db):
    job_id = submit(db)
    with pytest.raises(jobs.TransitionError, match="queued cannot become queued"):
        jobs.resume(db, job_id=job_id)
    job = claim(db)
    with pytest.raises(jobs.TransitionError, match="running cannot become queued"):
        jobs.resume(db, job_id=job_id)
    with pytest.raises(jobs.TransitionError, match="running cannot become queued"):
        jobs.finish(db, job=job, status="queued")
    jobs.finish(db, job=job, status="succeeded", result={"model_id": 1})
    with pytest.raises(jobs.TransitionError, match="no further change"):
        jobs.resume(db, job_id=job_id)
    with pytest.raises(jobs.LostJobError):
        jobs.finish(db, job=job, status="failed")
    assert jobs.get(db, job_id=job_id).result == {"model_id": 1}


def test_cancelling_a_queued_job_is_immediate_and_an_ended_one_is_left_alone(db):
    job_id = submit(db)
    assert jobs.request_cancel(db, job_id=job_id).status == "cancelled"
    assert claim(db) is None
    other = submit(db)
    jobs.finish(db, job=claim(db), status="succeeded")
    assert jobs.request_cancel(db, job_id=other).status == "succeeded"
    assert jobs.get(db, job_id=other).cancel_requested_at is None


def test_a_running_job_is_cancelled_only_when_its_process_is_gone(db):
    job_id = submit(db)
    claim(db, pid=1000)
    jobs.request_cancel(db, job_id=job_id)
    processes = FakeProcesses(1000)
    assert jobs.reap(db, stale_seconds=60, runner=processes) == []
    assert jobs.get(db, job_id=job_id).status == "running"
    processes.alive.clear()
    assert [job.status for job in jobs.reap(db, stale_seconds=60, runner=processes)] == ["cancelled"]
    assert jobs.get(db, job_id=job_id).error is None
    assert processes.killed == []


def test_a_worker_that_ignores_a_cancel_is_killed_after_its_grace_and_marked_only_when_gone(db):
    job_id = submit(db)
    claim(db, pid=1000)
    jobs.request_cancel(db, job_id=job_id)
    change(db, job_id, cancel_requested_at=utc_now() - timedelta(seconds=jobs.CANCEL_GRACE_SECONDS + 1))
    immortal = FakeProcesses(1000, immortal=True)
    assert jobs.reap(db, stale_seconds=60, runner=immortal) == []
    assert immortal.killed == [job_id]
    assert jobs.get(db, job_id=job_id).status == "running"
    immortal.immortal = False
    assert [job.status for job in jobs.reap(db, stale_seconds=60, runner=immortal)] == ["cancelled"]


def test_a_job_whose_process_died_is_interrupted_and_says_so(db):
    job_id = submit(db)
    claim(db)
    [job] = jobs.reap(db, stale_seconds=60, runner=FakeProcesses())
    assert (job.id, job.status) == (job_id, "interrupted")
    assert "Resume" in job.error
    assert jobs.reap(db, stale_seconds=60, runner=FakeProcesses()) == []


def test_a_silent_worker_is_killed_and_its_job_interrupted(db):
    job_id = submit(db)
    claim(db, pid=1000)
    change(db, job_id, heartbeat_at=utc_now() - timedelta(seconds=5))
    processes = FakeProcesses(1000)
    assert jobs.reap(db, stale_seconds=60, runner=processes) == []
    assert [job.status for job in jobs.reap(db, stale_seconds=0.5, runner=processes)] == ["interrupted"]
    assert processes.killed == [job_id]


def test_a_silent_worker_that_wakes_up_is_spared(db):
    job_id = submit(db)
    job = claim(db, pid=1000)
    change(db, job_id, heartbeat_at=utc_now() - timedelta(seconds=500))
    # The machine slept; the worker's heartbeat comes while the reaper waits for its second look.
    waking = threading.Timer(0.4, lambda: jobs.heartbeat(db, job=job))
    waking.start()
    processes = FakeProcesses(1000)
    assert jobs.reap(db, stale_seconds=60, runner=processes) == []
    waking.join()
    assert processes.killed == []


def test_a_worker_that_finished_before_the_reaper_wrote_keeps_its_result(db):
    job_id = submit(db)
    job = claim(db)

    class FinishesWhileLooked:
        def is_alive(self, _):
            jobs.finish(db, job=job, status="succeeded", result={"n": 1})
            return False

    assert jobs.reap(db, stale_seconds=60, runner=FinishesWhileLooked()) == []
    assert jobs.get(db, job_id=job_id).status == "succeeded"


def test_a_resumed_job_waits_as_its_next_attempt_with_a_clean_slate(db):
    job_id = submit(db)
    job = claim(db)
    jobs.progress(db, job=job, phase="Training", done=3, total=10, metrics={"loss": 1}, eta_seconds=7.0)
    jobs.reap(db, stale_seconds=60, runner=FakeProcesses())
    again = jobs.resume(db, job_id=job_id)
    assert (again.status, again.attempt, again.phase, again.done) == ("queued", 1, "Waiting", 0)
    assert (again.error, again.pid, again.finished_at, again.cancel_requested_at) == (None, None, None, None)
    assert claim(db, pid=2000).attempt == 1


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_failed_and_cancelled_jobs_can_resume(db, status):
    job_id = submit(db)
    if status == "cancelled":
        jobs.request_cancel(db, job_id=job_id)
    else:
        jobs.finish(db, job=claim(db), status="failed", error="x")
    assert jobs.get(db, job_id=job_id).can_resume
    assert jobs.resume(db, job_id=job_id).status == "queued"


def test_a_worker_that_was_given_up_cannot_write_to_its_successors_job(db):
    job_id = submit(db)
    lost = claim(db, pid=1000)
    jobs.reap(db, stale_seconds=60, runner=FakeProcesses())
    with pytest.raises(jobs.LostJobError):
        jobs.heartbeat(db, job=lost)
    jobs.resume(db, job_id=job_id)
    successor = claim(db, pid=1000)
    with pytest.raises(jobs.LostJobError):
        jobs.progress(db, job=lost, phase="x", done=1, total=1, metrics={}, eta_seconds=None)
    with pytest.raises(jobs.LostJobError):
        jobs.finish(db, job=lost, status="succeeded")
    assert jobs.finish(db, job=successor, status="succeeded").status == "succeeded"


def test_points_of_a_resumed_attempt_continue_the_curve_and_replace_its_end(db):
    job_id = submit(db)
    add = {"job_id": job_id, "series": "model"}
    jobs.add_points(db, attempt=0, **add, points=[(step, 10.0 + step) for step in range(6)])
    jobs.add_points(db, attempt=1, **add, points=[(4, 24.0), (5, 25.0)])
    jobs.add_points(db, attempt=2, **add, points=[(5, 35.0), (6, 36.0)])
    jobs.add_points(db, job_id=job_id, attempt=2, series="a fold", points=[(0, 1.0)])
    assert jobs.points(db, job_id=job_id) == [
        ("model", 0, 10.0),
        ("model", 1, 11.0),
        ("model", 2, 12.0),
        ("model", 3, 13.0),
        ("model", 4, 24.0),
        ("model", 5, 35.0),
        ("model", 6, 36.0),
        ("a fold", 0, 1.0),
    ]


def test_a_point_given_again_replaces_its_value_and_values_that_are_not_finite_leave_a_gap(db):
    job_id = submit(db)
    jobs.add_points(db, job_id=job_id, attempt=0, series="model", points=[(1, 5.0), (2, float("nan"))])
    jobs.add_points(db, job_id=job_id, attempt=0, series="model", points=[(1, 6.0), (1, 7.0), (3, float("inf"))])
    assert jobs.points(db, job_id=job_id) == [("model", 1, 7.0)]


def test_jobs_are_listed_newest_first_by_project_and_kind(db):
    ids = [submit(db, kind=kind) for kind in ("train", "import", "train")]
    assert [job.id for job in jobs.list_jobs(db, project_id=None)] == ids[::-1]
    assert [job.id for job in jobs.list_jobs(db, project_id=None, kinds=["train"], limit=1)] == ids[2:]
    assert jobs.list_jobs(db, project_id=5) == []
    assert [job.id for job in jobs.active(db, kinds=["import"])] == [ids[1]]


def test_the_end_of_a_long_log_starts_with_a_whole_line(db):
    assert jobs.log_tail(db, job_id=1) == ""
    path = jobs.log_path(db, job_id=1)
    path.parent.mkdir(parents=True)
    path.write_text("".join(f"line {number} é\n" for number in range(100)), encoding="utf-8")
    assert jobs.log_tail(db, job_id=1, n_bytes=25) == "line 98 é\nline 99 é\n"
    assert jobs.log_tail(db, job_id=1).startswith("line 0 é\n")


@given(st.sampled_from(sorted(jobs.TRANSITIONS)), st.sampled_from(sorted(jobs.TRANSITIONS)))
def test_only_ended_jobs_but_the_succeeded_can_be_queued_again(status, target):
    allowed = target in jobs.TRANSITIONS[status]
    if target == "queued":
        assert allowed == (status in {"failed", "cancelled", "interrupted"})
    if status == target or status == "succeeded":
        assert not allowed
