"""Try settings on training folds: train on one fold of a CSV, look at another; a third stays untouched.

    python -m benchmarks.between_folds DATA --train-fold 1 --test-fold 2 --image-size 704 256 \
        --set pooling_fraction=0.1 --out benchmarks/results/between-folds.jsonl

Appends one JSON line: settings, folds, AP-det, I-AUROC, AP-loc, seconds, device, versions, date.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import torch

from benchmarks.labelled import add_settings, labelled_images
from ssn_core.backbone import load_backbone
from ssn_core.cli_options import recipe_from
from ssn_core.evaluation import measure
from ssn_core.features import TapCache
from ssn_core.inference import best_device, device_title, score_cached
from ssn_core.map_files import MapFiles
from ssn_core.pipeline import fill_taps, fit
from ssn_core.reporting import Silent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--train-fold", required=True)
    parser.add_argument("--test-fold", required=True)
    parser.add_argument("--recipe", default="cam")
    add_settings(parser)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    recipe, device = recipe_from(options), best_device()
    images = labelled_images(options.data)
    train, test = ([i for i in images if i.fold == fold] for fold in (options.train_fold, options.test_fold))
    with tempfile.TemporaryDirectory() as folder:
        taps = TapCache(
            options.cache or Path(folder),
            load_backbone(
                recipe.backbone, weights=options.weights, padding=recipe.padding, local=recipe.has_local_head
            ),
            recipe.image_size,
            recipe.scales,
        )
        fill_taps(taps, [*train, *test], device=device, reporter=Silent())
        began = time.monotonic()
        net = fit(recipe, train, taps, device=device, reporter=Silent(), name="trial")
        seconds = round(time.monotonic() - began, 1)
        maps = MapFiles(Path(folder) / "maps")
        scores = maps.keep(score_cached(net, taps, [i.key for i in test], device=device))
        figures = measure(test, scores, maps.read, size=recipe.image_size, sigma=recipe.map_sigma)
    line = {
        "command": " ".join(["python", *sys.argv]),
        "train_fold": options.train_fold,
        "test_fold": options.test_fold,
        **dataclasses.asdict(figures),
        "training_seconds": seconds,
        "device": device_title(device),
        "torch": torch.__version__,
        "date": datetime.now(UTC).date().isoformat(),
    }
    print(json.dumps(line))
    if options.out:
        with options.out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
