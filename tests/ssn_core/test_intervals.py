import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize, stats
from sklearn.metrics import average_precision_score

from benchmarks.score_shapes import draw, draw_flat, truths
from ssn_core import intervals, rates
from ssn_core.errors import SsnError
from ssn_core.influence import ap_bias, ap_influence, placements
from ssn_core.metrics import ap, i_auroc

tied_samples = st.lists(
    st.tuples(st.booleans(), st.integers(-3, 3).map(lambda step: step / 4)), min_size=2, max_size=30
).filter(lambda rows: 0 < sum(bad for bad, _ in rows) < len(rows))


def unzip(rows):
    return np.array([bad for bad, _ in rows]), np.array([score for _, score in rows])


# AUROC


def components_by_loops(labels, scores):
    """DeLong's structural components as in the paper: the kernel over all pairs, for each bad and each good image."""
    bad = [s for y, s in zip(labels, scores, strict=True) if y]
    good = [s for y, s in zip(labels, scores, strict=True) if not y]

    def kernel(x, y):
        return 1.0 if x > y else 0.5 if x == y else 0.0

    of_bad = [sum(kernel(x, y) for y in good) / len(good) for x in bad]
    of_good = [sum(kernel(x, y) for x in bad) / len(bad) for y in good]
    return np.array(of_bad), np.array(of_good)


def standard_error(of_bad, of_good):
    """DeLong's."""
    return math.sqrt(sum(np.var(own, ddof=1) / own.size for own in (of_bad, of_good)))


def students_quantile(of_bad, of_good):
    """Of 97.5 %, with Satterthwaite's degrees of freedom."""
    parts = [np.var(own, ddof=1) / own.size for own in (of_bad, of_good)]
    freedom = sum(parts) ** 2 / sum(
        part**2 / (own.size - 1) for part, own in zip(parts, (of_bad, of_good), strict=True)
    )
    return stats.t.ppf(0.975, freedom)


def test_without_the_correction_the_variance_is_delongs(monkeypatch):
    rng = np.random.default_rng(2)
    labels = np.repeat([0, 1], [40, 15])
    scores = np.round(rng.normal(size=55) + 1.2 * labels, 1)  # with ties
    other = np.round(scores + rng.normal(size=55), 1)
    monkeypatch.setattr(intervals, "UNTOLD", 0.0)
    monkeypatch.setattr(intervals, "TOLD_BY_ONE", 0.0)

    found = intervals.auroc_interval(labels, scores)
    auroc = i_auroc(labels, scores)
    error = standard_error(*components_by_loops(labels, scores)) / (auroc * (1 - auroc))
    half, one_sided = (stats.norm.ppf(quantile) * error for quantile in (0.975, 0.95))
    logit = math.log(auroc / (1 - auroc))
    assert found.low == pytest.approx(1 / (1 + math.exp(half - logit)), abs=1e-12)
    # Above the lower end of 15 bad images without a mistake, the upper end takes the whole risk.
    ends = [1 / (1 + math.exp(-wide - logit)) for wide in (one_sided, half)]
    assert found.high == pytest.approx(max(ends[0], min(ends[1], stats.beta.ppf(0.05, 15, 1))), abs=1e-12)

    difference = intervals.auroc_difference(labels, scores, other)
    pairs = zip(components_by_loops(labels, scores), components_by_loops(labels, other), strict=True)
    parts = [a - b for a, b in pairs]
    assert difference.value == pytest.approx(auroc - i_auroc(labels, other))
    half = students_quantile(*parts) * standard_error(*parts)
    assert difference.interval.high - difference.value == pytest.approx(half, rel=1e-9)
    assert difference.value - difference.interval.low == pytest.approx(half, rel=1e-9)


