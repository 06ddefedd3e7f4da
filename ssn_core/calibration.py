"""What turns raw scores and maps into verdicts and pictures: a threshold, and one fixed colour scale per model.

Both come from images the model was not trained on: the calibration part, or out-of-fold scores when labels are few. The
colour scale is for pictures. The one figure about it, how many good parts stay dark, is counted on images that had no
say in the scale they are counted at (:class:`ScaleCheck`). What people say of the maps of bad images rests on it too,
but where a map starts to show colour is set by good images alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ssn_core.crossfit import deal_blocks
from ssn_core.errors import SettingError
from ssn_core.rendering import to_display_size
from ssn_core.thresholds import above_every_good, youden

# So many good parts in a hundred show no colour at all.
_GOOD_PARTS_DARK = 95
Checked = Literal["crosswise", "test"]


@dataclass(frozen=True)
class ScaleCheck:
    """How many good images stay without any colour at a scale that they had no say in."""

    dark: int
    n_good: int
    checked: Checked  # each at the scale of the other blocks (ssn_core.crossfit), or test images at the model's own


@dataclass(frozen=True)
class Calibration:
    """Threshold and colour scale, and what they rest on."""

    threshold: float  # logit; a score at or above it means bad (Youden's J, or above every good score)
    scale_low: float  # CAM units; at or below it a map is transparent
    scale_high: float  # CAM units; at or above it a map has its strongest colour
    source: str  # calibration | out_of_fold
    n_good: int
    n_bad: int
    scale_check: ScaleCheck | None = None  # None: nothing to check it on, or a model from before it was checked

    @classmethod
    def of_card(cls, entry: Mapping[str, Any]) -> Calibration:
        """From model.json, whose other entries were checked.

        Raises:
            TypeError: an unknown entry.
            SettingError: the check of the scale is none.
        """
        return cls(**{**entry, "scale_check": check_of(entry.get("scale_check"))})


def calibrate(
    labels: Sequence[bool], scores: Sequence[float], peaks: Sequence[float], *, source: str, groups: Sequence[str] = ()
) -> Calibration:
    """Threshold and colour scale from held-out images.

    The scale starts at the peak that 95 of 100 good images stay below, so a good part stays dark, and ends at the
    median peak of bad images. Without any bad image the threshold lies above every good score, and the scale ends as
    far above its start as the good images' peaks are apart.

    Args:
        labels: True = bad; good ones must occur.
        scores: logits.
        peaks: highest value of each image's map as shown to people, CAM units.
        groups: of each image; given out-of-fold, where these images are also those that figures rest on, the scale is
            checked crosswise.

    Raises:
        SsnError: there is no good image or a score is not finite.
    """
    bad = np.asarray(labels, dtype=bool)
    values = np.asarray(peaks, dtype=np.float64)
    threshold = youden(bad, scores) if bad.any() else above_every_good(bad, scores)
    low = _scale_low(values[~bad])
    high = float(np.median(values[bad])) if bad.any() else low
    if high <= low:  # a model that sees nothing: keep the scale usable, and every map nearly dark
        high = low + max(1e-3, float(np.ptp(values)))
    check = check_scale_crosswise(bad, values, groups) if groups else None
    return Calibration(threshold, low, high, source, int((~bad).sum()), int(bad.sum()), check)


def check_scale(peaks_of_good: Sequence[float], *, low: float) -> ScaleCheck:
    """Count the good test images that stay dark at the model's own scale, which was chosen on calibration images."""
    return ScaleCheck(int(np.sum(np.asarray(peaks_of_good) <= low)), len(peaks_of_good), "test")


def check_scale_crosswise(
    bad: NDArray[np.bool_], peaks: NDArray[np.float64], groups: Sequence[str]
) -> ScaleCheck | None:
    """Count the good images that stay dark, each at the scale that is chosen on the other blocks; None: too few parts.

    Args:
        bad: (N,)
        peaks: (N,) CAM units.
        groups: (N,) images of one physical part share theirs.
    """
    block = deal_blocks(bad.astype(np.int8), groups)
    if block is None:
        return None
    dark = 0
    for left_out in range(int(block.max()) + 1):
        here = block == left_out
        dark += int(np.sum(peaks[here & ~bad] <= _scale_low(peaks[~here & ~bad])))
    return ScaleCheck(dark, int((~bad).sum()), "crosswise")


def _scale_low(peaks_of_good: NDArray[np.float64]) -> float:
    return float(np.percentile(peaks_of_good, _GOOD_PARTS_DARK))


def check_of(entry: object) -> ScaleCheck | None:
    """A check of the scale as model.json and the database keep it; None stands for none.

    Raises:
        SettingError: it is none.
    """
    if entry is None:
        return None
    if isinstance(entry, dict) and set(entry) == {"dark", "n_good", "checked"}:
        dark, n_good, checked = entry["dark"], entry["n_good"], entry["checked"]
        if type(dark) is int and type(n_good) is int and 0 <= dark <= n_good and checked in get_args(Checked):
            return ScaleCheck(dark, n_good, checked)
    raise SettingError("The check of the colour scale is not usable", value=repr(entry)[:100])


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
