"""What an epoch of training consists of.

Where bad images are learned from, an epoch is balanced (SuperSimpleNet, arXiv 2408.03143): every bad image in four
orientations, and as many good ones, those used least coming first. Where good images alone are learned from, it is each
of them once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssn_core.recipe_settings import Recipe

LOCAL_IMAGES = 256  # of either class that a local head learns from
ORIENTATIONS = 4  # none, vertical flip, horizontal flip, both (180 degrees)
FLIPS: tuple[tuple[int, ...], ...] = ((), (-2,), (-1,), (-2, -1))  # axes of each


@dataclass(frozen=True, slots=True)
class Example:
    """One training image.

    Args:
        key: of its cached taps.
        bad: its label.
        marks: file of its defect mask; only ever given to recipes that learn from masks.
    """

    key: str
    bad: bool
    marks: Path | None = None


def epoch_samples(recipe: Recipe, *, n_good: int, n_bad: int) -> int:
    """How many samples an epoch has."""
    return n_good if recipe.learns_from == "good" else 2 * ORIENTATIONS * n_bad


def planned_epochs(recipe: Recipe, *, n_good: int, n_bad: int) -> int:
    """How many epochs a run takes: the recipe's, or as many as its least number of steps needs."""
    steps_per_epoch = math.ceil(epoch_samples(recipe, n_good=n_good, n_bad=n_bad) / recipe.batch_size)
    return recipe.epochs or math.ceil(recipe.min_steps / steps_per_epoch)


def planned_samples(recipe: Recipe, *, n_good: int, n_bad: int) -> int:
    """How many samples a run sees, orientations and repetitions counted."""
    numbers = {"n_good": n_good, "n_bad": n_bad}
    return planned_epochs(recipe, **numbers) * epoch_samples(recipe, **numbers)


def local_images(recipe: Recipe, *, n_good: int, n_bad: int) -> int:
    """How many images a run looks at once more at its end, where the recipe has a local head."""
    return min(n_good, LOCAL_IMAGES) + min(n_bad, LOCAL_IMAGES) if recipe.has_local_head else 0


class Sampler:
    """Draws epochs.

    Args:
        examples: those that are learned from.
        balanced: bad images in every orientation and as many good ones; else every image once, not flipped.
        flip_good: good images are flipped too.
    """

    def __init__(self, examples: Sequence[Example], *, balanced: bool, flip_good: bool, seed: int) -> None:
        self.bad = np.array([i for i, example in enumerate(examples) if example.bad], dtype=np.int64)
        self.good = np.array([i for i, example in enumerate(examples) if not example.bad], dtype=np.int64)
        self.uses = np.zeros(len(self.good), dtype=np.int64)
        self.balanced, self.flip_good = balanced, flip_good
        self.rng = np.random.default_rng(seed)

    def __len__(self) -> int:
        return 2 * ORIENTATIONS * len(self.bad) if self.balanced else len(self.good)

    def epoch(self) -> NDArray[np.int64]:
        """(n, 2): index of the example, orientation; shuffled."""
        bad = np.stack((np.repeat(self.bad, ORIENTATIONS), np.tile(np.arange(ORIENTATIONS), len(self.bad))), axis=1)
        wanted = len(bad) if self.balanced else len(self.good)
        chosen = []
        while wanted > 0:
            # Ties are broken at random, so that equal use does not mean equal order.
            order = np.lexsort((self.rng.random(len(self.good)), self.uses))[:wanted]
            self.uses[order] += 1
            chosen.append(self.good[order])
            wanted -= len(order)
        good = np.concatenate(chosen)
        flips = self.rng.integers(0, ORIENTATIONS, len(good)) if self.flip_good else np.zeros(len(good), dtype=np.int64)
        drawn = np.stack((good, flips), axis=1)
        samples = np.concatenate((bad, drawn)) if self.balanced else drawn
        self.rng.shuffle(samples)
        return samples

    def state(self) -> dict[str, Any]:
        """What a run that was interrupted needs to go on; numbers and arrays only."""
        return {"uses": self.uses.copy(), "rng": self.rng.bit_generator.state}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state`."""
        self.uses = np.asarray(state["uses"])
        self.rng.bit_generator.state = state["rng"]
