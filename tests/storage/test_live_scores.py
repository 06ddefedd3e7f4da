import hashlib

import numpy as np
import pytest
from sqlalchemy import event, update

from storage import labels, predictions, projects, registry
from storage.live_scores import MOST, LiveScores
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
    live, tab = LiveScores(model), Tab(db, project_id)
    assert_as_read(db, live, model)
    for _ in range(25):
        some = rng.choice(ids, size=rng.integers(1, 6))
        tab.say(*[(int(image), str(rng.choice(labels.VERDICTS))) for image in some])
        assert_as_read(db, live, model)


def test_only_what_was_said_since_is_read(db, project_id, model, ids):
    live, tab = LiveScores(model), Tab(db, project_id)
    tab.say(*[(image, "good") for image in ids])
    live.now(db)
    tab.say((ids[4], "bad"), (ids[5], "unsure"))
    read = []

    def count(_connection, cursor, statement, *_rest):
        if "predictions.score" in statement:
            read.append(len(cursor.connection.cursor().execute(statement, _rest[0]).fetchall()))

    event.listen(db.engine, "after_cursor_execute", count)
    live.now(db)
    event.remove(db.engine, "after_cursor_execute", count)
    assert read == [1]  # the fifth image; the sixth has no label that counts


def test_as_long_as_nothing_changes_for_the_model_it_is_the_same_object(db, project_id, model, ids):
    live, tab = LiveScores(model), Tab(db, project_id)
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
    ids = add_images(db, project_id, MOST + 20)
    model = add_model(db, project_id, [(image, 0.5, "out_of_fold") for image in ids])
    live, tab = LiveScores(model), Tab(db, project_id)
    tab.say(*[(image, "good") for image in ids])
    assert_as_read(db, live, model)
    tab.say(*[(image, "bad") for image in ids[: MOST + 1]])
    assert assert_as_read(db, live, model).n_bad == MOST + 1
    tab.say(*[(image, "good") for image in ids[:MOST]])
    assert assert_as_read(db, live, model).n_bad == 1


def test_scores_that_a_training_stores_meanwhile_are_seen(db, project_id, model, ids):
    live, tab = LiveScores(model), Tab(db, project_id)
    tab.say(*[(image, "good") for image in ids])
    fresh = registry.register(
        db, project_id=project_id, job_id=None, name="New", folder="models/1/9", recipe="cam", backbone="resnet18",
        held_out="out_of_fold", threshold=0.0, suggested_threshold=0.0, scale_low=0.0, scale_high=1.0, summary={},
    )  # fmt: skip
    growing = LiveScores(fresh)
    assert growing.now(db).image_ids == ()
    predictions.store(db, model_id=fresh.id, rows=[(ids[0], 1.0, "out_of_fold")])
    assert_as_read(db, growing, fresh)
    predictions.store(db, model_id=fresh.id, rows=[(ids[2], 2.0, "out_of_fold")])
    assert assert_as_read(db, growing, fresh).image_ids == (ids[0], ids[2])
    assert_as_read(db, live, model)


def test_an_event_that_comes_to_light_after_later_ones_is_seen(db, project_id, model, ids):
    """On PostgreSQL a transaction takes its numbers before it ends, so a later number may be seen first."""
    live, tab = LiveScores(model), Tab(db, project_id)
    tab.say((ids[1], "good"), (ids[2], "good"))
    with db.write() as session:  # numbers are left free
        session.execute(update(LabelEventRow).where(LabelEventRow.image_id == ids[2]).values(id=100))
    assert_as_read(db, live, model)
    with db.write() as session:
        session.add(
            LabelEventRow(
                id=50,
                project_id=project_id,
                image_id=ids[4],
                verdict="bad",
                inspector="Ben",
                origin="board",
                is_undo=False,
                client="other",
                seq=1,
                created_at=utc_now(),
            )
        )
        session.execute(update(ImageRow).where(ImageRow.id == ids[4]).values(label="bad"))
    tab.say((ids[1], "bad"))  # the next one to be seen
    assert assert_as_read(db, live, model).n_bad == 2


def test_other_projects_and_roles_are_kept_apart(db, project_id, model, ids):
    unseen, tab = LiveScores(model, "unseen"), Tab(db, project_id)
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
