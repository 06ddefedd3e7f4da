"""A benchmark of a project's models: measured by a job, kept as files, resumed, cancelled, never in the way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ssn_core import benchmark
from ssn_core.backbone import load_backbone
from ssn_core.benchmark import Candidate, Effort
from ssn_core.benchmark_row import Row
from ssn_core.calibration import Calibration
from ssn_core.checkpoint import DataEntry, Model, save_model
from ssn_core.errors import SettingError, SsnError
from ssn_core.footprint import Memory
from ssn_core.model import CamNet
from ssn_core.recipes import get_recipe
from storage import benchmark_jobs, benchmarks, files, images, jobs, lineage, registry
from storage.benchmarks import Measured
from storage.db import Database
from storage.job_context import Cancelled, JobContext
from storage.worker import work
from tests.bench_seed import bench_row
from tests.model_seed import add_model
from tests.storage.test_training_jobs import NoRunner

HANDLERS = {"benchmark": "storage.benchmark_jobs:run"}


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Titles of what was measured; nothing takes any time, and models need no folder."""
    titles: list[str] = []

    def fake(candidate: Candidate, *, tell: Callable[[str, int], None], **_: Any) -> Row:
        tell("loading", 0)
        if candidate.title == "Broken":
            raise SsnError("The weights are damaged", value="weights.safetensors")
        titles.append(candidate.title)
        tell("done", benchmark.STEPS)
        return bench_row(title=candidate.title)

    def candidate(db: Database, model_id: int) -> Candidate:
        return Candidate(registry.get(db, model_id=model_id).name, None)  # type: ignore[arg-type]  # not looked at

    monkeypatch.setattr(benchmark_jobs, "measure", fake)
    monkeypatch.setattr(benchmark_jobs, "_candidate", candidate)
    return titles


@pytest.fixture
def models(db: Database, project: int) -> list[int]:
    return [add_model(db, project, name=name).id for name in ("First", "Broken", "Third")]


def do(db: Database) -> jobs.Job:
    ended = work(db, handlers=HANDLERS, runner=NoRunner())
    assert ended is not None
    return ended


def test_each_model_is_measured_and_kept_and_one_that_cannot_be_loaded_is_left_out(
    db: Database, project: int, models: list[int], measured: list[str]
) -> None:
    benchmarks.submit(db, project_id=project, model_ids=models)
    job = do(db)
    assert job.status == "succeeded", job.error
    assert measured == ["First", "Third"]
    found = benchmarks.results(db, project_id=project)
    assert {number: one.row.title for number, one in found.items()} == {models[0]: "First", models[2]: "Third"}
    assert job.result is not None
    assert job.result["model_ids"] == [models[0], models[2]]
    assert "damaged" in job.result["left_out"][0]


def test_a_job_that_measured_nothing_has_failed_and_says_why(
    db: Database, project: int, models: list[int], measured: list[str]
) -> None:
    benchmarks.submit(db, project_id=project, model_ids=[models[1]])
    job = do(db)
    assert job.status == "failed"
    assert "The weights are damaged" in str(job.error)


def test_a_job_that_goes_on_measures_only_what_it_has_not_measured_yet(
    db: Database, project: int, models: list[int], measured: list[str]
) -> None:
    job_id = benchmarks.submit(db, project_id=project, model_ids=models)
    kept = Measured(job_id, bench_row(title="before"))
    benchmarks.keep(db, project_id=project, model_id=models[0], measured=kept)
    do(db)
    assert measured == ["Third"]
    assert benchmarks.results(db, project_id=project)[models[0]].row.title == "before"
    benchmarks.submit(db, project_id=project, model_ids=models)  # another job measures all of them again
    do(db)
    assert measured == ["Third", "First", "Third"]


