from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import ssn_core.surfaces
from storage import demo, images, imports, jobs, labels, projects
from storage.db import Database
from storage.worker import work

HANDLERS = {"demo": "storage.demo:run_job"}


class NoRunner:
    def start(self, job_id: int) -> None:
        """Starts nothing: the tests work the queue themselves."""


def do(db: Database) -> jobs.Job:
    job = work(db, handlers=HANDLERS, runner=NoRunner())
    assert job is not None
    return job


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, dict[str, Any]]]:
    """Surfaces of 64 x 64 pixels; the list remembers what was asked for."""
    asked: list[tuple[int, dict[str, Any]]] = []
    real = ssn_core.surfaces.write_surfaces

    def write(out: Path, n: int, **options: Any) -> int:
        asked.append((n, options))
        return real(out, n, size=(64, 64), **options)

    monkeypatch.setattr(ssn_core.surfaces, "write_surfaces", write)
    return asked


def test_a_demo_is_a_project_of_surfaces_half_of_them_labelled_with_all_masks(
    db: Database, small: list[tuple[int, dict[str, Any]]]
) -> None:
    made = demo.create(db, n_images=96)
    job = do(db)
    assert (job.id, job.kind, job.status) == (made.job_id, "demo", "succeeded")
    assert job.result == {"added": 96, "already_there": 0, "rejected": 0, "labelled": 48}
    counts = projects.counts(db, project_id=made.project.id)
    assert (counts.total, counts.unlabelled, counts.with_mask, counts.groups) == (96, 48, 24, 32)
    assert (counts.bad + counts.good, counts.bad > 5) == (48, True)
    assert labels.count_by_inspector(db, project_id=made.project.id) == {demo.LABELLED_BY: 48}
    assert small[0][0] == 96


def test_the_name_of_a_demo_image_does_not_say_what_it_is(db: Database, small: object) -> None:
    made = demo.create(db, n_images=24)
    do(db)
    names = {entry.name for entry in imports.entries(db, job_id=made.job_id)}
    kinds = {kind for material in ssn_core.surfaces.KINDS.values() for kind in material}
    assert not [name for name in names for word in (*kinds, "good", "bad") if word in name]
    stored = [images.get(db, image_id=entry.image_id) for entry in imports.entries(db, job_id=made.job_id)]
    assert {image.label for image in stored} == {"good", "bad", None}


def test_no_staging_folder_is_left_behind(db: Database, small: object) -> None:
    demo.create(db, n_images=6)
    do(db)
    assert list((db.data_dir / "staging").iterdir()) == []


def test_a_demo_that_was_stopped_halfway_is_made_anew(db: Database, small: object) -> None:
    made = demo.create(db, n_images=9)
    folder = Path(jobs.get(db, job_id=made.job_id).payload["source"])
    (folder / "images").mkdir(parents=True)
    (folder / "images" / "half.png").write_bytes(b"x")
    assert do(db).result == {"added": 9, "already_there": 0, "rejected": 0, "labelled": 9}


def test_a_demo_whose_surfaces_are_made_goes_on_with_the_import(
    db: Database, small: list[tuple[int, dict[str, Any]]]
) -> None:
    made = demo.create(db, n_images=9)
    folder = Path(jobs.get(db, job_id=made.job_id).payload["source"])
    ssn_core.surfaces.write_surfaces(folder, 9)
    small.clear()
    assert do(db).status == "succeeded"
    assert small == []


def test_two_clicks_make_one_demo_and_later_ones_make_others(db: Database, small: object) -> None:
    projects.create(db, name="demo 2")
    first = demo.create(db, n_images=3)
    assert demo.create(db, n_images=3) == first
    do(db)
    later = demo.create(db, n_images=3)
    assert (first.project.name, later.project.name) == ("Demo", "Demo 3")
    assert demo.job_of(db, project_id=later.project.id) == jobs.get(db, job_id=later.job_id)


def test_another_project_has_no_demo_job(db: Database, project: int) -> None:
    assert demo.job_of(db, project_id=project) is None


def test_a_full_disk_is_explained(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ssn_core.surfaces, "write_surfaces", full)
    demo.create(db)
    job = do(db)
    assert job.status == "failed"
    assert "No space left on device" in (job.error or "")
