"""Detection and localisation figures, on raw scores and raw anomaly maps.

Bad is the positive class everywhere, and a score at or above a threshold means bad. Nothing is rescaled first:
per-image or test-set min-max scaling would make the figures of two models incomparable. A figure that is not defined
(a class is missing, no mask exists) is None, never 0.

All curves come from one exact counting scheme instead of scikit-learn's (which the tests compare with): only the
distinct scores of bad samples are visited, and good ones are counted against them. Pixels are counted map by map
(:class:`PixelCounts`), so memory does not grow with the number of good images.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ssn_core.errors import SsnError
from ssn_core.sums import sum_of_products

FloatArray = NDArray[np.floating[Any]]
_EIGHT_CONNECTED = np.ones((3, 3), dtype=bool)


@dataclass(frozen=True)
class Roc:
    """A ROC curve from (0, 0) to (1, 1); `thresholds[0]` is +inf (nothing is called bad)."""

    fpr: NDArray[np.float64]
    tpr: NDArray[np.float64]
    thresholds: NDArray[np.float64]


@dataclass(frozen=True)
class PrecisionRecall:
    """Precision and recall at each distinct score, in order of falling threshold (rising recall)."""

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    thresholds: NDArray[np.float64]


@dataclass(frozen=True)
class PixelMetrics:
    """Localisation figures over all pixels of all images, and what they rest on."""

    p_auroc: float | None
    ap_loc: float | None
    aupro: float | None
    n_images: int
    n_masks: int  # images whose mask marks at least one pixel


@dataclass(frozen=True)
class _Counts:
    """At each distinct score of a bad sample, falling: what lies at or above it, and strictly above it."""

    thresholds: FloatArray
    bad_at: NDArray[np.float64]  # bad weight exactly at this score
    bad_ge: NDArray[np.float64]
    good_gt: NDArray[np.int64]
    good_ge: NDArray[np.int64]
    n_good: int

    @property
    def n_bad(self) -> float:
        return float(self.bad_ge[-1])


def roc_curve(labels: ArrayLike, scores: ArrayLike) -> Roc:
    """The ROC curve of image scores.

    Args:
        labels: (N,) 0 or False = good, 1 or True = bad.
        scores: (N,) any finite scale; higher = more suspicious.

    Raises:
        SsnError: a score is not finite, a label is neither 0 nor 1, or a class is missing.
    """
    bad, values = checked(labels, scores)
    need_both_classes(bad, "A ROC curve")
    thresholds, tp, fp = _cumulative(bad, values)
    return Roc(
        fpr=np.concatenate(([0.0], fp / fp[-1])),
        tpr=np.concatenate(([0.0], tp / tp[-1])),
        thresholds=np.concatenate(([np.inf], thresholds)),
    )


def pr_curve(labels: ArrayLike, scores: ArrayLike) -> PrecisionRecall:
    """The precision-recall curve of image scores; arguments and errors as for :func:`roc_curve`."""
    bad, values = checked(labels, scores)
    need_both_classes(bad, "A precision-recall curve")
    thresholds, tp, fp = _cumulative(bad, values)
    return PrecisionRecall(precision=tp / (tp + fp), recall=tp / tp[-1], thresholds=thresholds)


def i_auroc(labels: ArrayLike, scores: ArrayLike) -> float | None:
    """Image-level AUROC in [0, 1] (ties count half), or None when a class is missing."""
    bad, values = checked(labels, scores)
    counts = _count(np.sort(values[~bad]), values[bad])
    return None if counts is None else _auroc(counts)


def ap(labels: ArrayLike, scores: ArrayLike) -> float | None:
    """Average precision in [0, 1], the sum of (R_n - R_(n-1)) P_n, or None when a class is missing."""
    bad, values = checked(labels, scores)
    counts = _count(np.sort(values[~bad]), values[bad])
    return None if counts is None else _average_precision(counts)


def pixel_metrics(maps: Collection[FloatArray], masks: Collection[NDArray[np.bool_]]) -> PixelMetrics:
    """P-AUROC, AP-loc and AUPRO over all pixels of all images given.

    Args:
        maps: float (H, W) per image, compared as float32; sizes may differ between images. Gone over twice.
        masks: bool (H, W) per image, True = defect; all False for a good image. Leave out bad images without a mask:
            their pixels are unknown, not good.

    Raises:
        SsnError: a map holds a value that is not finite.
        ValueError: the numbers of maps and masks, or the sizes of a pair, differ.
    """
    return _counted(maps, masks).metrics()


def aupro(
    maps: Collection[FloatArray], masks: Collection[NDArray[np.bool_]], *, fpr_limit: float = 0.3
) -> float | None:
    """Area under mean per-region overlap against pixel FPR up to `fpr_limit`, divided by it (Bergmann et al.).

    Regions are the 8-connected components of the masks; every region weighs the same whatever its size. Masks that
    were scaled have lost thin connections: :class:`PixelCounts` takes the regions as they were drawn. FPR is taken over
    all good pixels. The curve is integrated with the trapezoid rule and interpolated at `fpr_limit` in (0, 1].
    None without any region or any good pixel. Arguments and errors as for :func:`pixel_metrics`.
    """
    if not 0.0 < fpr_limit <= 1.0:
        raise ValueError(f"fpr_limit must lie in (0, 1], not {fpr_limit!r}")
    return _counted(maps, masks).aupro(fpr_limit)


def _counted(maps: Collection[FloatArray], masks: Collection[NDArray[np.bool_]]) -> PixelCounts:
    counts = PixelCounts()
    for anomaly_map, mask in zip(maps, masks, strict=True):
        counts.add_defects(anomaly_map, regions_of(mask))
    for anomaly_map, mask in zip(maps, masks, strict=True):
        counts.add(anomaly_map, mask)
    return counts


def regions_of(mask: NDArray[np.bool_]) -> NDArray[np.int32]:
    """The 8-connected regions of a mask (H, W): (H, W), 0 = good, 1, 2, ... = the number of the region."""
    from scipy import ndimage  # slow to load: only masks need it, and the command line loads this file at once

    regions = np.zeros(np.shape(mask), np.int32)
    ndimage.label(np.asarray(mask, dtype=bool), structure=_EIGHT_CONNECTED, output=regions)
    return regions


class PixelCounts:
    """Pixel figures map by map, exactly, in memory that grows with the marked pixels alone.

    A figure needs to know, at each distinct value of a marked pixel, how many good pixels lie above it. So the marked
    pixels are gathered first (:meth:`add_defects`, for every image with a mask that marks something), and then the
    good pixels of every image are counted against them and forgotten (:meth:`add`).
    """

    def __init__(self) -> None:
        self._bad: list[NDArray[np.float32]] = []
        self._weights: list[NDArray[np.float64]] = []  # 1 / pixels of its region
        self._n_regions = 0
        self._thresholds: NDArray[np.float32] | None = None  # distinct values of marked pixels, rising
        self._good_gt = self._good_ge = np.zeros(0, np.int64)  # at each of them
        self._n_good = self._n_images = self._n_masks = 0

    def add_defects(self, anomaly_map: FloatArray, regions: NDArray[np.integer]) -> None:
        """Gather the marked pixels of an image; it must be given to :meth:`add` afterwards as well.

        Args:
            regions: (H, W), 0 = good, every other number a region of the defect mask.
        """
        if self._thresholds is not None:
            raise ValueError("All defects must be gathered before good pixels are counted")
        defect = regions != 0
        if not defect.any():
            return
        values = self._checked(anomaly_map, defect, number=len(self._bad) + 1)
        _, place, pixels = np.unique(regions[defect], return_inverse=True, return_counts=True)
        self._n_regions += pixels.size
        self._bad.append(values[defect])
        self._weights.append(1.0 / pixels[place])

    def add(self, anomaly_map: FloatArray, mask: NDArray[np.bool_]) -> None:
        """Count an image and its good pixels.

        Raises:
            SsnError: the map holds a value that is not finite.
            ValueError: the map has another size than the mask.
        """
        if self._thresholds is None:
            self._thresholds = np.unique(np.concatenate(self._bad)) if self._bad else np.zeros(0, np.float32)
            self._good_gt = np.zeros(self._thresholds.size, np.int64)
            self._good_ge = np.zeros(self._thresholds.size, np.int64)
        defect = np.asarray(mask, dtype=bool)
        self._n_images += 1
        values = self._checked(anomaly_map, defect, number=self._n_images)
        self._n_masks += bool(defect.any())
        good = np.sort(values[~defect])
        self._n_good += good.size
        self._good_gt += good.size - np.searchsorted(good, self._thresholds, side="right")
        self._good_ge += good.size - np.searchsorted(good, self._thresholds, side="left")

    def metrics(self) -> PixelMetrics:
        """The figures; None where a class of pixels is missing."""
        counts = self._counts()
        if counts is None:
            return PixelMetrics(None, None, None, self._n_images, self._n_masks)
        return PixelMetrics(
            p_auroc=_auroc(counts),
            ap_loc=_average_precision(counts),
            aupro=self.aupro(0.3),
            n_images=self._n_images,
            n_masks=self._n_masks,
        )

    def aupro(self, fpr_limit: float) -> float | None:
        """As :func:`aupro`."""
        weights = np.concatenate(self._weights) / self._n_regions if self._weights else None
        counts = self._counts(weights)
        return None if counts is None else _area_under_pro(counts, fpr_limit=fpr_limit)

    def _counts(self, weights: NDArray[np.float64] | None = None) -> _Counts | None:
        if not self._n_good or not self._bad or self._thresholds is None:
            return None
        place = np.searchsorted(self._thresholds, np.concatenate(self._bad))
        bad_at = np.bincount(place, weights=weights, minlength=self._thresholds.size)[::-1].astype(np.float64)
        return _Counts(
            thresholds=self._thresholds[::-1],
            bad_at=bad_at,
            bad_ge=np.cumsum(bad_at),
            good_gt=self._good_gt[::-1],
            good_ge=self._good_ge[::-1],
            n_good=self._n_good,
        )

    @staticmethod
    def _checked(anomaly_map: FloatArray, mask: NDArray[np.bool_], *, number: int) -> NDArray[np.float32]:
        values = np.asarray(anomaly_map, dtype=np.float32)
        if values.shape != mask.shape or values.ndim != 2:
            raise ValueError(f"Map {number} is {values.shape} and its mask {mask.shape}: both must be the same (H, W)")
        if not np.isfinite(values).all():
            raise SsnError(
                f"Anomaly map {number} holds a value that is not finite",
                value=float(values[~np.isfinite(values)][0]),
                expected="finite numbers",
                action="Score the image again; if it stays, train the model again",
            )
        return values


def checked(labels: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Labels as bool (True = bad) and scores as float64, both (N,).

    Raises:
        SsnError: a label is neither 0 nor 1, or a score is not finite.
        ValueError: the two are not one-dimensional and equally long.
    """
    values = np.asarray(scores, dtype=np.float64)
    given = np.asarray(labels)
    if values.ndim != 1 or given.shape != values.shape:
        raise ValueError(
            f"Labels {given.shape} and scores {values.shape} must both be one-dimensional and equally long"
        )
    wrong = ~np.isin(given, (0, 1))
    if wrong.any():
        raise SsnError("A label is not usable", value=given[wrong].tolist()[0], expected="0 (good) or 1 (bad)")
    unusable = ~np.isfinite(values)
    if unusable.any():
        raise SsnError(
            f"Score number {int(np.argmax(unusable)) + 1} of {values.size} is not finite",
            value=float(values[unusable][0]),
            expected="finite numbers",
            action="Score the images again; if it stays, train the model again",
        )
    return given.astype(bool), values


