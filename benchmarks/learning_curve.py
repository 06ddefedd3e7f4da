"""Learning curve: AP-det, out-of-fold, against the number of labelled bad images.

    SSN_WEIGHTS_DIR=weights python -m benchmarks.learning_curve kolektorsdd --image-size 704 256 \
        --recipes cam gap-cam --bad 2 4 8 16 all --seeds 0 1 2 3 4 --out benchmarks/results/learning-curve.jsonl

For each fold of a CSV with a `fold` column, a network learns from the other folds' good images and from a few of their
bad ones, drawn by the seed (a larger number contains the smaller one's); all images of the fold are scored. Appends one
JSON line for each recipe, number and seed; what the file holds already, from the same data and settings, is kept.
Prints a Markdown table: mean and range over the seeds. `--table` prints it from the file and computes nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.labelled import labelled_images
from ssn_core import metrics
from ssn_core.backbone import load_backbone
from ssn_core.cli_options import recipe_from
from ssn_core.crossval import assign_folds
from ssn_core.dataset import LabelledImage
from ssn_core.features import TapCache
from ssn_core.inference import best_device, device_title, score_cached
from ssn_core.pipeline import fill_taps, fit
from ssn_core.recipes import Recipe
from ssn_core.reporting import Silent

ALL = "all"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--recipes", nargs="+", default=["cam", "gap-cam"])
    parser.add_argument("--bad", nargs="+", default=["2", "4", "8", "16", ALL])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--backbone")
    parser.add_argument("--weights", default="auto")
    parser.add_argument("--image-size", type=int, nargs=2)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--table", action="store_true", help="print the table of --out and compute nothing")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    if not options.table:
        images = labelled_images(options.data)
        with tempfile.TemporaryDirectory() as folder:
            for line in measure(options, images, options.cache or Path(folder)):
                with options.out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")
                print(f"{line['recipe']}, {line['bad']} bad, seed {line['seed']}: AP-det {line['ap_det']:.4f}")
    print(table(read(options.out)))


def measure(options: argparse.Namespace, images: Sequence[LabelledImage], cache: Path) -> Iterator[dict[str, Any]]:
    """One line for each recipe, number of bad images and seed that the file does not have yet."""
    folds, device = assign_folds(images, from_data=True), best_device()
    known = {line["made_of"] for line in read(options.out)}
    for name in options.recipes:
        for seed in options.seeds:
            recipe = recipe_from(argparse.Namespace(**{**vars(options), "recipe": name, "seed": seed}))
            backbone = load_backbone(
                recipe.backbone, weights=options.weights, padding=recipe.padding, local=recipe.has_local_head
            )
            taps = TapCache(cache, backbone, recipe.image_size, recipe.scales)
            for bad in options.bad:
                made_of = _made_of(recipe, images, folds, bad, backbone.weights_hash)
                if made_of in known:
                    continue
                fill_taps(taps, images, device=device, reporter=Silent())
                began = time.monotonic()
                labels, scores = out_of_fold(recipe, images, folds, taps, bad=bad, seed=seed, device=device)
                yield {
                    "recipe": name,
                    "bad": bad,
                    "seed": seed,
                    "ap_det": metrics.ap(labels, scores),
                    "i_auroc": metrics.i_auroc(labels, scores),
                    "n_good": labels.count(False),
                    "n_bad": labels.count(True),
                    "seconds": round(time.monotonic() - began, 1),
                    "backbone": recipe.backbone,
                    "weights": backbone.weights,
                    "settings": recipe.settings(),
                    "device": device_title(device),
                    "torch": torch.__version__,
                    "date": datetime.now(UTC).date().isoformat(),
                    "command": " ".join(["python -m benchmarks.learning_curve", *sys.argv[1:]]),
                    "made_of": made_of,
                }


def out_of_fold(
    recipe: Recipe,
    images: Sequence[LabelledImage],
    folds: Mapping[str, str],
    taps: TapCache,
    *,
    bad: str,
    seed: int,
    device: torch.device,
) -> tuple[list[bool], list[float]]:
    """Labels and scores of all images, each by a network that learned from so many bad images of the other folds."""
    labels: list[bool] = []
    scores: list[float] = []
    for fold in sorted(set(folds.values())):
        training = [image for image in images if folds[image.key] != fold]
        left_out = [image for image in images if folds[image.key] == fold]
        chosen = choose(training, bad, seed=seed)
        net = fit(recipe, chosen, taps, device=device, reporter=Silent(), name=f"fold {fold}")
        scores += [s.score for s in score_cached(net, taps, [image.key for image in left_out], device=device)]
        labels += [bool(image.bad) for image in left_out]
    return labels, scores


def choose(training: Sequence[LabelledImage], bad: str, *, seed: int) -> list[LabelledImage]:
    """All good images, and so many bad ones ("all", or a number), in an order that depends on seed and images alone."""
    found = sorted((image for image in training if image.bad), key=lambda image: image.key)
    order = np.random.default_rng(seed).permutation(len(found))
    wanted = len(found) if bad == ALL else int(bad)
    if not 1 <= wanted <= len(found):
        raise SystemExit(f"{bad} bad images were asked for, and a fold has {len(found)} to learn from")
    return [image for image in training if not image.bad] + [found[place] for place in order[:wanted]]


def table(lines: Sequence[Mapping[str, Any]]) -> str:
    """Mean and range of AP-det over the seeds, as Markdown: a row for each recipe with its settings."""
    numbers = sorted({line["bad"] for line in lines}, key=lambda bad: (bad == ALL, int(bad) if bad != ALL else 0))
    rows = [["Recipe", "Size", "Epochs", *(f"{bad} bad" for bad in numbers), "Seeds"], ["---"] * (len(numbers) + 4)]
    for key in dict.fromkeys(map(_settings_but_seed, lines)):
        mine = [line for line in lines if _settings_but_seed(line) == key]
        settings = mine[0]["settings"]
        cells = []
        for bad in numbers:
            found = [line["ap_det"] for line in mine if line["bad"] == bad]
            cells.append(f"{np.mean(found):.4f} ({min(found):.4f} to {max(found):.4f})" if found else "not measured")
        scales = settings.get("scales", 1)
        size = "{} x {}".format(*settings["image_size"]) + (f", {scales} scales" if scales > 1 else "")
        what = [mine[0]["recipe"], size, str(settings["epochs"] or "automatic")]
        rows.append([*what, *cells, ", ".join(map(str, sorted({line["seed"] for line in mine})))])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _settings_but_seed(line: Mapping[str, Any]) -> str:
    return json.dumps([line["weights"], {**line["settings"], "seed": None}])


def read(path: Path) -> list[dict[str, Any]]:
    """The lines that are there; none without a file. Of equal ones the last counts."""
    if not path.exists():
        return []
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return list({line["made_of"]: line for line in lines}.values())


def _made_of(
    recipe: Recipe, images: Sequence[LabelledImage], folds: Mapping[str, str], bad: str, weights_hash: str
) -> str:
    data = sorted((image.key, bool(image.bad), folds[image.key]) for image in images)
    return hashlib.sha256(json.dumps([data, recipe.settings(), bad, weights_hash]).encode()).hexdigest()[:16]


if __name__ == "__main__":
    main()