def test_the_correction_is_a_part_of_an_image_of_each_class_that_cannot_be_told_from_the_other():
    """Five times the images, so that what is added is three whole ones, which tie with all of the other class."""
    rng = np.random.default_rng(5)
    labels = np.repeat([0, 1], [30, 12])
    scores = rng.normal(size=42) + 1.5 * labels
    of_bad, of_good = components_by_loops(labels, scores)
    of_bad = np.append((150 * np.repeat(of_bad, 5) + 1.5) / 153, [0.5] * 3)
    of_good = np.append((60 * np.repeat(of_good, 5) + 1.5) / 63, [0.5] * 3)
    centre = of_bad.mean()
    assert centre == pytest.approx(of_good.mean())
    # The variance of a mean of n + 0.6 values, from the same values five times.
    variance = sum(np.var(own) / (own.size / 5 - 1) for own in (of_bad, of_good))
    half = stats.norm.ppf(0.975) * math.sqrt(variance) / (centre * (1 - centre))
    found = intervals.auroc_interval(labels, scores)
    assert found.low == pytest.approx(1 / (1 + math.exp(half - math.log(centre / (1 - centre)))), abs=1e-12)


def test_with_many_images_the_correction_no_longer_matters(monkeypatch):
    rng = np.random.default_rng(3)
    labels = np.repeat([0, 1], [20000, 10000])
    scores = rng.normal(size=30000) + 1.5 * labels
    corrected = intervals.auroc_interval(labels, scores)
    monkeypatch.setattr(intervals, "UNTOLD", 0.0)
    plain = intervals.auroc_interval(labels, scores)
    assert corrected.high - corrected.low > 0.005
    assert corrected.low == pytest.approx(plain.low, abs=5e-5)
    assert corrected.high == pytest.approx(plain.high, abs=5e-5)


# Coverage. All cells are in `benchmarks.interval_coverage`; here are plain ones, and some that other methods get wrong.

REPLICATIONS = 1200
# What chance alone takes off, in three of thousand cases, where 93.5 % are held.
CHANCE = 3 * math.sqrt(0.065 * 0.935 / REPLICATIONS)


def single_coverage(function, n_bad, n_good, shape, auroc):
    rng = np.random.default_rng(11)
    labels = np.repeat([1, 0], [n_bad, n_good])
    truth = truths(shape, auroc, n_bad / labels.size)[function is intervals.ap_interval]
    found = [function(labels, *draw(rng, shape, (auroc,), n_bad=n_bad, n_good=n_good)) for _ in range(REPLICATIONS)]
    return np.mean([interval.low <= truth <= interval.high for interval in found])


def paired_coverage(function, n_bad, n_good, shape, pair):
    rng = np.random.default_rng(12)
    labels = np.repeat([1, 0], [n_bad, n_good])
    a, b = (truths(shape, auroc, n_bad / labels.size)[function is intervals.ap_difference] for auroc in pair)
    found = [
        function(labels, *draw(rng, shape, pair, n_bad=n_bad, n_good=n_good, correlation=0.36)).interval
        for _ in range(REPLICATIONS)
    ]
    return np.mean([interval.low <= a - b <= interval.high for interval in found])


@pytest.mark.parametrize(
    ("n_bad", "n_good", "shape", "auroc"),
    [
        (20, 200, "normal", 0.7),
        (50, 333, "normal", 0.9),
        (50, 333, "ties", 0.9),
        (100, 1000, "hidden", 0.9),
        (100, 1000, "heavy", 0.97),  # DeLong on the logit scale: 86 %
    ],
)
def test_the_auroc_interval_holds_the_truth_in_95_of_100_cases(n_bad, n_good, shape, auroc):
    held = single_coverage(intervals.auroc_interval, n_bad, n_good, shape, auroc)
    assert held == pytest.approx(0.95, abs=0.015 + CHANCE)


@pytest.mark.parametrize(
    ("n_bad", "n_good", "shape", "auroc"),
    [(10, 50, "heavy", 0.995), (20, 200, "hidden", 0.97), (50, 333, "hidden", 0.995)],
)
def test_near_1_the_auroc_interval_is_rather_too_wide(n_bad, n_good, shape, auroc):
    assert single_coverage(intervals.auroc_interval, n_bad, n_good, shape, auroc) > 0.935 - CHANCE


