"""Try variants of the local head on training folds: train on one fold, look at another; a third stays untouched.

    python -m benchmarks.local_head_trials DATA --train-fold 1 --test-fold 2 --image-size 704 256 \
        --out benchmarks/results/local-head-trials.jsonl

The network with its CAM is trained once, with the settings of the recipe `cam`; then the local head is fitted and
measured in each variant (`--list` names them, `--only` chooses some). Lines of true masks are bounds: masks as maps, at
the fine map's resolution and smoothed in the same way, tell what the best map of this kind could reach. Appends a JSON
line each: variant, settings, figures, fitting seconds, device, versions, date.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from benchmarks.labelled import add_settings, labelled_images
from ssn_core.backbone import LOCAL_CHANNELS, load_backbone
from ssn_core.cli_options import recipe_from
from ssn_core.dataset import LabelledImage
from ssn_core.evaluation import measure
from ssn_core.features import TapCache
from ssn_core.heads import pool_top
from ssn_core.inference import best_device, device_title
from ssn_core.local_evidence import LocalHead, LocalSettings, LocalTraining, Pointed, enlarged, log_odds
from ssn_core.model import CamNet
from ssn_core.pipeline import fill_taps, fit
from ssn_core.recipes import Recipe
from ssn_core.reporting import Silent

Cells = NDArray[np.float32]
MapOf = Callable[[LocalHead, Tensor, Tensor], Tensor]  # head, CAM (1, h, w), place (1, H1, W1) -> map (1, H1, W1)


def agreed(head: LocalHead, cam: Tensor, place: Tensor) -> Tensor:
    """The recipe's own map."""
    return head.agree(cam, place).cam


def context_of(head: LocalHead, cam: Tensor, place: Tensor) -> Tensor:
    """The CAM as a logit on the fine cells."""
    return (enlarged(cam, (place.shape[-2], place.shape[-1])) - head.level) / head.spread


def cam_alone(head: LocalHead, cam: Tensor, place: Tensor) -> Tensor:
    """The CAM, enlarged: no local head at all."""
    return context_of(head, cam, place)


def place_alone(head: LocalHead, _cam: Tensor, place: Tensor) -> Tensor:
    """Layer1 alone: no agreement with the CAM, smoothed as the recipe's map is."""
    return log_odds(head.smooth(F.logsigmoid(place)))


def unsmoothed(head: LocalHead, cam: Tensor, place: Tensor) -> Tensor:
    """The recipe's map without smoothing over neighbours."""
    return log_odds(F.logsigmoid(context_of(head, cam, place)) + head.weight * F.logsigmoid(place))


def smoother(times: int) -> MapOf:
    """The recipe's map, smoothed several times instead of once: standard deviation sqrt(times) cells."""

    def map_of(head: LocalHead, cam: Tensor, place: Tensor) -> Tensor:
        both = F.logsigmoid(context_of(head, cam, place)) + head.weight * F.logsigmoid(place)
        for _ in range(times):
            both = head.smooth(both)
        return log_odds(both)

    return map_of


def weighted(share: float) -> MapOf:
    """Agreement in which the place's log-probability weighs `share` of the context's."""

    def map_of(head: LocalHead, cam: Tensor, place: Tensor) -> Tensor:
        return log_odds(head.smooth(F.logsigmoid(context_of(head, cam, place)) + share * F.logsigmoid(place)))

    return map_of


def floored(least: float) -> MapOf:
    """Agreement in which a place that looks good keeps a probability of `least`."""

    def map_of(head: LocalHead, cam: Tensor, place: Tensor) -> Tensor:
        likely = torch.log(least + (1 - least) * torch.sigmoid(place))
        return log_odds(head.smooth(F.logsigmoid(context_of(head, cam, place)) + likely))

    return map_of


def mean_with_cam(share: float) -> MapOf:
    """The CAM's logit with weight `share`, the recipe's map with the rest."""

    def map_of(head: LocalHead, cam: Tensor, place: Tensor) -> Tensor:
        return share * context_of(head, cam, place) + (1 - share) * agreed(head, cam, place)

    return map_of


