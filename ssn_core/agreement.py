"""Do inspectors, and the model as one more, agree with themselves, with each other and with the reference?

Attribute agreement as in AIAG, Measurement Systems Analysis, 4th edition (2010), chapter III C. Verdicts are 1 or True
for bad and 0 or False for good. One appraiser's verdicts are (parts, trials), with the parts in the same order for all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ssn_core.errors import SsnError
from ssn_core.rates import Interval, normal_quantile, repeated_rate_interval

Floats = NDArray[np.float64]
Verdicts = NDArray[np.bool_]


@dataclass(frozen=True)
class Kappa:
    """Agreement beyond chance: 1 = always, 0 = as often as by chance, below 0 = less often."""

    value: float | None
    interval: Interval | None
    n: int  # parts
    reason: str | None  # why there is no value, or no interval


@dataclass(frozen=True)
class Share:
    """So many of so many, with an interval; the rate and the interval are None where there was nothing to count."""

    count: int
    of: int
    interval: Interval | None

    @property
    def rate(self) -> float | None:
        return self.count / self.of if self.of else None


@dataclass(frozen=True)
class Appraiser:
    """One appraiser's figures; those that need a second trial or a reference are None without it."""

    name: str
    n_parts: int
    n_trials: int
    within: Share | None  # parts on which all trials agree
    within_kappa: Kappa | None
    versus_reference: Share | None  # parts on which all trials agree with the reference
    reference_kappa: Kappa | None
    miss: Share | None  # decisions on bad parts that said good
    false_alarm: Share | None  # decisions on good parts that said bad

    @property
    def effectiveness(self) -> float | None:
        """The share of parts judged right in every trial, as in AIAG's worked example."""
        return None if self.versus_reference is None else self.versus_reference.rate


def appraise(name: str, verdicts: ArrayLike, reference: ArrayLike | None = None, *, level: float = 0.95) -> Appraiser:
    """All figures of one appraiser.

    Args:
        name: shown as it is.
        verdicts: (parts, trials) or, for one trial, (parts,).
        reference: (parts,) the true verdicts; None where they are not known.
        level: of the intervals.

    Raises:
        SsnError: a verdict is neither 0 nor 1, or `level` is not between 0 and 1.
        ValueError: the shapes do not fit.
    """
    given = _verdicts(verdicts)
    n_parts, n_trials = given.shape
    repeated = n_trials > 1
    figures = Appraiser(
        name=name,
        n_parts=n_parts,
        n_trials=n_trials,
        within=within_appraiser(given, level=level) if repeated else None,
        within_kappa=fleiss_kappa(verdict_counts([given]), level=level) if repeated else None,
        versus_reference=None,
        reference_kappa=None,
        miss=None,
        false_alarm=None,
    )
    if reference is None:
        return figures
    return replace(
        figures,
        versus_reference=versus_reference(given, reference, level=level),
        reference_kappa=reference_kappa(given, reference, level=level),
        miss=miss_rate(given, reference, level=level),
        false_alarm=false_alarm_rate(given, reference, level=level),
    )


def within_appraiser(verdicts: ArrayLike, *, level: float = 0.95) -> Share:
    """The parts (parts, trials) on which an appraiser says the same in every trial. Errors as for :func:`appraise`.

    Raises:
        ValueError: there is one trial alone, which always agrees with itself.
    """
    given = _verdicts(verdicts)
    if given.shape[1] < 2:
        raise ValueError("One trial cannot agree or disagree with itself")
    return _share(_unanimous(given), level)


def versus_reference(verdicts: ArrayLike, reference: ArrayLike, *, level: float = 0.95) -> Share:
    """The parts that an appraiser judges as the reference (parts,) does in every trial: AIAG's effectiveness."""
    given = _verdicts(verdicts)
    return _share((given == _reference(reference, given)[:, None]).all(axis=1), level)