@pytest.mark.parametrize(
    ("n_bad", "n_good", "shape", "auroc"), [(20, 200, "normal", 0.7), (50, 333, "weak", 0.7), (100, 1000, "ties", 0.9)]
)
def test_the_ap_interval_holds_the_truth_in_95_of_100_cases(n_bad, n_good, shape, auroc):
    held = single_coverage(intervals.ap_interval, n_bad, n_good, shape, auroc)
    assert held == pytest.approx(0.95, abs=0.015 + CHANCE)


@pytest.mark.parametrize(
    ("n_bad", "n_good", "shape", "auroc"),
    [
        (10, 50, "heavy", 0.9),
        (50, 333, "heavy", 0.97),
        (100, 1000, "heavy", 0.995),  # a bootstrap on the logit scale: 81 %
        (20, 200, "hidden", 0.97),
        (50, 3, "normal", 0.8),
        (3, 50, "normal", 0.8),
    ],
)
def test_where_few_images_decide_the_ap_interval_is_rather_too_wide(n_bad, n_good, shape, auroc):
    assert single_coverage(intervals.ap_interval, n_bad, n_good, shape, auroc) > 0.935 - CHANCE


@pytest.mark.parametrize(
    ("function", "n_bad", "n_good", "shape", "pair"),
    [
        (intervals.auroc_difference, 50, 333, "normal", (0.7, 0.8)),
        (intervals.auroc_difference, 100, 1000, "hidden", (0.9, 0.95)),
        (intervals.ap_difference, 50, 333, "normal", (0.7, 0.8)),
        (intervals.ap_difference, 100, 1000, "heavy", (0.9, 0.95)),
    ],
)
def test_a_paired_difference_holds_the_truth_in_95_of_100_cases(function, n_bad, n_good, shape, pair):
    assert paired_coverage(function, n_bad, n_good, shape, pair) == pytest.approx(0.95, abs=0.015 + CHANCE)


@pytest.mark.parametrize(
    ("function", "n_bad", "n_good", "shape", "pair"),
    [
        (intervals.auroc_difference, 100, 1000, "hidden", (0.995, 0.97)),  # without the correction: 90 %
        (intervals.auroc_difference, 20, 200, "hidden", (0.97, 0.9)),
        (intervals.ap_difference, 20, 200, "heavy", (0.995, 0.97)),
        (intervals.ap_difference, 3, 50, "normal", (0.8, 0.8)),
    ],
)
def test_models_that_differ_in_few_images_get_a_difference_that_is_rather_too_wide(
    function, n_bad, n_good, shape, pair
):
    assert paired_coverage(function, n_bad, n_good, shape, pair) > 0.935 - CHANCE


@settings(deadline=None)
@given(tied_samples)
def test_every_interval_lies_in_zero_to_one_and_holds_its_figure(rows):
    labels, scores = unzip(rows)
    for figure, interval in (
        (i_auroc(labels, scores), intervals.auroc_interval(labels, scores)),
        (ap(labels, scores), intervals.ap_interval(labels, scores)),
    ):
        assert 0.0 <= interval.low <= figure <= interval.high <= 1.0
        assert interval.low < interval.high
    back = intervals.auroc_interval(~labels, -scores)  # the same pairs, seen from the other side
    there = intervals.auroc_interval(labels, scores)
    assert (back.low, back.high) == pytest.approx((there.low, there.high), abs=1e-12)


@settings(deadline=None)
@given(tied_samples, st.integers(0, 1000))
def test_swapping_the_models_turns_the_difference_round(rows, seed):
    labels, scores = unzip(rows)
    other = np.round(np.random.default_rng(seed).normal(size=scores.size), 1)
    for function in (intervals.auroc_difference, intervals.ap_difference):
        there, back = function(labels, scores, other), function(labels, other, scores)
        assert there.value == pytest.approx(-back.value)
        assert there.interval.low == pytest.approx(-back.interval.high, abs=1e-9)
        assert there.interval.high == pytest.approx(-back.interval.low, abs=1e-9)
        assert -1.0 <= there.interval.low <= there.value <= there.interval.high <= 1.0


