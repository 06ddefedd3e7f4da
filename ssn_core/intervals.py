"""How far a figure from n images can be trusted: intervals for AUROC, AP and paired differences (rates: rates.py).

Bad is the positive class; labels are 0 or False = good and 1 or True = bad, scores are finite and higher = more
suspicious. Every interval is two-sided at `level` (one-sided for an AUROC of 0 or 1), and names its method. A figure
that is not defined (a class is missing, nothing was counted) has no interval: None.

AUROC and AP have a correction for few images. The variance that is seen in n images knows nothing of the rare part
that none of them shows, so where a model makes few mistakes the textbook intervals are too narrow: with 1000 good and
100 bad images and an AUROC of 0.97 under heavy tails, DeLong's 95 % interval (logit scale) holds the truth in 86 % of
all cases. As a count of 0 is mended by adding a part of an event to it (Haldane 1956, Anscombe 1956; Agresti and Coull
1998 for rates), a part of an image is added: for AUROC 0.6 of an image of each class that cannot be told from the other
class, for AP not quite a quarter of a good image that scores above all. It moves only the lower end: what nobody saw
makes no model better than it looks.

How much is added was chosen by simulation (`python -m benchmarks.interval_coverage`, with other seeds): 10 to 100 bad
and 50 to 1000 good images, true AUROC 0.7 to 0.995, six shapes of scores, so that no cell falls below 93.5 % but by the
chance of the simulation. What is to be held is AUROC and AP of endlessly many images of the same mix.

Student's t, which makes up for a variance from few images, makes up too much for a single model: the logit scale and
the correction do most of it. AUROC does without it, and for AP it fades from 4 degrees of freedom on. Differences need
it: where it fades for them too, they hold 93 % at an AUROC of 0.7 with 20 bad images.

Near 1 the lower end cannot be missed: it is never above that of perfect separation, for few images show hardly a
mistake, and the truth may be far lower even if they show none. For a truth above it the upper end takes the whole risk.

A difference has the correction at both ends, since either model may make mistakes that nobody saw. For AUROC this
correction grows with the smaller class until that has 40 images: with fewer, Student's t does most of it. (Not for AP:
with 5 bad and 500 good images it would hold 91 % under heavy tails.) Which model is better it need not leave open where
half of the correction does not: then half of it decides how near to 0 the interval comes. Without any, equal models
would be called different in up to 10 % of all cases (AP, heavy tails).
And no model is called worse for mistakes that three images explain (at 95 %; see `_explained_by_few`): without this
rule, differences of AP of equal models that take a good image or two for worse than all bad ones hold 80 % with 10 bad
and 50 good images.

Where more than 96.5 % are held all the same, these are the cases:

- AP hangs on the few good images above the first bad ones. Scores with normal and with heavy tails look alike until
  such an image is drawn, so what keeps 94 % under heavy tails holds 96 to 98 % under normal ones.
- The difference of two models that both make few mistakes lies in images that nobody saw: up to 100 %. Without the
  correction, a quarter of these cells holds too little, down to 65 %, while another quarter still holds too much.
  Single intervals combined with the correlation of the models (Zou, Psychol. Methods 12 (2007) 399-413) leave fewer
  such cells with 10 bad images, 72 instead of 89 of 96 for AUROC, but are half as wide again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special  # scipy.stats takes a second to import, and a page would wait for it

from ssn_core.influence import ap_bias, ap_influence, placements
from ssn_core.metrics import ap, checked, i_auroc
from ssn_core.rates import Interval, check_level, most_compatible_rate, normal_quantile
from ssn_core.sums import sum_of_products

Floats = NDArray[np.float64]

# The correction for few images, in images of each class; see the head of this module.
UNTOLD = 0.6  # AUROC: cannot be told from the other class
TOLD_BY_ONE = 1.5  # difference of AUROC: one of the models tells them
TOLD_FROM = 40  # images of the smaller class from which on it is that many; with n fewer it is n / TOLD_FROM of it
GOOD_ABOVE = 0.23  # AP: a good image above all
HIDDEN_FROM_ONE, ABOVE_IN_ONE = 0.25, 0.5  # difference of AP: a bad image like good ones, a good one above all, for one
ESTABLISHED = 0.5  # share of the correction with which a difference that is not 0 stands
FREEDOM = 4.0  # AP: degrees of freedom from which on Student's t fades
SEVERAL = 1.5  # mistakes from which on their spread can be told
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Difference:
    """A figure of model A less that of model B on the same images; above 0 means that A is better."""

    value: float
    interval: Interval | None


def auroc_interval(labels: ArrayLike, scores: ArrayLike, *, level: float = 0.95) -> Interval | None:
    """An interval for the image-level AUROC; None where a class is missing.

    DeLong's variance (DeLong, DeLong and Clarke-Pearson, Biometrics 44 (1988) 837-845), found by sorting in O(N log N)
    as by Sun and Xu (IEEE Signal Process. Lett. 21 (2014) 1389-1393), on the logit scale, where it stays inside [0, 1],
    with the correction of this module.

    That variance is zero where the classes are separated perfectly or all scores are equal, and unknown with one image
    in a class. There the interval of Clopper and Pearson for the k images of the smaller class is taken: they form k
    independent pairs of a good and a bad image, each in the right order with probability AUROC. No interval is wider
    than that one.

    Raises:
        SsnError: a score is not finite, a label is neither 0 nor 1 or `level` is not between 0 and 1.
    """
    check_level(level)
    bad, values = checked(labels, scores)
    auroc = i_auroc(bad, values)
    if auroc is None:
        return None
    of_bad, of_good = placements(bad, values)
    if min(of_bad.size, of_good.size) < 2 or auroc in (0.0, 1.0) or np.ptp(values) == 0:
        return _smaller_class_interval(auroc, bad, level)
    if auroc < 0.5:
        turned = auroc_interval(~bad, values, level=level)
        return None if turned is None else replace(turned, low=1 - turned.high, high=1 - turned.low)

    def never_missed_at(level: float) -> float:
        return _smaller_class_interval(1.0, bad, level).low

    # One mistake must not look more certain than none.
    low = min(_auroc_ends(of_bad, of_good, added=UNTOLD, level=level)[0], never_missed_at(level))

    def high_at(level: float) -> float:
        # What nobody saw is a mistake, so the correction moves the lower end alone.
        seen = _auroc_ends(of_bad, of_good, added=0.0, level=level)[1]
        return min(seen, _smaller_class_interval(auroc, bad, level).high, 1 - _least(1 - auroc, level))

    spread = sum(variance_of_mean(own, (0.5,), weight=0.0) for own in (of_bad, of_good))
    return Interval(
        max(_smaller_class_interval(auroc, bad, level).low, min(low, auroc)),
        max(_high(high_at, never_missed_at, (1 - auroc) ** 2 / spread, level), auroc),
        "DeLong, logit scale, corrected for few images",
        level,
    )


def auroc_difference(
    labels: ArrayLike, scores_a: ArrayLike, scores_b: ArrayLike, *, level: float = 0.95
) -> Difference | None:
    """AUROC of A less that of B on the same images, with DeLong's paired interval; None where a class is missing.

    What the correction of this module adds is told from the other class by one of the models: half of it by each. On
    the side of 0 a part of it is enough to say which model is better (see the head of this module).
    Where no image tells the models apart, or a class has one image, the two single intervals are combined as if the
    models were independent (Newcombe, Stat. Med. 17 (1998) 873-890, method 10), which is too wide rather than too
    narrow.

    Raises:
        SsnError: a score is not finite, a label is neither 0 nor 1 or `level` is not between 0 and 1.
    """
    check_level(level)
    bad, first = checked(labels, scores_a)
    _, second = checked(labels, scores_b)
    auroc_a, auroc_b = i_auroc(bad, first), i_auroc(bad, second)
    if auroc_a is None or auroc_b is None:
        return None
    if np.array_equal(first, second):
        return _no_difference(level)
    of_bad, of_good = (a - b for a, b in zip(placements(bad, first), placements(bad, second), strict=True))
    # Rounding leaves some 1e-16 where two models order everything alike.
    if min(of_bad.size, of_good.size) < 2 or max(np.ptp(of_bad), np.ptp(of_good)) < _ROUNDING:
        ends = [auroc_interval(bad, values, level=level) for values in (first, second)]
        return _independent_difference(auroc_a, auroc_b, ends)

    sizes = of_bad.size, of_good.size
    all_told = min(1.0, min(sizes) / TOLD_FROM) * TOLD_BY_ONE

    def variances(share: float) -> tuple[float, float]:
        told = share * all_told
        return variance_of_mean(of_bad, (-0.5, 0.5), weight=told), variance_of_mean(of_good, (-0.5, 0.5), weight=told)

    few = _explained_by_few(bad, first, level), _explained_by_few(bad, second, level)
    return _difference(auroc_a - auroc_b, variances, sizes, few, "paired DeLong, corrected for few images", level)


def ap_interval(labels: ArrayLike, scores: ArrayLike, *, level: float = 0.95) -> Interval | None:
    """An interval for average precision at the mix of good and bad of these images; None where a class is missing.

    The figure that it is to hold is the AP of endlessly many images of this mix. The variance is that of AP's linear
    parts (see :mod:`ssn_core.influence`), with Student's t. The upper end follows on the logit scale (as Boyd, Eng and
    Page have it, ECML PKDD 2013, LNAI 8190, 451-466). The lower end is freed from AP's flattering bias, with the
    correction of this module; it is that of Jeffreys for a rate, at the effective number of images.

    Under perfect separation only what may go unseen is left: the lower end is the AP with as many good images above
    every bad one as zero in n leave possible, and no lower end is above it. With one image in a class, or all scores
    equal, it is that of Clopper and Pearson, as for :func:`auroc_interval`.

    Raises:
        SsnError: a score is not finite, a label is neither 0 nor 1 or `level` is not between 0 and 1.
    """
    check_level(level)
    bad, values = checked(labels, scores)
    value = ap(bad, values)
    if value is None:
        return None
    n_bad, n_good = int(bad.sum()), int((~bad).sum())
    if min(n_bad, n_good) < 2:
        return _smaller_class_interval(value, bad, level)
    if value == 1.0:
        return Interval(_unseen_ap(bad, level), 1.0, "what may go unseen in perfect separation", level)
    # What nobody saw is a mistake, so the correction moves the lower end alone.
    corrected, plain = (ap_influence(bad, values, good_above=above) for above in (GOOD_ABOVE, 0.0))
    if plain.bad_variance + plain.good_variance < _ROUNDING**2:  # all bad ones tie, with or below all good ones
        return _smaller_class_interval(value, bad, level)
    error, quantile = _error((corrected.bad_variance, corrected.good_variance), (n_bad, n_good), level, fading=True)
    centre = max(_ROUNDING, corrected.value - ap_bias(bad, values))
    # One mistake must not look more certain than none.
    low = min(_effective_low(centre, error, quantile, level=level), _unseen_ap(bad, level))

    def high_at(level: float) -> float:
        error, quantile = _error((plain.bad_variance, plain.good_variance), (n_bad, n_good), level, fading=True)
        return min(logit_interval(value, error, quantile)[1], 1 - _least(1 - value, level))

    mistakes = (1 - value) ** 2 / (plain.bad_variance + plain.good_variance)
    high = _high(high_at, lambda level: _unseen_ap(bad, level), mistakes, level)
    return Interval(min(low, value), max(high, value), "linearised, corrected for few images", level)


def ap_difference(
    labels: ArrayLike, scores_a: ArrayLike, scores_b: ArrayLike, *, level: float = 0.95
) -> Difference | None:
    """AP of A less that of B on the same images, by the differences of what each image adds to either.

    None where a class is missing. Degenerate cases and the correction are those of :func:`auroc_difference`.

    Raises:
        SsnError: a score is not finite, a label is neither 0 nor 1 or `level` is not between 0 and 1.
    """
    check_level(level)
    bad, first = checked(labels, scores_a)
    _, second = checked(labels, scores_b)
    ap_a, ap_b = ap(bad, first), ap(bad, second)
    if ap_a is None or ap_b is None:
        return None
    if np.array_equal(first, second):
        return _no_difference(level)
    n_bad = int(bad.sum())
    if min(n_bad, bad.size - n_bad) >= 2:
        a, b = ap_influence(bad, first), ap_influence(bad, second)
        of_bad, of_good = a.of_bad - b.of_bad, a.of_good - b.of_good
        if max(np.ptp(of_bad), np.ptp(of_good)) >= _ROUNDING:
            missed = 1 - n_bad / bad.size  # what a bad image costs that a model takes for any good one
            above = math.hypot(a.of_good_above, b.of_good_above) / math.sqrt(2)

            def variances(share: float) -> tuple[float, float]:
                return (
                    variance_of_mean(of_bad, (-missed, missed), weight=share * HIDDEN_FROM_ONE),
                    variance_of_mean(of_good, (-above, above), weight=share * ABOVE_IN_ONE),
                )

            few = _explained_by_few(bad, first, level), _explained_by_few(bad, second, level)
            sizes = of_bad.size, of_good.size
            return _difference(
                ap_a - ap_b, variances, sizes, few, "paired, linearised, corrected for few images", level
            )
    ends = [ap_interval(bad, values, level=level) for values in (first, second)]
    return _independent_difference(ap_a, ap_b, ends)


def variance_of_mean(values: Floats, added: tuple[float, ...], *, weight: float) -> float:
    """The variance of the mean of `values` (N,), with `weight` of a value spread evenly over the values `added`."""
    points = np.concatenate((values, added))
    weights = np.concatenate((np.ones(values.size), np.full(len(added), weight / len(added))))
    n = values.size + weight
    mean = sum_of_products(weights, points) / n
    return sum_of_products(weights, (points - mean) ** 2) / (n * (n - 1))


def logit_interval(figure: float, error: float, quantile: float) -> tuple[float, float]:
    """The ends `quantile` standard errors from a `figure` in (0, 1), symmetric on the logit scale."""
    centre = float(special.logit(figure))
    half = quantile * error / (figure * (1 - figure))
    return float(special.expit(centre - half)), float(special.expit(centre + half))


def _effective_low(figure: float, error: float, quantile: float, *, level: float) -> float:
    """The lower end of Jeffreys for a rate of `figure` in as many events as would have the standard error `error`.

    That number, less for few degrees of freedom, is the effective sample size of Korn and Graubard (Survey Methodology
    24 (1998) 193-201). Where little is missing to 1, the logit scale would go on much farther down.
    """
    n = figure * (1 - figure) / error**2 * (normal_quantile(level) / quantile) ** 2
    return float(special.betaincinv(figure * n + 0.5, (1 - figure) * n + 0.5, (1 - level) / 2))


def _auroc_ends(of_bad: Floats, of_good: Floats, *, added: float, level: float) -> tuple[float, float]:
    """The ends from placements, with `added` of an image in each class that equals every one of the other class."""
    # Beside the images of the other class it counts half.
    of_bad_too, of_good_too = (
        (n_others * own + added / 2) / (n_others + added)
        for own, n_others in ((of_bad, of_good.size), (of_good, of_bad.size))
    )
    centre = (float(of_bad_too.sum()) + added / 2) / (of_bad.size + added)
    bad_variance, good_variance = (variance_of_mean(own, (0.5,), weight=added) for own in (of_bad_too, of_good_too))
    return logit_interval(centre, math.sqrt(bad_variance + good_variance), float(special.ndtri((1 + level) / 2)))


def _error(
    variances: tuple[float, float], sizes: tuple[int, int], level: float, *, fading: bool = False
) -> tuple[float, float]:
    """The standard error from what the bad and the good images add, and the quantile of Student's t that goes with it.

    The degrees of freedom are those of Satterthwaite (Biometrics Bulletin 2 (1946) 110-114). A `fading` quantile goes
    over to the normal one where there are more than `FREEDOM` of them.
    """
    variance = sum(variances)
    freedom = variance**2 / sum(part**2 / (n - 1) for part, n in zip(variances, sizes, strict=True))
    if fading:
        freedom = max(freedom, freedom**2 / FREEDOM)
    return math.sqrt(variance), float(special.stdtrit(freedom, (1 + level) / 2))


def _high(
    high_at: Callable[[float], float], never_missed_at: Callable[[float], float], mistakes: float, level: float
) -> float:
    """The upper end of a figure near 1; `high_at` gives that of an interval whose risk is the same on both sides.

    No lower end lies above `never_missed_at` the level, so that a truth above it can be missed by the upper end alone,
    which may then take all of the risk (as the interval of a rate does where nothing was counted). The end of a lower
    level is never beyond that of a higher one. Not where a single mistake made the whole loss, whose spread nothing
    tells: `mistakes` is the number of equal ones with that loss and variance.
    """
    half = high_at(level)
    if round(mistakes, 9) < SEVERAL:  # rounding must not decide
        return half
    lower, upper = max(0.0, 2 * level - 1), level
    whole = high_at(lower)
    if half <= never_missed_at(level):
        return half
    if lower > 0.0 and whole >= never_missed_at(lower):
        return whole
    # Half of the risk suffices up to the level whose end can just not be missed by the lower one.
    for _ in range(50):
        middle = (lower + upper) / 2
        if high_at(middle) <= never_missed_at(middle):
            lower = middle
        else:
            upper = middle
    return high_at(lower)


def _least(loss: float, level: float) -> float:
    """The least true loss that goes with a `loss` seen: as if a single mistake had made it (Poisson's exact bound)."""
    return -math.log1p(-(1 - level) / 2) * loss


def _unseen_ap(bad: NDArray[np.bool_], level: float) -> float:
    """The AP with as many good images above every bad one as none seen leave possible (most_compatible_rate)."""
    n_bad = int(bad.sum())
    n_good = bad.size - n_bad
    # With `odds` good images above all, for one bad image, the precision at recall r is r / (r + odds).
    odds = (most_compatible_rate(n_good, level=level) or 0.0) * n_good / n_bad
    return 1 - odds * math.log1p(1 / odds)


def _smaller_class_interval(figure: float, bad: NDArray[np.bool_], level: float) -> Interval:
    """Clopper and Pearson (Biometrika 26 (1934) 404-413), as if `figure` were a rate in the smaller class."""
    n = min(int(bad.sum()), int((~bad).sum()))
    events = figure * n  # need not be whole: the beta quantiles go through all values between
    # At 0 or 1 nothing lies beyond, so that the whole risk is on the other side, as in most_compatible_rate.
    tail = (1 - level) / (1 if figure in (0.0, 1.0) else 2)
    low = float(special.betaincinv(events, n - events + 1, tail)) if events > 0 else 0.0
    high = float(special.betaincinv(events + 1, n - events, 1 - tail)) if events < n else 1.0
    return Interval(min(low, figure), max(high, figure), "Clopper-Pearson on the smaller class", level)


def _no_difference(level: float) -> Difference:
    return Difference(0.0, Interval(0.0, 0.0, "identical scores", level))


def _independent_difference(a: float, b: float, ends: Sequence[Interval | None]) -> Difference:
    of_a, of_b = ends
    if of_a is None or of_b is None:
        return Difference(a - b, None)
    low = a - b - math.hypot(a - of_a.low, of_b.high - b)
    high = a - b + math.hypot(of_a.high - a, b - of_b.low)
    method = "Newcombe, as if the models were independent"
    return Difference(a - b, Interval(max(-1.0, low), min(1.0, high), method, of_a.level))


def _explained_by_few(bad: NDArray[np.bool_], values: Floats, level: float) -> bool:
    """Whether so few images explain all mistakes of a model that by itself it cannot be called the worse one.

    Leave them out, and every bad image scores above every good one. Were k images the mistakes of one model alone, and
    each as likely to be those of the other, a sign test that takes k of them for proof would be wrong in about
    0.7 / 2**k of all cases where mistakes are as frequent as makes this most likely. At 95 %, three are too few.
    """
    few = max(0, math.floor(math.log2(0.7 / (1 - level))))
    lowest, of_good = np.sort(values[bad]), np.sort(values[~bad])
    # The lowest bad images, and the good ones that are not below the next.
    above = of_good.size - np.searchsorted(of_good, lowest[: few + 1], "left")
    return lowest.size <= few or bool(np.min(np.arange(above.size) + above) <= few)


def _difference(
    value: float,
    variances: Callable[[float], tuple[float, float]],
    sizes: tuple[int, int],
    few: tuple[bool, bool],
    method: str,
    level: float,
) -> Difference:
    """The interval about `value`; `variances` are those of bad and good images with a share of the correction.

    `few`: whether the mistakes of A, and of B, are too few to call it worse.
    """
    half, established = (
        error * quantile for error, quantile in (_error(variances(share), sizes, level) for share in (1.0, ESTABLISHED))
    )
    low, high = value - half, value + half
    if value > established:
        low = max(low, value - established)
    elif value < -established:
        high = min(high, value + established)
    low, high = min(low, 0.0) if few[1] else low, max(high, 0.0) if few[0] else high
    return Difference(value, Interval(max(-1.0, low), min(1.0, high), method, level))