def between_appraisers(verdicts: Sequence[ArrayLike], *, level: float = 0.95) -> Share:
    """The parts on which all appraisers agree with each other in all their trials, which may differ in number.

    Raises:
        ValueError: there are fewer than two appraisers, or they judged different numbers of parts.
    """
    if len(verdicts) < 2:
        raise ValueError(f"{len(verdicts)} appraiser cannot agree with another")
    return _share(_unanimous(_side_by_side(verdicts)), level)


def all_versus_reference(verdicts: Sequence[ArrayLike], reference: ArrayLike, *, level: float = 0.95) -> Share:
    """The parts that every appraiser judges as the reference does in every trial."""
    return versus_reference(_side_by_side(verdicts), reference, level=level)


def miss_rate(verdicts: ArrayLike, reference: ArrayLike, *, level: float = 0.95) -> Share:
    """The decisions on bad parts that said good (escapes), out of bad parts times trials.

    The interval counts each part once: decisions on the same part are not independent.
    """
    given = _verdicts(verdicts)
    bad = _reference(reference, given)
    return _decisions(~given[bad], level)


def false_alarm_rate(verdicts: ArrayLike, reference: ArrayLike, *, level: float = 0.95) -> Share:
    """The decisions on good parts that said bad (overkill), out of good parts times trials; see :func:`miss_rate`."""
    given = _verdicts(verdicts)
    bad = _reference(reference, given)
    return _decisions(given[~bad], level)


def verdict_counts(verdicts: Sequence[ArrayLike]) -> NDArray[np.int64]:
    """How often each part was called good and bad by all appraisers in all trials: (parts, 2) for :func:`fleiss_kappa`.

    With the trials of one appraiser that is agreement within, with those of several agreement between appraisers.
    """
    together = _side_by_side(verdicts)
    called_bad = together.sum(axis=1)
    return np.stack([together.shape[1] - called_bad, called_bad], axis=1).astype(np.int64)


def cohen_kappa(first: ArrayLike, second: ArrayLike, *, level: float = 0.95) -> Kappa:
    """Cohen's kappa of two raters (Cohen, Educ. Psychol. Meas. 20 (1960) 37-46).

    The interval holds every kappa that a score test does not refute (as Wilson's does for a rate): the large-sample
    variance of Fleiss, Cohen and Everitt (Psychol. Bull. 72 (1969) 323-327) is not that of the kappa seen but that of
    the kappa in question, at the shares of the categories that were seen. Over all tables of two raters and two
    categories that can be, 95 % intervals then hold the truth in 93.9 to 96.7 % of all cases with 30, 50 or 100 parts,
    of which 30 or 50 % are bad, and a kappa from 0.2 to 0.95; in 93.0 to 97.3 % with one bad part in eight (see
    `benchmarks.interval_coverage`; the variance of the kappa seen, on the logit scale, gives 70 to 97 %).

    Args:
        first: (N,) one category per part: numbers, bools or strings.
        second: (N,) of the other rater, on the same parts.
        level: of the interval.

    Raises:
        SsnError: `level` is not between 0 and 1.
        ValueError: the two differ in length.
    """
    one, two = np.asarray(first), np.asarray(second)
    if one.ndim != 1 or one.shape != two.shape:
        raise ValueError(f"The verdicts {one.shape} and {two.shape} must both be one-dimensional and equally long")
    return _cohen(one[:, None], two, level)


def reference_kappa(verdicts: ArrayLike, reference: ArrayLike, *, level: float = 0.95) -> Kappa:
    """Cohen's kappa of an appraiser's decisions (parts, trials) with the reference (parts,).

    Trials are pooled, and the interval takes each part as one, whatever the number of its trials.
    """
    given = _verdicts(verdicts)
    return _cohen(given, _reference(reference, given), level)