def test_perfect_separation_is_as_uncertain_as_the_smaller_class():
    labels, scores = np.repeat([0, 1], [100, 30]), np.arange(130)
    found = intervals.auroc_interval(labels, scores)
    exact = stats.binomtest(30, 30, alternative="greater").proportion_ci(method="exact")
    assert (found.low, found.high) == pytest.approx((exact.low, 1.0))
    assert 1 - found.low == pytest.approx(rates.most_compatible_rate(30))
    assert found.method == "Clopper-Pearson on the smaller class"
    wrong_way = intervals.auroc_interval(labels, -scores)
    assert (wrong_way.low, wrong_way.high) == pytest.approx((0.0, 1 - exact.low))
    of_ap = intervals.ap_interval(labels, scores)
    assert of_ap.low < found.low  # four unseen good parts above all would cost AP more than AUROC
    assert of_ap.high == 1.0


def test_one_mistake_never_looks_more_certain_than_none():
    for n_good, n_bad in ((100, 10), (100, 30), (1000, 30), (30, 100), (300, 100), (1000, 1000)):
        labels, scores = np.repeat([0, 1], [n_good, n_bad]), np.arange(float(n_good + n_bad))
        perfect = intervals.auroc_interval(labels, scores)
        scores[0] = n_good + 0.5  # one good part above one bad one
        nearly = intervals.auroc_interval(labels, scores)
        assert nearly.low <= perfect.low
        assert nearly.high < 1.0


def test_one_image_in_a_class_or_only_ties_give_a_wide_interval_and_not_a_point():
    for labels, scores in (([0, 1], [0.0, 1.0]), ([0] * 50 + [1], list(range(51))), ([0, 0, 1, 1], [3.0] * 4)):
        for function in (intervals.auroc_interval, intervals.ap_interval):
            found = function(labels, scores)
            assert found.method == "Clopper-Pearson on the smaller class"
            assert found.high - found.low > 0.65
    difference = intervals.auroc_difference([0] * 50 + [1], range(51), [0] * 51)
    assert difference.value == 0.5
    assert difference.interval.low < 0 < 0.9 < difference.interval.high


def test_a_missing_class_has_no_interval():
    for labels, scores in (([], []), ([0, 0], [1.0, 2.0]), ([1], [1.0])):
        assert intervals.auroc_interval(labels, scores) is None
        assert intervals.ap_interval(labels, scores) is None
        assert intervals.auroc_difference(labels, scores, scores) is None
        assert intervals.ap_difference(labels, scores, scores) is None


def test_two_models_that_separate_perfectly_may_still_differ():
    labels, scores = np.repeat([0, 1], [100, 30]), np.arange(130.0)
    for function in (intervals.auroc_difference, intervals.ap_difference):
        found = function(labels, scores, scores**2)
        assert found.value == 0.0
        assert found.interval.low < -0.09 < 0.09 < found.interval.high
        assert found.interval.method == "Newcombe, as if the models were independent"


def test_a_model_does_not_differ_from_itself():
    labels, scores = np.repeat([0, 1], [5, 5]), np.arange(10.0)
    for function in (intervals.auroc_difference, intervals.ap_difference):
        assert function(labels, scores, scores).interval == intervals.Interval(0.0, 0.0, "identical scores")


def models_that_differ(n_bad=40, n_good=200):
    """A has separated all but few images, and B much less of them."""
    rng = np.random.default_rng(31)
    labels = np.repeat([1, 0], [n_bad, n_good])
    return labels, rng.normal(size=labels.size) + 3.5 * labels, rng.normal(size=labels.size) + 1.6 * labels


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (intervals.auroc_difference, ["TOLD_BY_ONE"]),
        (intervals.ap_difference, ["HIDDEN_FROM_ONE", "ABOVE_IN_ONE"]),
    ],
)
def test_half_of_the_correction_decides_which_model_is_better_and_all_of_it_how_much(monkeypatch, function, names):
    labels, better, worse = models_that_differ()
    found = function(labels, better, worse)
    with monkeypatch.context() as whole:
        whole.setattr(intervals, "ESTABLISHED", 1.0)
        wide = function(labels, better, worse).interval
    with monkeypatch.context() as half:
        half.setattr(intervals, "ESTABLISHED", 1.0)
        for name in names:
            half.setattr(intervals, name, getattr(intervals, name) / 2)
        narrow = function(labels, better, worse).interval
    assert narrow.low > 0
    assert found.interval.low == pytest.approx(narrow.low, rel=1e-9)
    assert wide.low < narrow.low
    assert narrow.high < found.interval.high == wide.high
    turned = function(labels, worse, better)
    assert (turned.interval.low, turned.interval.high) == pytest.approx((-found.interval.high, -found.interval.low))


