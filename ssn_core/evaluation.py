"""Figures of held-out images: detection from scores, localisation from maps and masks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssn_core import honest, metrics
from ssn_core.crossfit import deal_blocks
from ssn_core.dataset import LabelledImage
from ssn_core.rendering import to_display_size


@dataclass(frozen=True)
class Figures:
    """Detection and localisation of some images; None = not defined ("n/a")."""

    i_auroc: float | None
    ap_det: float | None
    p_auroc: float | None
    ap_loc: float | None
    aupro: float | None
    n_good: int
    n_bad: int
    n_masks: int


def count_at_threshold(
    images: Sequence[LabelledImage], scores: Mapping[str, float], *, held_out: str, threshold: float, how: str
) -> dict[str, Any]:
    """What a threshold does to labelled images that the model was not trained on; out-of-fold, its rule, crosswise.

    Args:
        images: labelled images; each must be in `scores`.
        scores: key -> logit.
        held_out: test | out_of_fold.
        threshold: logit.
        how: it was found, in words (:mod:`ssn_core.rules`).

    Returns:
        the counts, what they rest on and the rule (:meth:`ssn_core.honest.Counted.as_data`).
    """
    labels = np.array([bool(image.bad) for image in images], dtype=np.int8)
    found = np.array([scores[image.key] for image in images], dtype=np.float64)
    blocks = deal_blocks(labels, [image.group for image in images])
    cuts = honest.cuts(labels, found, blocks, held_out=held_out, threshold=threshold, threshold_low=None, how=how)
    return cuts.count(labels, found).as_data()


def measure(
    images: Sequence[LabelledImage],
    scores: Mapping[str, float],
    map_of: Callable[[str], NDArray[np.float32]],
    *,
    size: tuple[int, int],
    sigma: float,
) -> Figures:
    """Measure labelled images that the model was not trained on.

    Pixel figures rest on the maps as people see them (:func:`ssn_core.rendering.to_display_size`) at `size` = (H, W),
    over all good images and the bad images that have a mask; a bad image without a mask takes no part in them. AUPRO
    counts the regions of the masks as they were drawn. Maps are read one at a time, those of masked images twice.

    Args:
        images: labelled images; each must be in `scores`.
        scores: key -> logit.
        map_of: the CAM of an image by its key, (h, w).
        sigma: blur of the maps, pixels.
    """
    labels = [bool(image.bad) for image in images]
    found = [scores[image.key] for image in images]
    pixel = _measure_pixels(images, lambda key: to_display_size(map_of(key), size, sigma=sigma), size)
    return Figures(
        i_auroc=metrics.i_auroc(labels, found),
        ap_det=metrics.ap(labels, found),
        p_auroc=pixel.p_auroc,
        ap_loc=pixel.ap_loc,
        aupro=pixel.aupro,
        n_good=labels.count(False),
        n_bad=labels.count(True),
        n_masks=pixel.n_masks,
    )


def _measure_pixels(
    images: Sequence[LabelledImage], shown: Callable[[str], NDArray[np.float32]], size: tuple[int, int]
) -> metrics.PixelMetrics:
    if not any(image.bad is not False and image.mask is not None for image in images):
        return metrics.PixelMetrics(None, None, None, 0, 0)
    counts = metrics.PixelCounts()
    for image in images:
        regions = None if image.bad is False else image.load_regions(size)
        if regions is not None:
            counts.add_defects(shown(image.key), regions)
    for image in images:
        mask = image.load_mask(size)
        if mask is not None:
            counts.add(shown(image.key), mask)
    return counts.metrics()
