"""Good and bad scores of known shape, with the AUROC and AP of endlessly many of them, to measure intervals by.

Good scores are standard normal; the shapes differ in the bad ones (all, for `heavy` and `ties`):

    normal  as wide as the good ones
    wide    twice as wide
    weak    a fifth of them stand out a quarter as far as the others
    hidden  a share of them scores like good ones: 1.4 times what AUROC lacks to 1, at most a fifth
    heavy   good and bad with the tails of Student's t with 3 degrees of freedom
    ties    good and bad rounded to halves: about a dozen different scores
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

Floats = NDArray[np.float64]
SHAPES = ("normal", "wide", "weak", "hidden", "heavy", "ties")
_DEGREES = 3
_STEP = 0.5
# Dense where most scores lie, and out to 900, where even heavy tails are spent.
_FINE = np.sinh(np.linspace(-7.5, 7.5, 300_001))
_STEPS = np.arange(-160, 161) * _STEP + _STEP / 2


def truths(shape: str, auroc: float, share_bad: float) -> tuple[float, float]:
    """AUROC and AP of endlessly many scores of which `share_bad` are bad, by summing over thresholds."""
    edges = _STEPS if shape == "ties" else _FINE
    good_above = _above(shape, edges)
    bad_above = _bad_above(shape, auroc, distance(shape, auroc), edges)
    bad_between = -np.diff(bad_above)
    area = float(np.sum(bad_between * (1 - (good_above[1:] + good_above[:-1]) / 2)) + bad_above[-1])
    called_bad = share_bad * bad_above[:-1] + (1 - share_bad) * good_above[:-1]
    precision = share_bad * bad_above[:-1] / np.maximum(called_bad, np.finfo(float).tiny)
    return area, float(np.sum(bad_between * precision))


def flat_truths(flat_bad: Floats, flat_good: Floats, share_bad: float) -> tuple[Floats, Floats]:
    """AUROC and AP of endlessly many parts of which `share_bad` are bad and these shares of either class fall flat.

    A bad part that falls flat scores below all good ones, such a good one above all bad ones; the others are separated
    perfectly. The shares may be arrays that broadcast.
    """

    def between(low: Floats, high: Floats, odds: Floats) -> Floats:  # the area below precision r / (r + odds)
        return high - low - odds * np.log((high + odds) / (low + odds))

    odds = np.broadcast_to(
        np.maximum(flat_good, 1e-300) * (1 - share_bad) / share_bad, np.broadcast(flat_bad, flat_good).shape
    )
    all_good = np.full_like(odds, (1 - share_bad) / share_bad)
    seen = np.broadcast_to(1 - flat_bad, odds.shape)
    ap = between(np.zeros_like(seen), seen, odds) + between(seen, np.ones_like(seen), all_good)
    return seen * (1 - flat_good), ap


def draw_flat(rng: np.random.Generator, *, n_bad: int, n_good: int, flat_bad: float, flat_good: float) -> Floats:
    """Scores (n_bad + n_good,) of parts of which some fall flat (see `flat_truths`), the bad ones first."""
    scores = rng.random(n_bad + n_good)
    scores[:n_bad] += np.where(rng.random(n_bad) < flat_bad, -2.0, 2.0)
    scores[n_bad:] += np.where(rng.random(n_good) < flat_good, 4.0, 0.0)
    return scores


@cache
def distance(shape: str, auroc: float) -> float:
    """How far the bad scores lie above the good ones, so that `auroc` comes out."""
    edges = _STEPS if shape == "ties" else _FINE
    good = 1 - _above(shape, edges)

    def too_much(far: float) -> float:
        bad_above = _bad_above(shape, auroc, far, edges)
        return float(np.sum(-np.diff(bad_above) * (good[1:] + good[:-1]) / 2) + bad_above[-1]) - auroc

    return float(optimize.brentq(too_much, 0.0, 70.0, xtol=1e-9))


def draw(
    rng: np.random.Generator,
    shape: str,
    aurocs: tuple[float, ...],
    *,
    n_bad: int,
    n_good: int,
    correlation: float = 0.0,
) -> list[Floats]:
    """One score vector (n_bad + n_good,) for each of `aurocs`, the bad ones first, on the same parts.

    `correlation` is that of the models' scores within a class. Which bad part is hidden or weak is decided for each
    model on its own.
    """
    n = n_bad + n_good
    shared = math.sqrt(correlation) * rng.normal(size=n)
    tails = np.sqrt(rng.chisquare(_DEGREES, size=n) / _DEGREES) if shape == "heavy" else 1.0
    drawn = []
    for auroc in aurocs:
        values = (shared + math.sqrt(1 - correlation) * rng.normal(size=n)) / tails
        kinds = _kinds(shape, auroc, distance(shape, auroc))
        which = rng.choice(len(kinds), size=n_bad, p=[share for share, _, _ in kinds])
        far, spread = (np.array([kind[place] for kind in kinds])[which] for place in (1, 2))
        values[:n_bad] = values[:n_bad] * spread + far
        drawn.append(np.round(values / _STEP) * _STEP if shape == "ties" else values)
    return drawn


def _kinds(shape: str, auroc: float, far: float) -> list[tuple[float, float, float]]:
    """The kinds of bad parts: share, distance, spread."""
    if shape == "wide":
        return [(1.0, far, 2.0)]
    if shape == "weak":
        return [(0.8, far, 1.0), (0.2, far / 4, 1.0)]
    if shape == "hidden":
        hidden = min(0.2, 1.4 * (1 - auroc))
        return [(1 - hidden, far, 1.0), (hidden, 0.0, 1.0)]
    return [(1.0, far, 1.0)]


def _bad_above(shape: str, auroc: float, far: float, edges: Floats) -> Floats:
    return sum(share * _above(shape, (edges - at) / spread) for share, at, spread in _kinds(shape, auroc, far))


def _above(shape: str, edges: Floats) -> Floats:
    """The share of scores above `edges` (E,), before they are moved."""
    if shape == "heavy":
        return special.stdtr(_DEGREES, -edges)
    return special.ndtr(-edges)
