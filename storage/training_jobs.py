"""The jobs that need the network: train a model, score images with it, inspect new ones.

Imported by the worker process alone (handlers.py names these functions): nothing else may load torch.
"""

from __future__ import annotations

import dataclasses
import io
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ssn_core.backbone import load_backbone
from ssn_core.checkpoint import Model, load_model, save_model
from ssn_core.dataset import LabelledImage
from ssn_core.engine import Engine
from ssn_core.engine_choice import engine_for
from ssn_core.errors import ImageError, SettingError
from ssn_core.features import TapCache
from ssn_core.imaging import decode
from ssn_core.inference import Scored, best_device, device_title, score_files
from ssn_core.map_files import MapFiles
from ssn_core.pipeline import Trained, train_model
from ssn_core.recipes import chosen
from ssn_core.rendering import png_bytes
from ssn_core.rules import by_training
from ssn_core.sources import scan
from ssn_core.weights import AUTO
from storage import (
    archives,
    files,
    images,
    label_advice,
    map_evidence,
    map_peaks,
    maps,
    predictions,
    projects,
    registry,
    snapshots,
    tap_cleaning,
    thresholds,
)
from storage.db import Database
from storage.files import write_atomically
from storage.job_context import JobContext
from storage.settings import get_settings

_PAGE = 1000  # rows read at a time
_STORE = 64  # predictions written at a time
_PEAKS = 4096  # of maps, written at a time
_KEPT = "predictions.npz"
_MAPS = "maps"
_Result = tuple[int, Scored, str]  # image id, what the model said, role
UNSEEN = "unseen"  # role of an image the model was not trained, calibrated or measured on


class _Report:
    """Hands the method's progress to the job."""

    def __init__(self, context: JobContext) -> None:
        self._context = context

    def progress(self, phase: str, done: int, total: int, **figures: str | float) -> None:
        self._context.progress(phase, done, total, **figures)

    def point(self, series: str, step: int, value: float) -> None:
        self._context.points(series, step, value)


def train(context: JobContext) -> dict[str, Any]:
    """Train, calibrate and measure a model on the project's labels, score everything, and make it the active one.

    Payload: recipe, name, and what else was chosen (:data:`ssn_core.recipes.CHOICES`; None: the recipe's own);
    `weights` ("auto" unless another kind is asked for by name).

    A run that was interrupted goes on: taps and the networks' states are on disk, and a model that is registered
    already is only scored.
    """
    payload, project_id = context.job.payload, context.job.project_id
    if project_id is None:
        raise SettingError("A training job belongs to a project", value=None)
    model_row = registry.of_job(context.db, job_id=context.job.id)
    states = context.folder / "states"
    if model_row is None:
        context.progress("Loading the backbone", 0, 0, device=device_title(best_device()))
        model_row = _train_new(context, payload, project_id, states)
    if (states / _KEPT).exists():
        _store(context, model_row, _kept_predictions(context, states, project_id))
    score_missing(context, model_row)
    registry.activate(context.db, model_id=model_row.id, job_id=context.job.id)
    label_advice.after_training(context.db, model=model_row)
    shutil.rmtree(states, ignore_errors=True)
    tap_cleaning.after_job(context.db, job_id=context.job.id)
    return {"model_id": model_row.id}


def _train_new(context: JobContext, payload: dict[str, Any], project_id: int, states: Path) -> registry.Model:
    recipe = chosen(payload["recipe"], payload)
    parent_id = projects.get(context.db, project_id=project_id).active_model_id  # before hours in which it may change
    backbone = load_backbone(
        recipe.backbone,
        weights=payload.get("weights", AUTO),
        weights_dir=get_settings().weights_dir,
        padding=recipe.padding,
        local=recipe.has_local_head,
    )
    states.mkdir(exist_ok=True)
    trained = train_model(
        recipe,
        labelled_images(context.db, project_id=project_id),
        TapCache(tap_cleaning.root(context.db), backbone, recipe.image_size, recipe.scales),
        device=best_device(),
        reporter=_Report(context),
        state_folder=states,
        maps=MapFiles(states / _MAPS),
    )
    relative = Path("models") / str(project_id) / str(context.job.id)
    folder = context.db.data_dir / relative
    shutil.rmtree(folder, ignore_errors=True)  # of an attempt that ended between writing and registering
    save_model(trained.model, folder)
    # Before the model is registered: scored again later, an image that was held out would not be any more.
    _keep_predictions(states / _KEPT, trained)
    calibration = trained.model.calibration
    return registry.register(
        context.db,
        project_id=project_id,
        job_id=context.job.id,
        name=payload.get("name") or f"{recipe.name} {context.job.id}",
        folder=relative.as_posix(),
        recipe=recipe.name,
        backbone=recipe.backbone,
        held_out=trained.held_out,
        threshold=calibration.threshold,
        suggested_threshold=calibration.threshold,
        scale_low=calibration.scale_low,
        scale_high=calibration.scale_high,
        summary=summarise(trained),
        how=by_training(calibration.n_bad),
        parent_id=parent_id,
        activate=False,
    )


