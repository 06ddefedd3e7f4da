"""Measure what a recipe reaches with a part of the labels, for :mod:`ssn_core.label_gain` to extrapolate from.

The figure is AP-det on images that the network was not trained on: the same way, and on the same images, as the figure
of the model itself (out-of-fold, or on the fixed test part), so that the model's own figure is the curve's last point.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ssn_core import metrics
from ssn_core.dataset import LabelledImage, deal_folds
from ssn_core.features import TapCache
from ssn_core.inference import score_cached
from ssn_core.label_gain import Measured
from ssn_core.pipeline import N_FOLDS, fit
from ssn_core.recipes import MIN_BAD, MIN_GOOD, Recipe
from ssn_core.reporting import Reporter

SHARES = (0.25, 0.5)  # of the labels
DRAWS = 2  # of each share


@dataclass(frozen=True)
class Pass:
    """One point of the curve: which share of the labels, and which draw of them."""

    share: float
    draw: int


@dataclass(frozen=True)
class Side:
    """What a network learns from and what it is measured on."""

    training: tuple[LabelledImage, ...]
    measured: tuple[LabelledImage, ...]


def sides(images: Sequence[LabelledImage], roles: Mapping[str, str], recipe: Recipe) -> list[Side]:
    """The splits in which a model was measured.

    Args:
        images: labelled good or bad.
        roles: key -> train | calibration | test | out_of_fold, as the model's own training dealt them.

    Raises:
        TooFewLabelsError: nothing can be held out.
    """
    if any(role == "test" for role in roles.values()):
        parts = {part: tuple(image for image in images if roles.get(image.key) == part) for part in ("train", "test")}
        return [Side(parts["train"], parts["test"])]
    folds = deal_folds(images, N_FOLDS, need_bad=recipe.learns_from != "good")
    return [
        Side(
            tuple(image for image in images if folds[image.key] != fold),
            tuple(image for image in images if folds[image.key] == fold),
        )
        for fold in sorted(set(folds.values()))
    ]


def passes(split: Sequence[Side]) -> list[Pass]:
    """The points that can be measured: of a share that leaves too few good or bad images there is none."""
    n_good, n_bad = (min(sum(image.bad is bad for image in side.training) for side in split) for bad in (False, True))
    usable = [share for share in SHARES if share * n_good >= MIN_GOOD and share * n_bad >= MIN_BAD]
    return [Pass(share, draw) for share in usable for draw in range(DRAWS)]


def measure(
    recipe: Recipe,
    split: Sequence[Side],
    taps: TapCache,
    wanted: Sequence[Pass],
    *,
    n: int,
    device: torch.device,
    reporter: Reporter,
) -> Iterator[tuple[Pass, Measured]]:
    """The points of the curve, one after the other; the taps of all images must be cached.

    Args:
        n: labels that the whole split stands for: a share of it is what each point is told to have learned from.
    """
    for one in wanted:
        labels: list[bool] = []
        scores: list[float] = []
        for side in split:
            net = fit(
                recipe, drawn(side.training, one), taps, device=device, reporter=reporter, name=f"{one.share:.0%}"
            )
            keys = [image.key for image in side.measured]
            scores += [found.score for found in score_cached(net, taps, keys, device=device)]
            labels += [bool(image.bad) for image in side.measured]
        figure = metrics.ap(labels, scores)
        if figure is not None:
            yield one, Measured(round(one.share * n), figure)


def drawn(training: Sequence[LabelledImage], one: Pass) -> list[LabelledImage]:
    """A share of the good and of the bad images, in an order that the draw and the images decide alone."""
    chosen: list[LabelledImage] = []
    for bad in (False, True):
        found = sorted((image for image in training if image.bad is bad), key=lambda image: image.key)
        order = np.random.default_rng([one.draw, bad]).permutation(len(found))
        chosen += [found[place] for place in order[: round(one.share * len(found))]]
    return chosen
