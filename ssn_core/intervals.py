"""How far a figure from n images can be trusted: intervals for rates, AUROC, AP and paired differences.

Bad is the positive class; labels are 0 or False = good and 1 or True = bad, scores are finite and higher = more
suspicious. Every interval is two-sided at `level`, and names its method. A figure that is not defined (a class is
missing, nothing was counted) has no interval: None.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special  # scipy.stats takes a second to import, and a page would wait for it

from ssn_core.errors import SettingError
from ssn_core.metrics import ap, checked, i_auroc

Floats = NDArray[np.float64]

# Weights of this many (resample, image) pairs are held at once: some 100 MB with what is computed from them.
_CHUNK = 2_000_000


@dataclass(frozen=True)
class Interval:
    """From `low` to `high`, both included; `method` says how it was found, for a page or report to print."""

    low: float
    high: float
    method: str
    level: float = 0.95


@dataclass(frozen=True)
class Difference:
    """A figure of model A less that of model B on the same images; above 0 means that A is better."""

    value: float
    interval: Interval | None


def rate_interval(events: int, n: int, *, level: float = 0.95) -> Interval | None:
    """The score interval for a rate of `events` in `n` (Wilson, J. Am. Stat. Assoc. 22 (1927) 209-212).

    None for n = 0. Unlike the textbook interval it stays inside [0, 1] and is not empty at 0 or n events. Its coverage
    swings about `level` with the true rate, and keeps it on average.

    Raises:
        ValueError: not 0 <= events <= n.
        SsnError: `level` is not between 0 and 1.
    """
    if not 0 <= events <= n:
        raise ValueError(f"{events} events in {n} is not a rate")
    z = _z(level)
    if n == 0:
        return None
    rate = events / n
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    # Exact at the ends, where centre and half differ by rounding alone.
    low = 0.0 if events == 0 else max(0.0, centre - half)
    high = 1.0 if events == n else min(1.0, centre + half)
    return Interval(low, high, "Wilson", level)


def most_compatible_rate(n: int, *, level: float = 0.95) -> float | None:
    """The largest rate that zero events in `n` leave possible: 1 - (1 - level)^(1/n), about 3/n at 95 %.

    At a higher rate, n images without an event would be seen in fewer than 1 - level of all cases (the exact one-sided
    bound of Clopper and Pearson, 1934). None for n = 0: nothing was seen.

    Raises:
        ValueError: n < 0.
        SsnError: `level` is not between 0 and 1.
    """
    _check_level(level)
    if n < 0:
        raise ValueError(f"{n} images cannot be")
    return -math.expm1(math.log1p(-level) / n) if n else None


def needed_without_event(rate: float, *, level: float = 0.95) -> int:
    """How many images without a single event the claim "at most `rate`" needs at `level`: 59 for 5 %, 299 for 1 %.

    The smallest n whose :func:`most_compatible_rate` does not exceed `rate`.

    Raises:
        SsnError: `rate` or `level` is not between 0 and 1 (both excluded).
    """
    _check_level(level)
    if not 0.0 < rate < 1.0:
        raise SettingError("The rate to claim is not usable", value=rate, expected="a number between 0 and 1")
    exact = math.log1p(-level) / math.log1p(-rate)
    # A claim that n images just carry must not need n + 1 because of rounding.
    return max(1, math.ceil(exact * (1 - 1e-12)))


def auroc_interval(labels: ArrayLike, scores: ArrayLike, *, level: float = 0.95) -> Interval | None:
    """An interval for the image-level AUROC; None where a class is missing.

    DeLong's variance (DeLong et al., Biometrics 44 (1988) 837-845), found from sorted scores in O(N log N) like Sun and
    Xu (IEEE Signal Process. Lett. 21 (2014) 1389-1393), on the logit scale, where it stays inside [0, 1].

    That variance is zero under perfect separation, and unknown with one image in a class. There the bound of Clopper
    and Pearson on the k images of the smaller class is taken: they form k independent (good, bad) pairs, all in the
    right order with probability AUROC^k.

    Raises:
        SsnError: a score is not finite, a label is neither 0 nor 1 or `level` is not between 0 and 1.
    """
    z = _z(level)
    bad, values = checked(labels, scores)
    auroc = i_auroc(bad, values)
    if auroc is None:
        return None
    variance = _delong(bad, [values])
    if variance is None or variance[0, 0] <= 0:
        return _smaller_class_interval(auroc, bad, level)
    low, high = _logit_interval(auroc, math.sqrt(variance[0, 0]), z)
    return Interval(low, high, "DeLong, logit scale", level)


def auroc_difference(
    labels: ArrayLike, scores_a: ArrayLike, scores_b: ArrayLike, *, level: float = 0.95
) -> Difference | None:
    """AUROC of A less that of B on the same images, with DeLong's paired interval; None where a class is missing.

    Where the paired variance is zero or unknown, the two single intervals are combined as if the models were
    independent (Newcombe, Stat. Med. 17 (1998) 873-890, method 10), which is too wide rather than too narrow.

    Raises:
        SsnError: a score is not finite, a label is neither 0 nor 1 or `level` is not between 0 and 1.
    """
    z = _z(level)
    bad, first = checked(labels, scores_a)
    _, second = checked(labels, scores_b)
    a, b = i_auroc(bad, first), i_auroc(bad, second)
    if a is None or b is None:
        return None
    value = a - b
    if np.array_equal(first, second):
        return Difference(0.0, Interval(0.0, 0.0, "identical scores", level))
    covariance = _delong(bad, [first, second])
    variance = 0.0 if covariance is None else float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    # Rounding leaves some 1e-18 where two models order everything alike.
    if variance <= 1e-15:
        ends_a, ends_b = (_smaller_class_interval(figure, bad, level) for figure in (a, b))
        low = value - math.hypot(a - ends_a.low, ends_b.high - b)
        high = value + math.hypot(ends_a.high - a, b - ends_b.low)
        return Difference(value, _difference_interval(low, high, "Newcombe, on the smaller class", level))
    half = z * math.sqrt(variance)
    return Difference(value, _difference_interval(value - half, value + half, "paired DeLong", level))


def ap_interval(
    labels: ArrayLike, scores: ArrayLike, *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval | None:
    """An interval for average precision at the mix of good and bad of these images; None where a class is missing.

    Raises:
        SsnError: a score is not finite, a label is neither 0 nor 1 or `level` is not between 0 and 1.
    """
    z = _z(level)
    bad, values = checked(labels, scores)
    value = ap(bad, values)
    if value is None:
        return None
    spread = float(np.std(_resampled_ap(bad, [values], resamples=resamples, seed=seed)[:, 0], ddof=1))
    if spread <= 0 or value >= 1:
        return _smaller_class_interval(value, bad, level)
    low, high = _logit_interval(value, spread, z)
    return Interval(low, high, "stratified bootstrap, logit scale", level)


def ap_difference(
    labels: ArrayLike,
    scores_a: ArrayLike,
    scores_b: ArrayLike,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Difference | None:
    """AP of A less that of B on the same images, by a bootstrap that draws the same images for both.

    None where a class is missing.

    Raises:
        SsnError: a score is not finite, a label is neither 0 nor 1 or `level` is not between 0 and 1.
    """
    _check_level(level)
    bad, first = checked(labels, scores_a)
    _, second = checked(labels, scores_b)
    a, b = ap(bad, first), ap(bad, second)
    if a is None or b is None:
        return None
    drawn = _resampled_ap(bad, [first, second], resamples=resamples, seed=seed)
    low, high = np.quantile(drawn[:, 0] - drawn[:, 1], [(1 - level) / 2, (1 + level) / 2])
    return Difference(a - b, _difference_interval(float(low), float(high), "paired stratified bootstrap", level))


def _delong(bad: NDArray[np.bool_], scores: list[Floats]) -> Floats | None:
    """The covariance (M, M) of the AUROCs of M score vectors on the same images; None with one image in a class."""
    if min(int(bad.sum()), int((~bad).sum())) < 2:
        return None
    of_bad = np.stack([_placements(values[bad], values[~bad]) for values in scores])
    of_good = np.stack([_placements(values[~bad], values[bad]) for values in scores])
    covariance: Floats = np.cov(of_bad) / of_bad.shape[1] + np.cov(of_good) / of_good.shape[1]
    return np.atleast_2d(covariance)


def _placements(values: Floats, others: Floats) -> Floats:
    """For each value the share of `others` below it; equal ones count half."""
    ranked = np.sort(others)
    return (np.searchsorted(ranked, values, "left") + np.searchsorted(ranked, values, "right")) / (2 * others.size)


def _smaller_class_interval(figure: float, bad: NDArray[np.bool_], level: float) -> Interval:
    """Clopper and Pearson for `figure` as if it were a share of the images of the smaller class."""
    n = min(int(bad.sum()), int((~bad).sum()))
    events = figure * n  # need not be whole: the beta quantiles go through all values between
    tail = (1 - level) / 2
    low = float(special.betaincinv(events, n - events + 1, tail)) if events > 0 else 0.0
    high = float(special.betaincinv(events + 1, n - events, 1 - tail)) if events < n else 1.0
    return Interval(min(low, figure), max(high, figure), "Clopper-Pearson on the smaller class", level)


def _logit_interval(figure: float, error: float, z: float) -> tuple[float, float]:
    centre = float(special.logit(figure))
    half = z * error / (figure * (1 - figure))
    return float(special.expit(centre - half)), float(special.expit(centre + half))


def _difference_interval(low: float, high: float, method: str, level: float) -> Interval:
    return Interval(max(-1.0, low), min(1.0, high), method, level)


def _resampled_ap(bad: NDArray[np.bool_], scores: list[Floats], *, resamples: int, seed: int) -> Floats:
    """AP of M score vectors on `resamples` draws with replacement within each class: (resamples, M)."""
    orders = [_Order.of(bad, values) for values in scores]
    n_bad = int(bad.sum())
    drawn = np.empty((resamples, len(scores)))
    done = 0
    for of_bad, of_good in _draws(n_bad, int(bad.size) - n_bad, resamples=resamples, seed=seed):
        for number, order in enumerate(orders):
            drawn[done : done + len(of_bad), number] = order.ap(of_bad, of_good)
        done += len(of_bad)
    return drawn


def _draws(
    n_bad: int, n_good: int, *, resamples: int, seed: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """How often each bad and each good image is drawn, in chunks of resamples: (R, n_bad) and (R, n_good)."""
    rng = np.random.default_rng(seed)
    rows = max(1, _CHUNK // (n_bad + n_good))
    for start in range(0, resamples, rows):
        count = min(rows, resamples - start)
        yield _times_drawn(rng, count, n_bad), _times_drawn(rng, count, n_good)


def _times_drawn(rng: np.random.Generator, rows: int, n: int) -> NDArray[np.int64]:
    drawn = rng.integers(0, n, size=(rows, n)) + n * np.arange(rows)[:, None]
    return np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n)


@dataclass(frozen=True)
class _Order:
    """Where the images of one score vector stand, so that AP follows from how often each was drawn."""

    by_bad: NDArray[np.intp]  # (n_bad,) the bad images, falling score
    by_good: NDArray[np.intp]  # (n_good,) the good images, falling score
    bad_ge: NDArray[np.intp]  # (n_bad,) for each bad image, how many bad ones score at least as high
    good_ge: NDArray[np.intp]  # (n_bad,) and how many good ones

    @classmethod
    def of(cls, bad: NDArray[np.bool_], values: Floats) -> _Order:
        of_bad, of_good = values[bad], values[~bad]
        by_bad, by_good = np.argsort(-of_bad, kind="stable"), np.argsort(-of_good, kind="stable")
        falling = -of_bad[by_bad]
        return cls(
            by_bad=by_bad,
            by_good=by_good,
            bad_ge=np.searchsorted(falling, falling, "right"),
            good_ge=np.searchsorted(-of_good[by_good], falling, "right"),
        )

    def ap(self, of_bad: NDArray[np.int64], of_good: NDArray[np.int64]) -> Floats:
        """AP (R,) with the bad images drawn `of_bad` (R, n_bad) times and the good ones `of_good` (R, n_good) times."""
        weights = of_bad[:, self.by_bad]
        found = np.cumsum(weights, axis=1)[:, self.bad_ge - 1]
        false = np.concatenate(
            (np.zeros((len(of_good), 1), np.int64), np.cumsum(of_good[:, self.by_good], axis=1)), axis=1
        )[:, self.good_ge]
        # An image that was not drawn adds nothing, and its precision may be 0 / 0.
        precision = found / np.maximum(found + false, 1)
        mean: Floats = np.einsum("rn,rn->r", weights, precision) / of_bad.shape[1]
        return mean


def _check_level(level: float) -> None:
    if not 0.0 < level < 1.0:
        raise SettingError("The level of an interval is not usable", value=level, expected="a number between 0 and 1")


def _z(level: float) -> float:
    _check_level(level)
    return float(special.ndtri((1 + level) / 2))
