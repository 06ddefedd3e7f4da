"""The job of kind "benchmark". Imported by the worker process alone (handlers.py names it): it loads torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ssn_core.benchmark import STEPS, Candidate, Effort, measure
from ssn_core.checkpoint import read_card
from ssn_core.errors import SsnError
from ssn_core.inference import best_device, device_title
from ssn_core.recipes import recorded
from storage import benchmarks, files, images, registry, thresholds
from storage.benchmarks import Measured
from storage.db import Database
from storage.job_context import JobContext
from storage.settings import get_settings

_PICTURES = 8  # of the project, decoded in turn


def run(context: JobContext, effort: Effort | None = None) -> dict[str, Any]:
    """Measure the models one after the other. Payload: model_ids.

    Each result is kept at once; what this job has measured before it was interrupted is not measured again. A model
    that cannot be loaded is left out with its reason.

    Raises:
        SsnError: none of the models could be measured.
    """
    wanted, project_id = [int(number) for number in context.job.payload["model_ids"]], context.job.project_id
    if project_id is None:
        raise SsnError("A benchmark belongs to a project")
    device = best_device()
    pictures = _pictures(context.db, project_id)
    there = benchmarks.results(context.db, project_id=project_id)
    done = [number for number in wanted if number in there and there[number].job_id == context.job.id]
    left_out: list[str] = []
    for place, model_id in enumerate(wanted):
        if model_id in done:
            continue

        def tell(what: str, steps: int, place: int = place) -> None:
            phase = f"Model {place + 1} of {len(wanted)}: {what}"
            context.progress(phase, place * STEPS + steps, STEPS * len(wanted), device=device_title(device))

        try:
            candidate = _candidate(context.db, model_id)
            row = measure(
                candidate,
                device=device,
                pictures=pictures,
                cache=context.db.data_dir / "cache" / "engines",
                effort=effort,
                tell=tell,
            )
        except SsnError as error:
            context.log.warning("Model %d is left out: %s", model_id, error)
            left_out.append(f"Model {model_id}: {error}")
            continue
        kept = Measured(context.job.id, row)
        benchmarks.keep(context.db, project_id=project_id, model_id=model_id, measured=kept)
        done.append(model_id)
    if not done:
        raise SsnError("None of the models could be measured", value="; ".join(left_out))
    return {"model_ids": done, "left_out": left_out}


def _candidate(db: Database, model_id: int) -> Candidate:
    model = registry.get(db, model_id=model_id)
    folder = thresholds.folder_in_force(db, model)
    card = read_card(folder)
    recipe = recorded(card["recipe"], card["settings"])
    return Candidate(model.name, recipe, folder=folder, weights_dir=get_settings().weights_dir)


def _pictures(db: Database, project_id: int) -> list[Path]:
    """Some image files of the project that are there, from its first to its last."""
    numbers = images.ids(db, project_id=project_id)
    chosen = numbers[:: max(1, len(numbers) // _PICTURES)][:_PICTURES]
    paths = (
        files.image_path(db.data_dir, sha256=image.sha256, extension=image.extension)
        for image in images.get_many(db, image_ids=chosen)
    )
    return [path for path in paths if path.is_file()]
