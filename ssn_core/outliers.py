"""Which images to look at first, before anybody has labelled one: those with a place that is unlike the others.

Most parts are good, so what most cells of a project's images look like is what good looks like. With mean and
covariance of the backbone's layer2 cells over a sample of the images, an image's outlier score is the mean squared
Mahalanobis distance of its most distant cells (Mahalanobis 1936; for features of a frozen backbone: Rippel, Mertens and
Merhof, ICPR 2020, and PaDiM, Defard et al. 2021, which has a Gaussian for each position; parts here need not lie
alike). Along the main axes alone: what is left are directions in which cells hardly differ, and their noise.

It finds what is rare, not what is bad: it says where to begin, and never calls a part bad.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Chosen on generated surfaces; what comes of it: `python -m benchmarks.first_images`.
AXES = 64
_FRACTION = 0.02  # of an image's cells, the most distant first
_CELLS_PER_IMAGE = 100  # of the sample
_LEAST_SHARE = 1e-3  # of the first axis' standard deviation; flatter ones would only amplify rounding
_LEAST = 1e-6  # of the standard deviation itself: images without any contrast have none

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Usual:
    """What the cells of a project's images look like: C channels along `AXES` axes at most."""

    mean: Floats  # (C,)
    whitening: Floats  # (C, axes); centred cells times this have variance 1 along each axis

    def score(self, tap: Floats) -> float:
        """How unlike the usual an image's most unlike cells are: (C, h, w) -> at least 0; `AXES` is the usual mean."""
        distances = np.square((_cells(tap) - self.mean) @ self.whitening).sum(axis=1)
        count = max(1, int(_FRACTION * len(distances)))
        return float(np.partition(distances, len(distances) - count)[-count:].mean())


def joint_score(whats_usual: Sequence[Usual], taps: Sequence[Floats]) -> float:
    """One outlier score of an image that several backbones have seen: the geometric mean of theirs.

    Args:
        whats_usual: to each backbone; at least one.
        taps: of each backbone, (C, h, w).
    """
    scores = [of_one.score(tap) for of_one, tap in zip(whats_usual, taps, strict=True)]
    return math.prod(scores) ** (1 / len(scores))


def usual(taps: Iterable[Floats], *, seed: int = 0) -> Usual:
    """Mean and main axes of some cells of each image.

    Args:
        taps: (C, h, w) of each image of a sample; at least one.
        seed: of the choice of cells.
    """
    rng = np.random.default_rng(seed)
    chosen = [rng.permutation(cells)[:_CELLS_PER_IMAGE] for cells in map(_cells, taps)]
    every = np.concatenate(chosen).astype(np.float64)
    mean = every.mean(axis=0)
    variances, axes = np.linalg.eigh((every - mean).T @ (every - mean) / len(every))
    deviations = np.sqrt(np.maximum(variances[::-1][:AXES], 0))  # the largest first
    least = max(_LEAST_SHARE * float(deviations[0]), _LEAST)
    whitening = axes[:, ::-1][:, :AXES] / (deviations + least)
    return Usual(mean.astype(np.float32), whitening.astype(np.float32))


def _cells(tap: Floats) -> Floats:
    """(C, h, w) -> (h * w, C)."""
    return np.asarray(tap, dtype=np.float32).reshape(len(tap), -1).T
