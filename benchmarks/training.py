"""How long it takes from labels to a calibrated model, and where the time goes; beside slower ways, in one run.

    python -m benchmarks.training speed --images 200 --out benchmarks/results/training-speed.json
    python -m benchmarks.training accuracy DATA --image-size 352 128 --seeds 0 1 2 --out ...
    python -m benchmarks.training early DATA --recipe gap-cam --epochs 100 --out ...

`speed` generates surfaces (a quarter of them bad), trains the recipe out-of-fold as the Train page does (three networks
of the folds, and the model), and says how long each phase took. Then single optimiser steps take turns:

- "re-extracted": decode the images, run the backbone, upsample both taps to twice layer2's size, train on that, and at
  every epoch again: how the published code does it, but for its synthetic anomalies. "With noise" they are there: the
  batch and its perturbed copy, twice the work above the backbone, where ours has none.
- "cached": from cached taps, at the recipe's own feature size, with the network as it is written.
- "cached, folded": as :mod:`ssn_core.folded_training` computes it in float32, tile by tile.
- "as it is": what the trainer does here: folded, and in bfloat16 where that is faster.

`accuracy` cross-validates a data set with folds in both ways, "slow" (plain backbone, the network as it is written,
float32 throughout) and "fast" (as it is), for several seeds.

`early` cross-validates it once at whole length and once with an early stop, trials included.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from benchmarks.labelled import labelled_images
from ssn_core import features, training
from ssn_core.anomalies import Truth, draw_places, marked_bad, with_noise
from ssn_core.backbone import Backbone, load_backbone
from ssn_core.cli_options import recipe_from
from ssn_core.crossval import assign_folds, cross_validate
from ssn_core.dataset import LabelledImage, examples
from ssn_core.features import TapCache
from ssn_core.imaging import load_rgb
from ssn_core.inference import device_title
from ssn_core.losses import total_loss
from ssn_core.model import CamNet
from ssn_core.noise import gaussian
from ssn_core.pipeline import N_FOLDS, train_model
from ssn_core.recipes import Recipe
from ssn_core.reporting import Silent
from ssn_core.sampling import planned_samples
from ssn_core.surfaces import MATERIALS, write_surfaces
from ssn_core.timing import take_turns
from ssn_core.training import Trainer

CPU = torch.device("cpu")


class Phases:
    """A reporter that adds up the time between one phase and the next."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._now, self._since = "Start", time.perf_counter()

    def progress(self, phase: str, done: int, total: int, **metrics: str | float) -> None:  # noqa: ARG002
        if phase != self._now:
            now = time.perf_counter()
            self.seconds[self._now] = self.seconds.get(self._now, 0) + now - self._since
            self._now, self._since = phase, now

    def point(self, series: str, step: int, value: float) -> None:
        """Curves are of no interest here."""


@contextlib.contextmanager
def changed(*, folded: bool, few_bits: bool, plain_backbone: bool = False) -> Iterator[None]:
    """Train in a slower way for a while."""
    with contextlib.ExitStack() as stack:
        if not folded:
            stack.enter_context(mock.patch.object(training, "can_fold", return_value=False))
        if not few_bits:
            stack.enter_context(mock.patch.object(training, "bfloat16_pays", return_value=False))
        if plain_backbone:
            stack.enter_context(mock.patch.object(features, "tap_extractor", plain_extractor))
        yield


def plain_extractor(backbone: Backbone, _size: tuple[int, int], device: torch.device) -> Callable[[Tensor], Tensor]:
    """What :func:`ssn_core.features.tap_extractor` gives, from the backbone as it is written."""
    backbone.to(device)

    @torch.inference_mode()
    def extract(pixels: Tensor) -> Tensor:
        return torch.cat([tap.flatten(1) for tap in backbone(pixels.to(device))], dim=1).half()

    return extract


def re_extracted(
    recipe: Recipe, images: Sequence[LabelledImage], backbone: Backbone, *, noise: bool
) -> Callable[[], None]:
    """One step from files: at twice the features' size, as published."""
    published = recipe.with_settings({"feature_scale": 2, **(recipe.noise_settings("gaussian") if noise else {})})
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    net = CamNet(published).train()
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-4)
    rng = np.random.default_rng(0)

    def step() -> None:
        chosen = rng.choice(len(images), recipe.batch_size, replace=False)
        pixels = np.stack([load_rgb(images[i].path, image_size=recipe.image_size) for i in chosen])
        with torch.no_grad():
            tap2, tap3, *_ = backbone(torch.from_numpy(pixels).permute(0, 3, 1, 2))
        bad = torch.tensor([float(bool(images[i].bad)) for i in chosen])
        found, truth = net.features(tap2, tap3), Truth(bad, None)
        if noise:
            shape = (found.adapted.shape[-2], found.adapted.shape[-1])
            places = draw_places(published, truth, shape, generator)
            truth = marked_bad(truth.twice(), places)
            drawn = gaussian(found.adapted, std=published.noise_std, generator=generator)
            found = with_noise(published, found, drawn, places)
        loss = total_loss(published, net.judge(found), truth)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()

    return step