def _keep_predictions(path: Path, trained: Trained) -> None:
    """Write a training run's own scores to a file; beside its maps, which are on disk already, they can be stored again
    and again."""
    predicted = trained.predictions
    target = io.BytesIO()
    np.savez(
        target,
        keys=np.array(list(predicted), dtype=np.bytes_),  # as text, each character would take four bytes
        scores=np.array([p.score for p in predicted.values()], dtype=np.float64),
        roles=np.array([p.role for p in predicted.values()], dtype=np.bytes_),
    )
    write_atomically(path, target.getvalue())


def _kept_predictions(context: JobContext, states: Path, project_id: int) -> Iterator[_Result]:
    """A training run's own scores and maps, of those images that the project still has.

    Maps are not written durably, so a power cut can leave a damaged one; its image is then scored again.
    """
    with np.load(states / _KEPT, allow_pickle=False) as kept:
        keys, roles = (kept[name].astype(np.bytes_) for name in ("keys", "roles"))  # an older version kept text
        scores = kept["scores"]
    known = {key.decode(): place for place, key in enumerate(keys)}
    maps_of_run = MapFiles(states / _MAPS)
    for image in images.every(context.db, project_id=project_id):
        place = known.get(image.sha256)
        if place is not None:
            try:
                cam = maps_of_run.read(image.sha256)
            except (FileNotFoundError, ValueError, EOFError) as error:
                context.log.warning("The map of image %s is lost, it is scored again: %s", image.sha256, error)
                continue
            yield image.id, Scored(image.sha256, float(scores[place]), cam), roles[place].decode()


def summarise(trained: Trained) -> dict[str, Any]:
    """Counts, settings and held-out figures of a training run, as pages show them."""
    model, figures = trained.model, trained.model.figures
    pixel = {key: figures[key] for key in ("p_auroc", "ap_loc", "aupro", "n_masks")}
    return {
        "image": {
            "i_auroc": figures["i_auroc"],
            "ap_det": figures["ap_det"],
            "at_threshold": figures["at_threshold"],
        },
        "pixel": {**pixel, "n_images": figures["n_good"] + figures["n_masks"]} if figures["n_masks"] else None,
        "n_held_out_good": figures["n_good"],
        "n_held_out_bad": figures["n_bad"],
        "device": figures["device"],
        "length": figures["length"],
        "settings": {k: v for k, v in model.recipe.settings().items() if k not in ("title", "description")},
        "weights": model.backbone_weights,
        "calibration": dataclasses.asdict(model.calibration),
    }


def score(context: JobContext) -> dict[str, Any]:
    """Score the project's images that have no prediction of a model yet. Payload: model_id."""
    model = registry.get(context.db, model_id=int(context.job.payload["model_id"]))
    scored = score_missing(context, model)
    label_advice.prepare(context.db, project_id=model.project_id)
    return {"model_id": model.id, "scored": scored}


def score_missing(context: JobContext, row: registry.Model) -> int:
    """Score what has no prediction of this model yet; the network is loaded only if there is something.

    Images are read page by page and results written in chunks, so memory does not grow with the project; cut off, the
    next run goes on with what is missing.

    An image that the network was trained on is never called unseen, even where the training was cut off before it had
    stored its own scores and is not resumed: its role comes from the model's own list.
    """
    total = predictions.count_unscored(context.db, model_id=row.id)
    if not total:
        return 0
    context.progress("Scoring images", 0, total)
    engine, model = _engine(context, row)
    under_way: dict[str, int] = {}  # hash -> id

    def todo() -> Iterator[tuple[str, Path]]:
        for image in _missing(context.db, model_id=row.id):
            under_way[image.sha256] = image.id
            yield image.sha256, _path(context.db, image)

    def on_error(key: str, error: ImageError) -> None:
        del under_way[key]
        context.log.warning("Image %s cannot be read: %s", key, error)

    roles = {entry.sha256: entry.role for entry in model.data}
    roles.update((sha256, "train") for sha256, role in roles.items() if role in snapshots.LEARNED)
    scored = score_files(engine, todo(), on_error=on_error)
    counted = _counted(context, "Scoring images", scored, total)
    return _store(context, row, ((under_way.pop(s.key), s, roles.get(s.key, UNSEEN)) for s in counted))


def _engine(context: JobContext, row: registry.Model) -> tuple[Engine, Model]:
    """What scores images with a model, and the model."""
    model, backbone = load_model(thresholds.folder_in_force(context.db, row), weights_dir=get_settings().weights_dir)
    engine = engine_for(
        backbone,
        model.net,
        image_size=model.recipe.image_size,
        device=best_device(),
        cache=context.db.data_dir / "cache" / "engines",
    )
    context.log.info("Scores are computed %s", engine.note)
    return engine, model


