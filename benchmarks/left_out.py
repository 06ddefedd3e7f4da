"""Do more labels mend a wrong order, or do the other images' labels speak against it? Some groups left out of training.

    SSN_WEIGHTS_DIR=weights python -m benchmarks.left_out kolektorsdd --image-size 704 256 --seeds 0 1 2 3 4 \
        --groups kos12 kos19 kos46 --out benchmarks/results/left-out.json

A fold of three leaves a third of the labels out of training. Here a network learns from the images of all other groups
and scores those of the named ones: were a wrong order of theirs for want of labels, it would mend. A second network
learns from all images, the named ones too: whether the features can hold the labels apart at all. Its scores are of
images that it has learned, and say nothing else. For each seed and network: every image of the groups with its score.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from benchmarks.labelled import add_settings, labelled_images
from ssn_core.backbone import load_backbone
from ssn_core.cli_options import recipe_from
from ssn_core.dataset import LabelledImage, check_labels
from ssn_core.errors import TooFewLabelsError
from ssn_core.features import TapCache
from ssn_core.inference import best_device, device_title, score_cached
from ssn_core.pipeline import fill_taps, fit
from ssn_core.recipes import Recipe
from ssn_core.reporting import Silent

OTHERS, EVERYTHING = "all other groups", "all images, these too"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    add_settings(parser)
    parser.add_argument("--groups", nargs="+", required=True)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    recipe = recipe_from(argparse.Namespace(recipe="cam", seed=0, **vars(options)))
    images = labelled_images(options.data)
    unknown = sorted(set(options.groups) - {image.group for image in images})
    if unknown:
        parser.error(f"{options.data}: no labelled image is of the group {', '.join(unknown)}")
    try:
        check_labels([image for image in images if image.group not in options.groups], recipe)
    except TooFewLabelsError as error:
        parser.error(f"Without these groups: {error}")
    device = best_device()
    with tempfile.TemporaryDirectory() as folder:
        backbone = load_backbone(
            recipe.backbone, weights=options.weights, padding=recipe.padding, local=recipe.has_local_head
        )
        taps = TapCache(options.cache or Path(folder), backbone, recipe.image_size, recipe.scales)
        fill_taps(taps, images, device=device, reporter=Silent())
        rows = [
            row
            for seed in options.seeds
            for row in measure(recipe.with_settings({"seed": seed}), images, options.groups, taps, device=device)
        ]
    report = {
        "command": " ".join(["python -m benchmarks.left_out", *sys.argv[1:]]),
        "rows": rows,
        "settings": {name: value for name, value in recipe.settings().items() if name != "seed"},  # a row has its own
        "weights": backbone.weights,
        "device": device_title(device),
        "torch": torch.__version__,
        "date": datetime.now(UTC).date().isoformat(),
    }
    options.out.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def measure(
    recipe: Recipe, images: Sequence[LabelledImage], groups: Sequence[str], taps: TapCache, *, device: torch.device
) -> list[dict[str, Any]]:
    """Two rows: the groups' images scored by a network that knows none of them, and by one that has learned them."""
    shown = [image for image in images if image.group in groups]
    rows = []
    for title, training in ((OTHERS, [image for image in images if image.group not in groups]), (EVERYTHING, images)):
        began = time.monotonic()
        net = fit(recipe, training, taps, device=device, reporter=Silent(), name=title)
        scores = [found.score for found in score_cached(net, taps, [image.key for image in shown], device=device)]
        row = {
            "seed": recipe.seed,
            "learned_from": title,
            "n_bad": sum(bool(image.bad) for image in training),
            "n_good": sum(not image.bad for image in training),
            "images": [
                {
                    "image": f"{image.path.parent.name}/{image.path.stem}",
                    "label": "bad" if image.bad else "good",
                    "score": round(score, 4),
                }
                for score, image in sorted(zip(scores, shown, strict=True), key=lambda pair: -pair[0])
            ],
            "seconds": round(time.monotonic() - began, 1),
        }
        print(json.dumps(row), flush=True)
        rows.append(row)
    return rows


if __name__ == "__main__":
    main()