@pytest.mark.parametrize(("n_bad", "n_good"), [(4, 80), (20, 80), (60, 80), (80, 4), (80, 60)])
def test_the_correction_of_a_difference_of_auroc_grows_with_the_smaller_class(monkeypatch, n_bad, n_good):
    rng = np.random.default_rng(33)
    labels = np.repeat([1, 0], [n_bad, n_good])
    first, second = (rng.normal(size=labels.size) + 1.2 * labels for _ in range(2))
    found = intervals.auroc_difference(labels, first, second).interval
    monkeypatch.setattr(intervals, "TOLD_BY_ONE", intervals.TOLD_BY_ONE * min(1, min(n_bad, n_good) / 40))
    monkeypatch.setattr(intervals, "TOLD_FROM", 1)
    written_out = intervals.auroc_difference(labels, first, second).interval
    assert (found.low, found.high) == pytest.approx((written_out.low, written_out.high), rel=1e-12)
    monkeypatch.setattr(intervals, "TOLD_BY_ONE", 0.0)
    without = intervals.auroc_difference(labels, first, second).interval
    assert found.high - found.low > without.high - without.low


def test_a_difference_that_half_of_the_correction_does_not_establish_keeps_the_whole_of_it(monkeypatch):
    labels = np.repeat([1, 0], [10, 50])
    rng = np.random.default_rng(32)
    better, worse = rng.normal(size=60) + 3 * labels, rng.normal(size=60) + 2.2 * labels
    for function in (intervals.auroc_difference, intervals.ap_difference):
        found = function(labels, better, worse)
        assert found.interval.low < 0 < found.value
        monkeypatch.setattr(intervals, "ESTABLISHED", 1.0)
        assert function(labels, better, worse) == found
        monkeypatch.undo()


def test_a_higher_level_never_gives_a_narrower_difference():
    """Not even where the end on the side of 0 goes over from one rule to the other."""
    levels = (0.5, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995, 0.999, 0.9999, 0.99999)
    labels, better, worse = models_that_differ()
    signs = set()
    for function in (intervals.auroc_difference, intervals.ap_difference):
        for pair in ((better, worse), (worse, better), (worse, np.round(worse))):
            found = [function(labels, *pair, level=level).interval for level in levels]
            signs |= {(interval.low > 0) - (interval.high < 0) for interval in found}
            for narrow, wide in itertools.pairwise(found):
                assert wide.low <= narrow.low <= narrow.high <= wide.high
    assert signs == {-1, 0, 1}


@pytest.mark.parametrize(("level", "few"), [(0.95, 3), (0.99, 6)])
def test_so_few_images_do_not_tell_which_model_is_better(level, few):
    """Good images above all bad ones for one model, which move AP far."""
    labels = np.repeat([1, 0], [10, 50])
    perfect = np.concatenate((np.full(10, 2.0), np.linspace(0, 1, 50)))
    worse = perfect.copy()
    worse[-few:] = 3.0
    found = intervals.ap_difference(labels, perfect, worse, level=level)
    assert found.interval.low == 0.0 < found.value
    turned = intervals.ap_difference(labels, worse, perfect, level=level)
    assert turned.interval.high == 0.0
    worse[-few - 1 :] = 3.0
    assert intervals.ap_difference(labels, perfect, worse, level=level).interval.low > 0.0


