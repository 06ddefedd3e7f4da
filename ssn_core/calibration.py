"""What turns raw scores and maps into verdicts and pictures: a threshold, and one fixed colour scale per model.

Both come from images the model was not trained on: the calibration part, or out-of-fold scores when labels are few.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssn_core.rendering import to_display_size
from ssn_core.thresholds import youden

# So many good parts in a hundred show no colour at all.
_GOOD_PARTS_DARK = 95


@dataclass(frozen=True)
class Calibration:
    """Threshold and colour scale, and what they rest on."""

    threshold: float  # logit; a score at or above it means bad (Youden's J)
    scale_low: float  # CAM units; at or below it a map is transparent
    scale_high: float  # CAM units; at or above it a map has its strongest colour
    source: str  # calibration | out_of_fold
    n_good: int
    n_bad: int


def calibrate(labels: Sequence[bool], scores: Sequence[float], peaks: Sequence[float], *, source: str) -> Calibration:
    """Threshold and colour scale from held-out images.

    The scale starts at the peak that 95 of 100 good images stay below, so a good part stays dark, and ends at the
    median peak of bad images.

    Args:
        labels: True = bad; both classes must occur.
        scores: logits.
        peaks: highest value of each image's map as shown to people, CAM units.

    Raises:
        SsnError: a class is missing or a score is not finite.
    """
    bad = np.asarray(labels, dtype=bool)
    values = np.asarray(peaks, dtype=np.float64)
    threshold = youden(bad, scores)
    low = float(np.percentile(values[~bad], _GOOD_PARTS_DARK))
    high = float(np.median(values[bad]))
    if high <= low:  # a model that sees nothing: keep the scale usable, and every map nearly dark
        high = low + max(1e-3, float(np.ptp(values)))
    return Calibration(threshold, low, high, source, n_good=int((~bad).sum()), n_bad=int(bad.sum()))


def map_peak(cam: NDArray[np.float32], size: tuple[int, int], *, sigma: float) -> float:
    """The highest value of a map as people see it.

    Args:
        cam: (h, w), CAM units.
        size: (H, W) of the network's input, pixels.
        sigma: blur, pixels.
    """
    return float(to_display_size(cam, size, sigma=sigma).max())


def map_peaks(cams: Iterable[NDArray[np.float32]], size: tuple[int, int], *, sigma: float) -> list[float]:
    """:func:`map_peak` of several maps."""
    return [map_peak(cam, size, sigma=sigma) for cam in cams]