_RECIPES_OWN = LocalSettings()


@dataclass(frozen=True)
class Variant:
    """One way to fit the local head and to make the map; defaults are the recipe's."""

    map_of: MapOf = agreed
    settings: LocalSettings = _RECIPES_OWN
    width: int = 64
    rounds: int = 1  # more = self-training: fitted again, on the places that the map of the round before points at
    q: float = 0.001  # share of the map's cells whose mean is the score
    sigma: float = 1.0  # pixels; blur of the map that is measured
    seed: int = 0


def _settings(**values: float) -> Variant:
    return Variant(settings=LocalSettings(**values))  # type: ignore[arg-type]


VARIANTS: dict[str, Variant] = {
    "the recipe": Variant(),
    "the recipe, seed 1 of the fit": Variant(seed=1),
    "the recipe, seed 2 of the fit": Variant(seed=2),
    "CAM alone": Variant(cam_alone, q=0.01),
    "CAM alone, blurred by 4 pixels": Variant(cam_alone, q=0.01, sigma=4.0),
    "layer1 alone": Variant(place_alone),
    "layer1 alone, self-training instead of agreement": Variant(place_alone, rounds=2),
    "agreement and self-training": Variant(rounds=2),
    "agreement and self-training, seed 1 of the fit": Variant(rounds=2, seed=1),
    "agreement and self-training, seed 2 of the fit": Variant(rounds=2, seed=2),
    "agreement and self-training, three rounds": Variant(rounds=3),
    "agreement and self-training, smoothed twice": Variant(smoother(2), rounds=2),
    "agreement and self-training, blurred by 4 pixels": Variant(rounds=2, sigma=4.0),
    "without smoothing": Variant(unsmoothed),
    "smoothed twice": Variant(smoother(2)),
    "smoothed four times": Variant(smoother(4)),
    "smoothed nine times": Variant(smoother(9)),
    "q = 0.0003": Variant(q=0.0003),
    "q = 0.003": Variant(q=0.003),
    "q = 0.01": Variant(q=0.01),
    "level 0.99": _settings(level=0.99),
    "level 0.9999": _settings(level=0.9999),
    "dark 0.8": _settings(dark=0.8),
    "dark 0.99": _settings(dark=0.99),
    "top 0.25": _settings(top=0.25),
    "top 0.75": _settings(top=0.75),
    "150 cells of a good image": _settings(cells_per_good=150),
    "2400 cells of a good image": _settings(cells_per_good=2400),
    "width 16": Variant(width=16),
    "width 256": Variant(width=256),
    "map blurred by 0 pixels": Variant(sigma=0.0),
    "map blurred by 2 pixels": Variant(sigma=2.0),
    "map blurred by 4 pixels": Variant(sigma=4.0),
    "map blurred by 8 pixels": Variant(sigma=8.0),
    "place weighs half": Variant(weighted(0.5)),
    "place weighs a fifth": Variant(weighted(0.2)),
    "place at least 0.01": Variant(floored(0.01)),
    "place at least 0.1": Variant(floored(0.1)),
    "a fifth of the CAM": Variant(mean_with_cam(0.2)),
    "half of the CAM": Variant(mean_with_cam(0.5)),
    "half of the CAM, blurred by 4 pixels": Variant(mean_with_cam(0.5), sigma=4.0),
}


@dataclass(frozen=True)
class Bound:
    """A map made from the true mask; all values in pixels of the scaled image."""

    stride: int = 4  # of a cell
    grow: int = 0  # by how much the mask is grown first; negative: shrunk, but never to nothing
    blur: float = 0.0  # standard deviation of a blur of the mask before it is cut into cells
    smooth: bool = True  # over neighbouring cells, as the recipe does
    sigma: float = 1.0  # as of a variant


