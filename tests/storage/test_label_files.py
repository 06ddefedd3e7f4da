"""Label files: out and in again without loss, hostile ones refused as a whole."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ssn_core.errors import LayoutError, SsnError
from storage import images, label_files, labels, projects
from storage.db import Database, connect
from storage.settings import Settings
from storage.tables import ImageRow

AddImages = Callable[..., list[int]]
HOSTILE_NAMES = ['=cmd|"/c calc"!A1', "'quoted", " +1", 'a,"b"\nc.png', "größe ☃.png", "kos01/Part5.jpg"]


@pytest.fixture
def said(db: Database, project: int, add_images: AddImages) -> list[int]:
    """Six images with names that no format likes, and a history with every kind of event."""
    ids = [add_images(1, name=name)[0] for name in HOSTILE_NAMES]
    event = labels.LabelEvent
    first = [event("tab", n, image, "good", "Ada", "board", seconds=0.1 * n) for n, image in enumerate(ids, start=1)]
    then = [
        event("other", 1, ids[0], "bad", "@Bo", "review", map_seen=True),
        event("other", 2, ids[0], "good", "@Bo", "review", is_undo=True, map_seen=True),
        event("other", 3, ids[1], "cleared", "@Bo", "single", map_seen=False),
        event("other", 4, ids[2], "unsure", "Łukasz", "single", seconds=1e-7),
        event("other", 5, ids[5], "bad", "Łukasz", "single", seconds=12.25),
    ]
    labels.record(db, project_id=project, events=first)
    labels.record(db, project_id=project, events=then)
    return ids


def export(db: Database, project: int, kind: str) -> bytes:
    return "".join(label_files.export(db, project_id=project, format=kind)).encode()


def history(db: Database, project: int) -> list[labels.Event]:
    return labels.project_history(db, project_id=project, limit=1000)[::-1]


def current(db: Database, project: int) -> dict[str, tuple[str | None, str | None]]:
    found = images.page(db, project_id=project, limit=1000)
    return {image.sha256: (image.label, image.label_inspector) for image in found}


def copy_images(db: Database, project: int, target: Database, name: str = "Copy") -> int:
    """A project with the same images and no label, with other numbers."""
    other = projects.create(target, name=name).id
    with target.write() as session:
        for image in reversed(images.page(db, project_id=project, limit=1000)):
            session.add(
                ImageRow(
                    project_id=other, sha256=image.sha256, name=image.name, extension=".png", width=1, height=1,
                    n_bytes=1, group_key=image.sha256, part="train",
                )
            )  # fmt: skip
    return other


def read_in(db: Database, project: int, data: bytes | str, name: str = "labels.csv") -> label_files.Plan:
    raw = data if isinstance(data, bytes) else data.encode()
    return label_files.read_in(db, project_id=project, name=name, data=raw, inspector="Reader")


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_another_installation_gets_every_event_as_it_was(
    db: Database, project: int, said: list[int], kind: str, tmp_path: Path
) -> None:
    elsewhere = connect(Settings(data_dir=tmp_path / "elsewhere", database_url="", weights_dir=None))
    other = copy_images(db, project, elsewhere)
    exported = export(db, project, kind)
    plan = read_in(elsewhere, other, exported)
    assert (plan.format, plan.new, plan.known, plan.missing, plan.changed) == (kind, len(history(db, project)), 0, 0, 5)
    hash_of = {image.id: image.sha256 for image in images.page(db, project_id=project, limit=99)}
    their_hash_of = {image.id: image.sha256 for image in images.page(elsewhere, project_id=other, limit=99)}
    mine = [replace(event, id=0, image_id=0) for event in history(db, project)]
    theirs = [replace(event, id=0, image_id=0) for event in history(elsewhere, other)]
    assert theirs == mine
    images_of = [their_hash_of[event.image_id] for event in history(elsewhere, other)]
    assert images_of == [hash_of[event.image_id] for event in history(db, project)]
    assert current(elsewhere, other) == current(db, project)
    assert export(elsewhere, other, "csv") == export(db, project, "csv")
    elsewhere.close()


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_reading_a_file_twice_adds_nothing(db: Database, project: int, said: list[int], kind: str) -> None:
    before = (history(db, project), current(db, project))
    exported = export(db, project, kind)
    assert read_in(db, project, exported).new == 0
    assert (history(db, project), current(db, project)) == before
    assert label_files.list_files(db, project_id=project) == []
    other = copy_images(db, project, db)  # in the same installation, where the numbers are taken
    n = len(before[0])
    assert (read_in(db, other, exported).new, read_in(db, other, exported).known) == (n, n)
    assert current(db, other) == current(db, project)
    [file] = label_files.list_files(db, project_id=other)
    assert (file.format, file.n_events, file.inspector) == (kind, n, "Reader")


def test_older_events_do_not_replace_a_newer_verdict(db: Database, project: int, add_images: AddImages) -> None:
    [image] = add_images(1, name="a.png")
    labels.record(db, project_id=project, events=[labels.LabelEvent("tab", 1, image, "good", "Ada", "board")])
    line = "image,verdict,inspector,time\na.png,bad,Bo,{}\n"
    assert read_in(db, project, line.format("2020-05-01T10:00:00+02:00")).changed == 0
    assert images.get(db, image_id=image).label == "good"
    assert [event.verdict for event in labels.history(db, image_id=image)] == ["good", "bad"]
    assert read_in(db, project, "image,label\na.png,bad\n").changed == 1  # without a time: said now
    found = images.get(db, image_id=image)
    assert (found.label, found.label_inspector) == ("bad", "Reader")


def test_looking_changes_nothing_and_says_what_reading_would_do(
    db: Database, project: int, add_images: AddImages
) -> None:
    add_images(1, name="a.png")
    add_images(2, name="twice.png")
    data = b"image,label,remark\na.png,bad,x\ngone.png,good,y\ntwice.png,good,z\n"
    plan = label_files.look(db, project_id=project, name="l.csv", data=data, inspector="Reader")
    assert plan == read_in(db, project, data)
    assert (plan.new, plan.missing, plan.missing_names) == (1, 2, ("gone.png", "twice.png"))
    assert plan.ignored == ("column remark",)
    other = label_files.look(db, project_id=project, name="l.csv", data=data, inspector="Reader")
    assert (other.new, other.known) == (0, 1)


def test_label_studio_gets_a_verdict_of_each_inspector_and_gives_it_back(
    db: Database, project: int, said: list[int]
) -> None:
    tasks = json.loads(export(db, project, "label_studio"))
    assert [task["data"]["image"] for task in tasks] == HOSTILE_NAMES
    last = tasks[5]["annotations"]
    assert [one["result"][0]["value"] for one in last] == [{"choices": ["good"]}, {"choices": ["bad"]}]
    assert {one["result"][0]["type"] for one in last} == {"choices"}
    assert len(tasks[0]["annotations"]) == 1  # what Bo said first was taken back
    other = copy_images(db, project, db)
    assert read_in(db, other, json.dumps(tasks)).format == "label_studio"
    assert {event.inspector for event in history(db, other)} == {"Ada", "Łukasz"}
    labelled = {sha256: label for sha256, (label, _who) in current(db, other).items()}
    mine = {sha256: label for sha256, (label, _who) in current(db, project).items()}
    cleared = images.get(db, image_id=said[1]).sha256
    assert labelled == {**mine, cleared: "good"}  # the format knows no clearing


def test_label_studio_gets_what_stands_again_after_an_undo(db: Database, project: int, add_images: AddImages) -> None:
    first, second = add_images(2)
    event = labels.LabelEvent
    said = [
        event("tab", 1, first, "good", "Ada", "board"),
        event("tab", 2, first, "bad", "Ada", "board"),  # a slip
        event("tab", 3, first, "good", "Ada", "board", is_undo=True),
        event("tab", 4, second, "bad", "Ada", "board"),
        event("bo", 5, second, "good", "Bo", "board"),
        event("bo", 6, second, "bad", "Bo", "board", is_undo=True),  # Ada's word, not Bo's
    ]
    labels.record(db, project_id=project, events=said)
    tasks = json.loads(export(db, project, "label_studio"))
    given = [
        [(one["result"][0]["meta"]["inspector"], one["result"][0]["value"]["choices"]) for one in task["annotations"]]
        for task in tasks
    ]
    assert given == [[("Ada", ["good"])], [("Ada", ["bad"])]]


def test_verdicts_without_numbers_are_known_by_who_said_what_and_when(
    db: Database, project: int, said: list[int]
) -> None:
    before = history(db, project)
    tasks = export(db, project, "label_studio")
    plan = read_in(db, project, tasks)
    assert (plan.new, plan.known) == (0, len([one for task in json.loads(tasks) for one in task["annotations"]]))
    assert history(db, project) == before


def test_a_file_that_names_an_image_twice_ends_with_its_last_word(
    db: Database, project: int, add_images: AddImages
) -> None:
    [image] = add_images(1, name="a.png")
    labels.record(db, project_id=project, events=[labels.LabelEvent("tab", 1, image, "bad", "Ada", "board")])
    twice = "image,label,inspector\na.png,good,Bo\na.png,bad,Cem\n"
    plan = read_in(db, project, twice)
    assert (plan.new, plan.changed, images.get(db, image_id=image).label) == (2, 0, "bad")
    assert (read_in(db, project, twice).new, read_in(db, project, twice).known) == (0, 2)


def test_a_file_without_names_may_be_read_by_another_person_again(
    db: Database, project: int, add_images: AddImages
) -> None:
    [image] = add_images(1, name="a.png")
    line = "image,label,time\na.png,good,2024-01-01T00:00:00\n"
    assert read_in(db, project, line).new == 1
    again = label_files.read_in(db, project_id=project, name="l.csv", data=line.encode(), inspector="Somebody else")
    assert (again.new, again.known) == (0, 1)
    assert [event.inspector for event in labels.history(db, image_id=image)] == ["Reader"]


def test_label_studios_own_export_is_understood(db: Database, project: int, add_images: AddImages) -> None:
    ids = [add_images(1, name=name)[0] for name in ("a.png", "b 1.png", "c.png")]

    def annotation(choice: str, **more: Any) -> dict[str, Any]:
        result = {
            "id": "x",
            "from_name": "quality",
            "to_name": "img",
            "type": "choices",
            "value": {"choices": [choice]},
        }
        when = {"lead_time": 4.3, "created_at": "2021-03-09T22:16:08.728353Z"}
        return {"id": 1, "completed_by": 10, "result": [result], **when, **more}

    boxes = {"result": [{"type": "rectanglelabels", "value": {"rectanglelabels": ["Moon"]}}]}
    by_mail = annotation("good", completed_by={"email": "a@b.c"})
    tasks = [
        {"id": 1, "data": {"image": "/data/upload/1/0a1b2c3d-a.png"}, "annotations": [annotation("Bad")]},
        {"id": 2, "data": {"image": "https://host/x/b%201.png?s=1"}, "annotations": [boxes, by_mail]},
        {"id": 3, "data": {"image": "c.png"}, "annotations": [annotation("good", was_cancelled=True)]},
    ]  # fmt: skip
    assert read_in(db, project, json.dumps(tasks)).new == 2
    events = history(db, project)
    assert [(event.verdict, event.inspector, event.seconds) for event in events] == [
        ("bad", "Label Studio user 10", 4.3),
        ("good", "a@b.c", 4.3),
    ]
    assert [images.get(db, image_id=image).label for image in ids] == ["bad", "good", None]


def through_label_studio(task: dict[str, Any], *, at: str) -> dict[str, Any]:
    """A task of ours as Label Studio 1.23.2 exports it (JSON) after an import over its API.

    It gives each annotation a number, a user and times of its own.
    """
    own = {
        "completed_by": 1,
        "created_at": at,
        "updated_at": at,
        "draft_created_at": None,
        "prediction": {},
        "result_count": 0,
        "last_action": None,
        "parent_annotation": None,
    }
    annotations = [{"id": number, **one, **own} for number, one in enumerate(task["annotations"], start=1)]
    more = {"file_upload": "6a5f799a-ours.json", "drafts": [], "predictions": [], "meta": {}, "created_at": at}
    return {"id": 1, **task, "annotations": annotations, **more, "total_annotations": len(annotations)}


def test_a_verdict_that_was_only_carried_through_label_studio_is_no_new_one(
    db: Database, project: int, said: list[int]
) -> None:
    tasks = json.loads(export(db, project, "label_studio"))
    later = labels.LabelEvent("meanwhile", 1, said[0], "bad", "Bo", "board")
    labels.record(db, project_id=project, events=[later])
    back = [through_label_studio(task, at="2099-01-01T08:00:00.008206Z") for task in tasks]
    # Its own times are not even looked at: these would be refused as lying in the future.
    plan = read_in(db, project, json.dumps(back))
    assert (plan.new, plan.changed) == (0, 0)
    assert images.get(db, image_id=said[0]).label == "bad"


def test_a_choice_that_was_changed_in_label_studio_is_its_users_of_that_moment(
    db: Database, project: int, add_images: AddImages
) -> None:
    [image] = add_images(1, name="a.png")
    labels.record(db, project_id=project, events=[labels.LabelEvent("tab", 1, image, "good", "Ada", "board")])
    said_at = history(db, project)[0].created_at
    changed_at = (said_at + timedelta(hours=1)).isoformat()
    [task] = json.loads(export(db, project, "label_studio"))
    task = through_label_studio(task, at=said_at.isoformat())
    task["annotations"][0]["updated_at"] = changed_at
    task["annotations"][0]["result"][0]["value"]["choices"] = ["bad"]  # the meta beside it stays
    assert read_in(db, project, json.dumps([task])).new == 1
    newest = history(db, project)[-1]
    assert (newest.verdict, newest.inspector) == ("bad", "Label Studio user 1")
    assert newest.created_at.isoformat() == changed_at
    assert images.get(db, image_id=image).label == "bad"


def test_an_image_that_was_uploaded_to_label_studio_is_found_by_the_name_it_got_there(
    db: Database, project: int, add_images: AddImages
) -> None:
    [image] = add_images(1, name="line 3/up one (2) ü.png")
    [other] = add_images(1, name="same 1.png")
    add_images(1, name="(same) 1.png")  # gets the same name there: neither is meant for certain
    [plain] = add_images(1, name="up_one.png")

    def task(address: str) -> dict[str, Any]:  # as Label Studio 1.23.2 exports one annotated in it
        result = {"from_name": "verdict", "to_name": "image", "type": "choices", "value": {"choices": ["bad"]}}
        done = {"completed_by": 1, "result": [result], "was_cancelled": False, "created_at": "2021-03-09T22:16:08Z"}
        skipped = {"completed_by": 1, "result": [], "was_cancelled": True, "created_at": "2021-03-09T22:17:08Z"}
        return {"id": 3, "annotations": [done, skipped], "data": {"image": address}}

    addresses = ["020b1fe8-up_one_2_%C3%BC.png", "020b1fe8-same_1.png", "020b1fe8-up_one.png"]
    plan = read_in(db, project, json.dumps([task(f"/data/upload/2/{address}") for address in addresses]))
    assert (plan.new, plan.missing) == (2, 1)
    assert [images.get(db, image_id=one).label for one in (image, other, plain)] == ["bad", None, "bad"]


@pytest.mark.parametrize(
    "content",
    [  # as FiftyOne 1.22.1's FiftyOneImageClassificationDatasetExporter writes it: as it is, with the options
        # include_confidence and include_attributes, and with classes=["good", "bad"]
        '{"classes": null,"labels": {"a": "good","sub/c": "bad","d.v2": "unsure","e": null}}',
        '{"classes": null,"labels": {"a": {"label": "good","confidence": 0.9,"attributes": {}},'
        '"sub/c": {"label": "bad","confidence": 0.9,"attributes": {}},'
        '"d.v2": {"label": "unsure","confidence": 0.9,"attributes": {}},"e": null}}',
        '{"classes": ["good","bad","unsure"],"labels": {"a": 0,"sub/c": 1,"d.v2": 2,"e": null}}',
    ],
)
def test_fiftyones_own_exports_are_understood(db: Database, project: int, add_images: AddImages, content: str) -> None:
    ids = [add_images(1, name=name)[0] for name in ("a.png", "sub/c.png", "d.v2.png", "e.png")]
    assert read_in(db, project, content).new == 3
    assert [images.get(db, image_id=image).label for image in ids] == ["good", "bad", "unsure", None]


def test_fiftyone_gets_the_labels_by_name_without_extension_and_gives_them_back(
    db: Database, project: int, said: list[int], add_images: AddImages
) -> None:
    first, second = add_images(2, name="same.png")
    labels.record(db, project_id=project, events=[labels.LabelEvent("more", 1, second, "bad", "Ada", "board")])
    content = json.loads(export(db, project, "fiftyone"))
    assert content["classes"] == ["good", "bad", "unsure"]
    assert content["labels"]["kos01/Part5"] == 1
    hashes = [images.get(db, image_id=image).sha256 for image in (first, second)]
    assert [content["labels"][sha256] for sha256 in hashes] == [None, 1]
    assert read_in(db, project, json.dumps(content)).new == 0  # every image says so already
    other = copy_images(db, project, db)
    assert read_in(db, other, json.dumps(content)).missing == 0
    theirs, mine = current(db, other), current(db, project)
    assert {sha256: label for sha256, (label, _) in theirs.items()} == {s: label for s, (label, _) in mine.items()}


def test_no_cell_of_the_csv_is_a_formula(db: Database, project: int, said: list[int]) -> None:
    exported = export(db, project, "csv").decode("utf-8-sig")
    cells = [cell for row in csv.reader(io.StringIO(exported, newline="")) for cell in row]
    assert any(cell == "'@Bo" for cell in cells)
    assert not any(cell.lstrip().startswith(("=", "+", "-", "@")) for cell in cells)


GOOD_LINE = "image,verdict,inspector,client,seq,time\na.png,good,Ada,tab,1,2024-01-01T00:00:00\n"
EVENT = {"image": "a.png", "verdict": "good"}


def ours(*events: object, version: object = 1) -> str:
    return json.dumps({"format": "ssn-inspector-labels", "version": version, "events": events})


def task(**annotation: object) -> str:
    return json.dumps([{"data": {"image": "a.png"}, "annotations": [annotation]}])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"", "first line"),
        (b"name,quality\na,b\n", "first line"),
        (b"image,verdict,verdict\na.png,good,bad\n", "two columns of one name"),
        (b"image,verdict,label\na.png,good,bad\n", "two columns of one name"),
        (GOOD_LINE + "a.png,excellent,Ada,tab,2,\n", "line 3: verdict 'excellent'"),
        (GOOD_LINE + "a.png,good\n", "more or fewer cells"),
        (GOOD_LINE + "a.png,good,Ada,tab,2,,more\n", "more or fewer cells"),
        (GOOD_LINE + "a.png,good,Ada,tab,two,\n", "seq 'two' is no number"),
        (GOOD_LINE + "a.png,good,Ada,tab,,\n", "do not number"),
        (GOOD_LINE + f"a.png,good,{'x' * 101},tab,2,\n", "1 to 100 characters"),
        (GOOD_LINE + "a.png,good,Ada\0,tab,2,\n", "cannot be stored"),
        (GOOD_LINE + "a.png,good,Ada,tab,2,yesterday\n", "no ISO 8601 time"),
        (GOOD_LINE + "a.png,good,Ada,tab,2,2999-01-01\n", "not in the past"),
        (GOOD_LINE + "a.png,bad,Ada,tab,1,2024-01-01T00:00:00\n", "says something else"),
        ("image,verdict,seconds\na.png,good,inf\n", "seconds"),
        ("image,verdict,seconds\na.png,good,-1\n", "seconds"),
        ("sha256,verdict\nabc,good\n", "no SHA-256"),
        ('image,verdict\n"a.png,good\n', "line"),
        (b"{", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"a": 1}', "format is unknown"),
        (b"[1]", "data.image"),
        (b'[{"data": {"image": "a.png"}, "annotations": 7}]', "annotations is no list"),
        (task(result=[{"type": "choices", "value": {"choices": ["Moon"]}}]), "verdict 'moon'"),
        (task(result=[{"type": "choices", "value": 7}]), "verdict 'None'"),
        (ours(version=99), "version is 99"),
        ('{"format": "ssn-inspector-labels", "version": 1, "events": {}}', "events is no list"),
        (ours(EVENT, {**EVENT, "is_undo": "no"}), "event 2: is_undo"),
        (ours(EVENT, {**EVENT, "client": "x" * 65, "seq": 1}), "event 2: client"),
        (ours(EVENT, {**EVENT, "inspector": "\ud800"}), "cannot be stored"),
        (ours({**EVENT, "seconds": 1e300}), "seconds"),
        (ours({**EVENT, "seconds": 10**400}), "seconds"),
        (ours({**EVENT, "seconds": float("nan")}), "not JSON"),
        (ours({**EVENT, "seq": 7}).replace("7", "7" * 5000), "not JSON"),
        (b'{"classes": ["good"], "labels": {"a": 0, "b": 1}}', "no class 1"),
        (b'{"classes": "good", "labels": {"a": 0}}', "no list of names"),
        (b'{"labels": {"a": ["good"]}}', "verdict"),
    ],
)  # fmt: skip
def test_a_hostile_file_is_refused_as_a_whole(
    db: Database, project: int, add_images: AddImages, data: bytes | str, words: str
) -> None:
    [image] = add_images(1, name="a.png")
    with pytest.raises(LayoutError, match="The label file cannot be used") as refused:
        read_in(db, project, data)
    assert words in str(refused.value)
    assert history(db, project) == []
    assert images.get(db, image_id=image).label is None


def test_a_name_that_only_looks_like_an_address_is_no_image_of_the_project(
    db: Database, project: int, add_images: AddImages
) -> None:
    add_images(1, name="a.png")
    plan = read_in(db, project, "image,label\n//[x/b.png,good\nhttp://[/a.png,good\n")
    assert (plan.new, plan.missing) == (1, 1)  # the second one ends as an image of the project is called


def test_what_contradicts_the_database_is_refused_as_a_whole(db: Database, project: int, add_images: AddImages) -> None:
    [image] = add_images(1, name="a.png")
    labels.record(db, project_id=project, events=[labels.LabelEvent("tab", 1, image, "bad", "Ada", "board")])
    more = GOOD_LINE + "a.png,good,Ada,tab,2,2024-01-01T00:00:00\n"
    with pytest.raises(LayoutError, match="says something else"):
        read_in(db, project, more)
    assert len(history(db, project)) == 1


def test_a_file_that_is_too_large_and_a_reader_without_a_name_are_refused(
    db: Database, project: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SsnError, match="name"):
        label_files.read_in(db, project_id=project, name="l.csv", data=GOOD_LINE.encode(), inspector=" ")
    monkeypatch.setattr("storage.label_reading.MAX_BYTES", 10)
    with pytest.raises(LayoutError, match="MB"):
        read_in(db, project, GOOD_LINE)
