"""Labels that are likely wrong: confident learning (Northcutt, Jiang, Chuang, JAIR 70, 2021) for two classes.

Scores must come from networks that were not trained on the image: one that has learned a wrong label agrees with it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ssn_core.metrics import checked
from ssn_core.probability import fit_platt, probability


@dataclass(frozen=True)
class Doubts:
    """How far held-out scores support the labels of N images."""

    self_confidence: NDArray[np.float64]  # (N,) probability of the label that was given; low = doubtful
    likely_wrong: NDArray[np.bool_]  # (N,) the other label is the confident one

    @property
    def order(self) -> NDArray[np.int64]:
        """Places, the likely wrong ones first and then by doubt."""
        return np.lexsort((self.self_confidence, ~self.likely_wrong))


def doubts(labels: ArrayLike, scores: ArrayLike) -> Doubts:
    """Compare labels with scores of networks that never saw them.

    The probability of bad is fitted to these labels and scores (Platt's sigmoid: two numbers, which a few wrong labels
    among many move little), and then told as if good and bad were equally many: otherwise weak scores would accuse
    every bad label, because bad parts are rare. As in confident learning, an image counts as confidently of a class
    where its probability is at least the mean probability of the images that bear that label; where that is the other
    class than its own, and the likelier one, the label is likely wrong.

    Args:
        labels: (N,) 0 good, 1 bad; both must occur.
        scores: (N,) finite, held out or out-of-fold; higher = more suspicious.

    Raises:
        SsnError: a class is missing, or a score is not finite.
    """
    bad, values = checked(labels, scores)
    platt = fit_platt(bad, values)
    share = (platt.n_bad * (platt.n_bad + 1) / (platt.n_bad + 2) + platt.n_good / (platt.n_good + 2)) / len(bad)
    equally_many = replace(platt, intercept=platt.intercept - math.log(share / (1 - share)))
    of_bad = probability(equally_many, values)
    by_class = np.stack([1 - of_bad, of_bad], axis=1)  # (N, 2)
    given = bad.astype(np.int64)
    rows = np.arange(len(given))
    self_confidence = by_class[rows, given]
    confident_from = np.array([self_confidence[~bad].mean(), self_confidence[bad].mean()])
    other = by_class[rows, 1 - given]
    likely_wrong = (other >= confident_from[1 - given]) & (other > self_confidence)
    return Doubts(self_confidence, likely_wrong)
