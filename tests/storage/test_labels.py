"""Labels: exactly once, in order, and nothing said is lost, also with several inspectors at the same time."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from storage import images, labels, projects
from storage.db import Database
from storage.labels import LabelEvent
from storage.settings import Settings

ROOT = Path(__file__).parents[2]
AddImages = Callable[..., list[int]]


def event(image_id: int, seq: int, verdict: str = "good", **changes: Any) -> LabelEvent:
    given = {"client": "tab", "inspector": "Ada", "origin": "board", **changes}
    return LabelEvent(seq=seq, image_id=image_id, verdict=verdict, **given)


def test_a_verdict_becomes_the_label_of_its_image(db: Database, project: int, add_images: AddImages) -> None:
    first, second = add_images(2)
    done = labels.record(db, project_id=project, events=[event(first, 1, "bad", seconds=1.5), event(second, 2)])
    assert (done.acks, done.rejected, done.stored) == ({"tab": 2}, [], 2)
    assert [image.label for image in images.get_many(db, image_ids=[first, second])] == ["bad", "good"]
    (stored,) = labels.history(db, image_id=first)
    assert (stored.verdict, stored.inspector, stored.origin, stored.seconds) == ("bad", "Ada", "board", 1.5)
    assert not stored.is_undo


def test_sending_an_event_twice_stores_it_once(db: Database, project: int, add_images: AddImages) -> None:
    (image,) = add_images(1)
    labels.record(db, project_id=project, events=[event(image, 1), event(image, 1)])
    again = labels.record(db, project_id=project, events=[event(image, 1), event(image, 2, "bad")])
    assert (again.acks, again.rejected, again.stored) == ({"tab": 2}, [], 1)
    assert [found.verdict for found in labels.history(db, image_id=image)] == ["good", "bad"]


def test_a_repeated_old_event_does_not_take_back_a_newer_label(
    db: Database, project: int, add_images: AddImages
) -> None:
    (image,) = add_images(1)
    labels.record(db, project_id=project, events=[event(image, 1, "good")])
    labels.record(db, project_id=project, events=[event(image, 1, "bad", client="other tab")])
    labels.record(db, project_id=project, events=[event(image, 1, "good")])
    assert images.get(db, image_id=image).label == "bad"


def test_events_of_one_client_are_stored_in_the_order_of_their_numbers(
    db: Database, project: int, add_images: AddImages
) -> None:
    (image,) = add_images(1)
    verdicts = ["good", "bad", "unsure", "bad"]
    shuffled = [event(image, seq, verdicts[seq - 1]) for seq in (3, 1, 4, 2)]
    labels.record(db, project_id=project, events=shuffled)
    assert [found.verdict for found in labels.history(db, image_id=image)] == verdicts
    assert images.get(db, image_id=image).label == "bad"


def test_taking_back_is_an_event_too(db: Database, project: int, add_images: AddImages) -> None:
    (image,) = add_images(1)
    labels.record(db, project_id=project, events=[event(image, 1), event(image, 2, "cleared", is_undo=True)])
    assert images.get(db, image_id=image).label is None
    assert projects.label_counts(db, project_id=project).unlabelled == 1
    assert [(found.verdict, found.is_undo) for found in labels.history(db, image_id=image)] == [
        ("good", False),
        ("cleared", True),
    ]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"verdict": "perfect"}, "Unknown verdict 'perfect'; expected one of good, bad, unsure, cleared"),
        ({"verdict": ["good"]}, "Unknown verdict"),
        ({"origin": "rumour"}, "Unknown origin 'rumour'"),
        ({"image_id": 999}, "no such image in this project"),
        ({"image_id": 2**40}, "no such image in this project"),
        ({"image_id": "1; DROP TABLE images"}, "no such image in this project"),
        ({"inspector": "  "}, "1 to 100 characters"),
        ({"inspector": "x" * 101}, "1 to 100 characters"),
        ({"inspector": None}, "1 to 100 characters"),
        ({"inspector": "half a sign \ud83d"}, "cannot be stored"),
    ],
)
def test_a_bad_event_is_acknowledged_and_reported_and_the_others_go_on(
    db: Database, project: int, add_images: AddImages, changes: dict[str, Any], reason: str
) -> None:
    (image,) = add_images(1)
    given = {"image_id": image, "seq": 2, "verdict": "bad", **changes}
    done = labels.record(db, project_id=project, events=[event(image, 1), event(**given), event(image, 3, "unsure")])
    assert (done.acks, done.stored) == ({"tab": 3}, 2)
    ((client, seq, said),) = done.rejected
    assert (client, seq) == ("tab", 2)
    assert reason in said
    assert images.get(db, image_id=image).label == "unsure"


@pytest.mark.parametrize(
    "changes",
    [{"client": ""}, {"client": "x" * 65}, {"client": None}, {"seq": 0}, {"seq": -1}, {"seq": 2**31}, {"seq": True}],
)
def test_an_event_without_a_usable_number_is_reported(
    db: Database, project: int, add_images: AddImages, changes: dict[str, Any]
) -> None:
    (image,) = add_images(1)
    done = labels.record(db, project_id=project, events=[event(**{"image_id": image, "seq": 1, **changes})])
    assert (done.acks, done.stored) == ({}, 0)
    assert "number of the event" in done.rejected[0][2]


def test_an_image_of_another_project_cannot_be_labelled(db: Database, project: int, add_images: AddImages) -> None:
    (foreign,) = add_images(1, project_id=projects.create(db, name="Other").id)
    done = labels.record(db, project_id=project, events=[event(foreign, 1)])
    assert (done.stored, len(done.rejected)) == (0, 1)
    assert images.get(db, image_id=foreign).label is None


def test_a_number_used_for_two_different_things_is_reported_not_swallowed(
    db: Database, project: int, add_images: AddImages
) -> None:
    first, second = add_images(2)
    labels.record(db, project_id=project, events=[event(first, 1, "good")])
    later = labels.record(db, project_id=project, events=[event(second, 1, "bad")])
    assert (later.stored, later.acks) == (0, {"tab": 1})
    assert "has this number already" in later.rejected[0][2]


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf"), 10**400, "soon"])
def test_a_senseless_time_does_not_cost_the_verdict(
    db: Database, project: int, add_images: AddImages, seconds: Any
) -> None:
    (image,) = add_images(1)
    assert labels.record(db, project_id=project, events=[event(image, 1, seconds=seconds)]).stored == 1
    assert labels.history(db, image_id=image)[0].seconds is None


def test_a_large_outbox_is_stored_in_one_call(db: Database, project: int, add_images: AddImages) -> None:
    numbers = add_images(1200)
    done = labels.record(db, project_id=project, events=[event(image, seq) for seq, image in enumerate(numbers, 1)])
    assert (done.stored, done.acks) == (1200, {"tab": 1200})
    assert projects.label_counts(db, project_id=project).good == 1200


def test_no_event_at_all_is_fine(db: Database, project: int) -> None:
    assert labels.record(db, project_id=project, events=[]) == labels.Recorded(acks={}, rejected=[], stored=0)


def test_the_history_of_a_project_comes_in_pages_newest_first(
    db: Database, project: int, add_images: AddImages
) -> None:
    numbers = add_images(5)
    labels.record(db, project_id=project, events=[event(image, seq) for seq, image in enumerate(numbers, 1)])
    newest = labels.project_history(db, project_id=project, limit=3)
    older = labels.project_history(db, project_id=project, limit=3, before_id=newest[-1].id)
    assert [found.image_id for found in newest + older] == numbers[::-1]


def test_inspectors_are_counted_by_the_labels_that_stand(db: Database, project: int, add_images: AddImages) -> None:
    first, second, third = add_images(3)
    events = [event(first, 1), event(second, 2), event(third, 3)]
    labels.record(db, project_id=project, events=events)
    labels.record(
        db,
        project_id=project,
        events=[
            event(first, 1, "bad", client="b", inspector=" Grace "),
            event(third, 2, "cleared", client="b", inspector="Grace"),
        ],
    )
    assert labels.count_by_inspector(db, project_id=project) == {"Ada": 1, "Grace": 1}


INSPECTOR = """
import sys
from pathlib import Path
from storage import labels
from storage.db import connect
from storage.settings import Settings
data_dir, url, client, project, ids = sys.argv[1:]
db = connect(Settings(data_dir=Path(data_dir), database_url=url))
seq = 0
for round in range(3):
    for image_id in map(int, ids.split(",")):
        seq += 1
        verdict = ("good", "bad", "unsure")[(seq + len(client)) % 3]
        event = labels.LabelEvent(client, seq, image_id, verdict, inspector=client, origin="board")
        done = labels.record(db, project_id=int(project), events=[event])
        assert done.acks == {client: seq} and done.stored == 1, done
