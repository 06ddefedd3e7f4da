"""What each image adds to AUROC and to average precision: from that follows how far the figures would spread.

The influence of an image is by how much the figure changes, times the number of images of its class, when a little more
weight is put on it; their mean within a class is 0, and the variance of that mean is what the class adds to the
figure's (the infinitesimal jackknife; Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 21).
Everything follows from one sorting of the scores, in O(N log N).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssn_core.sums import sum_of_products

Floats = NDArray[np.float64]


def placements(bad: NDArray[np.bool_], values: Floats) -> tuple[Floats, Floats]:
    """For each bad image the share of good ones below it, for each good image that of bad ones above; equal count half.

    The mean of either is the AUROC, and what is left without it is the influence (DeLong's structural components).
    """
    of_bad, of_good = np.sort(values[bad]), np.sort(values[~bad])
    good_below = np.searchsorted(of_good, values[bad], "left") + np.searchsorted(of_good, values[bad], "right")
    bad_below = np.searchsorted(of_bad, values[~bad], "left") + np.searchsorted(of_bad, values[~bad], "right")
    return good_below / (2 * of_good.size), 1 - bad_below / (2 * of_bad.size)


@dataclass(frozen=True)
class ApInfluence:
    """AP of some images, and what each of them adds to it."""

    value: float
    bad_variance: float  # of AP, from which bad images there happen to be
    good_variance: float
    of_bad: Floats  # (n_bad,) in the order of the images
    of_good: Floats  # (n_good,)
    of_good_above: float  # of one more good image, above every other


def ap_influence(bad: NDArray[np.bool_], values: Floats, *, good_above: float = 0.0) -> ApInfluence:
    """AP at the mix of these images, and its linear parts.

    `good_above` of a good image is added that scores above all; the mix stays as it was. `bad` (N,) must hold at least
    two images of each class, and `values` (N,) be finite.
    """
    levels, place = np.unique(values, return_inverse=True)
    bad_at = np.bincount(place, weights=bad, minlength=levels.size)
    good_at = np.bincount(place, weights=~bad, minlength=levels.size)
    n_bad, n_good = float(bad_at.sum()), float(good_at.sum())
    all_good = n_good + good_above
    weight = n_good / all_good  # of a good image, so that what was added does not change the mix
    bad_ge = np.cumsum(bad_at[::-1])[::-1]
    good_ge = weight * (np.cumsum(good_at[::-1])[::-1] + good_above)
    called_bad = np.maximum(bad_ge + good_ge, np.finfo(float).tiny)
    precision = bad_ge / called_bad
    value = sum_of_products(bad_at, precision) / n_bad

    # The slopes of AP's terms in the counts at or above each level. An image is counted at its own level and all below.
    by_bad = bad_at * good_ge / called_bad**2
    by_good = -bad_at * bad_ge / called_bad**2
    of_bad = precision - value + np.cumsum(by_bad) - sum_of_products(by_bad, bad_ge) / n_bad
    of_good = (np.cumsum(by_good) - sum_of_products(by_good, good_ge) / n_good) * n_good / n_bad
    # Far from linear where there are few bad images, so the whole step from none added to one.
    without = np.maximum(called_bad - weight * good_above, np.finfo(float).tiny)
    step = bad_ge / (without + weight) - bad_ge / without
    above = all_good * sum_of_products(bad_at, step) / n_bad
    return ApInfluence(
        value=value,
        bad_variance=sum_of_products(bad_at, of_bad**2) / (n_bad * (n_bad - 1)),
        good_variance=(sum_of_products(good_at, of_good**2) + good_above * above**2) / (all_good * (all_good - 1)),
        of_bad=of_bad[place[bad]],
        of_good=of_good[place[~bad]],
        of_good_above=above,
    )


def ap_bias(bad: NDArray[np.bool_], values: Floats) -> float:
    """By how much AP of so few images is too high on average, by leaving out each image once (Quenouille's jackknife).

    A bad image counts itself among those that score as high, which flatters AP where few of them lie above good ones.
    The mix stays as it was when an image is left out. Both classes need at least two images.
    """
    of_bad, of_good = np.sort(values[bad]), np.sort(values[~bad])
    n_bad, n_good = of_bad.size, of_good.size
    bad_ge = (n_bad - np.searchsorted(of_bad, of_bad, "left")).astype(np.float64)
    good_ge = (n_good - np.searchsorted(of_good, of_bad, "left")).astype(np.float64)

    def precision(found: Floats, false: Floats) -> Floats:
        return np.divide(found, found + false, out=np.zeros_like(found), where=found > 0)

    value = precision(bad_ge, good_ge)
    heavier = n_bad / (n_bad - 1)
    without_bad: Floats = (bad_ge - 1) * precision((bad_ge - 1) * heavier, good_ge)
    without_bad += (n_bad - bad_ge) * precision(bad_ge * heavier, good_ge)
    heavier = n_good / (n_good - 1)
    without_good: Floats = good_ge * precision(bad_ge, np.maximum(good_ge - 1, 0) * heavier)
    without_good += (n_good - good_ge) * precision(bad_ge, good_ge * heavier)
    from_bad = (n_bad - 1) * float(np.mean(without_bad / (n_bad - 1) - value))
    from_good = (n_good - 1) * float(np.mean(without_good / n_good - value))
    return from_bad + from_good
