"""Where to draw the line between good and bad."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ssn_core.metrics import roc_curve


def youden(labels: ArrayLike, scores: ArrayLike) -> float:
    """The threshold that maximises J = TPR - FPR (Youden 1950); a score at or above it means bad.

    It lies midway between the lowest score called bad and the next lower one, so that it is not tied to one image.
    Of several equally good thresholds the lowest is taken: it lets the fewest bad parts pass. Where no threshold
    separates at all (J <= 0), that is the lowest score, which calls everything bad.

    Args:
        labels: (N,) 0 or False = good, 1 or True = bad.
        scores: (N,) finite; higher = more suspicious.

    Raises:
        SsnError: a class is missing, a score is not finite or a label is neither 0 nor 1.
    """
    roc = roc_curve(labels, scores)
    candidates = roc.thresholds[1:]  # falling; the first point (+inf) calls nothing bad
    # J in units of 1 / (n_good * n_bad) is an integer: rounding keeps equal values equal.
    j = np.round(roc.tpr[1:] - roc.fpr[1:], 12)
    best = int(np.flatnonzero(j == j.max())[-1])
    lowest_called_bad = float(candidates[best])
    if best + 1 == candidates.size:
        return lowest_called_bad
    highest_called_good = float(candidates[best + 1])
    midway = highest_called_good / 2 + lowest_called_bad / 2  # halves first: no overflow
    return midway if highest_called_good < midway <= lowest_called_bad else lowest_called_bad
