import dataclasses
import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import Mock

import numpy as np
import pytest
from sqlalchemy import event, update

from storage import labels, predictions, projects, registry
from storage.db import CHUNK_SIZE
from storage.live_scores import LiveScores
from storage.tables import ImageRow, LabelEventRow, utc_now
from tests.model_seed import add_model

FIELDS = ("image_ids", "names", "groups", "kind", "n_good", "n_bad", "digest")


@pytest.fixture
def project_id(db):
    return projects.create(db, name="Commutators").id


def add_images(db, project_id, n):
    with db.write() as session:
        rows = [
            ImageRow(
                project_id=project_id,
                sha256=hashlib.sha256(str(number).encode()).hexdigest(),
                name=f"part{number}.png",
                extension=".png",
                width=8,
                height=6,
                n_bytes=1,
                group_key=str(number // 2),
                part="train",
            )
            for number in range(n)
        ]
        session.add_all(rows)
        session.flush()
        return [row.id for row in rows]


def live_scores(model, role="out_of_fold"):
    return LiveScores(model_id=model.id, project_id=model.project_id, role=role)


class Tab:
    """Says things, numbered."""

    def __init__(self, db, project_id):
        self.db, self.project_id, self.seq = db, project_id, 0

    def say(self, *verdicts):
        events = []
        for image_id, verdict in verdicts:
            self.seq += 1
            events.append(labels.LabelEvent("tab", self.seq, image_id, verdict, "Ada", "board"))
        assert not labels.record(self.db, project_id=self.project_id, events=events).rejected


def assert_as_read(db, live, model, role="out_of_fold"):
    found = live.now(db)
    wanted = predictions.with_role(db, model_id=model.id, role=role)
    for field in FIELDS:
        assert getattr(found, field) == getattr(wanted, field), field
    for field in ("labels", "scores"):
        np.testing.assert_array_equal(getattr(found, field), getattr(wanted, field))
        assert getattr(found, field).dtype == getattr(wanted, field).dtype
        assert not getattr(found, field).flags.writeable
    return found


@pytest.fixture
def model(db, project_id):
    ids = add_images(db, project_id, 40)
    scores = [(image, number / 7, "unseen" if number % 3 == 0 else "out_of_fold") for number, image in enumerate(ids)]
    return add_model(db, project_id, scores)


@pytest.fixture
def ids(db, model):
    with db.read() as session:
        return [row.id for row in session.query(ImageRow).order_by(ImageRow.id)]


@pytest.mark.parametrize("seed", range(5))
def test_whatever_is_said_it_stays_what_reading_everything_gives(db, project_id, model, ids, seed):
    rng = np.random.default_rng(seed)
    live, tab = live_scores(model), Tab(db, project_id)
    assert_as_read(db, live, model)
    for _ in range(25):
        some = rng.choice(ids, size=rng.integers(1, 6))
        tab.say(*[(int(image), str(rng.choice(labels.VERDICTS))) for image in some])
        assert_as_read(db, live, model)


def test_only_what_was_said_since_is_read(db, project_id, model, ids):
    live, tab = live_scores(model), Tab(db, project_id)
    tab.say(*[(image, "good") for image in ids])
    live.now(db)
    tab.say((ids[4], "bad"), (ids[5], "unsure"))
    read = []

    def count(_connection, cursor, statement, *_rest):
        if "images.name" in statement and "predictions.score" in statement:
            read.append(len(cursor.connection.cursor().execute(statement, _rest[0]).fetchall()))

    event.listen(db.engine, "after_cursor_execute", count)
    live.now(db)
    event.remove(db.engine, "after_cursor_execute", count)
    assert read == [1]  # the fifth image; the sixth has no label that counts


def test_as_long_as_nothing_changes_for_the_model_it_is_the_same_object(db, project_id, model, ids):
    live, tab = live_scores(model), Tab(db, project_id)
    tab.say(*[(image, "good") for image in ids])
    first = live.now(db)
    assert live.now(db) is first
    tab.say((ids[0], "bad"))  # not held out for this model
    tab.say((ids[1], "good"))  # what it was before
    assert live.now(db) is first
    tab.say((ids[1], "bad"))
    later = live.now(db)
    assert later is not first
    assert later.digest != first.digest
    assert later.blocks is not first.blocks
    assert first.labels[0] == 0  # whoever still holds the old one sees no change


def test_more_changes_than_are_looked_up_one_by_one(db, project_id):
    ids = add_images(db, project_id, CHUNK_SIZE + 20)
    model = add_model(db, project_id, [(image, 0.5, "out_of_fold") for image in ids])
    live, tab = live_scores(model), Tab(db, project_id)
    tab.say(*[(image, "good") for image in ids])
    assert_as_read(db, live, model)
    tab.say(*[(image, "bad") for image in ids[: CHUNK_SIZE + 1]])
    assert assert_as_read(db, live, model).n_bad == CHUNK_SIZE + 1
    tab.say(*[(image, "good") for image in ids[:CHUNK_SIZE]])
    assert assert_as_read(db, live, model).n_bad == 1


def test_scores_that_a_training_stores_meanwhile_are_seen(db, project_id, model, ids):
    live, tab = live_scores(model), Tab(db, project_id)
    tab.say(*[(image, "good") for image in ids])
    fresh = registry.register(
        db, project_id=project_id, job_id=None, name="New", folder="models/1/9", recipe="cam", backbone="resnet18",
        held_out="out_of_fold", threshold=0.0, suggested_threshold=0.0, scale_low=0.0, scale_high=1.0, summary={},
    )  # fmt: skip
    growing = live_scores(fresh)
    assert growing.now(db).image_ids == ()
    predictions.store(db, model_id=fresh.id, rows=[(ids[0], 1.0, "out_of_fold")])
    assert_as_read(db, growing, fresh)
    predictions.store(db, model_id=fresh.id, rows=[(ids[2], 2.0, "out_of_fold")])
    assert assert_as_read(db, growing, fresh).image_ids == (ids[0], ids[2])
    assert_as_read(db, live, model)


def late_event(db, project_id, image_id, *, number):
    with db.write() as session:
        event_of_old = LabelEventRow(
            id=number, project_id=project_id, image_id=image_id, verdict="bad", inspector="Ben", origin="board",
            is_undo=False, client=f"late-{number}", seq=1, created_at=utc_now(),
        )  # fmt: skip
        session.add(event_of_old)
        session.execute(update(ImageRow).where(ImageRow.id == image_id).values(label="bad"))


def test_an_event_that_comes_to_light_after_later_ones_is_seen(db, project_id, model, ids):
    """On PostgreSQL a transaction takes its numbers before it ends, so a later number may be seen first."""
    live, tab = live_scores(model), Tab(db, project_id)
    tab.say((ids[1], "good"), (ids[2], "good"))
    with db.write() as session:  # numbers are left free
        session.execute(update(LabelEventRow).where(LabelEventRow.image_id == ids[2]).values(id=100))
    assert_as_read(db, live, model)
    late_event(db, project_id, ids[4], number=50)
    assert assert_as_read(db, live, model).n_bad == 1
    late_event(db, project_id, ids[5], number=51)
    late_event(db, project_id, ids[1], number=101)  # beside a new one
    assert assert_as_read(db, live, model).n_bad == 3


def test_scores_that_are_stored_again_in_another_role_are_seen(db, project_id, model, ids):
    """A cut-off training whose model was used to score everything meanwhile goes on and stores what is out-of-fold."""
    live, tab = live_scores(model), Tab(db, project_id)
    tab.say(*[(image, "good") for image in ids])
    predictions.store(db, model_id=model.id, rows=[(image, 1.0, "train") for image in ids])
    assert assert_as_read(db, live, model).image_ids == ()
    predictions.store(db, model_id=model.id, rows=[(image, 1.0, "out_of_fold") for image in ids])
    assert assert_as_read(db, live, model).n_good == len(ids)
    predictions.store(db, model_id=model.id, rows=[(ids[0], 1.5, "out_of_fold")])  # in the same role
    assert assert_as_read(db, live, model).scores[0] == 1.5


def test_many_who_ask_at_once_read_once(db, project_id, model, ids, monkeypatch):
    live, tab = live_scores(model), Tab(db, project_id)
    tab.say(*[(image, "good") for image in ids])
    reads, read = [], predictions.with_role
    monkeypatch.setattr(predictions, "with_role", lambda *given, **more: reads.append(1) or read(*given, **more))
    together = threading.Barrier(8)

    def ask(_):
        together.wait()
        return live.now(db)

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ask, range(8)))
    assert len(reads) == 1
    assert all(one is found[0] for one in found)


