"""Ideas for a surer verdict, one at a time: `cam` as it is against `cam` with one thing changed.

    SSN_WEIGHTS_DIR=weights python -m benchmarks.detection_ideas kolektorsdd --image-size 704 256 \
        --ideas recipe --seeds 0 1 --out benchmarks/results/detection-ideas.jsonl

Each network learns from one fold of the CSV alone and is measured on the others: with half of the usual labels there is
more to get wrong. `--learn-from others` learns from all folds but one, as out-of-fold figures do. Of each idea and seed
a JSON line: for each pair of folds AP-det, AP-loc, AUPRO and every pair of a bad image and a good one that stands as
high or higher. `recipe` also writes a line for each contrast of its maps to those of good images. `--list` says what
the ideas are; `--table` prints the means of a file, which is of one data set, size and weights, and computes nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn import functional as F

from benchmarks.labelled import add_settings, labelled_images
from ssn_core.backbone import load_backbone
from ssn_core.cli_options import recipe_from
from ssn_core.crossval import assign_folds
from ssn_core.dataset import LabelledImage, examples
from ssn_core.evaluation import measure
from ssn_core.evidence import pooled_mean
from ssn_core.features import TapCache
from ssn_core.heads import Output
from ssn_core.imaging import decode
from ssn_core.inference import Scored, best_device, device_title, score_cached
from ssn_core.pipeline import fill_taps
from ssn_core.recipes import Recipe
from ssn_core.reporting import Silent
from ssn_core.sampling import FLIPS
from ssn_core.tap_store import TapStore
from ssn_core.training import Trainer, room_of

Cells = NDArray[np.float32]


@dataclass(frozen=True)
class Idea:
    """What is changed; nothing, by default."""

    says: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    q: tuple[float, float] | None = None  # of the CAM's training, from the first step to four fifths of them
    renditions: int = 0  # smaller ones of every image, which stand in for it in half of the samples
    pasted: bool = False  # the place that a bad image's CAM points at, on another part; from a quarter of the steps on


IDEAS = {
    "recipe": Idea("`cam` as it is"),
    "annealed-q": Idea("pooling fraction of the CAM's training from 0.1 to 0.002", q=(0.1, 0.002)),
    "renditions": Idea("three smaller renditions of each image, in half of the samples", renditions=3),
    "pasted": Idea("what the CAM points at pasted on other parts, in half of the samples", pasted=True),
    "fine-features": Idea("features at twice layer2's resolution", settings={"feature_scale": 2}),
    "anomalies": Idea("synthetic anomalies on half of the copies", settings={"noise_skip": 0.5}),
}
CONTRASTS = (10, 20, 40)  # cells of the fine map: smoothing of the good images' mean and spread at each place


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?")
    add_settings(parser)
    parser.add_argument("--ideas", nargs="+", default=list(IDEAS), choices=list(IDEAS))
    parser.add_argument("--learn-from", choices=("one", "others"), default="one", help="fold(s) of each network")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.list:
        print("\n".join(f"{name}: {idea.says}" for name, idea in IDEAS.items()))
        return
    if not options.out or not (options.table or options.data):
        parser.error("give DATA and --out, or --table and --out")
    if not options.table:
        with tempfile.TemporaryDirectory() as folder:
            for line in lines(options, options.cache or Path(folder)):
                with options.out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")
    print(table([json.loads(line) for line in options.out.read_text(encoding="utf-8").splitlines()]))


def lines(options: argparse.Namespace, cache: Path) -> Iterator[dict[str, Any]]:
    """A line for each idea and seed; of the recipe's own networks also one for each contrast to the good images."""
    recipe, device = recipe_from(argparse.Namespace(recipe="cam", seed=0, **vars(options))), best_device()
    images = labelled_images(options.data)
    assign_folds(images, from_data=True)  # refuses images without a fold, and a single one
    backbone = load_backbone(recipe.backbone, weights=options.weights, padding=recipe.padding, local=True)
    taps = TapCache(cache, backbone, recipe.image_size, recipe.scales)
    fill_taps(taps, images, device=device, reporter=Silent())
    same = {
        "learned_from": {"one": "one fold", "others": "the other folds"}[options.learn_from],
        "command": " ".join(["python -m benchmarks.detection_ideas", *sys.argv[1:]]),
        "weights": backbone.weights,
        "device": device_title(device),
        "torch": torch.__version__,
        "date": datetime.now(UTC).date().isoformat(),
    }
    for name in options.ideas:
        idea = IDEAS[name]
        fill_renditions(taps, images, idea.renditions, device=device)
        for seed in options.seeds:
            chosen = recipe.with_settings({**idea.settings, "seed": seed})
            began = time.monotonic()
            found = of_idea(idea, chosen, images, taps, learn_from=options.learn_from, device=device)
            seconds = round(time.monotonic() - began, 1)
            for variant, pairs in found.items():
                line = {"idea": variant or name, "seed": seed, "pairs": pairs, "seconds": seconds, **same}
                yield line
                print(f"{line['idea']}, seed {seed}: {summary([line])}", file=sys.stderr, flush=True)


