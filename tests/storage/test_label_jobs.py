"""The jobs behind the order of labelling: describing images, and estimating what more labels bring."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from sqlalchemy import update

from ssn_core.backbone import Backbone, load_backbone
from ssn_core.label_curve import Pass, drawn, passes, sides
from ssn_core.recipes import RECIPES
from storage import descriptors, imports, jobs, label_advice, label_jobs, label_queues, registry
from storage import images as image_store
from storage.db import Database
from storage.job_context import JobContext
from storage.tables import JobRow
from storage.training_jobs import labelled_images
from storage.worker import work
from tests.model_seed import add_model
from tests.storage.test_training_jobs import NoRunner

HANDLERS = {
    "import": "storage.imports:run_job",
    "train": "storage.training_jobs:train",
    "describe": "storage.label_jobs:describe",
    "gain": "storage.label_jobs:estimate_gain",
}


def one(db: Database) -> jobs.Job:
    """Do the next job in the queue."""
    ended = work(db, handlers=HANDLERS, runner=NoRunner())
    assert ended is not None
    assert ended.status == "succeeded", ended.error
    return ended


def go_on(context: JobContext) -> dict[str, Any]:
    """Estimate where an earlier attempt has left its first point, with a figure that no measurement gives."""
    with mock.patch.object(label_jobs, "_points", return_value={"0.5-0": [14, 0.125]}):
        return label_jobs.estimate_gain(context)


@pytest.fixture
def filled(db: Database, project: int, surfaces: Path) -> Database:
    """A project with the surfaces, all labelled, imported and nothing more."""
    imports.submit(db, project_id=project, source=surfaces, layout=None, staged=False, inspector="Ana")
    assert one(db).kind == "import"
    return db


def test_images_are_compared_by_themselves_after_an_import(filled: Database, project: int) -> None:
    assert label_queues.listing(filled, project_id=project, order="informative").reason is not None
    done = one(filled)
    assert done.kind == "describe"
    assert done.result == {"described": 27, "images": 27}
    assert label_queues.listing(filled, project_id=project, order="informative").reason is None
    assert label_advice.prepare(filled, project_id=project) is not None
    assert label_advice.prepare(filled, project_id=project) is None  # one that waits will see everything
    assert one(filled).result == {"described": 0, "images": 27}


def test_every_backbone_has_a_say_in_what_is_unlike_the_others_and_the_first_one_describes(
    filled: Database, project: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = [load_backbone("resnet18", weights=kind) for kind in ("random", "bundled")]

    def described(*backbones: Backbone) -> descriptors.Table:
        monkeypatch.setattr(label_jobs, "describing_backbones", lambda _: backbones)
        label_advice.prepare(filled, project_id=project)
        one(filled)
        (where,) = (filled.data_dir / "cache" / "descriptors" / str(project)).iterdir()
        return descriptors.read(where)

    tables = [described(*chosen) for chosen in (both[:1], both[1:], both)]
    by_name = [dict(zip(table.names, table.outliers.tolist(), strict=True)) for table in tables]
    first, second, joint = ([found[name] for name in tables[2].names] for found in by_name)
    assert np.allclose(joint, np.sqrt(np.multiply(first, second)), rtol=1e-4)
    rows = [dict(zip(table.names, table.values, strict=True)) for table in tables]
    for name in tables[2].names:
        assert np.array_equal(rows[2][name], rows[0][name])
        assert not np.array_equal(rows[2][name], rows[1][name])


def test_outliers_come_first_without_any_label_and_a_grown_project_is_looked_at_anew(
    filled: Database, project: int, add_images: Callable[[int], list[int]]
) -> None:
    assert "Train one first" in (label_queues.listing(filled, project_id=project, order="suspicious").reason or "")
    one(filled)
    found = label_queues.listing(filled, project_id=project, order="suspicious")
    assert found.reason is None
    assert found.ids != sorted(found.ids)
    add_images(8)  # 35 images: a sample of 32 instead of 16. Their files are not there: they cannot be described
    label_advice.prepare(filled, project_id=project)
    assert one(filled).result == {"described": 27, "images": 35}
    add_images(1)
    label_advice.prepare(filled, project_id=project)
    assert one(filled).result == {"described": 0, "images": 36}
    again = label_queues.listing(filled, project_id=project, order="suspicious").ids
    assert sorted(again[:27]) == sorted(found.ids)  # those without a file come last


def test_a_damaged_image_is_left_out_and_the_others_are_compared(filled: Database, project: int) -> None:
    image = image_store.get(filled, image_id=image_store.ids(filled, project_id=project)[0])
    for kind in ("files", "thumbnails"):
        for path in (filled.data_dir / kind).rglob(f"{image.sha256}*"):
            path.write_bytes(b"gone")
    assert one(filled).result is not None
    found = label_queues.listing(filled, project_id=project, order="informative")
    assert len(found.ids) == 27


def test_what_more_labels_bring_is_told_after_a_training(filled: Database, project: int) -> None:
    one(filled)
    payload = {"recipe": "cam", "backbone": "resnet18", "weights": "random", "image_size": [64, 64], "epochs": 1}
    jobs.submit(filled, kind="train", project_id=project, payload={**payload, "seed": 0, "name": "first"})
    assert one(filled).kind == "train"
    (model,) = registry.list_models(filled, project_id=project)
    before = label_advice.gain(filled, model=model)
    assert before.job is not None
    assert before.job.status == "queued"
    assert before.likely is None
    assert [one(filled).kind for _ in range(2)] == ["describe", "gain"]
    said = label_advice.gain(filled, model=model)
    # Nine bad images: a quarter would leave too few to train on, a half does not.
    assert [point.n for point in said.measured[:-1]] == [14, 14]
    assert said.measured[-1].figure == model.summary["image"]["ap_det"]
    assert said.reason is None
    assert said.likely is not None
    assert [forecast.n for forecast in said.forecasts] == [said.measured[-1].n + 50]

    # Cut off after its first point, an estimate goes on with the second.
    label_advice.estimate(filled, model=model)
    ended = work(filled, handlers={"gain": f"{__name__}:go_on"}, runner=NoRunner())
    assert ended is not None
    assert ended.status == "succeeded", ended.error
    assert ended.result is not None
    assert ended.result["measured"][:2] == [[14, 0.125], [14, said.measured[1].figure]]


@pytest.mark.parametrize("end", ["failed", "interrupted"])
def test_an_estimate_that_was_cut_off_says_so_and_goes_on_as_the_same_job(db: Database, project: int, end: str) -> None:
    model = add_model(db, project)
    first = label_advice.estimate(db, model=model)
    assert label_advice.estimate(db, model=model) is None  # it waits
    job = jobs.claim(db, pid=1, process_created=0.0)
    assert job is not None
    assert label_advice.estimate(db, model=model) is None  # it runs
    with db.write() as session:
        session.execute(update(JobRow).values(status=end, error="The disk is full."))
    assert label_advice.gain(db, model=model).reason == (
        "The estimate of what more labels would bring did not come to its end. The disk is full."
    )
    assert label_advice.estimate(db, model=model) == first  # and so finds the points in the job's folder
    assert jobs.get(db, job_id=job.id).attempt == 1
    assert label_advice.gain(db, model=add_model(db, project)).job is None


def test_too_few_labels_are_said_to_be_too_few(filled: Database, project: int) -> None:
    found = labelled_images(filled, project_id=project)
    few = [image for image in found if not image.bad] + [image for image in found if image.bad][:4]
    split = sides(few, {}, RECIPES["cam"])
    assert passes(split) == []


def test_a_share_holds_good_and_bad_in_proportion_and_another_draw_others(filled: Database, project: int) -> None:
    found = labelled_images(filled, project_id=project)
    first, again, second = (drawn(found, Pass(0.5, draw)) for draw in (0, 0, 1))
    assert first == again
    assert {image.key for image in first} != {image.key for image in second}
    assert (sum(image.bad is True for image in first), len(first)) == (round(9 / 2), round(9 / 2) + 9)


@pytest.mark.parametrize("text", ["", "[]", '{"4": [1, 2]}', '{"of": "others", "points": {"4": [9, 0.5]}}'])
def test_points_of_other_images_and_half_a_file_are_measured_anew(text: str, tmp_path: Path) -> None:
    path = tmp_path / "points.json"
    assert label_jobs._points(path, "these") == {}
    path.write_text(text, encoding="utf-8")
    assert label_jobs._points(path, "these") == {}
    path.write_text('{"of": "these", "points": {"4": [9, 0.5]}}', encoding="utf-8")
    assert label_jobs._points(path, "these") == {"4": [9, 0.5]}
