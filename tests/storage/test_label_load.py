"""Eight inspectors at once, as fast as people label, on one database: every verdict is stored exactly once.

In CI for some seconds; `SSN_LOAD_SECONDS=60 pytest tests/storage/test_label_load.py -s` is the full minute and prints
the store times. Nothing here depends on how fast the machine is: a slow one only makes the inspectors wait.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from sqlalchemy import func, select

from storage import images, jobs, labels, leases, projects
from storage.db import Database, connect
from storage.labels import LabelEvent
from storage.settings import Settings
from storage.tables import ImageRow, LabelEventRow

INSPECTORS = 8
RATE = 5.0  # verdicts a second and inspector
SECONDS = float(os.environ.get("SSN_LOAD_SECONDS", "4"))
IMAGES = 400
SENT_TWICE = 0.2  # share of verdicts that are sent again, as after a lost answer
LEASED = 16  # images asked for ahead at a time


@dataclass
class Inspector:
    """One browser: sends what it says as the label board does, each verdict in a request of its own."""

    name: str
    said: list[LabelEvent] = field(default_factory=list)
    store_seconds: list[float] = field(default_factory=list)

    def work(self, db: Database, project: int, image_ids: list[int], start: float) -> None:
        choice = random.Random(self.name)  # noqa: S311  # a test's plan, no secret
        for seq in range(1, round(RATE * SECONDS) + 1):
            time.sleep(max(0.0, start + seq / RATE - time.monotonic()))
            event = LabelEvent(
                client=f"tab of {self.name}",
                seq=seq,
                image_id=choice.choice(image_ids),  # of all images: inspectors meet on one now and then
                verdict=choice.choice(("good", "bad", "unsure", "cleared")),
                inspector=self.name,
                origin="single",
                seconds=1.0 / RATE,
            )
            self.said.append(event)
            if seq % LEASED == 1:
                ahead = choice.sample(image_ids, LEASED)
                leases.take(db, project_id=project, inspector=self.name, client=event.client, image_ids=ahead)
            for _ in range(1 + (choice.random() < SENT_TWICE)):
                before = time.perf_counter()
                recorded = labels.record(db, project_id=project, events=[event])
                self.store_seconds.append(time.perf_counter() - before)
                assert recorded.acks == {event.client: seq}
                assert recorded.rejected == []
            projects.label_counts(db, project_id=project)  # the answer tells the news
            images.get_many(db, image_ids=[event.image_id])


def a_training_writes_its_progress(db: Database, project: int, done: threading.Event) -> None:
    """Another process's connection, which takes the write lock four times a second, as a worker does."""
    jobs.submit(db, kind="train", project_id=project, payload={})
    job = jobs.claim(db, pid=1, process_created=1.0)
    assert job is not None
    step = 0
    while not done.wait(0.25):
        step += 1
        jobs.progress(db, job=job, phase="Training", done=step, total=1000, metrics={"loss": 1.0}, eta_seconds=None)
    assert step > 0


def test_eight_inspectors_at_five_labels_a_second_lose_none_and_double_none(
    db: Database,
    settings: Settings,
    project: int,
    add_images: Callable[..., list[int]],
    record_property: Callable[[str, object], None],
) -> None:
    image_ids = add_images(IMAGES)
    inspectors = [Inspector(f"Inspector {n}") for n in range(INSPECTORS)]
    done = threading.Event()
    other = connect(settings)
    start = time.monotonic()
    with ThreadPoolExecutor(INSPECTORS + 1) as pool:
        training = pool.submit(a_training_writes_its_progress, other, project, done)
        try:
            working = [pool.submit(one.work, db, project, image_ids, start) for one in inspectors]
            for one in working:
                one.result()  # raises what went wrong: "database is locked", a refused verdict ...
        finally:
            done.set()
        training.result()
    other.close()

    said = {(e.client, e.seq): (e.image_id, e.verdict, e.inspector) for one in inspectors for e in one.said}
    with db.read() as session:
        rows = session.scalars(select(LabelEventRow).order_by(LabelEventRow.id)).all()
        newest = select(func.max(LabelEventRow.id)).where(LabelEventRow.image_id == ImageRow.id).scalar_subquery()
        stale = session.scalar(select(func.count()).where(ImageRow.label_event_id.is_distinct_from(newest)))
        shown = dict(session.execute(select(ImageRow.id, ImageRow.label)).all())
    assert len(rows) == len(said) == INSPECTORS * round(RATE * SECONDS)
    assert {(row.client, row.seq): (row.image_id, row.verdict, row.inspector) for row in rows} == said
    assert stale == 0  # every image shows its newest verdict
    last = {row.image_id: row.verdict for row in rows}
    assert all(shown[image] == (None if verdict == "cleared" else verdict) for image, verdict in last.items())

    times = sorted(seconds for one in inspectors for seconds in one.store_seconds)
    told = {f"p{q}": round(1000 * times[min(len(times) - 1, int(len(times) * q / 100))], 1) for q in (50, 99)}
    record_property("store_ms", told)
    print(f"\n{len(rows)} verdicts of {INSPECTORS} inspectors; store time {told} ms")  # noqa: T201  # with pytest -s


def test_a_verdict_that_arrives_in_several_requests_at_once_is_stored_once(
    db: Database, project: int, add_images: Callable[..., list[int]]
) -> None:
    """A browser that gave up waiting sends again while the first request still waits for the lock."""
    image_ids = add_images(20)
    events = [
        LabelEvent(client="tab", seq=n + 1, image_id=image, verdict="bad", inspector="Ada", origin="board")
        for n, image in enumerate(image_ids)
    ]
    barrier = threading.Barrier(INSPECTORS)

    def send(_: int) -> labels.Recorded:
        barrier.wait()
        return labels.record(db, project_id=project, events=events)

    with ThreadPoolExecutor(INSPECTORS) as pool:
        answers = list(pool.map(send, range(INSPECTORS)))
    assert [answer.acks for answer in answers] == [{"tab": 20}] * INSPECTORS
    assert sorted(answer.stored for answer in answers) == [0] * (INSPECTORS - 1) + [20]
    assert all(answer.rejected == [] for answer in answers)
    assert len(labels.project_history(db, project_id=project, limit=100)) == 20