def of_idea(
    idea: Idea,
    recipe: Recipe,
    images: Sequence[LabelledImage],
    taps: TapCache,
    *,
    learn_from: str,
    device: torch.device,
) -> dict[str, list[dict[str, Any]]]:
    """Figures of each fold that a network did not learn from: by "", the idea itself, and by each contrast."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for fold in sorted({image.fold for image in images}):
        training = [image for image in images if (image.fold == fold) is (learn_from == "one")]
        net = IdeaTrainer(idea, recipe, training, taps, device).run()
        scored = {one.key: one for one in score_cached(net, taps, [image.key for image in images], device=device)}
        maps: dict[str, dict[str, Cells]] = {"": {key: one.cam for key, one in scored.items()}}
        if idea == IDEAS["recipe"]:
            good = [scored[image.key].cam for image in training if not image.bad]
            for cells in CONTRASTS:
                maps[f"contrast-{cells}"] = contrasted(scored, good, cells)
        for other in sorted({image.fold for image in images} - {image.fold for image in training}):
            held = [image for image in images if image.fold == other]
            for variant, of_image in maps.items():
                q = recipe.pooling_fraction or 0.0
                if variant:
                    scores = {image.key: pooled_mean(of_image[image.key], fraction=q) for image in held}
                else:
                    scores = {image.key: scored[image.key].score for image in held}
                figures = measure(held, scores, of_image.__getitem__, size=recipe.image_size, sigma=recipe.map_sigma)
                found[variant].append(
                    {
                        "learned": sorted({image.fold for image in training}),
                        "scored": other,
                        "ap_det": figures.ap_det,
                        "ap_loc": figures.ap_loc,
                        "aupro": figures.aupro,
                        "misordered": misordered(held, scores),
                    }
                )
    return found


def contrasted(scored: Mapping[str, Scored], good: Sequence[Cells], cells: int) -> dict[str, Cells]:
    """Each map less the good training images' mean at each place, over their spread there; both smoothed."""
    of_good = np.stack(good)
    mean = gaussian_filter(of_good.mean(0), cells)
    spread = np.sqrt(np.maximum(gaussian_filter(np.square(of_good).mean(0), cells) - np.square(mean), 1e-6))
    return {key: (one.cam - mean) / spread for key, one in scored.items()}


def misordered(images: Sequence[LabelledImage], scores: Mapping[str, float]) -> list[tuple[str, str]]:
    """Every pair of a bad image and a good one that stands as high or higher."""

    def name(image: LabelledImage) -> str:
        return f"{image.path.parent.name}/{image.path.stem}"

    return [
        (name(bad), name(good))
        for bad in images
        for good in images
        if bad.bad and not good.bad and scores[bad.key] <= scores[good.key]
    ]


