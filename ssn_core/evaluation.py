"""Figures of held-out images: detection from scores, localisation from maps and masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ssn_core import honest, metrics
from ssn_core.dataset import LabelledImage
from ssn_core.inference import Scored
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
    images: Sequence[LabelledImage], scored: Mapping[str, Scored], *, held_out: str, threshold: float, how: str
) -> dict[str, Any]:
    """What a threshold does to labelled images that the model was not trained on; out-of-fold, its rule, crosswise.

    Args:
        images: labelled images; each must be in `scored`.
        scored: key -> score and CAM.
        held_out: test | out_of_fold.
        threshold: logit.
        how: it was found, in words (:mod:`ssn_core.rules`).

    Returns:
        the counts, what they rest on and the rule (:meth:`ssn_core.honest.Counted.as_data`).
    """
    labels = np.array([bool(image.bad) for image in images], dtype=np.int8)
    scores = np.array([scored[image.key].score for image in images], dtype=np.float64)
    groups = [image.group for image in images]
    cuts = honest.cuts(labels, scores, groups, held_out=held_out, threshold=threshold, threshold_low=None, how=how)
    return cuts.count(labels, scores).as_data()


def measure(
    images: Sequence[LabelledImage], scored: Mapping[str, Scored], *, size: tuple[int, int], sigma: float
) -> Figures:
    """Measure labelled images that the model was not trained on.

    Pixel figures rest on the maps as people see them (:func:`ssn_core.rendering.to_display_size`) at `size` = (H, W),
    over all good images and the bad images that have a mask; a bad image without a mask takes no part in them.

    Args:
        images: labelled images; each must be in `scored`.
        scored: key -> score and CAM.
        sigma: blur of the maps, pixels.
    """
    labels = [bool(image.bad) for image in images]
    scores = [scored[image.key].score for image in images]
    masked = [image for image in images if image.bad is False or image.mask is not None]
    if any(image.mask is not None for image in masked):
        pixel = metrics.pixel_metrics(
            (to_display_size(scored[image.key].cam, size, sigma=sigma) for image in masked),
            (mask for image in masked if (mask := image.load_mask(size)) is not None),
        )
    else:
        pixel = metrics.PixelMetrics(None, None, None, 0, 0)
    return Figures(
        i_auroc=metrics.i_auroc(labels, scores),
        ap_det=metrics.ap(labels, scores),
        p_auroc=pixel.p_auroc,
        ap_loc=pixel.ap_loc,
        aupro=pixel.aupro,
        n_good=labels.count(False),
        n_bad=labels.count(True),
        n_masks=pixel.n_masks,
    )
