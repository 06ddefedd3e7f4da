"""How many bad parts are among the first images that an inspector is shown before anything is labelled.

    SSN_WEIGHTS_DIR=weights python -m benchmarks.first_images kolektorsdd --image-size 704 256 --seeds 100 7 \\
        --out benchmarks/results/first-images.json

Of the data set and of generated surfaces (one material a set, a quarter of it bad; the outlier score was chosen on
fabric, wood and concrete of seed 100), all images are described without their labels, with each kind of backbone
weights and with both. Then: bad ones among the first 12, 24 and 48 by outlier score, in the queue as the product makes
it, and by chance.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.labelled import described, labelled_images
from ssn_core import metrics, selection
from ssn_core.backbone import load_backbone
from ssn_core.dataset import LabelledImage
from ssn_core.descriptors import BACKBONE
from ssn_core.inference import best_device, device_title
from ssn_core.surfaces import MATERIALS, write_surfaces

FIRST = (12, 24, 48)
GENERATED = (256, 256)  # pixels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", help="labelled images; default: generated ones alone")
    parser.add_argument("--image-size", type=int, nargs=2, default=GENERATED, help="of the data, pixels")
    parser.add_argument("--weights", nargs="+", default=["imagenet", "bundled", "imagenet+bundled"])
    parser.add_argument("--images", type=int, default=240, help="of each generated set")
    parser.add_argument("--seeds", type=int, nargs="*", default=[100, 7], help="of the generated sets")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as work:
        for name, images, size in sets(options, Path(work)):
            for weights in options.weights:
                rows.append({"set": name, "weights": weights, **counted(images, weights, size)})
                print(json.dumps(rows[-1]), flush=True)
    report = {
        "command": " ".join(["python -m benchmarks.first_images", *sys.argv[1:]]),
        "rows": rows,
        "device": device_title(best_device()),
        "torch": torch.__version__,
        "date": datetime.now(UTC).date().isoformat(),
    }
    if options.out:
        options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def sets(options: argparse.Namespace, work: Path) -> Iterator[tuple[str, list[LabelledImage], tuple[int, int]]]:
    """Name, images and size in pixels of each set."""
    if options.data:
        yield options.data.name, labelled_images(options.data), tuple(options.image_size)
    for seed in options.seeds:
        for material in MATERIALS:
            folder = work / f"{material}-{seed}"
            write_surfaces(folder, options.images, seed=seed, names=(material,))
            yield f"{material}, seed {seed}", labelled_images(folder), GENERATED


def counted(images: list[LabelledImage], weights: str, size: tuple[int, int]) -> dict[str, Any]:
    """Bad images among the first ones of each order."""
    backbones = [load_backbone(BACKBONE, weights=one) for one in weights.split("+")]
    rows = described(backbones, images, size, best_device())
    bad = np.array([bool(image.bad) for image in images])
    outliers = np.array([rows[image.key].outlier for image in images])
    by_outlier = np.argsort(-outliers, kind="stable")
    points = selection.reduced(np.stack([rows[image.key].values for image in images]))
    every = np.arange(len(images))
    queue = selection.in_turns(by_outlier, selection.informative(points, every[:0], every, None, n=len(images)))
    return {
        "n_bad": int(bad.sum()),
        "n": len(images),
        "auroc_of_outlier_score": round(metrics.i_auroc(bad, outliers) or 0.0, 4),
        "by_outlier": [int(bad[by_outlier[:n]].sum()) for n in FIRST],
        "queue": [int(bad[queue[:n]].sum()) for n in FIRST],
        "by_chance": [round(float(n * bad.mean()), 1) for n in FIRST],
    }


if __name__ == "__main__":
    main()