def fleiss_kappa(counts: ArrayLike, *, level: float = 0.95) -> Kappa:
    """Fleiss' kappa of any number of raters (Fleiss, Psychol. Bull. 76 (1971) 378-382).

    The interval is that of :func:`cohen_kappa`, with the linearised variance over parts (Gwet, Br. J. Math. Stat.
    Psychol. 61 (2008) 29-48) in place of theirs.

    Args:
        counts: (parts, categories) how many raters, or trials, put each part into each category.
        level: of the interval.

    Raises:
        SsnError: the parts were not judged equally often, or `level` is not between 0 and 1.
        ValueError: `counts` is not a table of whole numbers from 0.
    """
    table = np.asarray(counts)
    if table.ndim != 2 or (table.size and (np.any(table < 0) or np.any(table != np.floor(table)))):
        raise ValueError("Counts must be a table (parts, categories) of whole numbers from 0")
    if not table.size:
        return Kappa(None, None, 0, "No part was judged")
    judged = table.sum(axis=1)
    if np.any(judged != judged[0]):
        raise SsnError(
            "The parts were not judged equally often",
            value=f"{int(judged.min())} to {int(judged.max())} times",
            expected="the same number of verdicts for every part",
            action="Leave out the parts that are not finished",
        )
    raters = int(judged[0])
    n = len(table)
    if raters < 2:
        return Kappa(None, None, n, "Every part was judged once, so there is nothing to agree with")
    shares = table / raters
    overall = shares.mean(axis=0)
    observed = (table * (table - 1.0)).sum(axis=1) / (raters * (raters - 1))
    # The spread of agreement in parts all of whose verdicts are drawn from `overall`: a U-statistic's (Hoeffding 1948).
    expected, cube = float(overall @ overall), float(overall @ overall**2)
    of_share, of_pair = cube - expected**2, expected * (1 - expected)
    by_chance = _Spread(
        2 * (2 * (raters - 2) * of_share + of_pair) / (raters * (raters - 1)), 2 * of_share / raters, of_share / raters
    )
    return _kappa(
        observed,
        shares @ overall,
        expected=expected,
        independent=by_chance,
        agreeing=_Spread(0.0, 0.0, of_share),
        level=level,
    )


def _cohen(verdicts: NDArray[np.generic], other: NDArray[np.generic], level: float) -> Kappa:
    """Cohen's kappa of `verdicts` (parts, trials) with `other` (parts,)."""
    n, trials = verdicts.shape
    if not verdicts.size:
        return Kappa(None, None, n, "No part was judged by both")
    categories, places = np.unique(np.concatenate((verdicts.reshape(-1), other)), return_inverse=True)
    first, second = places[: n * trials].reshape(n, trials), places[n * trials :]
    of_first = np.bincount(first.reshape(-1), minlength=categories.size) / (n * trials)
    of_second = np.bincount(second, minlength=categories.size) / n
    observed = (first == second[:, None]).mean(axis=1)
    by_chance = (of_second[first].mean(axis=1) + of_first[second]) / 2
    # Every part's verdicts of the first beside a verdict of the second that belongs to another part.
    shuffled = (first[:, :, None] == np.arange(categories.size)).mean(axis=1)
    shuffled_chance = (of_second[first].mean(axis=1)[:, None] + of_first) / 2
    return _kappa(
        observed,
        by_chance,
        expected=float(of_first @ of_second),
        independent=_Spread.of(shuffled, shuffled_chance, np.broadcast_to(of_second / n, shuffled.shape)),
        agreeing=_Spread.of(np.ones(categories.size), (of_first + of_second) / 2, weights=(of_first + of_second) / 2),
        level=level,
    )


@dataclass(frozen=True)
class _Spread:
    """How a part's agreement and its chance agreement vary from part to part: variances and covariance."""

    observed: float
    both: float
    by_chance: float

    @classmethod
    def of(cls, observed: Floats, by_chance: Floats, weights: Floats) -> _Spread:
        """From values of parts, with weights of the same shape that add up to 1."""
        o, c = observed - np.sum(weights * observed), by_chance - np.sum(weights * by_chance)
        return cls(*(float(np.sum(weights * product)) for product in (o * o, o * c, c * c)))

    def of_kappa(self, kappa: float, expected: float) -> float:
        """The variance of what a part adds to `kappa`, with its pull on the agreement by chance."""
        pull = 2 * (1 - kappa)
        return (self.observed - 2 * pull * self.both + pull**2 * self.by_chance) / (1 - expected) ** 2


