"""Which samples of a batch get a synthetic anomaly, where, and what that does to their labels and targets.

SuperSimpleNet (arXiv 2408.03143), section 3.2. Three rules hold whatever the recipe: a label only ever turns bad,
noise never lies on a marked defect, and the target of a perturbed sample is the union of both.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ssn_core.model import Features
from ssn_core.noise import anomaly_mask, perturb
from ssn_core.recipe_settings import Recipe


@dataclass(frozen=True)
class Cells:
    """What is known about the cells of a batch; only for recipes with a loss on the map."""

    bad: Tensor  # (B, 1, h, w) bool
    weight: Tensor  # (B, 1, h, w) > 0, of each cell in the loss
    known: Tensor  # (B,) bool; False: the image is bad and nobody has marked where

    def twice(self) -> Cells:
        """Of the batch and its copy."""
        return Cells(*(torch.cat((x, x)) for x in (self.bad, self.weight, self.known)))


@dataclass(frozen=True)
class Truth:
    """What a batch is to be judged by."""

    bad: Tensor  # (B,) float, 0 = good, 1 = bad
    cells: Cells | None

    def twice(self) -> Truth:
        """Of the batch and its copy."""
        return Truth(torch.cat((self.bad, self.bad)), None if self.cells is None else self.cells.twice())


def draw_places(recipe: Recipe, truth: Truth, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Where the samples of the batch and of its copy are perturbed.

    Args:
        truth: of the batch, B samples.
        size: (h, w) cells.

    Returns:
        (2B, 1, h, w) bool, False on every marked defect; in the first half False throughout where the recipe perturbs
        the copy alone.
    """
    batch = len(truth.bad)
    drawn = 2 * batch if recipe.noise_on == "both" else batch
    # Perlin noise stays within [-1, 1]: above -2 it is everywhere.
    threshold = recipe.noise_threshold if recipe.noise_shape == "perlin" else -2.0
    places = anomaly_mask(drawn, size, threshold=threshold, skip=recipe.noise_skip, generator=generator)
    if drawn == batch:
        places = torch.cat((torch.zeros_like(places), places))
    return places if truth.cells is None else places & ~torch.cat((truth.cells.bad, truth.cells.bad))


def with_noise(recipe: Recipe, features: Features, noise: Tensor, places: Tensor) -> Features:
    """The batch and its copy, perturbed at some places.

    Args:
        features: of the batch, B samples.
        noise: (B, C, h, w) for the copy, or (2B, C, h, w) where the recipe perturbs both.
        places: (2B, 1, h, w) bool.

    Returns:
        features of 2B samples; un-adapted ones, with the same noise (JIMS), where the classification head sees those.
    """
    batch = len(features.adapted)

    def both(x: Tensor) -> Tensor:
        first = perturb(x, noise[:batch], places[:batch]) if recipe.noise_on == "both" else x
        return torch.cat((first, perturb(x, noise[-batch:], places[batch:])))

    plain = features.plain if recipe.plain_class_features else None
    return Features(both(features.adapted), None if plain is None else both(plain))


def marked_bad(truth: Truth, places: Tensor) -> Truth:
    """The truth about perturbed samples: labels and cells turn bad where something was perturbed, never good.

    Args:
        truth, places: of the same samples.
    """
    bad = torch.maximum(truth.bad, places.flatten(1).any(1).float())
    cells = truth.cells
    return Truth(bad, None if cells is None else Cells(cells.bad | places, cells.weight, cells.known))
