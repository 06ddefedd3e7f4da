"""Labels needed to reach an AP-det out-of-fold: the queue of the most informative images against a random order.

    SSN_WEIGHTS_DIR=weights OMP_WAIT_POLICY=passive python -m benchmarks.labels_needed kolektorsdd \
        --image-size 352 128 --seeds 0 1 2 3 4 --out benchmarks/results/labels-needed.jsonl

For each fold of a CSV with a `fold` column, the images of the other folds are a pool without labels. Both orders begin
without any label: the random one as the seed draws, the queue in turns with outliers of the pool and with images unlike
each other, as in the product before there is a model. Once enough good and bad ones are labelled to train on in every
fold, then, round by round, a network learns from what is labelled, all images of the fold are scored (AP-det is counted
over the folds together), and the next images are labelled: drawn at random, or taken from the queue as the product
makes it (ssn_core.selection, with this network's scores of the pool, and a threshold half-way between the labelled
good and bad images). Nothing is chosen on the images that are reported on. The number of labels needed is where AP-det
first reaches the target, between two rounds by linear interpolation, and the order ends there; one that never does
counts with all labels of the pool, and says so. Epochs are the recipe's own (a fixed number would give orders that find
more bad images more steps).

Appends one JSON line for each seed and order; what the file holds already, from the same data and settings, is kept.
`--table` prints the table from the file and computes nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.labelled import add_settings, described, labelled_images
from benchmarks.learning_curve import read
from ssn_core import metrics, selection
from ssn_core.backbone import load_backbone
from ssn_core.cli_options import recipe_from
from ssn_core.crossval import assign_folds
from ssn_core.dataset import LabelledImage
from ssn_core.descriptors import Described, describing_backbones
from ssn_core.features import TapCache
from ssn_core.inference import best_device, device_title, score_cached
from ssn_core.model import CamNet
from ssn_core.pipeline import fill_taps, fit
from ssn_core.recipes import MIN_BAD, MIN_GOOD, Recipe
from ssn_core.reporting import Silent

ORDERS = ("random", "queue")
ROUNDS = (8, 12, 16, 20, 24, 30, 36, 48, 64, 80, 100, 125, 160, 200)  # labels in each fold's pool


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--recipe", default="cam")
    add_settings(parser)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--rounds", nargs="+", type=int, default=list(ROUNDS))
    parser.add_argument("--target", type=float, default=0.95)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--table", action="store_true", help="print the table of --out and compute nothing")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    if not options.table:
        images = labelled_images(options.data)
        with tempfile.TemporaryDirectory() as folder:
            run(options, images, options.cache or Path(folder))
    print(table(read(options.out), options.target))


def run(options: argparse.Namespace, images: Sequence[LabelledImage], cache: Path) -> None:
    """Append the lines that the file does not have yet."""
    device, known = best_device(), {line["made_of"] for line in read(options.out)}
    folds = assign_folds(images, from_data=True)
    size = recipe_of(options, 0).image_size
    pools = {
        fold: described(describing_backbones(None), [i for i in images if folds[i.key] != fold], size, device)
        for fold in sorted(set(folds.values()))
    }
    for seed in options.seeds:
        recipe = recipe_of(options, seed)
        backbone = load_backbone(
            recipe.backbone, weights=options.weights, padding=recipe.padding, local=recipe.has_local_head
        )
        taps = TapCache(cache, backbone, recipe.image_size, recipe.scales)
        fill_taps(taps, images, device=device, reporter=Silent())
        for order in ORDERS:
            made_of = _made_of(recipe, images, folds, options, order, backbone.weights_hash)
            if made_of in known:
                continue
            began = time.monotonic()
            curve = measure(recipe, images, folds, pools, taps, order, options, device=device)
            line = {
                "order": order,
                "seed": seed,
                "curve": curve,
                "pool": min(sum(folds[i.key] != fold for i in images) for fold in set(folds.values())),
                "seconds": round(time.monotonic() - began, 1),
                "weights": backbone.weights,
                "settings": recipe.settings(),
                "device": device_title(device),
                "torch": torch.__version__,
                "date": datetime.now(UTC).date().isoformat(),
                "command": " ".join(["python", *sys.argv]),
                "made_of": made_of,
            }
            with options.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            needed = labels_needed(curve, options.target)
            print(f"seed {seed}, {order}: {needed} labels to {options.target}, {line['seconds']} s", flush=True)


def recipe_of(options: argparse.Namespace, seed: int) -> Recipe:
    return recipe_from(argparse.Namespace(**{**vars(options), "seed": seed}))


@dataclass
class Fold:
    """One fold's images, and what is labelled of its pool so far."""

    pool: list[LabelledImage]  # of the other folds
    points: NDArray[np.float32]  # of the pool, in its order
    held_out: list[LabelledImage]
    first_order: list[int]  # places in the pool, as they are labelled before there is a network
    known: list[int]  # places that are labelled
    net: CamNet | None = None  # that learned from them in the last round


