"""What a project has after some weeks of use, for measuring: labels, two models, scores of all images, opinions.

The networks are real, and as small as they can be: two epochs on 40 images of 64 x 64 pixels, the bundled backbone.
Their folders name all labelled images as what they learned from, as those of a long training would; the scores of all
images are drawn, not computed, and are written through :mod:`storage.predictions` as a job would write them.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable, Sequence
from itertools import count, cycle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ssn_core import rules
from ssn_core.backbone import load_backbone
from ssn_core.checkpoint import DataEntry, save_model
from ssn_core.features import TapCache
from ssn_core.pipeline import Trained, train_model
from ssn_core.recipes import chosen
from ssn_core.reporting import Silent
from storage import (
    images,
    jobs,
    label_queues,
    labels,
    map_verdicts,
    maps,
    opinion_verdicts,
    predictions,
    projects,
    registry,
    second_opinions,
    studies,
    thresholds,
)
from storage.db import Database, chunks
from storage.images import Image as Stored
from storage.training_jobs import labelled_images, summarise
from tests.bench_seed import add_measurement

LABELS = 5000  # at most, unless asked otherwise; three images of five in a small project
EVENTS_AT_ONCE = 200  # as a browser sends them
OPINIONS, JUDGED, INSPECTED = 200, 200, 200  # images
EDGE, CELLS = 64, 8  # px of the networks' input, cells of their maps on a side
INSPECTORS = ("Ada", "Ben", "Cleo")


def use(db: Database, project: int, *, n_labels: int = LABELS) -> list[registry.Model]:
    """Give a project of images without labels all of it; the two models, the active one last."""
    rng = np.random.default_rng(11)
    projects.set_image_size(db, project_id=project, image_height=EDGE, image_width=EDGE)
    ids = images.ids(db, project_id=project)
    order = rng.permutation(len(ids))
    taken = [ids[place] for place in sorted(order[: min(n_labels, 3 * len(ids) // 5)])]
    said = rng.choice(["good", "bad", "unsure"], size=len(taken), p=[0.86, 0.12, 0.02]).tolist()
    _label(db, project, taken, said)
    known = list(images.every(db, project_id=project, labels=("good", "bad")))
    models: list[registry.Model] = []
    for seed, share in enumerate((0.8, 1.0)):  # the first one knew fewer labels
        learned = known[: round(share * len(known))]
        models.append(_add_model(db, project, learned, seed=seed, parent=models[-1].id if models else None))
    for model in models:
        roles = dict.fromkeys((one.id for one in known), "out_of_fold")
        bad = {one.id for one in known if one.label == "bad"}
        centre = np.array([1.5 if image_id in bad or image_id % 9 == 0 else -1.5 for image_id in ids])
        scores = rng.normal(centre, 1.0)
        rows = [(i, float(score), roles.get(i, "unseen")) for i, score in zip(ids, scores, strict=True)]
        predictions.store(db, model_id=model.id, rows=rows)
        add_measurement(db, model, ms=10.0)
        for place in range(8):
            cut = {"threshold": 0.1 * place, "threshold_low": 0.1 * place - 0.5}
            thresholds.save(db, model_id=model.id, **cut, how=rules.BY_HAND, inspector="Ada")
    _judge_maps(db, project, models[-1], rng)
    _ask_again(db, project)
    _compare(db, project, ids, rng)
    _inspect(db, project, models[-1], rng)
    return [registry.get(db, model_id=model.id) for model in models]


def one_after_another(db: Database, project: int, client: str, *, label: str, verdict: str) -> Callable[[], None]:
    """What gives one image after another a verdict, as an inspector who works meanwhile would, and takes the last back.

    So the project stays as it is, and yet no figure has been computed before.

    Args:
        client: of the events.
        label: of the images that are taken; "none": those without any.
    """
    waiting = cycle(images.ids(db, project_id=project, labels=(label,)))
    before, numbers, last = "cleared" if label == "none" else label, count(1), None

    def say() -> None:
        nonlocal last
        said = [] if last is None else [(last, before)]
        last = next(waiting)
        events = [
            labels.LabelEvent(client, next(numbers), image, what, "Ben", "board", seconds=1.0)
            for image, what in (*said, (last, verdict))
        ]
        labels.record(db, project_id=project, events=events)

    return say


def _label(db: Database, project: int, taken: Sequence[int], said: Sequence[str]) -> None:
    """First verdicts, and on each tenth image a second one after a look at the map."""
    first = [(image, verdict, False) for image, verdict in zip(taken, said, strict=True)]
    again = [(image, "bad" if place % 50 == 0 else verdict, True) for place, (image, verdict, _) in enumerate(first)]
    events = [
        labels.LabelEvent(
            f"tab-{place % 3}", place // 3 + 1, image, verdict, INSPECTORS[place % 3], "review" if seen else "board",
            seconds=1.0, map_seen=seen,
        )
        for place, (image, verdict, seen) in enumerate([*first, *again[::10]])
    ]  # fmt: skip
    for some in chunks(events, EVENTS_AT_ONCE):
        refused = labels.record(db, project_id=project, events=some).rejected
        if refused:
            raise RuntimeError(f"a label was refused: {refused[0]}")


def _add_model(
    db: Database, project: int, learned: Sequence[Stored], *, seed: int, parent: int | None
) -> registry.Model:
    trained = _train(db, project, seed)
    folder = Path("models") / str(project) / f"bench-{seed}"
    data = [DataEntry(one.sha256, str(one.label), one.group_key, "out_of_fold") for one in learned]
    save_model(dataclasses.replace(trained.model, data=data), db.data_dir / folder)
    recipe, calibration = trained.model.recipe, trained.model.calibration
    return registry.register(
        db, project_id=project, job_id=None, name=f"Model {seed + 1}", folder=folder.as_posix(), recipe=recipe.name,
        backbone=recipe.backbone, held_out="out_of_fold", threshold=calibration.threshold,
        suggested_threshold=calibration.threshold, scale_low=calibration.scale_low, scale_high=calibration.scale_high,
        summary=summarise(trained), parent_id=parent,
    )  # fmt: skip


def _train(db: Database, project: int, seed: int) -> Trained:
    torch.set_num_threads(1)
    recipe = chosen("gap-cam", {"image_size": (EDGE, EDGE), "epochs": 2, "seed": seed})
    backbone = load_backbone(recipe.backbone, weights="bundled", padding=recipe.padding, local=recipe.has_local_head)
    every = labelled_images(db, project_id=project)
    some = [*[one for one in every if one.bad][:10], *[one for one in every if not one.bad][:30]]
    taps = TapCache(db.data_dir / "cache" / "taps", backbone, recipe.image_size, recipe.scales)
    return train_model(recipe, some, taps, device=torch.device("cpu"), reporter=Silent())


def _judge_maps(db: Database, project: int, model: registry.Model, rng: np.random.Generator) -> None:
    """Maps of the most suspicious images, and words on where those of bad ones look."""
    for one in predictions.scored(db, model_id=model.id, limit=JUDGED):
        maps.save(
            db, model_id=model.id, sha256=one.image.sha256, cam=rng.normal(size=(CELLS, CELLS)).astype(np.float32)
        )
    bad = images.ids(db, project_id=project, labels=("bad",))[:JUDGED]
    verdicts = [
        map_verdicts.MapVerdict("maps", seq, model.id, image, "on_defect" if seq % 4 else "elsewhere", "Ada")
        for seq, image in enumerate(bad, start=1)
    ]
    map_verdicts.record(db, project_id=project, events=verdicts)


def _ask_again(db: Database, project: int) -> None:
    """A closed round of second opinions would hold all of its images; an open one with half of the answers."""
    counts = projects.label_counts(db, project_id=project)
    n = min(OPINIONS, 2 * counts.bad)
    made = second_opinions.create(
        db, project_id=project, name="Again", inspector="Ada", n_images=n, labelled_by="Ada", seed=1
    )
    drawn = second_opinions.cases(db, round_id=made.id)
    messages = [opinion_verdicts.Message(1, one.image_id, one.first_verdict) for one in drawn[: len(drawn) // 2]]
    opinion_verdicts.record(
        db, project_id=project, round_id=made.id, inspector="Ben", stage=second_opinions.SECOND, messages=messages
    )
    studies.create(db, project_id=project, name="Agreement", inspector="Ada", n_parts=min(30, 2 * counts.bad), seed=1)


def _compare(db: Database, project: int, ids: Sequence[int], rng: np.random.Generator) -> None:
    """The file of queues as a job writes it (:mod:`storage.label_queues`): comparing 100,000 images takes minutes."""
    n = len(ids)
    places = np.full(n, -1, np.int32)
    first = rng.permutation(n)[: min(n, 1000)]
    places[first] = np.arange(len(first))
    stacks = np.where(rng.random(n) < 0.3, rng.integers(0, max(1, n // 10), n), -1).astype(np.int32)
    path = db.data_dir / "queues" / f"{project}.npz"
    path.parent.mkdir(exist_ok=True)
    outliers = rng.permutation(n).astype(np.int32)
    np.savez(path, ids=np.array(ids, np.int64), places=places, stacks=stacks, outliers=outliers)
    if not label_queues.is_built(db, project_id=project):
        raise RuntimeError("the file of queues is not as storage.label_queues reads it")


def _inspect(db: Database, project: int, model: registry.Model, rng: np.random.Generator) -> None:
    """An inspection of new images that is done, with the pictures and maps that its job leaves."""
    number = jobs.submit(db, kind="inspect", project_id=project, payload={"model_id": model.id})
    job = jobs.claim(db, pid=1, process_created=0.0, kinds=("inspect",))
    if job is None or job.id != number:
        raise RuntimeError("the inspection cannot be claimed")
    folder = jobs.folder(db, job_id=job.id) / "inspect"
    folder.mkdir(parents=True)
    rows: list[dict[str, Any]] = []
    for place in range(INSPECTED):
        key, score = f"{place:064x}", float(rng.normal())
        stream = io.BytesIO()
        Image.fromarray(rng.integers(0, 255, (256, 256, 3), dtype=np.uint8)).save(stream, "PNG")
        (folder / f"{key}.png").write_bytes(stream.getvalue())
        np.save(folder / f"{key}.npy", rng.normal(size=(CELLS, CELLS)).astype(np.float32))
        verdict = model.verdict(score)
        rows.append({"name": f"new-{place}.png", "score": score, "verdict": verdict, "sha256": key, "error": None})
    result = {"rows": rows, "threshold": model.threshold, "threshold_low": None, "model_id": model.id}
    jobs.finish(db, job=job, status="succeeded", result=result)