def test_of_equal_models_that_take_other_good_images_for_bad_ones_few_are_called_better():
    """Without the rule for few images: 79 %."""
    rng = np.random.default_rng(31)
    labels = np.repeat([1, 0], [10, 50])
    held = 0
    for _ in range(600):
        pair = (draw_flat(rng, n_bad=10, n_good=50, flat_bad=0.0, flat_good=0.02) for _ in range(2))
        interval = intervals.ap_difference(labels, *pair).interval
        held += interval.low <= 0 <= interval.high
    assert held / 600 > 0.935


def test_with_many_images_intervals_are_the_textbook_ones_of_delong():
    rng = np.random.default_rng(33)
    labels = np.repeat([1, 0], [4000, 8000])
    first = rng.normal(size=12000) + 1.2 * labels
    second = first + 0.5 * rng.normal(size=12000)
    z = stats.norm.ppf(0.975)
    parts = [placements(labels.astype(bool), scores) for scores in (first, second)]
    auroc, error = i_auroc(labels, first), standard_error(*parts[0])
    ends = stats.logistic.cdf(stats.logistic.ppf(auroc) + np.array([-z, z]) * error / (auroc * (1 - auroc)))
    found = intervals.auroc_interval(labels, first)
    assert (found.low, found.high) == pytest.approx(ends, abs=0.03 * error)
    difference = intervals.auroc_difference(labels, first, second)
    error = standard_error(*(a - b for a, b in zip(*parts, strict=True)))
    assert difference.interval.low > 0
    assert difference.interval.low == pytest.approx(difference.value - z * error, abs=0.03 * error)
    assert difference.interval.high == pytest.approx(difference.value + z * error, abs=0.03 * error)


# AP


def weighed(labels, scores, weights):
    return average_precision_score(labels, scores, sample_weight=weights)


def test_the_influence_of_an_image_is_how_ap_moves_when_it_weighs_more():
    """Against scikit-learn with a little more weight on one image and as much less on the rest of its class."""
    rng = np.random.default_rng(4)
    labels = np.repeat([0, 1], [12, 7]).astype(bool)
    scores = np.round(rng.normal(size=19) + labels, 1)  # with ties
    found = ap_influence(labels, scores)
    assert found.value == pytest.approx(average_precision_score(labels, scores))
    step = 1e-6
    for influence, own in ((found.of_bad, labels), (found.of_good, ~labels)):
        for value, image in zip(influence, np.flatnonzero(own), strict=True):
            weights = np.ones(19)
            weights[own] *= 1 - step
            weights[image] += step * own.sum()
            assert value == pytest.approx((weighed(labels, scores, weights) - found.value) / step, abs=1e-4)
    assert found.bad_variance == pytest.approx(np.var(found.of_bad, ddof=1) / 7)
    assert found.good_variance == pytest.approx(np.var(found.of_good, ddof=1) / 12)


def test_what_the_correction_adds_is_as_if_it_were_there():
    """Good images above all, against scikit-learn with weights."""
    rng = np.random.default_rng(6)
    labels = np.repeat([0, 1], [12, 7]).astype(bool)
    scores = np.round(rng.normal(size=19) + labels, 1)
    found = ap_influence(labels, scores, good_above=3.0)
    weights = np.append(np.ones(19), 3.0)
    weights[~np.append(labels, False)] *= 12 / 15  # 7 to 12 is the mix
    assert found.value == pytest.approx(weighed(np.append(labels, False), np.append(scores, 99.0), weights))

    one_more = np.concatenate((np.ones(19), [1.0]))
    above = weighed(np.append(labels, False), np.append(scores, 99.0), one_more)
    assert ap_influence(labels, scores).of_good_above == pytest.approx(12 * (above - ap(labels, scores)))


def test_the_bias_is_quenouilles_jackknife():
    rng = np.random.default_rng(7)
    labels = np.repeat([0, 1], [9, 5]).astype(bool)
    scores = np.round(rng.normal(size=14) + labels, 1)
    bias = 0.0
    for own in (labels, ~labels):
        without = []
        for image in np.flatnonzero(own):
            weights = np.where(own, own.sum() / (own.sum() - 1), 1.0)  # the mix stays
            weights[image] = 0.0
            without.append(weighed(labels, scores, weights))
        bias += (own.sum() - 1) * (np.mean(without) - average_precision_score(labels, scores))
    assert ap_bias(labels, scores) == pytest.approx(bias)


