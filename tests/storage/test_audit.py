"""The audit: who said what and when, and how often a map changed somebody's mind."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from storage import audit, label_files, labels, map_verdicts, opinion_verdicts, second_opinions
from storage.audit import Filter, MindChanges
from storage.db import Database
from storage.labels import LabelEvent
from storage.study_verdicts import Message
from storage.tables import utc_now
from tests.model_seed import add_model

AddImages = Callable[..., list[int]]


@pytest.fixture
def said(db: Database, project: int, add_images: AddImages) -> list[int]:
    ids = [add_images(1, name=name)[0] for name in ("Alpha_1.png", "alpha%2.png", "beta.png")]
    for event in (
        LabelEvent("tab", 1, ids[0], "good", "Ada", "board", map_seen=False),
        LabelEvent("tab", 2, ids[1], "bad", "Ada", "single"),
        LabelEvent("bo", 1, ids[0], "bad", "Bo", "review", map_seen=True),
        LabelEvent("bo", 2, ids[0], "good", "Bo", "review", is_undo=True, map_seen=True),
    ):
        labels.record(db, project_id=project, events=[event])
    line = b"image,verdict,inspector,time\nbeta.png,bad,Cem,2024-01-01T00:00:00\n"
    label_files.read_in(db, project_id=project, name="old.csv", data=line, inspector="Dee")
    return ids


def test_the_newest_events_come_first_with_image_and_source(db: Database, project: int, said: list[int]) -> None:
    found = audit.events(db, project_id=project, limit=10)
    assert [(one.name, one.verdict, one.inspector, one.is_undo) for one in found] == [
        ("beta.png", "bad", "Cem", False),
        ("Alpha_1.png", "good", "Bo", True),
        ("Alpha_1.png", "bad", "Bo", False),
        ("alpha%2.png", "bad", "Ada", False),
        ("Alpha_1.png", "good", "Ada", False),
    ]
    assert [one.file for one in found] == ["old.csv, read in by Dee", None, None, None, None]
    assert [one.is_current for one in found] == [True, True, False, True, False]
    pages = [audit.events(db, project_id=project, limit=2)]
    while pages[-1]:
        pages.append(audit.events(db, project_id=project, limit=2, before_id=pages[-1][-1].id))
    assert [one for page in pages for one in page] == found == list(audit.all_events(db, project_id=project))
    assert audit.inspectors(db, project_id=project) == {"Ada": 2, "Bo": 2, "Cem": 1}


@pytest.mark.parametrize(
    ("wanted", "n"),
    [
        (Filter(), 5),
        (Filter(inspector="Ada"), 2),
        (Filter(verdict="bad"), 3),
        (Filter(verdict="bad", inspector="Ada"), 1),
        (Filter(origin="review"), 2),
        (Filter(name="ALPHA"), 4),
        (Filter(name="a_1"), 3),  # no wildcard: the sign itself
        (Filter(name="%"), 1),
        (Filter(map_seen=True), 2),
        (Filter(map_seen=False), 1),
        (Filter(since=utc_now() - timedelta(hours=1)), 4),
        (Filter(until=utc_now() - timedelta(hours=1)), 1),
        (Filter(inspector="nobody"), 0),
    ],
)
def test_filters_hold_together(db: Database, project: int, said: list[int], wanted: Filter, n: int) -> None:
    assert len(audit.events(db, project_id=project, wanted=wanted, limit=10)) == n
    assert audit.count(db, project_id=project, wanted=wanted) == n


def test_one_image_shows_every_kind_of_verdict(db: Database, project: int, said: list[int]) -> None:
    image, other = said[0], said[1]
    model = add_model(db, project, [(image, 1.0, "train")])
    verdict = map_verdicts.MapVerdict("tab", 1, model.id, image, "elsewhere", "Ada")
    map_verdicts.record(db, project_id=project, events=[verdict])
    found = second_opinions.create(db, project_id=project, name="Round", inspector="Ada", n_images=2, seed=1)
    for n, (who, stage) in enumerate((("Cem", "second"), ("Dee", "third"))):
        opinion_verdicts.record(
            db, project_id=project, round_id=found.id, inspector=who, stage=stage,
            messages=[Message(1, image, ("bad", "good")[n])],
        )  # fmt: skip
    told = audit.about_image(db, image_id=image, asking="Ada")
    assert sorted((one.kind, one.inspector, one.verdict) for one in told) == [
        ("label", "Ada", "good"),
        ("label", "Bo", "bad"),
        ("label", "Bo", "good"),
        ("label", "Dee", "good"),
        ("map", "Ada", "elsewhere"),
        ("second opinion", "Cem", "bad"),
        ("third verdict", "Dee", "good"),
    ]
    assert [one.created_at for one in told] == sorted(one.created_at for one in told)
    assert "after seeing the map" in told[1].detail
    [read] = audit.about_image(db, image_id=said[2], asking="Ada")
    assert read.detail == "from old.csv, read in by Dee"
    assert [one.kind for one in audit.about_image(db, image_id=other, asking="Ada")] == ["label"]


def test_who_still_has_to_judge_an_image_is_not_told_what_others_said(
    db: Database, project: int, said: list[int]
) -> None:
    image = said[0]
    found = second_opinions.create(db, project_id=project, name="Round", inspector="Ada", n_images=2, seed=1)

    def told(who: str) -> list[str]:
        return [one.kind for one in audit.about_image(db, image_id=image, asking=who) if one.kind != "label"]

    opinion = [Message(1, image, "bad")]
    opinion_verdicts.record(
        db, project_id=project, round_id=found.id, inspector="Cem", stage="second", messages=opinion
    )
    assert told("Dee") == []  # may settle it
    assert told("Cem") == ["second opinion"]
    second_opinions.close(db, round_id=found.id)
    assert told("Dee") == ["second opinion"]


def test_changes_of_mind_count_each_inspector_and_image_once(db: Database, project: int, add_images: AddImages) -> None:
    ids = add_images(9)
    seq = iter(range(1, 100))

    def say(image: int, verdict: str, who: str, *, seen: bool | None, is_undo: bool = False) -> None:
        event = LabelEvent("tab", next(seq), image, verdict, who, "review", is_undo=is_undo, map_seen=seen)
        labels.record(db, project_id=project, events=[event])

    for place, (before, after) in enumerate(
        [("good", "bad"), ("bad", "good"), ("good", "good"), ("unsure", "bad"), ("good", "bad")]
    ):
        say(ids[place], before, "Ada", seen=False)
        say(ids[place], after, "Ada", seen=True)
    say(ids[0], "good", "Ada", seen=True)  # back again: the first verdict after the map counts
    say(ids[5], "good", "Ada", seen=False)
    say(ids[5], "bad", "Bo", seen=True)  # somebody else
    say(ids[6], "good", "Ada", seen=None)
    say(ids[6], "bad", "Ada", seen=True)  # what was seen before the first one is not known
    say(ids[7], "good", "Bo", seen=False)
    say(ids[7], "bad", "Bo", seen=True, is_undo=True)
    say(ids[8], "good", "Ada", seen=False)
    say(ids[8], "bad", "Ada", seen=True)  # a slip
    say(ids[8], "good", "Ada", seen=True, is_undo=True)
    assert audit.mind_changes(db, project_id=project) == MindChanges(5, 2, 1, 1)
    say(ids[8], "good", "Ada", seen=True)
    assert audit.mind_changes(db, project_id=project) == MindChanges(6, 2, 1, 1)
    assert audit.mind_changes(db, project_id=project).changed == 4
    assert audit.mind_changes(db, project_id=project, inspector="Bo") == MindChanges(0, 0, 0, 0)