BOUNDS: dict[str, Bound] = {
    "true masks": Bound(),
    "true masks, not smoothed": Bound(smooth=False),
    "true masks in cells of 8 pixels": Bound(stride=8),
    "true masks, map blurred by 4 pixels": Bound(sigma=4.0),
    "true masks shrunk by 2 pixels": Bound(grow=-2),
    "true masks shrunk by 4 pixels": Bound(grow=-4),
    "true masks grown by 8 pixels": Bound(grow=8),
    "true masks blurred by 16 pixels": Bound(blur=16.0),
}


@dataclass
class Places:
    """What fitting and measuring need: CAMs of all images, and the cache that holds their layer1."""

    cams: Mapping[str, Tensor]  # key -> (h, w)
    boundary: float  # CAM cell at which the network is as sure of good as of bad
    taps: TapCache
    channels: int

    def tap1(self, image: LabelledImage) -> Tensor:
        """Layer1 of one image, (C, H1, W1)."""
        return self.taps.read([image.key])[-1][0]

    @torch.no_grad()
    def fitted(self, variant: Variant, images: Sequence[LabelledImage]) -> LocalHead:
        """The local head, fitted to training images as the variant says."""
        pointing = {image.key: self.cams[image.key] for image in images}
        level: Tensor | None = None
        for _ in range(variant.rounds):
            head = LocalHead(self.channels, width=variant.width, pooling_fraction=variant.q)
            training = LocalTraining(head, boundary=self.boundary, seed=variant.seed, settings=variant.settings)
            for image in sorted(images, key=lambda image: bool(image.bad)):  # good ones first
                training.add(Pointed(pointing[image.key], self.tap1(image), bool(image.bad)))
            training.fit()
            if level is None:
                level = head.level.clone()
            head.level.copy_(level)  # further rounds learn from fine maps; the agreement asks the CAM
            if variant.rounds > 1:
                pointing = {
                    i.key: agreed(head, self.cams[i.key][None], head.place(self.tap1(i)[None]))[0] for i in images
                }
        return head.eval()


@torch.no_grad()
def cams_of(net: CamNet, taps: TapCache, images: Sequence[LabelledImage]) -> dict[str, Tensor]:
    """CAMs without the local head, (h, w), by key."""
    return {image.key: net.judge(net.features(*taps.read([image.key], local=False))).cam[0] for image in images}


def true_map(mask: NDArray[np.bool_], bound: Bound, head: LocalHead) -> Cells:
    """A mask (H, W) as a map of cells: the share of a cell that is marked, smoothed as the recipe smooths."""
    marked = mask
    if bound.grow > 0:
        marked = ndimage.distance_transform_edt(~mask) <= bound.grow
    elif bound.grow < 0 and mask.any():
        depth = ndimage.distance_transform_edt(mask)
        regions, n = ndimage.label(mask, structure=np.ones((3, 3), dtype=bool))
        deepest = np.concatenate(([0.0], ndimage.maximum(depth, regions, np.arange(1, n + 1))))
        marked = mask & (depth > np.minimum(-bound.grow, deepest[regions] - 0.5))
    shares = marked.astype(np.float32)
    if bound.blur:
        shares = ndimage.gaussian_filter(shares, bound.blur)
    cells = F.avg_pool2d(torch.from_numpy(shares)[None], bound.stride)
    smoothed = head.smooth(cells) if bound.smooth else cells
    found: Cells = smoothed[0].numpy()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--train-fold")
    parser.add_argument("--test-fold")
    add_settings(parser)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="variants and bounds; default: every one")
    parser.add_argument("--list", action="store_true", help="name the variants and bounds")
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.list:
        print("\n".join((*VARIANTS, *BOUNDS)))
        return
    names = options.only or [*VARIANTS, *BOUNDS]
    unknown = [name for name in names if name not in VARIANTS and name not in BOUNDS]
    if unknown or not (options.data and options.train_fold and options.test_fold):
        parser.error(
            f"there is no variant {unknown[0]!r}; --list names them" if unknown else "give DATA and both folds"
        )
    recipe = recipe_from(argparse.Namespace(recipe="cam", **vars(options)))
    images = labelled_images(options.data)
    train, test = ([i for i in images if i.fold == fold] for fold in (options.train_fold, options.test_fold))
    with tempfile.TemporaryDirectory() as folder:
        trials = _Trials(recipe, train, test, options.cache or Path(folder), options.weights)
        for name in names:
            line = {
                "command": " ".join(["python -m benchmarks.local_head_trials", *sys.argv[1:]]),
                "train_fold": options.train_fold,
                "test_fold": options.test_fold,
                "trial": name,
                **trials.measured(name),
                "device": trials.device,
                "torch": torch.__version__,
                "date": datetime.now(UTC).date().isoformat(),
            }
            print(json.dumps(line), flush=True)
            if options.out:
                with options.out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")