def without_bad_below(n_bad, n_good, missed=0.05):
    """AP with as many good images above every bad one as would be missed in 5 % of all cases."""
    odds = (1 - missed ** (1 / n_good)) * n_good / n_bad
    return integrate.quad(lambda recall: recall / (recall + odds), 0, 1)[0]


def test_the_ends_of_ap_are_jeffreys_below_and_the_logit_scale_above():
    """From the linear parts, by scipy's Beta and logistic distributions."""
    rng = np.random.default_rng(9)
    labels = np.repeat([0, 1], [120, 40]).astype(bool)
    scores = rng.normal(size=160) + 1.5 * labels

    def spread(part, tail=0.975):
        freedom = (part.bad_variance + part.good_variance) ** 2 / (
            part.bad_variance**2 / 39 + part.good_variance**2 / 119
        )
        freedom = max(freedom, freedom**2 / 4)  # Student's t fades from 4 degrees of freedom on
        return math.sqrt(part.bad_variance + part.good_variance), stats.t.ppf(tail, freedom)

    found = intervals.ap_interval(labels, scores)
    plain = ap_influence(labels, scores)

    def beyond_the_lower_end(level):
        error, quantile = spread(plain, (1 + level) / 2)
        half = quantile * error / (plain.value * (1 - plain.value))
        return stats.logistic.cdf(stats.logistic.ppf(plain.value) + half) - without_bad_below(40, 120, 1 - level)

    # The upper end of the level up to which it is not beyond the lower end of perfect separation, 90 to 95 % here.
    level = optimize.brentq(beyond_the_lower_end, 0.9, 0.95)
    assert found.high == pytest.approx(without_bad_below(40, 120, 1 - level))
    corrected = ap_influence(labels, scores, good_above=0.23)
    error, quantile = spread(corrected)
    centre = corrected.value - ap_bias(labels, scores)
    n = centre * (1 - centre) / error**2 * (stats.norm.ppf(0.975) / quantile) ** 2
    assert found.low == pytest.approx(stats.beta.ppf(0.025, centre * n + 0.5, (1 - centre) * n + 0.5))


@pytest.mark.parametrize("shape", ["normal", "heavy", "ties"])
def test_the_spread_of_ap_is_that_of_ap_over_many_samples(shape):
    rng = np.random.default_rng(8)
    labels = np.repeat([1, 0], [100, 400]).astype(bool)
    samples = [draw(rng, shape, (0.9,), n_bad=100, n_good=400)[0] for _ in range(600)]
    parts = [ap_influence(labels, scores) for scores in samples]
    error = math.sqrt(np.mean([part.bad_variance + part.good_variance for part in parts]))
    assert error == pytest.approx(np.std([part.value for part in parts]), rel=0.1)


def test_no_lower_end_lies_above_that_of_perfect_separation_and_the_upper_end_makes_use_of_it():
    """The reason why a truth above it may be missed by the upper end in 5 % of all cases instead of 2.5 %."""
    rng = np.random.default_rng(12)
    labels = np.repeat([1, 0], [20, 200])
    lowest = {intervals.auroc_interval: 0.05 ** (1 / 20), intervals.ap_interval: without_bad_below(20, 200)}
    for function, never_missed in lowest.items():
        assert function(labels, labels).low == pytest.approx(never_missed)
        higher = 0
        for auroc in (0.8, 0.9, 0.97, 0.995):
            for _ in range(50):
                (scores,) = draw(rng, "normal", (auroc,), n_bad=20, n_good=200)
                found, wider = (function(labels, scores, level=level) for level in (0.9, 0.95))
                assert wider.low <= never_missed + 1e-12
                assert wider.low <= found.low
                assert found.high <= wider.high
                higher += found.high < wider.high
        assert higher > 100