db.close()
"""


def assert_nothing_was_lost(db: Database, project: int, numbers: list[int], clients: list[str]) -> None:
    """Every event of every client is there once, in its order, and every label is its newest event's verdict."""
    found = labels.project_history(db, project_id=project, limit=100_000)
    assert len(found) == 3 * len(numbers) * len(clients)
    for client in clients:
        mine = [one.image_id for one in reversed(found) if one.inspector == client]
        assert mine == numbers * 3
    for image_id in numbers:
        newest = labels.history(db, image_id=image_id)[-1]
        image = images.get(db, image_id=image_id)
        assert (image.label, image.label_inspector) == (newest.verdict, newest.inspector)


def test_inspectors_in_several_processes_lose_nothing(
    db: Database, settings: Settings, project: int, add_images: AddImages
) -> None:
    numbers = add_images(40)
    clients = ["a", "bb", "ccc"]
    arguments = [str(settings.data_dir), settings.database_url]
    joined = ",".join(map(str, numbers))
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", INSPECTOR, *arguments, client, str(project), joined],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for client in clients
    ]
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], "\n".join(outputs)
    assert_nothing_was_lost(db, project, numbers, clients)


def test_inspectors_in_several_threads_lose_nothing(db: Database, project: int, add_images: AddImages) -> None:
    numbers = add_images(25)

    def inspect(client: str) -> None:
        for seq, image_id in enumerate(numbers * 3, 1):
            one = event(image_id, seq, ("good", "bad")[(seq + len(client)) % 2], client=client, inspector=client)
            assert labels.record(db, project_id=project, events=[one]).stored == 1

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(inspect, ["a", "bb", "ccc"]))
    assert_nothing_was_lost(db, project, numbers, ["a", "bb", "ccc"])


def test_the_same_tab_posting_twice_at_once_stores_each_event_once(
    db: Database, project: int, add_images: AddImages
) -> None:
    numbers = add_images(30)
    events = [event(image, seq) for seq, image in enumerate(numbers, 1)]
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: labels.record(db, project_id=project, events=events), range(4)))
    assert sum(one.stored for one in done) == 30
    assert all(one.rejected == [] for one in done)
