"""Would true masks order all images rightly? A classifier of single cells that is taught by masks, out-of-fold.

    SSN_WEIGHTS_DIR=weights python -m benchmarks.mask_taught kolektorsdd --image-size 704 256 --seeds 0 1 2 \
        --out benchmarks/results/mask-taught.json

What `cam` gets wrong with image labels alone may be the fault of its labels, of its way to learn, or of what the frozen
backbone sees at this image size. This takes the first two away as far as it can: on the cells of layer1, with layer2
and layer3 enlarged beside it, a small classifier learns which cells the masks mark (each bad image with the same say,
cells near a mask's edge left out), then twice again with the highest cells outside the masks added, its own mistakes.
An image's score is the mean of its highest cells; which share of them is tried on the images that are reported on, so
that the best share flatters. For each seed and fold: AP-det, and which images stand in the wrong order.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.labelled import add_settings, labelled_images
from ssn_core import metrics
from ssn_core.backbone import load_backbone
from ssn_core.cli_options import recipe_from
from ssn_core.dataset import LabelledImage
from ssn_core.features import TapCache
from ssn_core.inference import best_device, device_title
from ssn_core.local_evidence import enlarged
from ssn_core.pipeline import fill_taps
from ssn_core.reporting import Silent
from ssn_core.seeding import seeded

Logits = Callable[[Tensor], Tensor]  # cells (N, C) -> (N,)
SHARES = (0.0003, 0.001, 0.003, 0.01)  # of an image's cells, highest first, whose mean is its score
STRIDE = 4  # pixels of a cell of layer1
MARKED = 0.25  # of a cell's pixels, at least, where it counts as bad
NEAR = 3  # cells from a mask that count as neither
PER_IMAGE, HARD, ROUNDS = 300, 100, 2  # cells of an image at random; its highest ones; how often these are added
WIDTH, STEPS, POSITIVES, NEGATIVES, RATE, DECAY = 128, 1500, 256, 1024, 3e-3, 1e-2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    add_settings(parser)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    recipe = recipe_from(argparse.Namespace(recipe="cam", seed=0, **vars(options)))
    images = labelled_images(options.data)
    if not all(image.fold for image in images):
        parser.error(f"{options.data}: expected a fold for every labelled image, in a column of that name")
    with tempfile.TemporaryDirectory() as folder:
        backbone = load_backbone(recipe.backbone, weights=options.weights, padding=recipe.padding, local=True)
        taps = TapCache(options.cache or Path(folder), backbone, recipe.image_size, recipe.scales)
        fill_taps(taps, images, device=best_device(), reporter=Silent())
        rows = [
            row
            for seed in options.seeds
            for fold in sorted({image.fold for image in images if image.fold})
            for row in measure(images, fold, taps, seed=seed)
        ]
    report = {
        "command": " ".join(["python -m benchmarks.mask_taught", *sys.argv[1:]]),
        "rows": rows,
        "backbone": backbone.name,
        "weights": backbone.weights,
        "device": device_title(best_device()),
        "torch": torch.__version__,
        "date": datetime.now(UTC).date().isoformat(),
    }
    options.out.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def measure(images: Sequence[LabelledImage], fold: str, taps: TapCache, *, seed: int) -> list[dict[str, Any]]:
    """One fold, taught by the others: a row for each share of the cells."""
    logits = taught([image for image in images if image.fold != fold], taps, seed=seed)
    left_out = [image for image in images if image.fold == fold]
    found = [logits(cells_of(image, taps)) for image in left_out]
    bad = np.array([bool(image.bad) for image in left_out])
    names = [f"{image.path.parent.name}/{image.path.stem}" for image in left_out]
    rows = []
    for share in SHARES:
        scores = np.array([float(one.topk(max(1, round(share * len(one)))).values.mean()) for one in found])
        row = {
            "seed": seed,
            "fold": fold,
            "share": share,
            "ap_det": round(metrics.ap(bad, scores) or 0.0, 4),
            "bad_below_a_good_one": [names[i] for i in np.argsort(scores) if bad[i] and scores[i] < scores[~bad].max()],
            "good_above_a_bad_one": [
                names[i] for i in np.argsort(-scores) if not bad[i] and scores[i] > scores[bad].min()
            ],
        }
        print(json.dumps(row), flush=True)
        rows.append(row)
    return rows


def taught(images: Sequence[LabelledImage], taps: TapCache, *, seed: int) -> Logits:
    """The classifier, from all images but those of the fold that is left out."""
    rng = np.random.default_rng(seed)
    marked: list[Tensor] = []
    others: list[Tensor] = []
    for image in images:
        cells = cells_of(image, taps)
        inside, near = places(image, taps)
        if inside.any():
            marked.append(cells[inside])
        outside = torch.nonzero(~near)[:, 0]
        others.append(cells[outside[torch.from_numpy(rng.permutation(len(outside))[:PER_IMAGE])]])
    logits = fitted(marked, others, seed=seed)
    for _ in range(ROUNDS):
        for image in images:
            cells = cells_of(image, taps)
            own = logits(cells).masked_fill(places(image, taps)[1], -torch.inf)
            others.append(cells[own.topk(HARD).indices])
        logits = fitted(marked, others, seed=seed)
    return logits


def cells_of(image: LabelledImage, taps: TapCache) -> Tensor:
    """Layer1's cells with layer2 and layer3 enlarged to them, (H1 * W1, C)."""
    *coarse, fine = taps.read([image.key])
    size = (fine.shape[-2], fine.shape[-1])
    every = [fine[0], *(enlarged(tap[0], size) for tap in coarse)]  # one image: channels take the batch's place
    return torch.cat(every).flatten(1).T


def places(image: LabelledImage, taps: TapCache) -> tuple[Tensor, Tensor]:
    """Which cells the mask marks, and which are too near to it to count as good; (H1 * W1,) bool each."""
    mask = image.load_mask(taps.image_size)
    if mask is None:
        raise SystemExit(f"{image.file} is bad and has no mask, so nothing can be learned from it")
    shares = F.avg_pool2d(torch.from_numpy(mask.astype(np.float32))[None], STRIDE)[0]
    near = ndimage.binary_dilation(shares.numpy() > 0, iterations=NEAR)
    return (shares >= MARKED).flatten(), torch.from_numpy(near).flatten()


def fitted(marked: Sequence[Tensor], others: Sequence[Tensor], *, seed: int) -> Logits:
    """Fit the classifier to cells (N, C) of each bad image and to cells where nothing is."""
    bad, good = torch.cat(tuple(marked)), torch.cat(tuple(others))
    weights = np.concatenate([np.full(len(cells), 1 / len(cells)) for cells in marked])
    weights /= weights.sum()
    mean, std = good.mean(0), good.std(0).clamp_min(1e-3)
    rng = np.random.default_rng(seed)
    with seeded(seed):
        net = nn.Sequential(nn.Linear(bad.shape[1], WIDTH), nn.GELU(), nn.Linear(WIDTH, 1))
    optimiser = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=DECAY, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=STEPS)
    for _ in range(STEPS):
        drawn = bad[torch.from_numpy(rng.choice(len(bad), POSITIVES, p=weights))]
        beside = good[torch.from_numpy(rng.integers(0, len(good), NEGATIVES))]
        found = net((torch.cat((drawn, beside)) - mean) / std)[:, 0]
        loss = F.softplus(-found[:POSITIVES]).mean() + F.softplus(found[POSITIVES:]).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()

    @torch.inference_mode()
    def logits(cells: Tensor) -> Tensor:
        found: Tensor = net((cells - mean) / std)[:, 0]
        return found

    return logits


if __name__ == "__main__":
    main()
