"""The jobs with the network, run as the worker runs them, on generated surfaces and a random backbone."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import delete

from ssn_core import operating_point
from ssn_core.errors import SsnError
from storage import (
    archives,
    files,
    imports,
    jobs,
    labels,
    map_evidence,
    maps,
    predictions,
    projects,
    registry,
    small_defects,
    snapshots,
    thresholds,
    training_jobs,
)
from storage import images as image_store
from storage.db import Database
from storage.job_context import Cancelled, JobContext
from storage.tables import PredictionRow
from storage.worker import work

HANDLERS = {
    "import": "storage.imports:run_job",
    **{kind: f"storage.training_jobs:{kind}" for kind in ("train", "score", "inspect")},
    # What is queued aside after an import and a training has tests of its own.
    **dict.fromkeys(("describe", "gain"), "tests.storage.test_training_jobs:nothing"),
}


def nothing(context: JobContext) -> None:
    """Do a job that is of no interest here."""


class NoRunner:
    """Starts nothing: the tests work the queue themselves."""

    def start(self, job_id: int) -> None:
        """Leave the job in the queue."""

    def is_alive(self, job: jobs.Job) -> bool:  # noqa: ARG002
        return True

    def kill(self, job: jobs.Job) -> None:  # noqa: ARG002
        raise AssertionError("nothing here needs killing")


def do(db: Database, kind: str, project: int, payload: dict[str, Any]) -> jobs.Job:
    job_id = jobs.submit(db, kind=kind, project_id=project, payload=payload)
    work_all(db)
    return jobs.get(db, job_id=job_id)


def work_all(db: Database) -> None:
    while work(db, handlers=HANDLERS, runner=NoRunner()) is not None:
        pass


def bring_in(db: Database, project: int, source: Path) -> None:
    job_id = imports.submit(db, project_id=project, source=source, layout=None, staged=False, inspector="Ana")
    work_all(db)
    ended = jobs.get(db, job_id=job_id)
    assert ended.status == "succeeded", ended.error


def payload(**changes: Any) -> dict[str, Any]:
    return {
        "recipe": "cam",
        "backbone": "resnet18",
        "weights": "random",
        "image_size": [64, 64],
        "epochs": 2,
        "seed": 0,
        "pooling_fraction": None,
        "name": "first",
        **changes,
    }


@pytest.fixture
def filled(db: Database, project: int, surfaces: Path) -> Database:
    """A project with the surfaces of which three have lost their labels."""
    bring_in(db, project, surfaces)
    cleared = image_store.ids(db, project_id=project, labels=("good",))[:3]
    events = [
        labels.LabelEvent("tab", number, image_id, "cleared", "Ana", "board")
        for number, image_id in enumerate(cleared, start=1)
    ]
    labels.record(db, project_id=project, events=events)
    return db


def test_training_gives_an_active_model_with_honest_scores_and_a_map_for_every_image(
    filled: Database, project: int
) -> None:
    job = do(filled, "train", project, payload())
    assert job.status == "succeeded", job.error
    (model,) = registry.list_models(filled, project_id=project)
    assert job.result == {"model_id": model.id}
    assert model.held_out == "out_of_fold"
    assert model.summary["n_held_out_good"] == 15
    assert model.summary["n_held_out_bad"] == 9
    assert 0 <= model.summary["pixel"]["aupro"] <= 1
    assert model.summary["settings"]["epochs"] == 2

    scored = predictions.scored(filled, model_id=model.id, limit=100)
    assert len(scored) == 27
    roles = [one.role for one in scored]
    assert roles.count("out_of_fold") == 24
    assert roles.count("unseen") == 3
    for one in scored:
        cam = maps.load(filled, model_id=model.id, sha256=one.image.sha256)
        assert cam is not None
        assert cam.shape == (16, 16)
        taken_apart = map_evidence.explain(filled, model=model, image=one.image)
        assert taken_apart.evidence.score == pytest.approx(one.score, abs=1e-5)
        assert taken_apart.bias_read == (one.role == "unseen")  # the networks of the folds are not kept
    parts = (filled.data_dir / "maps" / str(model.id)).glob("peaks-*.npy")  # of what was held out, and of the rest
    assert sum(len(np.load(part, allow_pickle=False)) for part in parts) == 27
    held_out = predictions.held_out(filled, model_id=model.id)
    assert (held_out.n_good, held_out.n_bad) == (15, 9)

    card = json.loads((registry.model_path(filled, model) / "model.json").read_text())
    assert len(card["data"]) == 24
    series = {name for name, _, _ in jobs.points(filled, job_id=job.id)}
    assert series == {"Fold 1 of 3", "Fold 2 of 3", "Fold 3 of 3", "Model"}
    assert not (filled.data_dir / "jobs" / str(job.id) / "states").exists()


def test_the_taps_are_cached_between_trainings(filled: Database, project: int, monkeypatch: pytest.MonkeyPatch) -> None:
    do(filled, "train", project, payload())
    cached = list((filled.data_dir / "cache" / "taps").rglob("*.npy"))
    assert len(cached) == 24
    before = {path: path.stat().st_mtime_ns for path in cached}
    assert do(filled, "train", project, payload(name="second", seed=1)).status == "succeeded"
    assert {path: path.stat().st_mtime_ns for path in cached} == before
    second, first = registry.list_models(filled, project_id=project)
    assert (first.parent_id, second.parent_id) == (None, first.id)  # the one that was active meanwhile


def test_too_few_labels_fail_with_how_many_are_missing(filled: Database, project: int) -> None:
    bad = image_store.ids(filled, project_id=project, labels=("bad",))[1:]
    events = [labels.LabelEvent("t", n, image_id, "unsure", "Ana", "board") for n, image_id in enumerate(bad, 1)]
    labels.record(filled, project_id=project, events=events)
    job = do(filled, "train", project, payload())
    assert job.status == "failed"
    assert "Label 2 more bad images" in (job.error or "")
    assert registry.list_models(filled, project_id=project) == []


def test_a_setting_that_does_not_exist_fails_with_its_name(filled: Database, project: int) -> None:
    job = do(filled, "train", project, payload(recipe="padim"))
    assert job.status == "failed"
    assert "padim" in (job.error or "")


def test_a_cancelled_training_leaves_no_model_and_a_resumed_one_goes_on(filled: Database, project: int) -> None:
    job_id = jobs.submit(filled, kind="train", project_id=project, payload=payload(epochs=3))
    job = jobs.claim(filled, pid=1, process_created=1.0)
    assert job is not None

    class Impatient(JobContext):
        def points(self, series: str, step: int, value: float) -> None:
            super().points(series, step, value)
            if (series, step) == ("Fold 2 of 3", 2):
                raise Cancelled

    context = Impatient(filled, job)
    with pytest.raises(Cancelled):
        training_jobs.train(context)
    assert registry.list_models(filled, project_id=project) == []
    states = {path.name for path in (context.folder / "states").glob("*.pt")}
    assert states >= {"fold-0.pt", "fold-1.pt"}

    seen: list[str] = []

    class Watching(JobContext):
        def points(self, series: str, step: int, value: float) -> None:  # noqa: ARG002
            seen.append(f"{series} {step}")

    assert training_jobs.train(Watching(filled, job))["model_id"]
    # Each goes on from its last whole epoch; one that ran beside the other may have come further or less far.
    assert not {"Fold 1 of 3 1", "Fold 2 of 3 1"} & set(seen)
    assert "Model 3" in seen
    assert registry.of_job(filled, job_id=job_id) is not None


@pytest.mark.parametrize("kept_by_an_older_version", [False, True])
def test_held_out_scores_survive_an_interruption_while_they_are_stored(
    filled: Database, project: int, monkeypatch: pytest.MonkeyPatch, kept_by_an_older_version: bool
) -> None:
    jobs.submit(filled, kind="train", project_id=project, payload=payload())
    job = jobs.claim(filled, pid=1, process_created=1.0)
    assert job is not None
    monkeypatch.setattr(training_jobs, "_STORE", 5)
    store = predictions.store

    def power_cut(db: Database, *, model_id: int, rows: list[tuple[int, float, str]]) -> int:
        if predictions.scored(db, model_id=model_id, limit=100):
            raise KeyboardInterrupt
        return store(db, model_id=model_id, rows=rows)

    monkeypatch.setattr(predictions, "store", power_cut)
    with pytest.raises(KeyboardInterrupt):
        training_jobs.train(JobContext(filled, job))
    monkeypatch.setattr(predictions, "store", store)
    if kept_by_an_older_version:  # hashes and roles were texts, not bytes
        (path,) = filled.data_dir.rglob("predictions.npz")
        with np.load(path) as kept:
            columns = {name: kept[name].astype(str) if kept[name].dtype.kind == "S" else kept[name] for name in kept}
        assert columns["keys"].dtype.kind == "U"
        np.savez(path, **columns)
    model_id = training_jobs.train(JobContext(filled, job))["model_id"]
    assert len(registry.list_models(filled, project_id=project)) == 1
    held_out = predictions.held_out(filled, model_id=model_id)
    assert (held_out.n_good, held_out.n_bad) == (15, 9)


def test_a_map_that_a_power_cut_damaged_costs_one_image_its_held_out_score_and_not_the_training(
    filled: Database, project: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs.submit(filled, kind="train", project_id=project, payload=payload())
    job = jobs.claim(filled, pid=1, process_created=1.0)
    assert job is not None
    context = JobContext(filled, job)

    def power_cut(*_args: Any, **_kwargs: Any) -> None:
        raise KeyboardInterrupt

    store = training_jobs._store
    monkeypatch.setattr(training_jobs, "_store", power_cut)
    with pytest.raises(KeyboardInterrupt):
        training_jobs.train(context)
    monkeypatch.setattr(training_jobs, "_store", store)
    damaged, gone = sorted((context.folder / "states" / "maps").rglob("*.npy"))[:2]
    damaged.write_bytes(b"")
    gone.unlink()
    model_id = training_jobs.train(context)["model_id"]
    roles = {one.image.sha256: one.role for one in predictions.scored(filled, model_id=model_id, limit=100)}
    assert len(roles) == 27
    assert sorted(key for key, role in roles.items() if role == "train") == sorted((damaged.stem, gone.stem))
    assert list(roles.values()).count("out_of_fold") == 22


def test_an_image_the_network_learned_from_is_never_called_unseen(filled: Database, project: int) -> None:
    do(filled, "train", project, payload())
    (model,) = registry.list_models(filled, project_id=project)
    with filled.write() as session:  # as a training leaves them that was cut off before it stored its scores
        session.execute(delete(PredictionRow).where(PredictionRow.model_id == model.id))
    do(filled, "score", project, {"model_id": model.id})
    roles = [one.role for one in predictions.scored(filled, model_id=model.id, limit=100)]
    assert (roles.count("train"), roles.count("unseen"), len(roles)) == (24, 3, 27)
    assert predictions.held_out(filled, model_id=model.id).image_ids == ()


def test_images_that_come_later_are_scored_by_a_job_of_their_own(
    filled: Database, project: int, surfaces: Path, tmp_path: Path
) -> None:
    do(filled, "train", project, payload())
    (model,) = registry.list_models(filled, project_id=project)
    (tmp_path / "new").mkdir()
    Image.new("RGB", (64, 64), (120, 120, 120)).save(tmp_path / "new" / "plain.png")
    bring_in(filled, project, tmp_path / "new")
    assert predictions.count_unscored(filled, model_id=model.id) == 1
    assert do(filled, "score", project, {"model_id": model.id}).result == {"model_id": model.id, "scored": 1}
    assert predictions.count_unscored(filled, model_id=model.id) == 0


def test_an_inspection_gives_one_row_a_file_and_names_what_it_could_not_read(
    filled: Database, project: int, surfaces: Path
) -> None:
    do(filled, "train", project, payload())
    (model,) = registry.list_models(filled, project_id=project)
    scratch = (surfaces / "00.png").read_bytes()
    sent = {"a.png": scratch, "copy of a.png": scratch, "broken.png": b"\x89PNG\r\n\x1a\n", "x.txt": b"x"}
    staging = archives.stage_uploads(filled.data_dir, [(name, io.BytesIO(data)) for name, data in sent.items()])
    job = do(filled, "inspect", project, {"model_id": model.id, "staging": str(staging)})
    assert job.status == "succeeded", job.error
    assert job.result is not None
    rows = {row["name"]: row for row in job.result["rows"]}
    assert set(rows) == {"a.png", "copy of a.png", "broken.png", "x.txt"}
    assert rows["a.png"]["score"] == rows["copy of a.png"]["score"]
    assert rows["a.png"]["verdict"] == ("bad" if rows["a.png"]["score"] >= model.threshold else "good")
    assert rows["broken.png"]["error"]
    assert rows["x.txt"]["error"]
    folder = filled.data_dir / "jobs" / str(job.id) / "inspect"
    assert np.load(folder / f"{rows['a.png']['sha256']}.npy", allow_pickle=False).shape == (16, 16)
    assert not staging.exists()


def test_an_inspection_judges_by_both_thresholds_and_puts_them_into_the_model_folder(
    filled: Database, project: int, surfaces: Path
) -> None:
    do(filled, "train", project, payload())
    (model,) = registry.list_models(filled, project_id=project)
    scores = [one.score for one in predictions.scored(filled, model_id=model.id, limit=100)]  # falling
    thresholds.save(
        filled, model_id=model.id, threshold=scores[6], threshold_low=scores[12], how="By hand", inspector="Ana"
    )
    copy = registry.model_path(filled, model) / operating_point.FILE_NAME
    copy.write_text("damaged")
    staging = archives.stage_uploads(
        filled.data_dir, [(path.name, io.BytesIO(path.read_bytes())) for path in sorted(surfaces.glob("*.png"))]
    )
    job = do(filled, "inspect", project, {"model_id": model.id, "staging": str(staging)})
    assert job.result is not None, job.error
    assert (job.result["threshold"], job.result["threshold_low"]) == (scores[6], scores[12])
    said = set()
    for row in job.result["rows"]:
        assert row["verdict"] == operating_point.verdict(row["score"], scores[6], scores[12])
        said.add(row["verdict"])
    assert "check" in said
    assert operating_point.read(copy.parent) == operating_point.OperatingPoint(
        scores[6], scores[12], "By hand", "Ana", *_saved(filled, model)
    )


def _saved(db: Database, model: registry.Model) -> tuple[datetime, int]:
    newest = thresholds.history(db, model_id=model.id)[0]
    return newest.created_at, newest.id


def test_an_inspection_names_what_was_left_out_of_a_zip(filled: Database, project: int, surfaces: Path) -> None:
    do(filled, "train", project, payload())
    (model,) = registry.list_models(filled, project_id=project)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.write(surfaces / "00.png", "a.png")
        archive.writestr("../evil.png", b"x")
    packed.seek(0)
    staging = archives.stage_uploads(filled.data_dir, [("parts.zip", packed)])
    job = do(filled, "inspect", project, {"model_id": model.id, "staging": str(staging)})
    assert job.result is not None
    rows = {row["name"]: row for row in job.result["rows"]}
    assert len(rows) == 2
    (evil,) = (row for name, row in rows.items() if "evil" in name)
    assert evil["error"]
    assert evil["score"] is None


def test_an_inspection_reads_nothing_outside_the_uploads(filled: Database, project: int, surfaces: Path) -> None:
    do(filled, "train", project, payload())
    (model,) = registry.list_models(filled, project_id=project)
    uploads = filled.data_dir / "staging"
    uploads.mkdir(exist_ok=True)
    (uploads / "someone elses").touch()
    for folder in (surfaces, uploads):
        job = do(filled, "inspect", project, {"model_id": model.id, "staging": str(folder)})
        assert job.status == "failed"
        assert "not where uploads are kept" in (job.error or "")
    assert (surfaces / "00.png").exists()
    assert (uploads / "someone elses").exists()


def test_a_model_whose_folder_is_gone_says_so(filled: Database, project: int) -> None:
    do(filled, "train", project, payload())
    (model,) = registry.list_models(filled, project_id=project)
    shutil.rmtree(registry.model_path(filled, model))
    staging = archives.stage_uploads(filled.data_dir, [])
    job = do(filled, "inspect", project, {"model_id": model.id, "staging": str(staging)})
    assert job.status == "failed"
    assert "gone" in (job.error or "")


def test_maps_are_shown_as_the_colour_scale_was_set(filled: Database, project: int) -> None:
    do(filled, "train", project, payload())
    (model,) = registry.list_models(filled, project_id=project)
    peaks = []
    for one in predictions.scored(filled, model_id=model.id, filter="good", limit=100):
        cam = maps.load(filled, model_id=model.id, sha256=one.image.sha256)
        assert cam is not None
        shown = maps.as_shown(cam, model)
        assert shown.shape == (64, 64)
        peaks.append(float(shown.max()))
    dark = np.mean(np.asarray(peaks) <= model.scale_low + 1e-3)
    assert dark >= 0.9  # 95 of 100 good parts show no colour, and 15 of them are counted here


def fitting(name: str, **more: object) -> dict[str, object]:
    return payload(recipe=name, name=name, epochs=1, **more)


@pytest.mark.parametrize("name", ["supersimplenet-supervised", "mixed"])
def test_masks_that_were_imported_are_learned_from(filled: Database, project: int, name: str) -> None:
    known = training_jobs.labelled_images(filled, project_id=project)
    assert all(image.mask is not None and image.mask.is_file() for image in known if image.bad)
    assert projects.counts(filled, project_id=project).bad_with_mask == 9
    job = do(filled, "train", project, fitting(name))
    assert job.status == "succeeded", job.error
    (model,) = registry.list_models(filled, project_id=project)
    image = image_store.get_many(filled, image_ids=image_store.ids(filled, project_id=project))[0]
    assert maps.load(filled, model_id=model.id, sha256=image.sha256) is not None
    # What rests on the shares of cells says why it cannot be told, instead of a wrong number.
    assert map_evidence.pooling_fraction(model) is None
    for ask in (
        lambda: map_evidence.explain(filled, model=model, image=image),
        lambda: small_defects.alarms(filled, model=model, limit=5),
    ):
        with pytest.raises(SsnError, match="no cell has a share of its own"):
            ask()


def test_a_training_that_needs_masks_fails_with_what_is_missing(db: Database, project: int, surfaces: Path) -> None:
    bare = surfaces.parent / "bare-surfaces"
    bare.mkdir(exist_ok=True)
    lines = (surfaces / "labels.csv").read_text().splitlines()
    for line in lines[1:]:
        name = line.split(",")[0]
        (bare / name).write_bytes((surfaces / name).read_bytes())
    (bare / "labels.csv").write_text("\n".join(",".join(line.split(",")[:2]) for line in lines) + "\n")
    bring_in(db, project, bare)
    job = do(db, "train", project, fitting("mixed"))
    assert job.status == "failed"
    assert "no bad image has one" in str(job.error)


def test_good_images_alone_give_a_model_without_figures(db: Database, project: int, surfaces: Path) -> None:
    bring_in(db, project, surfaces)
    bad = image_store.ids(db, project_id=project, labels=("bad",))
    events = [labels.LabelEvent("t", n, image, "cleared", "Ana", "board") for n, image in enumerate(bad, start=1)]
    labels.record(db, project_id=project, events=events)
    job = do(db, "train", project, fitting("simplenet", noise="learned", beta=0.1, adaptor="conv"))
    assert job.status == "succeeded", job.error
    (model,) = registry.list_models(db, project_id=project)
    assert model.summary["image"]["ap_det"] is None
    assert model.summary["n_held_out_bad"] == 0
    held_out = [one for one in predictions.scored(db, model_id=model.id, limit=100) if one.role == "out_of_fold"]
    assert len(held_out) == 18
    assert model.threshold > max(one.score for one in held_out)
    assert "above every good part" in thresholds.history(db, model_id=model.id)[0].how
    assert model.summary["settings"]["noise"] == "learned"
    # The score is the map's highest cell: its evidence works as a CAM's does.
    taken_apart = map_evidence.explain(db, model=model, image=held_out[0].image)
    assert taken_apart.evidence.k == 1
    assert taken_apart.evidence.score == pytest.approx(held_out[0].score, abs=1e-3)


def test_bad_images_that_were_only_measured_are_not_called_learned_from(filled: Database, project: int) -> None:
    job = do(filled, "train", project, fitting("simplenet"))
    assert job.status == "succeeded", job.error
    (model,) = registry.list_models(filled, project_id=project)
    assert snapshots.learned_from(filled, model) == (15, 0)


def test_a_scoring_that_was_cut_off_goes_on_with_what_is_missing_in_small_pages(
    filled: Database, project: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    do(filled, "train", project, payload())
    (model,) = registry.list_models(filled, project_id=project)
    with filled.write() as session:
        session.execute(delete(PredictionRow).where(PredictionRow.model_id == model.id))
    for name, value in (("_PAGE", 4), ("_STORE", 5), ("_PEAKS", 3)):
        monkeypatch.setattr(training_jobs, name, value)
    jobs.submit(filled, kind="score", project_id=project, payload={"model_id": model.id})
    job = jobs.claim(filled, pid=1, process_created=1.0)
    assert job is not None

    class Impatient(JobContext):
        def progress(self, phase: str, done: int, total: int, **metrics: Any) -> None:
            if done == 12:
                raise Cancelled
            super().progress(phase, done, total, **metrics)

    with pytest.raises(Cancelled):
        training_jobs.score(Impatient(filled, job))
    assert len(predictions.scored(filled, model_id=model.id, limit=100)) == 10  # two chunks of five
    assert training_jobs.score(JobContext(filled, job)) == {"model_id": model.id, "scored": 17}
    assert predictions.count_unscored(filled, model_id=model.id) == 0
    for one in predictions.scored(filled, model_id=model.id, limit=100):
        assert maps.load(filled, model_id=model.id, sha256=one.image.sha256) is not None


def test_a_file_that_cannot_be_read_is_left_out_and_the_others_are_scored(filled: Database, project: int) -> None:
    do(filled, "train", project, payload())
    (model,) = registry.list_models(filled, project_id=project)
    with filled.write() as session:
        session.execute(delete(PredictionRow).where(PredictionRow.model_id == model.id))
    image = image_store.get_many(filled, image_ids=image_store.ids(filled, project_id=project))[3]
    files.image_path(filled.data_dir, sha256=image.sha256, extension=image.extension).write_bytes(b"\x89PNG\r\n\x1a\n")
    job = do(filled, "score", project, {"model_id": model.id})
    assert job.result == {"model_id": model.id, "scored": 26}
    assert predictions.missing(filled, model_id=model.id, limit=9) == [image]


def test_a_training_leaves_no_features_of_images_that_are_gone(filled: Database, project: int) -> None:
    stray = filled.data_dir / "cache" / "taps" / "some-backbone" / "ab" / f"{'ab' * 32}.npy"
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"x")
    do(filled, "train", project, payload())
    assert not stray.exists()
    assert len(list((filled.data_dir / "cache" / "taps").rglob("*.npy"))) == 24
