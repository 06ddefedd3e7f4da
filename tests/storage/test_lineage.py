"""Where models come from, what changed, archiving, and deletion that is never left half-way."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import func, select, update

from ssn_core.errors import ModelFolderError, SsnError
from storage import comparison, deleted_models, jobs, labels, lineage, maps, predictions, projects, registry, snapshots
from storage.db import Database
from storage.tables import (
    ImageRow,
    JobRow,
    MapVerdictRow,
    ModelRow,
    PredictionRow,
    ReportRow,
    StudyRow,
    ThresholdEventRow,
)

AddModel = Callable[..., registry.Model]
SETTINGS = {"backbone": "resnet18", "image_size": [64, 64], "epochs": 0, "seed": 0}


def card(data: dict[str, str], *, role: str = "out_of_fold", **settings: Any) -> dict[str, Any]:
    """What model.json says, as far as lineage reads it; `data`: SHA-256 -> label."""
    return {
        "recipe": "cam",
        "settings": {**SETTINGS, **settings},
        "backbone": {"weights": "imagenet", "sha256": "ab12"},
        "figures": {"held_out": role},
        "data": [{"sha256": key, "label": label, "group": key, "role": role} for key, label in data.items()],
        "versions": {"ssn_core": "0.1.0", "torch": "2.14", "python": "3.11"},
    }


@pytest.fixture
def add_model(db: Database, project: int) -> AddModel:
    """Registers models, each with a folder of its own: `add_model("First", card({...}), parent_id=1)`."""
    made = []

    def add(name: str = "First", written: dict[str, Any] | None = None, **changes: Any) -> registry.Model:
        made.append(name)
        values: dict[str, Any] = {
            "project_id": project,
            "job_id": None,
            "folder": f"models/{project}/{len(made)}",
            "recipe": "cam",
            "backbone": "resnet18",
            "held_out": "out_of_fold",
            "threshold": 0.0,
            "suggested_threshold": 0.0,
            "scale_low": 0.0,
            "scale_high": 1.0,
            "summary": {},
            **changes,
        }
        folder = db.data_dir / values["folder"]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.json").write_text(json.dumps(written or card({"a" * 64: "good"})))
        (folder / "weights.safetensors").write_bytes(b"w" * 1000)
        return registry.register(db, name=name, **values)

    return add


@pytest.fixture
def images(db: Database, project: int, add_images: Callable[..., list[int]]) -> list[int]:
    """Six images: three good, two bad, one without a label."""
    ids = add_images(6)
    say(db, project, dict(zip(ids, ["good", "good", "good", "bad", "bad"], strict=False)))
    return ids


def say(db: Database, project_id: int, verdicts: dict[int, str], client: str = "tab") -> None:
    events = [
        labels.LabelEvent(client, seq, image_id, verdict, "Ada", "board")
        for seq, (image_id, verdict) in enumerate(verdicts.items(), start=1)
    ]
    assert labels.record(db, project_id=project_id, events=events).rejected == []


def rows(db: Database, table: Any) -> int:
    with db.read() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def insert(db: Database, row: Any) -> None:
    with db.write() as session:
        session.add(row)


def report_on(model_id: int) -> ReportRow:
    return ReportRow(model_id=model_id, sha256="0" * 64, path="reports/1.html", inspector="Ada")


def study_with(project_id: int, model_id: int) -> StudyRow:
    return StudyRow(project_id=project_id, model_id=model_id, name="S", trials=2, seed=0, limits={}, created_by="Ada")


def a_full_model(db: Database, add_model: AddModel, images: list[int]) -> registry.Model:
    """An inactive model with two scores, a map, two threshold versions and a map verdict."""
    model = add_model("Old")
    predictions.store(db, model_id=model.id, rows=[(images[0], 0.5, "test"), (images[1], 0.1, "test")])
    maps.save(db, model_id=model.id, sha256="c" * 64, cam=np.zeros((2, 2)))
    insert(db, ThresholdEventRow(model_id=model.id, threshold=1.0, how="by hand", inspector="Ada"))
    insert(
        db,
        MapVerdictRow(model_id=model.id, image_id=images[0], verdict="on_defect", inspector="Ada", client="tab", seq=1),
    )
    add_model("New", parent_id=model.id)
    return model


# --- where a model comes from -------------------------------------------------------------------------------------


def test_the_history_names_parents_and_the_active_model(db: Database, project: int, add_model: AddModel) -> None:
    first = add_model("First")
    second = add_model("Second", parent_id=first.id)
    newest, oldest = lineage.entries(db, project_id=project)
    assert (newest.model, newest.active, newest.parent) == (second, True, first)
    assert (oldest.model, oldest.active, oldest.parent) == (first, False, None)


def test_a_parent_that_was_deleted_meanwhile_is_forgotten_and_the_training_is_kept(
    db: Database, add_model: AddModel
) -> None:
    assert add_model("Orphan", parent_id=99).parent_id is None


def test_labels_added_removed_and_flipped_are_told_apart(db: Database, add_model: AddModel) -> None:
    before = add_model("A", card({"1": "good", "2": "good", "3": "bad", "4": "bad"}))
    after = add_model("B", card({"1": "good", "2": "bad", "3": "bad", "5": "bad"}))
    found = snapshots.changes(db, before=before, after=after)
    assert found.added == (snapshots.LabelChange("5", None, "bad"),)
    assert found.removed == (snapshots.LabelChange("4", "bad", None),)
    assert found.flipped == (snapshots.LabelChange("2", "good", "bad"),)
    assert found.settings == ()
    assert not found.nothing
    assert snapshots.changes(db, before=before, after=before).nothing


def test_settings_that_differ_are_listed_and_those_that_one_model_lacks(db: Database, add_model: AddModel) -> None:
    before = add_model("A", card({"1": "good"}))
    other = card({"1": "good"}, role="test", epochs=40, new_switch=True)
    other["backbone"] = {"weights": "bundled", "sha256": "cd34"}
    other["versions"]["python"] = "3.12"  # no setting of the method
    found = snapshots.changes(db, before=before, after=add_model("B", other))
    assert {change.name: (change.before, change.after) for change in found.settings} == {
        "epochs": (0, 40),
        "new_switch": (None, True),
        "weights": ("imagenet", "bundled"),
        "weights_sha256": ("ab12", "cd34"),
        "held_out": ("out_of_fold", "test"),
    }


def test_a_setting_that_came_later_counts_as_what_was_done_before(db: Database, add_model: AddModel) -> None:
    before = add_model("A", card({"1": "good"}))
    assert snapshots.changes(db, before=before, after=add_model("B", card({"1": "good"}, scales=1))).nothing
    found = snapshots.changes(db, before=before, after=add_model("C", card({"1": "good"}, scales=3)))
    assert [(change.name, change.before, change.after) for change in found.settings] == [("scales", 1, 3)]


def test_labels_learned_from_leave_out_what_was_held_out(db: Database, add_model: AddModel) -> None:
    written = card({"1": "good", "2": "good", "3": "bad", "4": "bad"}, role="train")
    written["data"][1]["role"] = "calibration"
    written["data"][3]["role"] = "test"
    found = snapshots.read(db, add_model("A", written))
    assert (found.n_good, found.n_bad, len(found.labels)) == (1, 1, 4)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"data": 3}', '{"data": [{"sha256": 1, "label": "good", "role": "train"}]}', "[" * 100_000],
)
def test_a_damaged_model_json_is_named(db: Database, add_model: AddModel, text: str) -> None:
    model = add_model("A")
    (registry.model_path(db, model) / "model.json").write_text(text)
    with pytest.raises(ModelFolderError, match=r"model\.json"):
        snapshots.read(db, model)


def test_a_folder_that_is_gone_is_named(db: Database, add_model: AddModel) -> None:
    first, second = add_model("A"), add_model("B")
    shutil.rmtree(registry.model_path(db, first))
    with pytest.raises(ModelFolderError, match="folder of model 'A' is gone"):
        snapshots.changes(db, before=first, after=second)


def test_names_of_changed_images_come_from_their_project_alone(
    db: Database, project: int, images: list[int], add_images: Callable[..., list[int]]
) -> None:
    other = projects.create(db, name="Screws").id
    (elsewhere,) = add_images(1, project_id=other)
    with db.read() as session:
        hashes = {number: session.get_one(ImageRow, number).sha256 for number in (images[0], elsewhere)}
    changes = tuple(snapshots.LabelChange(sha256, None, "bad") for sha256 in hashes.values())
    found = lineage.names(db, project_id=project, changes=changes)
    assert found == {hashes[images[0]]: (images[0], "image 0.png")}


# --- archiving ----------------------------------------------------------------------------------------------------


def test_an_archived_model_is_offered_nowhere_until_it_is_brought_back(
    db: Database, project: int, add_model: AddModel
) -> None:
    old, new = add_model("Old"), add_model("New")
    assert lineage.archive(db, model_id=old.id).archived_at is not None
    assert [m.id for m in registry.list_models(db, project_id=project)] == [new.id]
    assert [m.id for m in registry.list_models(db, project_id=project, include_archived=True)] == [new.id, old.id]
    assert [entry.model.id for entry in lineage.entries(db, project_id=project)] == [new.id, old.id]
    assert lineage.bring_back(db, model_id=old.id) == old
    assert len(registry.list_models(db, project_id=project)) == 2


def test_the_active_model_is_not_archived_and_an_archived_one_not_activated(
    db: Database, project: int, add_model: AddModel
) -> None:
    old, new = add_model("Old"), add_model("New")
    with pytest.raises(SsnError, match="active"):
        lineage.archive(db, model_id=new.id)
    lineage.archive(db, model_id=old.id)
    with pytest.raises(SsnError, match="archived"):
        registry.activate(db, model_id=old.id)
    assert projects.get(db, project_id=project).active_model_id == new.id


def test_archiving_twice_keeps_the_first_moment(db: Database, add_model: AddModel) -> None:
    old, _ = add_model("Old"), add_model("New")
    assert lineage.archive(db, model_id=old.id) == lineage.archive(db, model_id=old.id)


def test_a_model_whose_training_still_scores_is_not_archived(db: Database, project: int, add_model: AddModel) -> None:
    add_model("Old")
    job_id = jobs.submit(db, kind="train", project_id=project, payload={})
    model = add_model("New", job_id=job_id, activate=False)
    with pytest.raises(SsnError, match="training still runs"):
        lineage.archive(db, model_id=model.id)


# --- deletion -----------------------------------------------------------------------------------------------------


def test_a_deleted_model_takes_its_rows_maps_and_folder_and_nothing_else(
    db: Database, project: int, add_model: AddModel, images: list[int]
) -> None:
    model = a_full_model(db, add_model, images)
    child = lineage.entries(db, project_id=project)[0].model
    predictions.store(db, model_id=child.id, rows=[(images[0], 0.7, "test")])
    lost = lineage.loss(db, model_id=model.id)
    events = rows(db, ThresholdEventRow)
    assert (lost.predictions, lost.map_verdicts, lost.children) == (2, 1, 1)
    assert lost.n_bytes >= 1000
    assert lineage.delete(db, model_id=model.id, inspector="Ada") == lost
    assert [m.id for m in registry.list_models(db, project_id=project, include_archived=True)] == [child.id]
    assert registry.get(db, model_id=child.id).parent_id is None
    assert (rows(db, PredictionRow), rows(db, MapVerdictRow)) == (1, 0)
    assert rows(db, ThresholdEventRow) == events - lost.threshold_events
    assert not (db.data_dir / model.folder).exists()
    assert not (db.data_dir / "maps" / str(model.id)).exists()
    assert registry.model_path(db, child).is_dir()
    assert rows(db, ImageRow) == 6
    left = [path.name for path in (db.data_dir / "deleted" / str(model.id)).iterdir()]
    record = json.loads((db.data_dir / "deleted" / str(model.id) / deleted_models.RECORD).read_text())
    assert (left, record["model"], record["inspector"]) == ([deleted_models.RECORD], "Old", "Ada")
    assert record["lost"]["predictions"] == 2


@pytest.mark.parametrize("keeper", ["active", "report", "study", "score", "train"])
def test_a_model_that_something_rests_on_is_not_deleted(
    db: Database, project: int, add_model: AddModel, images: list[int], keeper: str
) -> None:
    model = a_full_model(db, add_model, images)
    if keeper == "active":
        registry.activate(db, model_id=model.id)
    elif keeper == "report":
        insert(db, report_on(model.id))
    elif keeper == "study":
        insert(db, study_with(project, model.id))
    elif keeper == "score":
        jobs.submit(db, kind="score", project_id=project, payload={"model_id": model.id})
    else:
        job_id = jobs.submit(db, kind="train", project_id=project, payload={})
        with db.write() as session:
            session.execute(update(ModelRow).where(ModelRow.id == model.id).values(job_id=job_id))
    entry = next(e for e in lineage.entries(db, project_id=project) if e.model.id == model.id)
    word = {"active": "active", "report": "report", "study": "study"}.get(keeper, "job")
    assert word in (entry.kept_by or "")
    with pytest.raises(SsnError, match=word):
        lineage.delete(db, model_id=model.id)
    assert registry.model_path(db, registry.get(db, model_id=model.id)).is_dir()
    assert (rows(db, PredictionRow), rows(db, MapVerdictRow)) == (2, 1)
    assert not (db.data_dir / "deleted").exists()


def test_a_job_that_has_ended_keeps_no_model(db: Database, project: int, add_model: AddModel) -> None:
    old, _ = add_model("Old"), add_model("New")
    job_id = jobs.submit(db, kind="inspect", project_id=project, payload={"model_id": old.id})
    with db.write() as session:
        session.execute(update(JobRow).where(JobRow.id == job_id).values(status="succeeded"))
    assert lineage.entries(db, project_id=project)[1].kept_by is None
    assert lineage.delete(db, model_id=old.id).inspections == 1


def test_files_that_cannot_be_moved_leave_the_model_whole(
    db: Database, add_model: AddModel, images: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = a_full_model(db, add_model, images)
    rename = Path.rename

    def refuse(path: Path, target: Path) -> Path:
        if path.parent.name == "maps":  # the model's folder has been moved by then
            raise PermissionError(13, "in use")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(SsnError, match="in use"):
        lineage.delete(db, model_id=model.id)
    assert registry.model_path(db, registry.get(db, model_id=model.id)).is_dir()
    assert rows(db, PredictionRow) == 2
    assert list((db.data_dir / "deleted").iterdir()) == []
    monkeypatch.undo()
    lineage.delete(db, model_id=model.id)
    assert not (db.data_dir / model.folder).exists()


def test_a_deletion_cut_off_before_its_commit_is_undone_at_the_next_start(
    db: Database, add_model: AddModel, images: list[int]
) -> None:
    model = a_full_model(db, add_model, images)
    folders = {"model": db.data_dir / model.folder, "maps": db.data_dir / "maps" / str(model.id)}
    deleted_models.move_aside(db.data_dir, model_id=model.id, folders=folders, record={})
    assert not folders["model"].exists()
    lineage.settle(db)
    assert (folders["model"] / "weights.safetensors").is_file()
    assert maps.load(db, model_id=model.id, sha256="c" * 64) is not None
    assert deleted_models.numbers(db.data_dir) == []
    lineage.settle(db)  # nothing left to do


def test_a_deletion_cut_off_after_its_commit_is_completed_at_the_next_start(
    db: Database, add_model: AddModel, images: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = a_full_model(db, add_model, images)
    with monkeypatch.context() as patched:
        patched.setattr(lineage, "settle", lambda db: None)  # the process dies here
        lineage.delete(db, model_id=model.id)
    aside = db.data_dir / "deleted" / str(model.id)
    assert sorted(path.name for path in aside.iterdir()) == [deleted_models.RECORD, "maps", "model"]
    lineage.settle(db)
    assert [path.name for path in aside.iterdir()] == [deleted_models.RECORD]


def test_a_deleted_models_number_is_never_given_again(db: Database, add_model: AddModel) -> None:
    add_model("Active")
    newest = add_model("Newest", activate=False)
    lineage.delete(db, model_id=newest.id)
    following = add_model("Following", activate=False)
    assert following.id > newest.id
    assert registry.get(db, model_id=following.id) == following
    assert add_model("Later").id > following.id


def test_a_folder_that_another_model_shares_stays(db: Database, add_model: AddModel) -> None:
    first = add_model("First")
    second = add_model("Second", folder=first.folder)
    lineage.delete(db, model_id=first.id)
    assert registry.model_path(db, second).is_dir()


def test_models_that_do_not_exist_are_named(db: Database, project: int) -> None:
    for use_case in (lineage.archive, lineage.bring_back, lineage.loss, lineage.delete):
        with pytest.raises(SsnError, match="9"):
            use_case(db, model_id=9)


# --- two models on the same images --------------------------------------------------------------------------------


def test_only_images_held_out_for_both_are_compared_with_todays_labels(
    db: Database, project: int, add_model: AddModel, images: list[int]
) -> None:
    first = add_model("First", held_out="test")
    second = add_model("Second")
    predictions.store(
        db,
        model_id=first.id,
        rows=[(images[0], -1.0, "train"), *((images[i], float(i), "test") for i in (1, 2, 3, 5))],
    )
    predictions.store(db, model_id=second.id, rows=[(images[i], 10.0 + i, "out_of_fold") for i in (0, 2, 3, 4, 5)])
    found = comparison.compare(db, first_id=first.id, second_id=second.id)
    assert found.image_ids == (images[2], images[3])
    assert found.names == ("image 2.png", "image 3.png")
    assert (found.n_good, found.n_bad, found.first_held_out, found.second_held_out) == (1, 1, 3, 4)
    assert found.first_scores.tolist() == [2.0, 3.0]
    assert found.second_scores.tolist() == [12.0, 13.0]
    say(db, project, {images[2]: "bad", images[5]: "good"}, client="later")
    found = comparison.compare(db, first_id=first.id, second_id=second.id)
    assert (found.n_good, found.n_bad) == (1, 2)


def test_models_without_shared_images_compare_on_none(db: Database, add_model: AddModel, images: list[int]) -> None:
    first, second = add_model("First"), add_model("Second")
    predictions.store(db, model_id=first.id, rows=[(images[0], 1.0, "out_of_fold")])
    predictions.store(db, model_id=second.id, rows=[(images[1], 1.0, "out_of_fold")])
    found = comparison.compare(db, first_id=first.id, second_id=second.id)
    assert (found.image_ids, found.n_good, found.n_bad) == ((), 0, 0)
    assert comparison.flips(found) == []


def test_a_flip_is_a_change_of_verdict_at_each_models_own_thresholds(
    db: Database, add_model: AddModel, images: list[int]
) -> None:
    first, second = add_model("First", threshold=0.0), add_model("Second", threshold=1.0)
    with db.write() as session:
        session.execute(update(ModelRow).where(ModelRow.id == second.id).values(threshold_low=0.5))
    # A good part that stays one, a rejected one passed, a passed one sent to a person; a bad one caught, one missed.
    pairs = [(-1.0, 0.0), (0.1, 0.4), (-0.2, 0.6), (-0.3, 5.0), (2.0, -1.0)]
    for model, column in ((first, 0), (second, 1)):
        scored = [(image, pair[column], "out_of_fold") for image, pair in zip(images, pairs, strict=False)]
        predictions.store(db, model_id=model.id, rows=scored)
    found = comparison.flips(comparison.compare(db, first_id=first.id, second_id=second.id))
    assert [(f.name, f.label, f.first, f.second, f.outcome) for f in found] == [
        ("image 3.png", "bad", "good", "bad", "right"),
        ("image 4.png", "bad", "bad", "good", "wrong"),
        ("image 1.png", "good", "bad", "good", "right"),
        ("image 2.png", "good", "good", "check", "check"),
    ]