def cached_step(recipe: Recipe, images: Sequence[LabelledImage], taps: TapCache) -> Callable[[], None]:
    """One step of the trainer, with whatever is changed while this is called; its batches are read ahead."""
    trainer = Trainer(recipe, examples(images, recipe), taps, CPU)
    trainer.net.train()

    def endless() -> Iterator[tuple[Any, list[Tensor]]]:
        while True:
            yield from trainer._batches(trainer.sampler.epoch())

    batches = endless()

    def step() -> None:
        batch, read = next(batches)
        trainer._step(batch, read)

    return step


def speed(options: argparse.Namespace) -> dict[str, Any]:
    recipe = recipe_from(options)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        write_surfaces(
            data, options.images, seed=0, names=tuple(MATERIALS), size=recipe.image_size, progress=lambda *_: None
        )
        images = labelled_images(data, fold_column=None)
        backbone = load_backbone(
            recipe.backbone, weights=options.weights, padding=recipe.padding, local=recipe.has_local_head
        )
        runs = []
        for number in range(options.runs):
            phases, began = Phases(), time.perf_counter()
            taps = TapCache(Path(folder) / f"cache-{number}", backbone, recipe.image_size, recipe.scales)
            trained = train_model(recipe, images, taps, device=CPU, reporter=phases)
            phases.progress("End", 0, 0)
            runs.append({"total": time.perf_counter() - began, **phases.seconds})
        n_bad = sum(bool(image.bad) for image in images)
        passes = passes_of(recipe, n_good=len(images) - n_bad, n_bad=n_bad)
        with changed(folded=False, few_bits=False):
            plain = cached_step(recipe, images, taps)
        with changed(folded=True, few_bits=False):
            folded = cached_step(recipe, images, taps)
        steps = {
            "re-extracted, with noise": re_extracted(recipe, images, backbone, noise=True),
            "re-extracted": re_extracted(recipe, images, backbone, noise=False),
            "cached": plain,
            "cached, folded": folded,
            "as it is": cached_step(recipe, images, taps),
        }
        step_ms = {name: timing.p50_ms for name, timing in take_turns(steps, rounds=options.rounds).items()}
    total = statistics.median(run["total"] for run in runs)
    again = step_ms["re-extracted"] / 1000 * passes / recipe.batch_size
    return {
        "images": {"good": len(images) - n_bad, "bad": n_bad, "size": list(recipe.image_size)},
        "recipe": recipe.name,
        "backbone": backbone.name,
        "weights": backbone.weights,
        "sample_passes": passes,
        "seconds_of_runs": [{name: round(value, 2) for name, value in run.items()} for run in runs],
        "median_total_s": round(total, 1),
        "step_ms": {name: round(value, 1) for name, value in step_ms.items()},
        "re_extracted_s": round(again, 1),
        "ratio_of_steps": round(step_ms["re-extracted"] / step_ms["as it is"], 1),
        "ratio_of_steps_with_noise": round(step_ms["re-extracted, with noise"] / step_ms["as it is"], 1),
        "ratio_of_everything": round(again / total, 1),
        "figures": {name: trained.model.figures[name] for name in ("i_auroc", "ap_det", "ap_loc")},
    }


def passes_of(recipe: Recipe, *, n_good: int, n_bad: int) -> int:
    """Samples that the three folds' networks and the model see, each bad image in four orientations."""
    left_bad, left_good = n_bad - math.ceil(n_bad / N_FOLDS), n_good - math.ceil(n_good / N_FOLDS)
    fold = planned_samples(recipe, n_good=left_good, n_bad=left_bad)
    return N_FOLDS * fold + planned_samples(recipe, n_good=n_good, n_bad=n_bad)