def test_after_a_failure_it_is_read_anew(db, project_id, model, ids, monkeypatch):
    live, tab = live_scores(model), Tab(db, project_id)
    tab.say(*[(image, "good") for image in ids])
    live.now(db)
    tab.say((ids[1], "bad"))
    with monkeypatch.context() as patch:
        patch.setattr(predictions, "with_role", Mock(side_effect=RuntimeError("the database did not answer")))
        with pytest.raises(RuntimeError):
            live.now(db)
    tab.say((ids[2], "bad"))
    assert assert_as_read(db, live, model).n_bad == 2


def test_the_digest_tells_groups_apart_whatever_they_are_called(db, project_id, model, ids):
    tab = Tab(db, project_id)
    tab.say(*[(image, "good") for image in ids])
    held = predictions.with_role(db, model_id=model.id, role="out_of_fold")
    rest = held.groups[2:]
    names = [("a\0b", "c"), ("a", "b\0c"), ("a', 'b", "c"), ("a", "b', 'c"), ("\udc80", "c")]
    assert len({dataclasses.replace(held, groups=(*two, *rest)).digest for two in names}) == len(names)


def test_other_projects_and_roles_are_kept_apart(db, project_id, model, ids):
    unseen, tab = live_scores(model, "unseen"), Tab(db, project_id)
    tab.say(*[(image, "good") for image in ids])
    assert_as_read(db, unseen, model, role="unseen")
    first = unseen.now(db)
    other = projects.create(db, name="Other").id
    with db.write() as session:
        image = ImageRow(
            project_id=other, sha256="f" * 64, name="a.png", extension=".png", width=8, height=6, n_bytes=1,
            group_key="a", part="train",
        )  # fmt: skip
        session.add(image)
        session.flush()
        number = image.id
    elsewhere = labels.LabelEvent("else", 1, number, "bad", "Ada", "board")
    assert labels.record(db, project_id=other, events=[elsewhere]).stored == 1
    assert unseen.now(db) is first
    tab.say((ids[3], "bad"))
    assert assert_as_read(db, unseen, model, role="unseen").n_bad == 1