def measure(
    recipe: Recipe,
    images: Sequence[LabelledImage],
    folds: Mapping[str, str],
    pools: Mapping[str, Mapping[str, Described]],
    taps: TapCache,
    order: str,
    options: argparse.Namespace,
    *,
    device: torch.device,
) -> list[tuple[int, float]]:
    """(labels in each fold's pool, AP-det over all folds), a pair for each round; ends once the target is reached."""
    parts = []
    for fold in sorted(set(folds.values())):
        pool = sorted((image for image in images if folds[image.key] != fold), key=lambda image: image.key)
        held_out = [image for image in images if folds[image.key] == fold]
        begin = selection.shuffled(np.arange(len(pool)), seed=recipe.seed)
        rows = [pools[fold][image.key] for image in pool]
        points = selection.reduced(np.stack([row.values for row in rows]))
        if order == "queue":
            diverse = selection.informative(points, np.arange(0), begin, None, n=len(pool))
            begin = selection.in_turns(np.argsort([-row.outlier for row in rows], kind="stable"), diverse)
        first_order = [int(place) for place in begin]
        parts.append(Fold(pool, points, held_out, first_order, first_ones(pool, first_order, options.rounds[0])))
    curve: list[tuple[int, float]] = []
    for n in options.rounds:
        if n > min(len(part.pool) for part in parts):
            break
        if n < max(len(part.known) for part in parts):  # a fold needed more, to have enough of both labels
            continue
        labels: list[bool] = []
        scores: list[float] = []
        for part in parts:
            if part.net is None or order == "random":
                part.known = part.first_order[:n]
            else:
                part.known += following(part, part.net, taps, device)[: n - len(part.known)]
            chosen = [part.pool[place] for place in part.known]
            part.net = fit(recipe, chosen, taps, device=device, reporter=Silent(), name=f"{n} labels")
            scores += scores_of(part.net, taps, part.held_out, device)
            labels += [bool(image.bad) for image in part.held_out]
        curve.append((n, float(metrics.ap(labels, scores) or 0.0)))
        print(f"  {order}, {n} labels: AP-det {curve[-1][1]:.4f}", file=sys.stderr, flush=True)
        if curve[-1][1] >= options.target:
            break
    return curve


def first_ones(pool: Sequence[LabelledImage], order: Sequence[int], n: int) -> list[int]:
    """The first of an order, and as many more as it takes to have enough good and bad ones to train on."""
    for end in range(n, len(order) + 1):
        bad = [bool(pool[place].bad) for place in order[:end]]
        if sum(bad) >= MIN_BAD and len(bad) - sum(bad) >= MIN_GOOD:
            return list(order[:end])
    raise SystemExit("The pool holds too few bad images to train on")


def following(part: Fold, net: CamNet, taps: TapCache, device: torch.device) -> list[int]:
    """All images of the pool that have no label yet, as the queue orders them with a network's scores."""
    taken = set(part.known)
    rest = [place for place in part.first_order if place not in taken]
    scores = np.array(scores_of(net, taps, [part.pool[place] for place in rest], device))
    bad = np.array([bool(part.pool[place].bad) for place in part.known])
    learned = np.array(scores_of(net, taps, [part.pool[place] for place in part.known], device))
    threshold = float((learned[bad].min() + learned[~bad].max()) / 2)
    unsure = selection.uncertainty(scores, threshold=threshold)
    chosen = selection.informative(part.points, np.array(part.known), np.array(rest), unsure, n=len(rest))
    return [int(place) for place in chosen]


def scores_of(net: CamNet, taps: TapCache, images: Sequence[LabelledImage], device: torch.device) -> list[float]:
    return [found.score for found in score_cached(net, taps, [image.key for image in images], device=device)]


def labels_needed(curve: Sequence[Sequence[float]], target: float) -> float | None:
    """Labels at which the curve first reaches the target, between rounds by a straight line; None: it never does."""
    before: Sequence[float] | None = None
    for n, figure in curve:
        if figure >= target:
            if before is None:
                return float(n)
            return round(before[0] + (n - before[0]) * (target - before[1]) / (figure - before[1]), 1)
        before = (n, figure)
    return None


def table(lines: Sequence[Mapping[str, Any]], target: float) -> str:
    """Labels needed by both orders for each seed, and the median ratio, as Markdown."""
    rows = [["Seed", *(f"{order}: labels to AP-det {target:g}" for order in ORDERS), "Ratio"], ["---"] * 4]
    ratios = []
    for seed in sorted({line["seed"] for line in lines}):
        mine = {line["order"]: line for line in lines if line["seed"] == seed}
        if set(mine) != set(ORDERS):
            continue
        needed = {order: labels_needed(mine[order]["curve"], target) for order in ORDERS}
        counted = {order: needed[order] or mine[order]["pool"] for order in ORDERS}
        ratios.append(counted["queue"] / counted["random"])
        words = [f"{n:g}" if (n := needed[order]) is not None else f"not with {counted[order]}" for order in ORDERS]
        rows.append([str(seed), *words, f"{ratios[-1]:.2f}"])
    rows.append(["median", "", "", f"{np.median(ratios):.2f}" if ratios else "not measured"])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _made_of(
    recipe: Recipe,
    images: Sequence[LabelledImage],
    folds: Mapping[str, str],
    options: argparse.Namespace,
    order: str,
    weights_hash: str,
) -> str:
    data = sorted((image.key, bool(image.bad), folds[image.key]) for image in images)
    how = [order]
    if order == "queue":
        how += ["outliers to all backbones in turns", *(one.weights_hash for one in describing_backbones(None))]
    made = json.dumps([data, recipe.settings(), options.rounds, options.target, *how, weights_hash])
    return hashlib.sha256(made.encode()).hexdigest()[:16]


if __name__ == "__main__":
    main()
