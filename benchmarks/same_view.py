"""How far apart are the descriptors of two photographs of the same view, and of the images of one part?

    SSN_WEIGHTS_DIR=weights python -m benchmarks.same_view kolektorsdd --image-size 704 256 \\
        --out benchmarks/results/same-view.json

Each image is cut to 97 % of its sides, and cut again a little aside, with 3 % more light and a noise of 2 of 255 grey
values, as another photograph of the same view would be. Distances are in units of that to the nearest image of another
part. From these figures `SAME_VIEW_WITHIN` of `ssn_core/selection.py` was chosen. Then the same of two images of one
part, and how many images one verdict would not fit were each part a stack, and in the stacks as they are.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.labelled import described, labelled_images
from ssn_core import selection
from ssn_core.dataset import LabelledImage
from ssn_core.descriptors import describing_backbones
from ssn_core.inference import best_device, device_title
from ssn_core.surfaces import write_surfaces

ASIDE = (0.01, 0.03)  # of a side
GENERATED = (256, 256)  # pixels
Size = tuple[int, int]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", help="labelled images; default: generated ones alone")
    parser.add_argument("--image-size", type=int, nargs=2, default=GENERATED, help="of the data, pixels")
    parser.add_argument("--images", type=int, default=240, help="of the generated set")
    parser.add_argument("--seed", type=int, default=100, help="of the generated set and of the noise")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        write_surfaces(Path(work), options.images, seed=options.seed)
        sets = [("generated surfaces", labelled_images(Path(work)), GENERATED)]
        if options.data:
            sets.insert(0, (options.data.name, labelled_images(options.data), tuple(options.image_size)))
        rows = []
        for name, images, size in sets:
            rows.append({"set": name, **measured(images, size, options.seed)})
            print(json.dumps(rows[-1]), flush=True)
    report = {
        "command": " ".join(["python -m benchmarks.same_view", *sys.argv[1:]]),
        "rows": rows,
        "device": device_title(best_device()),
        "date": datetime.now(UTC).date().isoformat(),
    }
    if options.out:
        options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def descriptors_of(images: Sequence[LabelledImage], size: Size) -> NDArray[np.float32]:
    """(N, D)."""
    rows = described(describing_backbones(None), images, size, best_device())
    return np.stack([rows[image.key].values for image in images]).astype(np.float32)


def measured(images: Sequence[LabelledImage], size: Size, seed: int) -> dict[str, Any]:
    """Distances to another photograph and to other images of the part, and the images that a verdict would not fit."""
    groups, bad = [image.group for image in images], np.array([bool(image.bad) for image in images])
    numbers = np.unique(groups, return_inverse=True)[1]
    same = numbers[:, None] == numbers[None]
    values = descriptors_of(images, size)
    distance = np.linalg.norm(values[:, None] - values[None], axis=2)
    nearest = np.where(same, np.inf, distance).min(axis=1)
    of_part = (distance / np.minimum(nearest[:, None], nearest[None]))[same & np.triu(np.ones_like(same), 1)]
    stacks = selection.stacks(values, groups)
    return {
        "again": taken_again(images, size, nearest, seed),
        "within_parts": quantiles(of_part),
        "misfits_were_parts_stacks": misfits(bad, numbers),
        "misfits": misfits(bad, stacks),
        "in_stacks": int((stacks >= 0).sum()),
        "n": len(images),
    }


def taken_again(
    images: Sequence[LabelledImage], size: Size, nearest: NDArray[np.floating], seed: int
) -> dict[str, list[float]]:
    """Quantiles of the distance to another photograph of the same view, by how far aside it is taken."""
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / "good"
        folder.mkdir()
        for place, image in enumerate(images):
            pixels = np.asarray(Image.open(image.path).convert("RGB")).astype(np.float64)
            height, width = pixels.shape[:2]
            for number, aside in enumerate((0.0, *ASIDE)):
                top, left = int(aside * height), int(aside * width)
                part = pixels[top : top + int(0.97 * height), left : left + int(0.97 * width)]
                if aside:
                    part = 1.03 * part + rng.normal(0, 2, part.shape[:2])[:, :, None]
                Image.fromarray(part.clip(0, 255).astype(np.uint8)).save(folder / f"{place:05d}-{number}.png")
        taken = sorted(labelled_images(Path(work), fold_column=None), key=lambda image: str(image.path))
        first, *others = descriptors_of(taken, size).reshape(len(images), 1 + len(ASIDE), -1).swapaxes(0, 1)
    distances = (np.linalg.norm(other - first, axis=1) / nearest for other in others)
    return {f"{aside:.0%} aside": quantiles(some) for aside, some in zip(ASIDE, distances, strict=True)}


def misfits(bad: NDArray[np.bool_], numbers: NDArray[np.integer]) -> int:
    """Images whose label is not the commoner one of their stack."""
    stacks = (bad[numbers == number] for number in np.unique(numbers[numbers >= 0]))
    return sum(int(min(labels.sum(), (~labels).sum())) for labels in stacks)


def quantiles(distances: NDArray[np.floating]) -> list[float]:
    """Least, 10 %, median, 90 % and greatest; empty where there is none."""
    return [round(float(q), 3) for q in np.quantile(distances, (0, 0.1, 0.5, 0.9, 1))] if distances.size else []


if __name__ == "__main__":
    main()
