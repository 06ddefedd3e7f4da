"""Map verdicts: stored exactly once, the newest one holds, and only held-out bad images make the hit rate."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from ssn_core.errors import SsnError
from storage import labels, map_verdicts, predictions, projects
from storage.db import Database
from storage.map_verdicts import MapVerdict
from storage.tables import MapVerdictRow
from tests.model_seed import add_model


@pytest.fixture
def ids(db: Database, project: int, add_images: Callable[..., list[int]]) -> list[int]:
    """Six images labelled bad."""
    found = add_images(6)
    label(db, project, dict.fromkeys(found, "bad"))
    return found


@pytest.fixture
def model(db: Database, project: int, ids: list[int]) -> int:
    number = add_model(db, project).id
    predictions.store(db, model_id=number, rows=[(image, 1.0, "out_of_fold") for image in ids])
    return number


def label(db: Database, project: int, verdicts: dict[int, str], client: str = "labels") -> None:
    events = [
        labels.LabelEvent(client, seq, image, verdict, "Ada", "board")
        for seq, (image, verdict) in enumerate(verdicts.items(), start=1)
    ]
    assert not labels.record(db, project_id=project, events=events).rejected


def say(seq: int, model: int, image: int, verdict: str = "on_defect", **more: object) -> MapVerdict:
    event = MapVerdict("tab", seq, model, image, verdict, "Ada")
    return dataclasses.replace(event, **more)  # type: ignore[arg-type]


def rows(db: Database) -> list[tuple[int, str, str]]:
    with db.read() as session:
        found = session.query(MapVerdictRow).order_by(MapVerdictRow.id).all()
        return [(row.image_id, row.verdict, row.inspector) for row in found]


def test_a_verdict_sent_twice_is_stored_once_and_acknowledged_twice(
    db: Database, project: int, model: int, ids: list[int]
) -> None:
    events = [say(2, model, ids[1], "elsewhere"), say(1, model, ids[0], inspector=" Ada ")]
    first = map_verdicts.record(db, project_id=project, events=events)
    again = map_verdicts.record(db, project_id=project, events=[*events, say(3, model, ids[2], "unsure")])
    assert (first.acks, first.rejected, first.stored) == ({"tab": 2}, [], 2)
    assert (again.acks, again.rejected, again.stored) == ({"tab": 3}, [], 1)
    assert rows(db) == [(ids[0], "on_defect", "Ada"), (ids[1], "elsewhere", "Ada"), (ids[2], "unsure", "Ada")]


def test_the_newest_verdict_holds_and_cleared_takes_it_back(
    db: Database, project: int, model: int, ids: list[int]
) -> None:
    events = [
        say(1, model, ids[0], "elsewhere"),
        say(2, model, ids[0], "on_defect"),
        say(3, model, ids[1], "unsure"),
        say(4, model, ids[1], "cleared"),
    ]
    map_verdicts.record(db, project_id=project, events=events)
    assert map_verdicts.newest(db, model_id=model, image_ids=ids) == {ids[0]: "on_defect"}
    assert map_verdicts.newest(db, model_id=model, image_ids=[ids[1]]) == {}
    assert map_verdicts.newest(db, model_id=add_model(db, project).id, image_ids=ids) == {}
    assert len(rows(db)) == 4  # nothing that was said is lost


@pytest.mark.parametrize(
    "broken",
    [
        {"image_id": 999_999},
        {"image_id": "1"},
        {"model_id": 999_999},
        {"model_id": None},
        {"verdict": "beautiful"},
        {"verdict": ["on_defect"]},
        {"inspector": " "},
        {"inspector": "x" * 101},
        {"inspector": "Ada \ud83d"},
        {"inspector": 7},
    ],
)
def test_what_can_never_be_stored_is_refused_alone(
    db: Database, project: int, model: int, ids: list[int], broken: dict[str, object]
) -> None:
    found = map_verdicts.record(db, project_id=project, events=[say(1, model, ids[0], **broken), say(2, model, ids[1])])
    assert [(client, seq) for client, seq, _reason in found.rejected] == [("tab", 1)]
    assert found.acks == {"tab": 2}
    assert rows(db) == [(ids[1], "on_defect", "Ada")]


@pytest.mark.parametrize("broken", [{"client": ""}, {"client": "x" * 65}, {"seq": 0}, {"seq": "1"}, {"seq": True}])
def test_an_event_without_a_number_is_rejected_and_not_acknowledged(
    db: Database, project: int, model: int, ids: list[int], broken: dict[str, object]
) -> None:
    found = map_verdicts.record(db, project_id=project, events=[dataclasses.replace(say(1, model, ids[0]), **broken)])
    assert (found.acks, found.stored, len(found.rejected)) == ({}, 0, 1)


def test_a_number_that_says_something_else_is_rejected(db: Database, project: int, model: int, ids: list[int]) -> None:
    one, other = say(1, model, ids[0]), say(1, model, ids[1])
    assert len(map_verdicts.record(db, project_id=project, events=[one, other]).rejected) == 1
    assert len(map_verdicts.record(db, project_id=project, events=[other]).rejected) == 1
    assert rows(db) == [(ids[0], "on_defect", "Ada")]


def test_maps_of_other_projects_and_of_unscored_images_cannot_be_judged(
    db: Database, project: int, model: int, ids: list[int], add_images: Callable[..., list[int]]
) -> None:
    other = projects.create(db, name="Screws").id
    (unscored,) = add_images(1)
    for where, event in ((other, say(1, model, ids[0])), (project, say(2, model, unscored))):
        assert [why for *_, why in map_verdicts.record(db, project_id=where, events=[event]).rejected] == [
            map_verdicts.NO_SUCH
        ]
    assert rows(db) == []


def test_only_held_out_images_that_are_bad_today_make_the_hit_rate(
    db: Database, project: int, model: int, ids: list[int]
) -> None:
    assert map_verdicts.localisation_rate(db, model) == (0, 0, 0)
    assert map_verdicts.held_out_bad(db, model_id=model) == 6
    said = ["on_defect", "on_defect", "elsewhere", "unsure", "on_defect", "on_defect"]
    events = [say(seq, model, image, verdict) for seq, (image, verdict) in enumerate(zip(ids, said, strict=True), 1)]
    map_verdicts.record(db, project_id=project, events=events)
    assert map_verdicts.localisation_rate(db, model) == (4, 1, 1)
    label(db, project, {ids[0]: "good"}, client="second thoughts")
    predictions.store(db, model_id=model, rows=[(ids[1], 1.0, "unseen")])
    found = map_verdicts.localisation_rate(db, model)
    assert found == (2, 1, 1)
    assert found.decided == 3
    assert map_verdicts.held_out_bad(db, model_id=model) == 4
    with pytest.raises(SsnError, match="77"):
        map_verdicts.localisation_rate(db, 77)


def test_a_verdict_on_one_model_says_nothing_of_another(db: Database, project: int, model: int, ids: list[int]) -> None:
    map_verdicts.record(db, project_id=project, events=[say(1, model, ids[0])])
    second = add_model(db, project).id
    predictions.store(db, model_id=second, rows=[(image, 1.0, "out_of_fold") for image in ids])
    assert map_verdicts.localisation_rate(db, second) == (0, 0, 0)
    assert map_verdicts.localisation_rate(db, model) == (1, 0, 0)