def asked_for(options: argparse.Namespace) -> tuple[Recipe, list[LabelledImage], dict[str, str], Backbone]:
    """Recipe, images with their folds, and backbone."""
    recipe = recipe_from(options)
    images = labelled_images(options.data, fold_column="fold")
    backbone = load_backbone(
        recipe.backbone, weights=options.weights, padding=recipe.padding, local=recipe.has_local_head
    )
    return recipe, images, assign_folds(images, from_data=True), backbone


def accuracy(options: argparse.Namespace) -> dict[str, Any]:
    recipe, images, folds, backbone = asked_for(options)
    rows = []
    for seed in options.seeds:
        for name, how in (
            ("slow", {"folded": False, "few_bits": False, "plain_backbone": True}),
            ("fast", {"folded": True, "few_bits": True}),
        ):
            with tempfile.TemporaryDirectory() as folder, changed(**how):
                taps = TapCache(Path(folder), backbone, recipe.image_size, recipe.scales)
                chosen = recipe.with_settings({"seed": seed})
                pooled = cross_validate(chosen, images, taps, folds=folds, device=CPU, reporter=Silent())["pooled"]
            kept = ("i_auroc", "ap_det", "p_auroc", "ap_loc", "aupro", "seconds", "n_good", "n_bad")
            rows.append({"way": name, "seed": seed, **{key: pooled[key] for key in kept}})
            print(json.dumps(rows[-1]), flush=True)
    return {
        "recipe": recipe.name,
        "backbone": backbone.name,
        "weights": backbone.weights,
        "image_size": list(recipe.image_size),
        "rows": rows,
        "mean_ap_det": {
            way: round(statistics.mean(row["ap_det"] for row in rows if row["way"] == way), 5)
            for way in ("slow", "fast")
        },
    }


def early(options: argparse.Namespace) -> dict[str, Any]:
    recipe, images, folds, backbone = asked_for(options)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        taps = TapCache(Path(folder), backbone, recipe.image_size, recipe.scales)
        taps.fill([(image.key, image.path) for image in images], device=CPU)
        for name, stops in (("whole length", False), ("early stop", True)):
            chosen = recipe.with_settings({"early_stop": stops})
            began, busy = time.perf_counter(), time.process_time()
            with mock.patch.object(Trainer, "_step", autospec=True, side_effect=Trainer._step) as step:
                report = cross_validate(chosen, images, taps, folds=folds, device=CPU, reporter=Silent())
            kept = ("i_auroc", "ap_det", "p_auroc", "ap_loc", "aupro", "n_good", "n_bad", "n_masks")
            rows.append(
                {
                    "way": name,
                    "steps": step.call_count,
                    "seconds": round(time.perf_counter() - began, 1),
                    "cpu_seconds": round(time.process_time() - busy, 1),
                    **{key: report["pooled"][key] for key in kept},
                    "lengths": [fold["length"] for fold in report["folds"] if stops],
                }
            )
            print(json.dumps(rows[-1]), flush=True)
    return {
        "recipe": recipe.name,
        "settings": recipe.settings(),
        "backbone": backbone.name,
        "weights": backbone.weights,
        "rows": rows,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    fast = commands.add_parser("speed")
    fast.set_defaults(run=speed)
    fast.add_argument("--images", type=int, default=200)
    fast.add_argument("--runs", type=int, default=3)
    fast.add_argument("--rounds", type=int, default=10)
    right = commands.add_parser("accuracy")
    right.set_defaults(run=accuracy)
    right.add_argument("data", type=Path)
    right.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    short = commands.add_parser("early")
    short.set_defaults(run=early)
    short.add_argument("data", type=Path)
    for command in (fast, right, short):
        command.add_argument("--recipe", default="cam")
        command.add_argument("--backbone")
        command.add_argument("--weights", default="auto")
        command.add_argument("--image-size", type=int, nargs=2, metavar=("H", "W"))
        command.add_argument("--epochs", type=int)
        command.add_argument("--seed", type=int)
        command.add_argument("--set", action="append", default=[], dest="settings")
        command.add_argument("--out", type=Path)
    options = parser.parse_args()
    report = {
        "command": " ".join(["python", "-m", "benchmarks.training", *sys.argv[1:]]),
        **options.run(options),
        "device": device_title(CPU),
        "cpu": torch.cpu.get_capabilities().get("cpu_name") if hasattr(torch.cpu, "get_capabilities") else None,
        "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY"),
        "torch": torch.__version__,
        "date": datetime.now(UTC).date().isoformat(),
    }
    print(json.dumps(report, indent=1))
    if options.out:
        options.out.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
