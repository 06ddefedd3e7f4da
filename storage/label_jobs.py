"""The jobs behind the order of labelling that need the network; they run aside, at low priority.

Imported by the worker process alone (handlers.py names these functions): nothing else may load torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from ssn_core.checkpoint import load_model
from ssn_core.descriptors import describe as describe_images
from ssn_core.descriptors import describing_backbones, find_usual, rendition_size
from ssn_core.errors import ImageError, SettingError, TooFewLabelsError
from ssn_core.features import TapCache
from ssn_core.inference import best_device, device_title
from ssn_core.label_curve import Pass, measure, passes, sides
from ssn_core.pipeline import N_FOLDS, fill_taps
from ssn_core.recipes import MIN_BAD
from storage import descriptors, images, label_advice, label_queues, projects, registry, tap_cleaning, thumbnails
from storage.files import write_atomically
from storage.job_context import JobContext
from storage.settings import get_settings
from storage.training_jobs import labelled_images

_SAMPLE = 256  # images that say what is usual in a project


def describe(context: JobContext) -> dict[str, Any]:
    """Describe the project's images that have no descriptor yet, then bring its queues up to date. No payload."""
    db, project_id = context.db, context.job.project_id
    if project_id is None:
        raise SettingError("Images are described for a project", value=None)
    context.progress("Loading the backbone", 0, 0, device=device_title(best_device()))
    project = projects.get(db, project_id=project_id)
    size = rendition_size((project.image_height, project.image_width))
    backbones = describing_backbones(get_settings().weights_dir)
    every = [(image.sha256, image.extension) for image in images.every(db, project_id=project_id)]
    sample = _sample(every)
    weights = "-".join(one.weights_hash[:16] for one in backbones)
    setup = f"{backbones[0].name}-{weights}-{size[0]}x{size[1]}-usual{len(sample)}"
    where = descriptors.folder(db, project_id=project_id, setup=setup)
    usual = descriptors.read_usual(where)
    known = set(descriptors.read(where).names)
    missing = [image for image in every if image[0] not in known]

    def on_error(key: str, error: ImageError) -> None:
        context.log.warning("Image %s cannot be described: %s", key, error)

    def files(wanted: list[tuple[str, str]]) -> Iterator[tuple[str, Path]]:
        for sha256, extension in wanted:
            try:
                yield sha256, thumbnails.thumbnail(db.data_dir, sha256=sha256, extension=extension)
            except ImageError as error:
                on_error(sha256, error)

    if usual is None:
        context.progress("Looking at what is usual", 0, 0)
        usual = find_usual(backbones, list(files(sample)), image_size=size, device=best_device(), on_error=on_error)
        if usual is not None:
            descriptors.keep_usual(where, usual)
    done, waiting = 0, files(missing)
    while usual is not None and (chunk := list(islice(waiting, descriptors.ROWS))):
        found = list(describe_images(backbones, chunk, usual, image_size=size, device=best_device(), on_error=on_error))
        if found:
            descriptors.add(where, found)
        done += len(chunk)
        context.progress("Comparing images", done, len(missing))
    descriptors.forget_others(where)
    context.progress("Ordering images", 0, 0)
    return {"described": done, "images": label_queues.build(db, project_id=project_id, described=where)}


def _sample(every: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The images that say what is usual: evenly from the whole project, a power of two of them, 256 at most.

    Their number is part of the set-up's name: a project that grows from 60 to 130 images is looked at anew, one that
    grows from 10,000 to 20,000 is not.
    """
    n = min(_SAMPLE, 2 ** (len(every).bit_length() - 1) if every else 0)
    return [every[place * len(every) // n] for place in range(n)]


def estimate_gain(context: JobContext) -> dict[str, Any]:
    """Measure a model's learning curve. Payload: model_id.

    The labels are those that the model's training knew. Points that were measured before the job was cut off are kept.
    """
    row = registry.get(context.db, model_id=int(context.job.payload["model_id"]))
    context.progress("Loading the model", 0, 0, device=device_title(best_device()))
    model, backbone = load_model(registry.model_path(context.db, row), weights_dir=get_settings().weights_dir)
    figure = model.figures["ap_det"]
    known = {entry.sha256: entry for entry in model.data}
    found = [
        replace(image, bad=known[image.key].label == "bad")
        for image in labelled_images(context.db, project_id=row.project_id)
        if image.key in known
    ]
    try:
        split = sides(found, {key: entry.role for key, entry in known.items()}, model.recipe)
    except TooFewLabelsError as error:
        return {"model_id": row.id, "reason": str(error)}
    wanted = passes(split)
    if figure is None or not wanted:
        return {
            "model_id": row.id,
            "reason": "There are too few labels to tell what more would bring: a quarter or a half of them would not "
            f"be enough to train on. From about {2 * MIN_BAD * N_FOLDS} bad images on it can be told.",
        }
    kept = context.folder / "points.json"
    of = hashlib.sha256(json.dumps(sorted((image.key, image.bad) for image in found)).encode()).hexdigest()
    points = _points(kept, of)
    missing = [one for one in wanted if _name(one) not in points]
    recipe, device = model.recipe, best_device()
    taps = TapCache(tap_cleaning.root(context.db), backbone, recipe.image_size, recipe.scales)
    reporter = _Steps(context, (len(wanted) - len(missing)) * len(split), len(wanted) * len(split))
    fill_taps(taps, found, device=device, reporter=reporter)
    for one, point in measure(recipe, split, taps, missing, n=len(found), device=device, reporter=reporter):
        points[_name(one)] = [point.n, point.figure]
        write_atomically(kept, json.dumps({"of": of, "points": points}).encode(), durable=False)
    tap_cleaning.after_job(context.db, job_id=context.job.id)
    return {"model_id": row.id, "measured": [*points.values(), [len(found), figure]]}


def _points(path: Path, of: str) -> dict[str, list[float]]:
    """What an attempt before has measured of these images; nothing, if a power cut left half a file."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return dict(kept["points"]) if kept["of"] == of else {}
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return {}


def _name(one: Pass) -> str:
    return f"{one.share}-{one.draw}"


class _Steps:
    """Tells the job how many of its networks have been trained."""

    def __init__(self, context: JobContext, done: int, total: int) -> None:
        self._context, self._done, self._total = context, done, total
        self._seen = 0

    def progress(self, phase: str, done: int, total: int, **metrics: str | float) -> None:  # noqa: ARG002
        if phase != "Training":
            self._context.progress(phase, done, total)
            return
        self._done += done < self._seen  # the next network has begun
        self._seen = done
        self._context.progress(label_advice.LEARNING, self._done, self._total)

    def point(self, series: str, step: int, value: float) -> None:
        """A curve of losses says nothing here."""
