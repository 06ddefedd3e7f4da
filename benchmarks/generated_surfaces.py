"""Cross-validate a recipe on generated surfaces, one set a material, with each kind of backbone weights.

    SSN_WEIGHTS_DIR=weights python -m benchmarks.generated_surfaces --images 240 --seed 7 \
        --out benchmarks/results/generated-surfaces.json

Every set is made by `python -m ssn_core generate` (another seed than the demo's 0), a quarter of it bad, three folds by
part. Masks are used to measure only. Writes one JSON object: a row for each set and kind of weights, settings, device,
versions, date.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from benchmarks.labelled import labelled_images
from ssn_core.backbone import load_backbone
from ssn_core.crossval import assign_folds, cross_validate
from ssn_core.dataset import LabelledImage
from ssn_core.features import TapCache
from ssn_core.inference import best_device, device_title
from ssn_core.recipes import Recipe, get_recipe
from ssn_core.reporting import Silent
from ssn_core.surfaces import MATERIALS, write_surfaces
from ssn_core.weights import SOURCES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="cam")
    parser.add_argument("--weights", nargs="+", default=list(SOURCES), choices=SOURCES)
    parser.add_argument("--materials", nargs="+", default=list(MATERIALS), choices=list(MATERIALS))
    parser.add_argument("--images", type=int, default=240)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    recipe, device = get_recipe(options.recipe), best_device()
    rows = []
    with tempfile.TemporaryDirectory() as work:
        for material in options.materials:
            folder = Path(work) / material
            write_surfaces(folder, options.images, seed=options.seed, names=(material,))
            images = labelled_images(folder)
            for weights in options.weights:
                began = time.monotonic()
                figures = _cross_validated(recipe, images, weights, Path(work) / "taps", device)
                rows.append({"set": material, "weights": weights, **figures})
                rows[-1]["seconds"] = round(time.monotonic() - began, 1)
                print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    report = {
        "rows": rows,
        "images": options.images,
        "seed": options.seed,
        "settings": recipe.settings(),
        "device": device_title(device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "date": datetime.now(UTC).date().isoformat(),
    }
    options.out.write_text(json.dumps(report, indent=1) + "\n")


def _cross_validated(
    recipe: Recipe, images: list[LabelledImage], weights: str, cache: Path, device: torch.device
) -> dict[str, Any]:
    backbone = load_backbone(recipe.backbone, weights=weights, padding=recipe.padding, local=recipe.has_local_head)
    report = cross_validate(
        recipe,
        images,
        TapCache(cache, backbone, recipe.image_size, recipe.scales),
        folds=assign_folds(images, from_data=True),
        device=device,
        reporter=Silent(),
    )
    pooled = report["pooled"]
    return {key: pooled[key] for key in ("i_auroc", "ap_det", "p_auroc", "ap_loc", "aupro", "n_good", "n_bad")}


if __name__ == "__main__":
    main()