def _kappa(
    observed: Floats, by_chance: Floats, *, expected: float, independent: _Spread, agreeing: _Spread, level: float
) -> Kappa:
    """Kappa from each part's agreement (parts,) and chance agreement (parts,), whose mean is `expected`.

    `independent` and `agreeing` are the spreads that parts with the same shares of categories would have under a kappa
    of 0 and of 1.
    """
    n = observed.size
    if expected >= 1 - 1e-12:
        return Kappa(None, None, n, "Every verdict was the same, so chance alone would agree as often")
    value = (float(observed.mean()) - expected) / (1 - expected)
    if n < 2:
        return Kappa(value, None, n, "One part alone says nothing about others")
    seen = _Spread.of(observed, by_chance, np.full(n, 1 / n))
    if abs(value) + seen.observed + seen.by_chance < 1e-12:
        return Kappa(value, None, n, "All parts agree alike, so their spread says nothing")

    def refuted(kappa: float) -> bool:
        # Parts of two kinds, mixed so that `kappa` comes out; less than none of a kind thins out what it is like.
        if kappa > value or value < 0:
            kinds = ((seen, value), (agreeing, 1.0))
        elif kappa >= 0:
            kinds = ((seen, value), (independent, 0.0))
        else:
            kinds = ((independent, 0.0), (agreeing, 1.0))
        (one, of_one), (other, of_other) = kinds
        share = (kappa - of_other) / (of_one - of_other) if of_one != of_other else 1.0
        within = share * one.of_kappa(kappa, expected) + (1 - share) * other.of_kappa(kappa, expected)
        variance = within + share * (1 - share) * (of_one - of_other) ** 2
        return n * (value - kappa) ** 2 > normal_quantile(level) ** 2 * variance

    return Kappa(
        value,
        Interval(_last_held(refuted, value, -1.0), _last_held(refuted, value, 1.0), "score test of kappa", level),
        n,
        None,
    )


def _last_held(refuted: Callable[[float], bool], held: float, end: float) -> float:
    """The last value on the way from `held` to `end` that is not refuted, by halving; `end` where none is."""
    if not refuted(end):
        return end
    outside = end
    for _ in range(50):
        middle = (held + outside) / 2
        if refuted(middle):
            outside = middle
        else:
            held = middle
    return held


def _verdicts(given: ArrayLike) -> Verdicts:
    values = np.asarray(given)
    if values.ndim == 1:
        values = values[:, None]
    if values.ndim != 2:
        raise ValueError(f"Verdicts must be (parts, trials), not {values.shape}")
    wrong = ~np.isin(values, (0, 1))
    if wrong.any():
        raise SsnError("A verdict is not usable", value=values[wrong].tolist()[0], expected="0 (good) or 1 (bad)")
    return values.astype(bool)


def _reference(given: ArrayLike, verdicts: Verdicts) -> Verdicts:
    reference = _verdicts(given)
    if reference.shape != (len(verdicts), 1):
        raise ValueError(f"The reference must hold one verdict for each of {len(verdicts)} parts")
    return reference[:, 0]


def _side_by_side(verdicts: Sequence[ArrayLike]) -> Verdicts:
    """All trials of all appraisers, (parts, trials of all)."""
    given = [_verdicts(one) for one in verdicts]
    if len({len(one) for one in given}) > 1:
        raise ValueError(f"The appraisers judged {[len(one) for one in given]} parts: it must be the same parts")
    return np.concatenate(given, axis=1)


def _unanimous(verdicts: Verdicts) -> Verdicts:
    same: Verdicts = (verdicts == verdicts[:, :1]).all(axis=1)
    return same


def _share(matched: Verdicts, level: float) -> Share:
    return _decisions(matched[:, None], level)


def _decisions(hits: Verdicts, level: float) -> Share:
    """`hits` (parts, trials): the rate over all of them, with the interval of as many decisions as there are parts."""
    count, of = int(hits.sum()), int(hits.size)
    return Share(count, of, repeated_rate_interval(count, of, units=len(hits), level=level))
