"""From a score to a probability of bad, on images that the model was not trained on.

The probability holds for the mix of good and bad of the images it was fitted on. A line that makes fewer bad parts than
they had has a lower one at the same score.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from ssn_core.metrics import checked, need_both_classes


@dataclass(frozen=True)
class Platt:
    """Probability of bad = 1 / (1 + exp(-(slope * score + intercept))), and what it rests on."""

    slope: float  # per unit of score; below 0 where higher scores went with good parts
    intercept: float
    n_good: int
    n_bad: int


def fit_platt(labels: ArrayLike, scores: ArrayLike) -> Platt:
    """Fit a sigmoid to scores of held-out images (Platt, in Advances in Large Margin Classifiers, 1999, 61-74).

    It maximises the likelihood of Platt's smoothed targets, (n_bad + 1) / (n_bad + 2) for bad and 1 / (n_good + 2) for
    good images, and so stays finite under perfect separation and never claims more than the images can carry. Equal
    scores everywhere give a slope of 0 and the mean target.

    Args:
        labels: (N,) 0 or False = good, 1 or True = bad; both must occur.
        scores: (N,) finite, of images the model was not trained on; higher = more suspicious.

    Raises:
        SsnError: a class is missing, a score is not finite or a label is neither 0 nor 1.
    """
    bad, values = checked(labels, scores)
    need_both_classes(bad, "A calibrated probability")
    n_bad = int(bad.sum())
    n_good = int(bad.size) - n_bad
    target = np.where(bad, (n_bad + 1) / (n_bad + 2), 1 / (n_good + 2))
    mean_target = float(target.mean())
    centre, scale = float(values.mean()), float(values.std())
    if np.ptp(values) == 0 or not scale > 0:  # rounding may leave equal scores a spread
        return Platt(0.0, math.log(mean_target / (1 - mean_target)), n_good, n_bad)
    # In units where the scores have mean 0 and spread 1, Newton's method needs a handful of steps for any model.
    slope, intercept = _most_likely((values - centre) / scale, target)
    return Platt(slope / scale, intercept - slope * centre / scale, n_good, n_bad)


def probability(platt: Platt, scores: ArrayLike) -> NDArray[np.float64]:
    """The probability of bad, (N,) in [0, 1], for `scores` (N,).

    Raises:
        SsnError: a score is not finite.
    """
    _, values = checked(np.zeros(np.shape(scores)), scores)
    found: NDArray[np.float64] = special.expit(platt.slope * values + platt.intercept)
    return found


def _most_likely(values: NDArray[np.float64], target: NDArray[np.float64]) -> tuple[float, float]:
    """Slope and intercept of the largest likelihood; convex, with one optimum for targets inside (0, 1)."""
    from scipy.optimize import minimize  # here, because the web page would wait for it

    design = np.stack([values, np.ones_like(values)], axis=1)

    def loss(weights: NDArray[np.float64]) -> float:
        logits = design @ weights
        return float(np.mean(np.logaddexp(0.0, logits) - target * logits))

    def gradient(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = design.T @ (special.expit(design @ weights) - target) / target.size
        return found

    def curvature(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        share = special.expit(design @ weights)
        found: NDArray[np.float64] = (design.T * (share * (1 - share))) @ design / target.size
        return found

    found = minimize(loss, np.zeros(2), method="trust-exact", jac=gradient, hess=curvature, options={"gtol": 1e-10})
    slope, intercept = found.x
    return float(slope), float(intercept)