class _Trials:
    """A trained network, and the local heads that were fitted above it so far."""

    def __init__(
        self, recipe: Recipe, train: list[LabelledImage], test: list[LabelledImage], cache: Path, weights: str
    ) -> None:
        self.recipe, self.train, self.test = recipe, train, test
        backbone = load_backbone(recipe.backbone, weights=weights, padding=recipe.padding, local=True)
        taps = TapCache(cache, backbone, recipe.image_size, recipe.scales)
        device = best_device()
        self.device = device_title(device)
        fill_taps(taps, [*train, *test], device=device, reporter=Silent())
        alone = recipe.with_settings(
            {"scales": 1, "local_width": 0, "pooling_fraction": recipe.cam_fraction, "cam_fraction": None}
        )
        net = fit(alone, train, taps, device=device, reporter=Silent(), name="trial").cpu()
        cams = cams_of(net, taps, [*train, *test])
        self.places = Places(cams, net.boundary, taps, LOCAL_CHANNELS[recipe.backbone])
        self._fitted: dict[Variant, tuple[LocalHead, float]] = {}

    def measured(self, name: str) -> dict[str, Any]:
        """Figures of one variant or bound, with its settings."""
        return self._of_bound(BOUNDS[name]) if name in BOUNDS else self._of_variant(VARIANTS[name])

    @torch.no_grad()
    def _of_variant(self, variant: Variant) -> dict[str, Any]:
        head, seconds = self._head(variant)
        scores: dict[str, float] = {}

        def map_of(image: LabelledImage) -> Tensor:
            return variant.map_of(head, self.places.cams[image.key][None], head.place(self.places.tap1(image)[None]))

        maps: dict[str, Cells] = {}
        for image in self.test:
            cells = map_of(image)
            scores[image.key] = float(pool_top(cells, variant.q))
            maps[image.key] = cells[0].numpy()
        figures = measure(self.test, scores, maps.__getitem__, size=self.recipe.image_size, sigma=variant.sigma)
        told = {
            **dataclasses.asdict(variant.settings),
            "width": variant.width, "rounds": variant.rounds, "q": variant.q, "sigma": variant.sigma,
            "seed": variant.seed,
        }  # fmt: skip
        return {"settings": told, **dataclasses.asdict(figures), "fitting_seconds": seconds}

    def _of_bound(self, bound: Bound) -> dict[str, Any]:
        head, _ = self._head(Variant())
        size = self.recipe.image_size
        maps: dict[str, Cells] = {}
        for image in self.test:
            mask = image.load_mask(size)
            if mask is not None:
                maps[image.key] = true_map(mask, bound, head)
        scores = {image.key: 0.0 for image in self.test}  # a bound of localisation alone
        figures = dataclasses.asdict(measure(self.test, scores, maps.__getitem__, size=size, sigma=bound.sigma))
        return {"settings": dataclasses.asdict(bound), **figures, "i_auroc": None, "ap_det": None}

    def _head(self, variant: Variant) -> tuple[LocalHead, float]:
        key = dataclasses.replace(variant, map_of=agreed, q=Variant.q, sigma=Variant.sigma)  # what fitting depends on
        if key not in self._fitted:
            began = time.monotonic()
            head = self.places.fitted(key, self.train)
            self._fitted[key] = head, round(time.monotonic() - began, 1)
        return self._fitted[key]


if __name__ == "__main__":
    main()
