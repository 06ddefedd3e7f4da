"""Which regions of the masks does an out-of-fold map leave dark? What each adds to AUPRO.

    SSN_WEIGHTS_DIR=weights python -m benchmarks.mask_pieces kolektorsdd --image-size 704 256 \\
        --out benchmarks/results/mask-pieces.json

A region is an 8-connected one of the mask as it was drawn; where the mask is scaled to the map's size, thin ones fall
into pieces. The share of a region, or of a piece, is the area under its overlap against the pixel FPR, up to 0.3 and
divided by it: the mean over its pixels of 1 - FPR / 0.3 at the pixel's value, or 0 beyond. The mean of the shares is
AUPRO. Printed: both means, and the regions that cost most.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.labelled import add_settings, labelled_images
from ssn_core.backbone import load_backbone
from ssn_core.cli_options import recipe_from
from ssn_core.crossval import assign_folds, cross_validate
from ssn_core.dataset import LabelledImage
from ssn_core.features import TapCache
from ssn_core.inference import best_device, device_title
from ssn_core.map_files import MapFiles
from ssn_core.metrics import regions_of
from ssn_core.recipes import Recipe
from ssn_core.rendering import to_display_size
from ssn_core.reporting import Silent

LIMIT = 0.3  # FPR up to which AUPRO goes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--recipe", default="cam")
    add_settings(parser)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    recipe = recipe_from(options)
    images = labelled_images(options.data)
    regions = measured(images, out_of_fold_maps(recipe, images, options.weights), recipe)
    pieces = [piece for region in regions for piece in region["pieces"]]
    report = {
        "command": " ".join(["python -m benchmarks.mask_pieces", *sys.argv[1:]]),
        "n_regions": len(regions),
        "aupro": round(float(np.mean([region["share"] for region in regions])), 4),
        "n_pieces": len(pieces),
        "aupro_of_pieces": round(float(np.mean([piece["share"] for piece in pieces])), 4),
        "regions": regions,
        "settings": recipe.settings(),
        "device": device_title(best_device()),
        "date": datetime.now(UTC).date().isoformat(),
    }
    print(json.dumps({name: report[name] for name in ("n_regions", "aupro", "n_pieces", "aupro_of_pieces")}))
    for region in regions[:20]:
        print(json.dumps(region))
    if options.out:
        options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def out_of_fold_maps(recipe: Recipe, images: list[LabelledImage], weights: str) -> dict[str, NDArray[np.float32]]:
    """The map (h, w) of each image, by its key, from a network that has not seen its fold."""
    backbone = load_backbone(recipe.backbone, weights=weights, padding=recipe.padding, local=recipe.has_local_head)
    with tempfile.TemporaryDirectory() as work:
        maps = MapFiles(Path(work) / "maps")
        cross_validate(
            recipe,
            images,
            TapCache(Path(work) / "taps", backbone, recipe.image_size, recipe.scales),
            folds=assign_folds(images, from_data=True),
            device=best_device(),
            reporter=Silent(),
            maps=maps,
        )
        return {image.key: maps.read(image.key) for image in images}


def measured(images: list[LabelledImage], maps: dict[str, NDArray[np.float32]], recipe: Recipe) -> list[dict[str, Any]]:
    """Every region with its pieces, that with the least share first."""
    shown = {key: to_display_size(found, recipe.image_size, sigma=recipe.map_sigma) for key, found in maps.items()}
    drawn = {image.key: image.load_regions(recipe.image_size) for image in images}
    normal = np.sort(np.concatenate([shown[key][found == 0] for key, found in drawn.items() if found is not None]))

    def described(values: NDArray[np.float32]) -> dict[str, Any]:
        fpr = 1 - np.searchsorted(normal, values) / normal.size
        return {"pixels": int(values.size), "share": round(float(np.maximum(0.0, 1 - fpr / LIMIT).mean()), 4)}

    regions = []
    for image in images:
        found, values = drawn[image.key], shown[image.key]
        for number in np.unique(found[found > 0]) if found is not None else ():
            pieces = regions_of(found == number)
            regions.append(
                {
                    "image": f"{image.path.parent.name}/{image.path.name}",
                    **described(values[found == number]),
                    "pieces": [described(values[pieces == piece]) for piece in range(1, int(pieces.max()) + 1)],
                }
            )
    return sorted(regions, key=lambda region: float(region["share"]))


if __name__ == "__main__":
    main()