@pytest.mark.parametrize("function", [intervals.auroc_interval, intervals.ap_interval])
def test_a_higher_level_never_gives_a_narrower_interval(function):
    """Not even where the upper end begins to take the whole risk, at another level for each sample."""
    rng = np.random.default_rng(40)
    labels = np.repeat([1, 0], [20, 200])
    levels = np.concatenate(([0.05, 0.3, 0.5, 0.6, 0.7], np.linspace(0.75, 0.995, 50), [0.9999]))
    for auroc in (0.75, 0.8, 0.85, 0.9, 0.97):
        for _ in range(3):
            (scores,) = draw(rng, "normal", (auroc,), n_bad=20, n_good=200)
            found = [function(labels, scores, level=level) for level in levels]
            for narrow, wide in itertools.pairwise(found):
                assert wide.low <= narrow.low + 1e-12
                assert wide.high >= narrow.high - 1e-12


def test_a_single_mistake_does_not_tell_how_far_the_upper_end_reaches(monkeypatch):
    labels = np.repeat([1, 0], [20, 200])
    scores = np.concatenate(([0.5], np.full(19, 2.0) + np.arange(19), np.linspace(-1, 1, 200)))
    found = intervals.auroc_interval(labels, scores)
    monkeypatch.setattr(intervals, "SEVERAL", 0.0)
    assert intervals.auroc_interval(labels, scores).high < found.high


def test_turned_scores_turn_the_interval():
    rng = np.random.default_rng(13)
    labels = np.repeat([1, 0], [15, 60])
    scores = rng.normal(size=75) + labels
    found, turned = intervals.auroc_interval(labels, scores), intervals.auroc_interval(labels, -scores)
    assert (turned.low, turned.high) == pytest.approx((1 - found.high, 1 - found.low))


def test_perfect_separation_leaves_the_mistakes_that_may_go_unseen():
    labels = np.repeat([0, 1], [100, 30])
    found = intervals.ap_interval(labels, np.arange(130))
    # Good images above all, as many as none in 100 leave possible: the AP of so many, counted out.
    above = intervals.most_compatible_rate(100)
    recall = (np.arange(1_000_000) + 0.5) / 1_000_000
    assert found.low == pytest.approx(np.mean(30 * recall / (30 * recall + 100 * above)), abs=1e-5)


def test_one_mistake_never_makes_ap_look_more_certain_than_none():
    for n_good, n_bad in ((100, 10), (100, 30), (1000, 30), (30, 100), (300, 100), (1000, 1000)):
        labels, scores = np.repeat([0, 1], [n_good, n_bad]), np.arange(float(n_good + n_bad))
        perfect = intervals.ap_interval(labels, scores)
        for wrong, score in ((0, n_good + 0.5), (-1, -1.0)):  # a good part above one bad one, a bad one below all
            nearly = intervals.ap_interval(
                labels, np.where(np.arange(scores.size) == wrong % scores.size, score, scores)
            )
            assert nearly.low <= perfect.low
            assert nearly.high < 1.0


# What is refused


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0, math.nan])
def test_a_level_that_is_not_a_share_is_refused(level):
    calls = (
        lambda: rates.rate_interval(1, 2, level=level),
        lambda: rates.most_compatible_rate(3, level=level),
        lambda: rates.needed_without_event(0.1, level=level),
        lambda: intervals.auroc_interval([0, 1], [0, 1], level=level),
        lambda: intervals.ap_interval([0, 1], [0, 1], level=level),
        lambda: intervals.auroc_difference([0, 1], [0, 1], [1, 0], level=level),
        lambda: intervals.ap_difference([0, 1], [0, 1], [1, 0], level=level),
    )
    for call in calls:
        with pytest.raises(SsnError, match="level of an interval"):
            call()


def test_a_score_that_is_not_finite_is_named_in_either_model():
    for function in (intervals.auroc_interval, intervals.ap_interval):
        with pytest.raises(SsnError, match="Score number 2 of 3 is not finite: nan"):
            function([0, 1, 0], [0.0, math.nan, 1.0])
    for function in (intervals.auroc_difference, intervals.ap_difference):
        for pair in (([0.0, math.nan], [0.0, 1.0]), ([0.0, 1.0], [0.0, math.nan])):
            with pytest.raises(SsnError, match="Score number 2 of 2 is not finite: nan"):
                function([0, 1], *pair)