class IdeaTrainer(Trainer):
    """The trainer with one idea."""

    def __init__(
        self, idea: Idea, recipe: Recipe, images: Sequence[LabelledImage], taps: TapCache, device: torch.device
    ) -> None:
        super().__init__(recipe, examples(images, recipe), taps, device)
        self.idea = idea
        self.taken, self.planned = 0, self.epochs * -(-len(self.sampler) // recipe.batch_size)
        self.read_rng, self.paste_rng = (np.random.default_rng((recipe.seed, n)) for n in (1, 2))  # a thread each
        if idea.renditions:  # number 0 is the image itself
            names = [rendition(example.key, n) for n in range(idea.renditions + 1) for example in self.examples]
            self.taps = TapStore(taps, names, device, beside=room_of(recipe))

    def _oriented(self, samples: NDArray[np.int64]) -> list[Tensor]:
        if self.idea.renditions:
            samples = samples.copy()  # whose labels are asked for by the examples' own places
            rows = np.flatnonzero(self.read_rng.random(len(samples)) < 0.5)
            numbers = self.read_rng.integers(1, self.idea.renditions + 1, len(rows))
            samples[rows, 0] += len(self.examples) * numbers
        return super()._oriented(samples)

    def _step(self, samples: NDArray[np.int64], read: Sequence[Tensor]) -> Tensor:
        done = self.taken / self.planned
        if self.idea.q is not None:
            first, last = self.idea.q
            self.net.head.pooling_fraction = first * (last / first) ** min(1.0, done / 0.8)
        if self.idea.pasted and done >= 0.25:
            read = self._pasted(samples, list(read))
        self.taken += 1
        return super()._step(samples, read)

    @torch.no_grad()
    def _pasted(self, samples: NDArray[np.int64], read: list[Tensor]) -> list[Tensor]:
        """Half of the bad samples keep only the place their CAM points at, half of the good ones lose one like it.

        What is around it, or in it, comes from another good image, so that no seam means "bad".
        """
        cam = self.judged(read).cam.to(read[0].device)
        bad = np.array([self.examples[index].bad for index in samples[:, 0].tolist()])
        others = self.paste_rng.choice(self.sampler.good, len(samples))
        orientations = self.paste_rng.integers(0, len(FLIPS), len(samples))
        # The parent's: its own draws from `read_rng`, which belongs to the thread that reads.
        other = super()._oriented(np.column_stack((others, orientations)))
        for row in np.flatnonzero(self.paste_rng.random(len(samples)) < 0.5):
            if not bad[row] and not bad.any():
                continue
            pointing = cam[row if bad[row] else int(self.paste_rng.choice(np.flatnonzero(bad)))]
            usual, peak = float(pointing.median()), float(pointing.max())
            place = F.max_pool2d((pointing >= usual + 0.3 * (peak - usual)).float()[None, None], 5, 1, 2)
            for tap, from_other in zip(read, other, strict=True):
                here = F.interpolate(place, tap.shape[-2:], mode="area")[0]
                kept = here if bad[row] else 1 - here
                tap[row] = kept * tap[row] + (1 - kept) * from_other[row]
        return read

    @torch.no_grad()
    def judged(self, read: Sequence[Tensor]) -> Output:
        """Scores and CAMs of the network as it is; its batch statistics do not move."""
        self.net.eval()
        found = self._judged([tap.to(self.device) for tap in read])
        self.net.train()
        return found


def rendition(key: str, number: int) -> str:
    """The name of an image's smaller rendition in the cache; of number 0, the image itself, its key."""
    return f"{key}-{number - 1}" if number else key


def fill_renditions(taps: TapCache, images: Sequence[LabelledImage], renditions: int, *, device: torch.device) -> None:
    """Features of smaller renditions: shrunk along each axis by 0.7 to 1, laid somewhere, mirrored around it."""
    height, width = taps.image_size
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for image in images if renditions else ():
            rgb = decode(image.path).rgb
            for number in range(1, renditions + 1):
                name = rendition(image.key, number)
                rng = np.random.default_rng(list(hashlib.sha256(name.encode()).digest()))
                low, narrow = (
                    round(side * factor) for side, factor in zip((height, width), rng.uniform(0.7, 1, 2), strict=True)
                )
                top, left = rng.integers(0, height - low + 1), rng.integers(0, width - narrow + 1)
                small = np.asarray(rgb.resize((narrow, low), Image.Resampling.BILINEAR))
                margins = ((top, height - low - top), (left, width - narrow - left), (0, 0))
                files.append((name, Path(folder) / f"{name}.png"))
                Image.fromarray(np.pad(small, margins, mode="reflect")).save(files[-1][1], compress_level=1)
        taps.fill(files, device=device)


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Means over all pairs of folds of some lines; of misordered pairs their mean number; NaN where none has masks."""
    pairs = [pair for row in rows for pair in row["pairs"]]
    counted = [{**pair, "misordered": len(pair["misordered"])} for pair in pairs]
    return {
        name: round(float(np.mean([float("nan") if pair[name] is None else pair[name] for pair in counted])), 4)
        for name in ("ap_det", "misordered", "ap_loc", "aupro")
    }


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: for each idea the recipe with the same seeds beside it, so that like stands beside like."""
    printed = [
        "| Idea | learned from | seeds | AP-det (recipe) | misordered (recipe) | AP-loc (recipe) | AUPRO (recipe) |"
    ]
    printed.append("|---" * 7 + "|")
    kept = {(row["idea"], row["learned_from"], row["seed"]): row for row in rows}
    for idea, learned in dict.fromkeys((row["idea"], row["learned_from"]) for row in rows):
        seeds = sorted(seed for name, of, seed in kept if (name, of) == (idea, learned))
        beside = [kept[key] for seed in seeds if (key := ("recipe", learned, seed)) in kept]
        own = summary([kept[idea, learned, seed] for seed in seeds])
        plain = summary(beside) if len(beside) == len(seeds) else None
        cells = [f"{value:.4g} ({plain[name]:.4g})" if plain else f"{value:.4g}" for name, value in own.items()]
        printed.append(f"| {idea} | {learned} | {', '.join(map(str, seeds))} | " + " | ".join(cells) + " |")
    return "\n".join(printed)


if __name__ == "__main__":
    main()