def need_both_classes(bad: NDArray[np.bool_], what: str) -> None:
    """Raise SsnError, beginning with `what`, unless there is a good and a bad image."""
    n_bad = int(bad.sum())
    n_good = int(bad.size) - n_bad
    if not n_bad or not n_good:
        raise SsnError(
            f"{what} needs good and bad images",
            value=f"{n_good} good, {n_bad} bad",
            expected="at least one of each",
            action="Label more images",
        )


def _cumulative(
    bad: NDArray[np.bool_], values: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Distinct scores in falling order, with the bad and the good samples at or above each."""
    thresholds, place = np.unique(values, return_inverse=True)
    bad_at = np.bincount(place, weights=bad, minlength=thresholds.size).astype(np.float64)
    good_at = np.bincount(place, weights=~bad, minlength=thresholds.size).astype(np.float64)
    return thresholds[::-1], np.cumsum(bad_at[::-1]), np.cumsum(good_at[::-1])


def _count(good_sorted: FloatArray, bad: FloatArray) -> _Counts | None:
    """Count at each distinct bad score; None when a class is missing."""
    if not good_sorted.size or not bad.size:
        return None
    rising, bad_at = np.unique(bad, return_counts=True)
    thresholds, falling = rising[::-1], bad_at[::-1].astype(np.float64)
    n_good = int(good_sorted.size)
    return _Counts(
        thresholds=thresholds,
        bad_at=falling,
        bad_ge=np.cumsum(falling),
        good_gt=(n_good - np.searchsorted(good_sorted, thresholds, side="right")).astype(np.int64),
        good_ge=(n_good - np.searchsorted(good_sorted, thresholds, side="left")).astype(np.int64),
        n_good=n_good,
    )


def _auroc(counts: _Counts) -> float:
    """The probability that a bad sample scores above a good one; equal scores count half (Mann-Whitney)."""
    beaten_by_good = 0.5 * (counts.good_gt + counts.good_ge)
    return 1.0 - sum_of_products(counts.bad_at, beaten_by_good) / (counts.n_bad * counts.n_good)


def _average_precision(counts: _Counts) -> float:
    return sum_of_products(counts.bad_at, counts.bad_ge / (counts.bad_ge + counts.good_ge)) / counts.n_bad


def _area_under_pro(counts: _Counts, *, fpr_limit: float) -> float:
    """Of counts in which each bad pixel weighs 1 / (number of regions x pixels of its region)."""
    # Between two distinct bad scores the overlap stays and only the FPR grows, so two corners for each bad score (just
    # above it, and at it) describe the whole curve.
    before = counts.bad_ge - counts.bad_at
    fpr = np.stack([counts.good_gt, counts.good_ge], axis=1).reshape(-1) / counts.n_good
    pro = np.stack([before, counts.bad_ge], axis=1).reshape(-1)
    fpr = np.concatenate(([0.0], fpr, [1.0]))
    pro = np.concatenate(([0.0], pro, pro[-1:]))
    inside = fpr <= fpr_limit
    last = int(np.flatnonzero(inside)[-1])
    fpr_cut, pro_cut = fpr[: last + 1], pro[: last + 1]
    if fpr_cut[-1] < fpr_limit:
        share = (fpr_limit - fpr[last]) / (fpr[last + 1] - fpr[last])
        fpr_cut = np.append(fpr_cut, fpr_limit)
        pro_cut = np.append(pro_cut, pro[last] + share * (pro[last + 1] - pro[last]))
    return float(np.trapezoid(pro_cut, fpr_cut)) / fpr_limit
