"""Where to draw the line between good and bad, and what a line does.

A score at or above a threshold means bad. An escape is a bad part called good, overkill is a good part called bad.
Only the order of the scores matters, so every suggestion is one of the N + 1 ways to cut the sorted scores in two; it
is placed midway between the lowest score called bad and the next lower one, so that it is not tied to one image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ssn_core.errors import SettingError, SsnError
from ssn_core.metrics import checked, need_both_classes

# 0.29 * 100 is 28.999999999999996: a rate typed by a person allows 29 of 100.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Outcome:
    """What one or two thresholds do to a set of images; a rate is None where nothing was there to count."""

    n_good: int
    n_bad: int
    escapes: int  # bad, called good
    overkill: int  # good, called bad
    to_person_good: int  # neither called good nor called bad
    to_person_bad: int

    @property
    def escape_rate(self) -> float | None:
        """The share of the bad parts that is called good; those that a person looks at did not escape."""
        return self.escapes / self.n_bad if self.n_bad else None

    @property
    def overkill_rate(self) -> float | None:
        """The share of the good parts that is called bad; those that a person looks at were not rejected."""
        return self.overkill / self.n_good if self.n_good else None

    @property
    def to_person(self) -> int:
        """Parts that a person looks at."""
        return self.to_person_good + self.to_person_bad

    @property
    def to_person_rate(self) -> float | None:
        """The share of all parts that a person looks at, at the mix of good and bad of these images."""
        n = self.n_good + self.n_bad
        return self.to_person / n if n else None


@dataclass(frozen=True)
class _Cuts:
    """Every way to cut sorted scores: cut i calls the `i` highest distinct scores bad; cut 0 calls nothing bad."""

    falling: NDArray[np.float64]  # (K,) distinct scores
    escapes: NDArray[np.int64]  # (K + 1,) falls with i
    overkill: NDArray[np.int64]  # (K + 1,) rises with i
    n_good: int
    n_bad: int

    def place(self, cut: int) -> float:
        """The threshold of a cut."""
        if cut == 0:
            return float(np.nextafter(self.falling[0], np.inf))
        lowest_called_bad = float(self.falling[cut - 1])
        if cut == self.falling.size:
            return lowest_called_bad
        highest_called_good = float(self.falling[cut])
        midway = highest_called_good / 2 + lowest_called_bad / 2  # halves first: no overflow
        return midway if highest_called_good < midway <= lowest_called_bad else lowest_called_bad


def outcome(
    labels: ArrayLike,
    scores: ArrayLike,
    threshold: float | NDArray[np.float64],
    threshold_low: float | NDArray[np.float64] | None = None,
) -> Outcome:
    """Count what `threshold` does, or two of them: bad at or above it, good below `threshold_low`, else to a person.

    Args:
        labels: (N,) 0 or False = good, 1 or True = bad; N = 0 and one class are allowed.
        scores: (N,) finite; higher = more suspicious.
        threshold: in units of the scores; one for all images, or (N,) one for each.
        threshold_low: at most `threshold`; None for one threshold, where nothing goes to a person.

    Raises:
        SsnError: a score is not finite, a label is neither 0 nor 1, or the lower threshold lies above the upper one.
    """
    bad, values = checked(labels, scores)
    low = threshold if threshold_low is None else threshold_low
    if not np.all(np.less_equal(low, threshold)):
        raise SettingError(
            "The lower threshold must not lie above the upper one",
            value=low,
            expected=f"a number up to {threshold!r}",
            action="Move one of the two thresholds",
        )
    called_bad = values >= threshold
    called_good = values < low
    to_person = ~called_bad & ~called_good
    n_bad = int(bad.sum())
    return Outcome(
        n_good=int(bad.size) - n_bad,
        n_bad=n_bad,
        escapes=int(np.sum(bad & called_good)),
        overkill=int(np.sum(~bad & called_bad)),
        to_person_good=int(np.sum(~bad & to_person)),
        to_person_bad=int(np.sum(bad & to_person)),
    )


def youden(labels: ArrayLike, scores: ArrayLike) -> float:
    """The threshold that maximises J = TPR - FPR (Youden, Cancer 3 (1950) 32-35).

    Of several equally good thresholds the lowest is taken: it lets the fewest bad parts pass. Where no threshold
    separates at all (J <= 0), that is the lowest score, which calls everything bad.

    Args:
        labels: (N,) 0 or False = good, 1 or True = bad.
        scores: (N,) finite; higher = more suspicious.

    Raises:
        SsnError: a class is missing, a score is not finite or a label is neither 0 nor 1.
    """
    cuts = _cuts(labels, scores, need="both", what="Youden's threshold")
    return cuts.place(_last_best(_j(cuts)))


def best_f1(labels: ArrayLike, scores: ArrayLike) -> float:
    """The threshold with the highest F1 = 2 TP / (2 TP + FP + FN) for bad; of equal ones the lowest.

    Arguments and errors as for :func:`youden`. F1 depends on the mix of good and bad: it holds for the mix given.
    """
    cuts = _cuts(labels, scores, need="both", what="The best F1")
    found = cuts.n_bad - cuts.escapes
    f1: NDArray[np.float64] = 2.0 * found / (2 * found + cuts.overkill + cuts.escapes)
    return cuts.place(_last_best(np.round(f1, 12)))


def escape_at_most(labels: ArrayLike, scores: ArrayLike, rate: float) -> float:
    """The highest threshold that lets at most the share `rate` in [0, 1] of the bad parts pass on these images.

    Being the highest, it rejects the fewest good parts. Needs a bad image; good ones may be missing. What holds on n
    images holds in general only within :func:`ssn_core.rates.rate_interval`.

    Raises:
        SsnError: there is no bad image, a score is not finite, a label is neither 0 nor 1 or `rate` is not a share.
    """
    cuts = _cuts(labels, scores, need="bad", what="A threshold for a rate of escapes")
    return cuts.place(_highest_for_escapes(cuts, rate))


def overkill_at_most(labels: ArrayLike, scores: ArrayLike, rate: float) -> float:
    """The lowest threshold that rejects at most the share `rate` in [0, 1] of the good parts on these images.

    Being the lowest, it lets the fewest bad parts pass. Needs a good image; bad ones may be missing.

    Raises:
        SsnError: there is no good image, a score is not finite, a label is neither 0 nor 1 or `rate` is not a share.
    """
    cuts = _cuts(labels, scores, need="good", what="A threshold for a rate of overkill")
    return cuts.place(_lowest_for_overkill(cuts, rate))


def above_every_good(labels: ArrayLike, scores: ArrayLike) -> float:
    """The lowest threshold that rejects no good part of these images; needs a good image.

    Raises:
        SsnError: there is no good image, a score is not finite or a label is neither 0 nor 1.
    """
    cuts = _cuts(labels, scores, need="good", what="A threshold above every good part")
    return cuts.place(_lowest_for_overkill(cuts, 0.0))


def lowest_cost(
    labels: ArrayLike,
    scores: ArrayLike,
    *,
    escape_cost: float,
    overkill_cost: float,
    bad_share: float | None = None,
) -> float:
    """The threshold with the lowest expected cost; of equally cheap ones the lowest. It may call nothing bad.

    Args:
        labels: (N,) 0 or False = good, 1 or True = bad; both must occur.
        scores: (N,) finite; higher = more suspicious.
        escape_cost: of one bad part called good; finite, at least 0, in any unit that `overkill_cost` has too.
        overkill_cost: of one good part called bad.
        bad_share: share of bad parts in production, in [0, 1]. None takes the mix of these images, which usually holds
            more bad parts than a line makes, and so rejects too much.

    Raises:
        SsnError: a class is missing, a score is not finite, a label is neither 0 nor 1, a cost is negative, both are 0
            or the share is not one.
    """
    cuts = _cuts(labels, scores, need="both", what="A threshold of lowest cost")
    for name, cost in (("escape", escape_cost), ("overkill", overkill_cost)):
        if not (math.isfinite(cost) and cost >= 0):
            raise SettingError(f"The cost of one {name} is not usable", value=cost, expected="a number of at least 0")
    if escape_cost == overkill_cost == 0:
        raise SettingError("Both costs are 0, so every threshold costs the same", expected="at least one above 0")
    share = cuts.n_bad / (cuts.n_bad + cuts.n_good) if bad_share is None else _share(bad_share, "share of bad parts")
    # Over the larger cost, so that no product overflows and rounding compares like with like.
    largest = max(escape_cost, overkill_cost)
    cost_of_escapes = escape_cost / largest * share * (cuts.escapes / cuts.n_bad)
    cost_of_overkill = overkill_cost / largest * (1 - share) * (cuts.overkill / cuts.n_good)
    return cuts.place(_last_best(-np.round(cost_of_escapes + cost_of_overkill, 12)))


def two_thresholds(
    labels: ArrayLike, scores: ArrayLike, *, escape_rate: float, overkill_rate: float
) -> tuple[float, float]:
    """The two thresholds (low, high) that keep both rates with the fewest parts to a person.

    Escapes depend on the lower threshold alone and overkill on the upper one, so the highest lower and the lowest upper
    one are best. Where they cross, one threshold keeps both rates: the one of all those with the largest J is returned
    twice, and nothing goes to a person.

    Args:
        labels: (N,) 0 or False = good, 1 or True = bad; both must occur.
        scores: (N,) finite; higher = more suspicious.
        escape_rate: largest share in [0, 1] of the bad parts that may be called good.
        overkill_rate: largest share in [0, 1] of the good parts that may be called bad.

    Raises:
        SsnError: a class is missing, a score is not finite, a label is neither 0 nor 1 or a rate is not a share.
    """
    cuts = _cuts(labels, scores, need="both", what="A pair of thresholds")
    low = _highest_for_escapes(cuts, escape_rate)  # cuts are numbered from the highest threshold down
    high = _lowest_for_overkill(cuts, overkill_rate)
    if low <= high:
        cut = low + _last_best(_j(cuts)[low : high + 1])
        return cuts.place(cut), cuts.place(cut)
    return cuts.place(low), cuts.place(high)


def _cuts(labels: ArrayLike, scores: ArrayLike, *, need: str, what: str) -> _Cuts:
    """Count at every cut; `need` names the class that must occur: good, bad or both."""
    bad, values = checked(labels, scores)
    n_bad = int(bad.sum())
    n_good = int(bad.size) - n_bad
    if need == "both":
        need_both_classes(bad, what)
    elif not (n_bad if need == "bad" else n_good):
        raise SsnError(
            f"{what} needs {need} images",
            value=f"{n_good} good, {n_bad} bad",
            expected=f"at least one {need} image",
            action="Label more images",
        )
    order = np.argsort(values, kind="stable")  # a single pass where the caller sorted them: for many rules in a row
    rising = values[order]
    first = np.flatnonzero(np.concatenate(([True], rising[1:] != rising[:-1])))  # of each level
    bad_below = np.concatenate(([0], np.cumsum(bad[order])))[first]
    good_below = first - bad_below
    return _Cuts(
        falling=rising[first][::-1],
        escapes=np.append(bad_below, n_bad)[::-1],
        overkill=np.append(n_good - good_below, 0)[::-1],
        n_good=n_good,
        n_bad=n_bad,
    )


def _j(cuts: _Cuts) -> NDArray[np.int64]:
    """J in units of 1 / (n_good * n_bad): an integer, so that equal values are equal."""
    return (cuts.n_bad - cuts.escapes) * cuts.n_good - cuts.overkill * cuts.n_bad


def _last_best(values: NDArray[np.int64] | NDArray[np.float64]) -> int:
    """The last, and so the lowest, of the best cuts."""
    return int(np.flatnonzero(values == values.max())[-1])


def _highest_for_escapes(cuts: _Cuts, rate: float) -> int:
    allowed = math.floor(_share(rate, "rate of escapes") * cuts.n_bad + _ROUNDING)
    return int(np.flatnonzero(cuts.escapes <= allowed)[0])


def _lowest_for_overkill(cuts: _Cuts, rate: float) -> int:
    allowed = math.floor(_share(rate, "rate of overkill") * cuts.n_good + _ROUNDING)
    return int(np.flatnonzero(cuts.overkill <= allowed)[-1])


def _share(value: float, name: str) -> float:
    if not 0.0 <= value <= 1.0:
        raise SettingError(f"The {name} is not a share", value=value, expected="a number between 0 and 1")
    return value