def inspect(context: JobContext) -> dict[str, Any]:
    """Score files that belong to no project. Payload: model_id, staging (a folder under the data folder).

    Leaves for each image an upright PNG and its CAM in the job's folder, and gives one row a file.
    """
    row = registry.get(context.db, model_id=int(context.job.payload["model_id"]))
    staging = Path(context.job.payload["staging"]).resolve()
    if (context.db.data_dir / "staging").resolve() not in staging.parents:
        raise SettingError("The uploaded files are not where uploads are kept", value=str(staging))
    context.progress("Loading the model", 0, 0, device=device_title(best_device()))
    engine, _ = _engine(context, row)
    found = scan(staging, layout="flat")
    left_out = [*archives.rejected_in(staging), *found.ignored]
    rows: list[dict[str, Any]] = [_result(name, error=reason) for name, reason in left_out]
    folder = context.folder / "inspect"
    names: dict[str, list[str]] = {}
    for done, item in enumerate(found.items, start=1):
        try:
            picture = decode(item.path, name=item.name)
        except ImageError as error:
            rows.append(_result(item.name, error=str(error)))
        else:
            key = files.hash_file(item.path)
            names.setdefault(key, []).append(item.name)
            write_atomically(folder / f"{key}.png", png_bytes(np.asarray(picture.rgb)), durable=False)
        context.progress("Reading images", done, len(found.items))
    scored = score_files(engine, [(key, folder / f"{key}.png") for key in names])
    for result in _counted(context, "Scoring images", scored, len(names)):
        _save_array(folder / f"{result.key}.npy", result.cam)
        verdict = row.verdict(result.score)
        rows += [_result(name, score=result.score, verdict=verdict, sha256=result.key) for name in names[result.key]]
    shutil.rmtree(staging, ignore_errors=True)
    return {
        "rows": sorted(rows, key=lambda entry: entry["name"]),
        "threshold": row.threshold,
        "threshold_low": row.threshold_low,
        "model_id": row.id,
    }


def _result(
    name: str,
    *,
    score: float | None = None,
    verdict: str | None = None,
    sha256: str | None = None,
    error: str | None = None,
) -> dict[str, Any]:
    return {"name": name, "score": score, "verdict": verdict, "sha256": sha256, "error": error}


def _counted(context: JobContext, phase: str, scored: Iterator[Scored], total: int) -> Iterator[Scored]:
    for done, result in enumerate(scored, start=1):
        context.progress(phase, done, total)
        yield result


def labelled_images(db: Database, *, project_id: int) -> list[LabelledImage]:
    """The project's good and bad images with their groups, parts and masks."""
    return [
        LabelledImage(
            key=image.sha256,
            file=str(_path(db, image)),
            bad=image.label == "bad",
            # Each text once, not once an image: the hash, where an image is a group of its own, and a part's name.
            group=image.sha256 if image.group_key == image.sha256 else image.group_key,
            part=sys.intern(image.part),
            mask=files.mask_path(db.data_dir, sha256=image.mask_sha256) if image.mask_sha256 else None,
        )
        for image in images.every(db, project_id=project_id, labels=("good", "bad"))
    ]


def _missing(db: Database, *, model_id: int) -> Iterator[images.Image]:
    after: int | None = None
    while page := predictions.missing(db, model_id=model_id, after_id=after, limit=_PAGE):
        yield from page
        after = page[-1].id


def _path(db: Database, image: images.Image) -> Path:
    return files.image_path(db.data_dir, sha256=image.sha256, extension=image.extension)


def _store(context: JobContext, row: registry.Model, results: Iterator[_Result]) -> int:
    """Write maps first and then scores, a batch at a time: a score in the table always has its map.

    The maps' peaks, which the small-defect alarm needs, follow in larger chunks; if they are cut off, the first list
    reads them.
    """
    fraction = map_evidence.pooling_fraction(row)
    batch: list[tuple[int, float, str]] = []
    peaks: dict[str, map_peaks.Peak] = {}
    stored = 0
    for image_id, result, role in results:
        maps.save(context.db, model_id=row.id, sha256=result.key, cam=result.cam)
        batch.append((image_id, result.score, role))
        stored += 1
        if fraction is not None:
            peaks[result.key] = map_peaks.of_map(result.cam, fraction=fraction)
        if len(batch) == _STORE:
            predictions.store(context.db, model_id=row.id, rows=batch)
            batch = []
        if len(peaks) == _PEAKS:
            map_peaks.keep(context.db, model_id=row.id, found=peaks)
            peaks = {}
    predictions.store(context.db, model_id=row.id, rows=batch)
    map_peaks.keep(context.db, model_id=row.id, found=peaks)
    return stored


def _save_array(path: Path, array: np.ndarray[Any, np.dtype[np.float32]]) -> None:
    target = io.BytesIO()
    np.save(target, array, allow_pickle=False)
    write_atomically(path, target.getvalue(), durable=False)
