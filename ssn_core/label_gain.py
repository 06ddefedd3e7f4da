"""How much more labels are likely to help: a learning curve, fitted and extrapolated, with its uncertainty.

A figure such as AP-det is measured with a part of the labels, twice with another draw, and with all of them. Learning
curves follow a power law in most fields (Hestness et al., arXiv 1712.00409; Viering and Loog, arXiv 2103.10948):

    1 - figure(n) = floor + (height - floor) * (n / N) ** -power

Three numbers cannot be told from a handful of points. So they are not fitted: all plausible curves are weighed by how
well they agree with the points (Bayes on a grid), and what they say of larger n is told as a median with an interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssn_core.errors import SsnError

LEVEL = 0.8  # of the intervals: four times in five the truth lies inside, if the curve is a power law
# Gains below this are nothing that anybody would notice among the images of a project.
WORTHWHILE = 0.005
_NOISE, _DOUBTS = 0.015, 2  # of a measured figure, beforehand: two draws that happen to agree make nothing certain
_ERRORS = np.concatenate([[0.0], np.geomspace(0.0005, 1.0, 60)])
_POWERS = np.linspace(0.0, 2.0, 41)  # 0: more labels change nothing; seen in practice: 0.1 to 1


@dataclass(frozen=True)
class Measured:
    """A figure with a part of the labels."""

    n: int  # labels learned from
    figure: float  # 0..1, larger is better, on images that were not learned from


@dataclass(frozen=True)
class Forecast:
    """What a number of labels is likely to bring."""

    n: int  # labels in all
    figure: float  # median
    low: float  # the interval's ends (LEVEL)
    high: float
    gain: float  # median of the gain over what the labels of now are likely to give, 0 or more
    gain_low: float
    gain_high: float


@dataclass(frozen=True)
class Curves:
    """All plausible learning curves with their weights."""

    n: int  # labels of now
    errors: NDArray[np.float64]  # (K,) 1 - figure at n
    floors: NDArray[np.float64]  # (K,)
    powers: NDArray[np.float64]  # (K,)
    weights: NDArray[np.float64]  # (K,) they sum to 1

    def forecast(self, n: int) -> Forecast:
        """What `n` labels in all are likely to give; n > 0."""
        then = self.floors + (self.errors - self.floors) * (n / self.n) ** -self.powers
        low, figure, high = self._quantiles(1 - np.clip(then, 0, 1))
        gain_low, gain, gain_high = self._quantiles(self.errors - then)
        return Forecast(n, figure, low, high, gain, gain_low, gain_high)

    def chance_of(self, gain: float, *, n: int) -> float:
        """The probability, 0..1, that `n` labels in all bring at least this gain."""
        then = self.floors + (self.errors - self.floors) * (n / self.n) ** -self.powers
        return float(self.weights[self.errors - then >= gain].sum())

    def _quantiles(self, values: NDArray[np.float64]) -> tuple[float, float, float]:
        order = np.argsort(values, kind="stable")
        ends = ((1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2)
        places = np.minimum(np.searchsorted(np.cumsum(self.weights[order]), ends), len(order) - 1)
        low, middle, high = values[order[places]].tolist()
        return low, middle, high


def curves(measured: Sequence[Measured]) -> Curves:
    """Weigh all plausible learning curves by how well they agree with what was measured.

    Args:
        measured: at least two different n; several figures of one n are several draws of the labels.

    Raises:
        SsnError: fewer than two different n, or a figure outside 0..1.
    """
    counts = np.array([point.n for point in measured], dtype=np.float64)
    figures = np.array([point.figure for point in measured], dtype=np.float64)
    if len(set(counts.tolist())) < 2 or counts.min() < 1 or not ((figures >= 0) & (figures <= 1)).all():
        raise SsnError(
            "A learning curve needs figures between 0 and 1 at two numbers of labels at least",
            value=[(point.n, point.figure) for point in measured],
        )
    now = int(counts.max())
    # At n the error is `errors`; the part of it that no label removes is `floors`, 0..1 of it.
    errors, shares, powers = (
        grid.ravel() for grid in np.meshgrid(_ERRORS, np.linspace(0, 1, 11), _POWERS, indexing="ij")
    )
    floors = errors * shares
    squares = np.zeros(len(errors))
    for n, figure in zip(counts, figures, strict=True):
        squares += (1 - figure - np.clip(floors + (errors - floors) * (n / now) ** -powers, 0, 1)) ** 2
    # How much a figure varies from draw to draw is not known either: integrated out, with a scaled inverse chi-square
    # prior (Gelman et al., Bayesian Data Analysis, 3.2), which says what _DOUBTS draws of spread _NOISE would.
    log_weights = -(_DOUBTS + len(counts)) / 2 * np.log(_DOUBTS * _NOISE**2 + squares)
    # Beforehand, no floor is as likely as any floor: there are ten of those.
    log_weights += np.where(shares == 0, np.log(10.0), 0.0)
    weights = np.exp(log_weights - log_weights.max())
    return Curves(now, errors, floors, powers, weights / weights.sum())