def test_a_cancelled_job_stops_at_once_and_keeps_what_it_has(
    db: Database, project: int, models: list[int], measured: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    benchmarks.submit(db, project_id=project, model_ids=models)
    job = jobs.claim(db, pid=1, process_created=1.0)
    assert job is not None
    context = JobContext(db, job)
    keep = benchmarks.keep

    def keep_and_cancel(*args: Any, **kwargs: Any) -> None:
        keep(*args, **kwargs)
        context.stop()

    monkeypatch.setattr(benchmarks, "keep", keep_and_cancel)
    with pytest.raises(Cancelled):
        benchmark_jobs.run(context)
    assert measured == ["First"]
    assert list(benchmarks.results(db, project_id=project)) == [models[0]]


def test_results_of_deleted_models_go_and_damaged_files_count_as_not_measured(
    db: Database, project: int, models: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    benchmarks.keep(db, project_id=project, model_id=models[0], measured=Measured(1, bench_row(title="First")))
    folder = db.data_dir / "benchmarks" / str(project)
    for name, text in (("999.json", "{}"), (f"{models[1]}.json", "{"), (f"{models[2]}.json", '{"job_id": 1}')):
        (folder / name).write_text(text)
    assert list(benchmarks.results(db, project_id=project)) == [models[0]]
    assert caplog.text.count("cannot be read") == 2
    benchmarks.keep(db, project_id=project, model_id=models[0], measured=Measured(2, bench_row(title="Again")))
    assert not (folder / "999.json").exists()
    assert benchmarks.results(db, project_id=project)[models[0]] == Measured(2, bench_row(title="Again"))


def test_only_models_of_the_project_are_taken(db: Database, project: int, models: list[int]) -> None:
    for wrong in ([], [12345], [*models, 12345]):
        with pytest.raises(SettingError, match="cannot be measured"):
            benchmarks.submit(db, project_id=project, model_ids=wrong)


def test_a_model_that_is_being_measured_cannot_be_deleted(db: Database, project: int, models: list[int]) -> None:
    benchmarks.submit(db, project_id=project, model_ids=[models[0]])
    kept = {entry.model.id: entry.kept_by for entry in lineage.entries(db, project_id=project)}
    assert kept[models[0]] == "A job is working with it; wait for it or cancel it"
    assert kept[models[1]] is None


def test_a_stored_model_is_loaded_from_its_folder_and_measured_on_the_projects_own_files(
    db: Database, project: int, add_images: Callable[..., list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = get_recipe("cam").with_settings({"image_size": (64, 72)})
    folder = Path("models") / str(project) / "1"
    trained = Model(
        recipe=recipe,
        net=CamNet(recipe).eval(),
        backbone_hash=load_backbone("resnet18", weights="random").weights_hash,
        backbone_weights="random",
        calibration=Calibration(0.25, -1.0, 2.0, "out_of_fold", n_good=5, n_bad=3),
        data=[DataEntry("ab", "bad", "ab", "out_of_fold")],
        figures={
            "held_out": "out_of_fold",
            "n_good": 5,
            "n_bad": 3,
            "n_masks": 0,
            "i_auroc": 1.0,
            "ap_det": 0.9,
            **dict.fromkeys(("p_auroc", "ap_loc", "aupro")),
        },
    )
    save_model(trained, db.data_dir / folder)
    model = add_model(db, project, folder=folder.as_posix())
    for index, image in enumerate(images.get_many(db, image_ids=add_images(20))):
        path = files.image_path(db.data_dir, sha256=image.sha256, extension=".png")
        if index:  # the first file is gone from the disk
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (40, 30), (index, 0, 0)).save(path)
    monkeypatch.setattr(benchmark, "peak_memory", lambda *_args, **_kwargs: Memory(2.0, 1.0, None))
    benchmarks.submit(db, project_id=project, model_ids=[model.id])
    job = jobs.claim(db, pid=1, process_created=1.0)
    assert job is not None
    benchmark_jobs.run(JobContext(db, job), Effort(rounds=3, batches=()))
    measured = benchmarks.results(db, project_id=project)[model.id]
    assert measured.job_id == job.id
    assert (measured.row.title, measured.row.head, measured.row.image_size) == ("First", "trained", "64 x 72")
    assert measured.row.decoded_files == "7 files of the data"
    seen = jobs.get(db, job_id=job.id)
    assert seen.phase == "Model 1 of 1: done"
    assert seen.done == seen.total == benchmark.STEPS
