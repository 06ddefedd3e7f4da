import itertools
import math
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import average_precision_score

from ssn_core import intervals
from ssn_core.errors import SsnError
from ssn_core.metrics import ap, i_auroc
from ssn_core.resampling import resampled_ap

tied_samples = st.lists(
    st.tuples(st.booleans(), st.integers(-3, 3).map(lambda step: step / 4)), min_size=2, max_size=30
).filter(lambda rows: 0 < sum(bad for bad, _ in rows) < len(rows))

counts = st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


def unzip(rows):
    return np.array([bad for bad, _ in rows]), np.array([score for _, score in rows])


# Rates


@settings(deadline=None)
@given(counts, st.sampled_from([0.8, 0.95, 0.99]))
def test_the_interval_of_a_rate_is_scipys_wilson(count, level):
    events, n = count
    found = intervals.rate_interval(events, n, level=level)
    expected = stats.binomtest(events, n).proportion_ci(confidence_level=level, method="wilson")
    assert found.low == pytest.approx(expected.low, abs=1e-12)
    assert found.high == pytest.approx(expected.high, abs=1e-12)
    assert (found.method, found.level) == ("Wilson", level)


def test_wilson_holds_the_truth_in_95_of_100_cases_over_rates_of_2_to_20_percent():
    for n in (30, 100, 400):
        ends = [intervals.rate_interval(events, n) for events in range(n + 1)]
        low, high = np.array([end.low for end in ends]), np.array([end.high for end in ends])
        coverage = [
            stats.binom.pmf(np.arange(n + 1), n, p)[(low <= p) & (p <= high)].sum() for p in np.linspace(0.02, 0.2, 400)
        ]
        assert np.mean(coverage) == pytest.approx(0.95, abs=0.015)


def test_no_event_and_only_events_give_ends_of_exactly_zero_and_one():
    for n in (1, 7, 30, 1000):
        none, every = intervals.rate_interval(0, n), intervals.rate_interval(n, n)
        assert none.low == 0.0 < none.high < 1.0
        assert every.high == 1.0 > every.low > 0.0
    assert intervals.rate_interval(0, 0) is None


@settings(deadline=None)
@given(st.integers(1, 5000), st.sampled_from([0.9, 0.95, 0.99]))
def test_the_largest_compatible_rate_is_the_exact_one_sided_bound(n, level):
    found = intervals.most_compatible_rate(n, level=level)
    exact = stats.binomtest(0, n, alternative="less").proportion_ci(confidence_level=level, method="exact")
    assert found == pytest.approx(exact.high, rel=1e-9)
    assert (1 - found) ** n == pytest.approx(1 - level, rel=1e-6)


def test_three_over_n_is_the_rule_of_thumb_and_nothing_seen_proves_nothing():
    assert intervals.most_compatible_rate(300) == pytest.approx(3 / 300, rel=0.01)
    assert intervals.most_compatible_rate(0) is None


def test_the_images_that_a_claim_needs_are_those_of_the_tables():
    needed = {rate: intervals.needed_without_event(rate) for rate in (0.1, 0.05, 0.01, 0.001)}
    assert needed == {0.1: 29, 0.05: 59, 0.01: 299, 0.001: 2995}
    assert intervals.needed_without_event(0.01, level=0.99) == 459


@settings(deadline=None)
@given(st.floats(1e-6, 0.999), st.sampled_from([0.9, 0.95, 0.99]))
def test_so_many_images_carry_the_claim_and_one_fewer_do_not(rate, level):
    n = intervals.needed_without_event(rate, level=level)
    assert intervals.most_compatible_rate(n, level=level) <= rate * (1 + 1e-9)
    assert n == 1 or intervals.most_compatible_rate(n - 1, level=level) > rate * (1 - 1e-9)


@settings(deadline=None)
@given(st.integers(1, 3000))
def test_a_claim_that_n_images_just_carry_needs_n_images(n):
    assert intervals.needed_without_event(intervals.most_compatible_rate(n)) == n


# AUROC


def variance_by_loops(labels, scores_a, scores_b=None):
    """DeLong's covariance as in the paper: the kernel over all pairs, structural components, their covariance."""

    def components(scores):
        bad = [s for y, s in zip(labels, scores, strict=True) if y]
        good = [s for y, s in zip(labels, scores, strict=True) if not y]

        def kernel(x, y):
            return 1.0 if x > y else 0.5 if x == y else 0.0

        of_bad = [sum(kernel(x, y) for y in good) / len(good) for x in bad]
        of_good = [sum(kernel(x, y) for x in bad) / len(bad) for y in good]
        return of_bad, of_good

    def covariance(a, b):
        mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
        return sum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True)) / (len(a) - 1)

    (bad_a, good_a), (bad_b, good_b) = components(scores_a), components(scores_a if scores_b is None else scores_b)
    return covariance(bad_a, bad_b) / len(bad_a) + covariance(good_a, good_b) / len(good_a)


def test_without_the_correction_the_variance_is_delongs(monkeypatch):
    rng = np.random.default_rng(2)
    labels = np.repeat([0, 1], [40, 15])
    scores = np.round(rng.normal(size=55) + 1.2 * labels, 1)  # with ties
    other = np.round(scores + rng.normal(size=55), 1)
    monkeypatch.setattr(intervals, "ADDED", 0.0)

    found = intervals.auroc_interval(labels, scores)
    auroc = i_auroc(labels, scores)
    half = stats.norm.ppf(0.975) * math.sqrt(variance_by_loops(labels, scores)) / (auroc * (1 - auroc))
    logit = math.log(auroc / (1 - auroc))
    assert found.low == pytest.approx(1 / (1 + math.exp(half - logit)), abs=1e-12)
    assert found.high == pytest.approx(1 / (1 + math.exp(-half - logit)), abs=1e-12)

    difference = intervals.auroc_difference(labels, scores, other)
    variance = (
        variance_by_loops(labels, scores)
        + variance_by_loops(labels, other)
        - 2 * variance_by_loops(labels, scores, other)
    )
    assert difference.value == pytest.approx(auroc - i_auroc(labels, other))
    assert difference.interval.high - difference.value == pytest.approx(1.959964 * math.sqrt(variance), rel=1e-6)
    assert difference.value - difference.interval.low == pytest.approx(1.959964 * math.sqrt(variance), rel=1e-6)


def test_with_many_images_the_correction_no_longer_matters(monkeypatch):
    rng = np.random.default_rng(3)
    labels = np.repeat([0, 1], [20000, 10000])
    scores = rng.normal(size=30000) + 1.5 * labels
    corrected = intervals.auroc_interval(labels, scores)
    monkeypatch.setattr(intervals, "ADDED", 0.0)
    plain = intervals.auroc_interval(labels, scores)
    assert corrected.low == pytest.approx(plain.low, abs=2e-5)
    assert corrected.high == pytest.approx(plain.high, abs=2e-5)


def binormal(rng, *, n_good, n_bad, auroc, spread=1.0):
    """One set of scores whose true AUROC is known; `spread` is that of the bad ones."""
    distance = math.sqrt(1 + spread**2) * stats.norm.ppf(auroc)
    return np.concatenate((rng.normal(size=n_good), spread * rng.normal(size=n_bad) + distance))


def missed(rng, *, n_good, n_bad, auroc):
    """Most bad parts stand out and a few look like good ones, as an inspector meets them."""
    share = 1.4 * (1 - auroc)
    clear = min((auroc - share / 2) / (1 - share), 0.9999)
    bad = rng.normal(size=n_bad) + np.where(rng.random(n_bad) < share, 0.0, math.sqrt(2) * stats.norm.ppf(clear))
    return np.concatenate((rng.normal(size=n_good), bad))


def share_that_hold(truth, found):
    return np.mean([interval.low <= truth <= interval.high for interval in found])


@pytest.mark.parametrize(("n_good", "n_bad"), [(100, 30), (300, 100)])
@pytest.mark.parametrize("auroc", [0.9, 0.95, 0.97])
def test_the_auroc_interval_holds_the_truth_in_95_of_100_cases(n_good, n_bad, auroc):
    rng = np.random.default_rng(11)
    labels = np.repeat([0, 1], [n_good, n_bad])
    found = [
        intervals.auroc_interval(labels, binormal(rng, n_good=n_good, n_bad=n_bad, auroc=auroc)) for _ in range(2500)
    ]
    assert share_that_hold(auroc, found) == pytest.approx(0.95, abs=0.015)


def test_the_auroc_interval_stays_honest_where_a_few_bad_parts_look_good():
    rng = np.random.default_rng(12)
    labels = np.repeat([0, 1], [100, 30])
    shares = []
    for auroc in (0.9, 0.95, 0.97):
        found = [intervals.auroc_interval(labels, missed(rng, n_good=100, n_bad=30, auroc=auroc)) for _ in range(1500)]
        shares.append(share_that_hold(auroc, found))
    assert min(shares) > 0.92  # textbook DeLong: 0.93, 0.86, 0.81
    assert np.mean(shares) == pytest.approx(0.95, abs=0.015)


def test_the_paired_difference_of_auroc_holds_the_truth_in_95_of_100_cases():
    rng = np.random.default_rng(13)
    for n_good, n_bad, pair in ((100, 30, (0.9, 0.95)), (300, 100, (0.9, 0.95)), (300, 100, (0.95, 0.95))):
        labels = np.repeat([0, 1], [n_good, n_bad])
        distance = [math.sqrt(2) * stats.norm.ppf(auroc) * labels for auroc in pair]
        held = []
        for _ in range(2000):
            shared = rng.normal(size=labels.size)
            a, b = (0.6 * shared + 0.8 * rng.normal(size=labels.size) + far for far in distance)
            held.append(intervals.auroc_difference(labels, a, b).interval)
        assert share_that_hold(pair[0] - pair[1], held) == pytest.approx(0.95, abs=0.015)


@settings(deadline=None)
@given(tied_samples)
def test_every_interval_lies_in_zero_to_one_and_holds_its_figure(rows):
    labels, scores = unzip(rows)
    for figure, interval in (
        (i_auroc(labels, scores), intervals.auroc_interval(labels, scores)),
        (ap(labels, scores), intervals.ap_interval(labels, scores, resamples=50)),
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
    for function, options in ((intervals.auroc_difference, {}), (intervals.ap_difference, {"resamples": 50})):
        there, back = function(labels, scores, other, **options), function(labels, other, scores, **options)
        assert there.value == pytest.approx(-back.value)
        assert there.interval.low == pytest.approx(-back.interval.high, abs=1e-9)
        assert there.interval.high == pytest.approx(-back.interval.low, abs=1e-9)
        assert -1.0 <= there.interval.low <= there.value <= there.interval.high <= 1.0


def test_perfect_separation_is_as_uncertain_as_the_smaller_class():
    labels, scores = np.repeat([0, 1], [100, 30]), np.arange(130)
    found = intervals.auroc_interval(labels, scores)
    exact = stats.binomtest(30, 30, alternative="greater").proportion_ci(method="exact")
    assert (found.low, found.high) == pytest.approx((exact.low, 1.0))
    assert 1 - found.low == pytest.approx(intervals.most_compatible_rate(30))
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


# AP


def test_drawing_images_often_is_the_same_as_repeating_them():
    """Every draw's AP against scikit-learn on the images really repeated."""
    rng = np.random.default_rng(4)
    labels = np.repeat([0, 1], [12, 7])
    scores = [np.round(rng.normal(size=19) + labels, 1), np.round(rng.normal(size=19), 0)]
    bad = labels.astype(bool)
    found = resampled_ap(bad, scores, resamples=40, seed=5)

    draws = np.random.default_rng(5)
    of_bad = draws.integers(0, 7, size=(40, 7))
    of_good = draws.integers(0, 12, size=(40, 12))
    for draw, number in itertools.product(range(40), range(2)):
        chosen = np.concatenate((np.flatnonzero(bad)[of_bad[draw]], np.flatnonzero(~bad)[of_good[draw]]))
        expected = average_precision_score(labels[chosen], scores[number][chosen])
        assert found[draw, number] == pytest.approx(expected, abs=1e-12)


def test_many_images_are_drawn_in_chunks_and_each_draw_is_a_fair_one(monkeypatch):
    rng = np.random.default_rng(6)
    bad = rng.random(400) < 0.25
    scores = rng.normal(size=400) + 1.5 * bad
    monkeypatch.setattr("ssn_core.resampling._CHUNK", 4000)
    found = resampled_ap(bad, [scores], resamples=1999, seed=0)[:, 0]
    assert found.shape == (1999,)
    assert np.unique(found).size > 1900
    assert found.mean() == pytest.approx(ap(bad, scores), abs=0.02)


@pytest.mark.parametrize("auroc", [0.9, 0.95, 0.97])
def test_the_ap_interval_holds_the_truth_in_95_of_100_cases(auroc):
    rng = np.random.default_rng(21)
    labels = np.repeat([0, 1], [100, 30])
    everybody = binormal(rng, n_good=200_000, n_bad=60_000, auroc=auroc)
    truth = ap(np.repeat([0, 1], [200_000, 60_000]), everybody)
    found = [
        intervals.ap_interval(labels, binormal(rng, n_good=100, n_bad=30, auroc=auroc), resamples=200, seed=number)
        for number in range(1200)
    ]
    assert share_that_hold(truth, found) == pytest.approx(0.95, abs=0.015 if auroc < 0.97 else 0.025)


def test_the_ap_interval_stays_honest_where_a_few_bad_parts_look_good():
    rng = np.random.default_rng(22)
    labels = np.repeat([0, 1], [100, 30])
    shares = []
    for auroc in (0.9, 0.95, 0.97):
        truth = ap(np.repeat([0, 1], [200_000, 60_000]), missed(rng, n_good=200_000, n_bad=60_000, auroc=auroc))
        found = [
            intervals.ap_interval(labels, missed(rng, n_good=100, n_bad=30, auroc=auroc), resamples=200, seed=number)
            for number in range(800)
        ]
        shares.append(share_that_hold(truth, found))
    assert min(shares) > 0.92  # a percentile bootstrap: 0.92, 0.90, 0.85
    assert np.mean(shares) == pytest.approx(0.95, abs=0.02)


def test_the_paired_difference_of_ap_holds_the_truth_in_95_of_100_cases():
    rng = np.random.default_rng(23)
    sizes = (300, 100)
    labels = np.repeat([0, 1], sizes)
    truth = [ap(np.repeat([0, 1], [300_000, 100_000]), binormal(rng, n_good=300_000, n_bad=100_000, auroc=auroc))
             for auroc in (0.9, 0.95)]  # fmt: skip
    distance = [math.sqrt(2) * stats.norm.ppf(auroc) * labels for auroc in (0.9, 0.95)]
    found = []
    for number in range(600):
        shared = rng.normal(size=labels.size)
        a, b = (0.6 * shared + 0.8 * rng.normal(size=labels.size) + far for far in distance)
        found.append(intervals.ap_difference(labels, a, b, resamples=200, seed=number).interval)
    assert share_that_hold(truth[0] - truth[1], found) == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize(("n_good", "n_bad"), [(3, 50), (50, 3), (100, 5), (8, 50)])
def test_few_images_in_a_class_never_make_ap_look_certain(n_good, n_bad):
    rng = np.random.default_rng(24)
    labels, many = np.repeat([0, 1], [n_good, n_bad]), 4000
    for auroc in (0.6, 0.8):
        everybody = binormal(rng, n_good=many * n_good, n_bad=many * n_bad, auroc=auroc)
        truth = ap(np.repeat([0, 1], [many * n_good, many * n_bad]), everybody)
        pairs = [[binormal(rng, n_good=n_good, n_bad=n_bad, auroc=auroc) for _ in range(2)] for _ in range(300)]
        single = [intervals.ap_interval(labels, first, resamples=100) for first, _ in pairs]
        paired = [intervals.ap_difference(labels, *pair, resamples=100).interval for pair in pairs]
        assert share_that_hold(truth, single) > 0.94  # the bootstrap alone: from 0.73
        assert share_that_hold(0.0, paired) > 0.94  # and from 0.82


def test_many_images_take_fewer_resamples_unless_a_number_is_given():
    assert [intervals.usual_resamples(n) for n in (0, 10_000, 20_000, 100_000, 10**9)] == [2000, 2000, 1000, 200, 200]
    rng = np.random.default_rng(25)
    labels = np.repeat([0, 1], [19_000, 1000])
    scores = rng.normal(size=20_000) + 2 * labels
    usual = intervals.ap_interval(labels, scores)
    assert usual == intervals.ap_interval(labels, scores, resamples=1000)
    assert usual != intervals.ap_interval(labels, scores, resamples=999)


def test_the_same_seed_gives_the_same_interval():
    rng = np.random.default_rng(7)
    labels = np.repeat([0, 1], [60, 20])
    scores = rng.normal(size=80) + labels
    assert intervals.ap_interval(labels, scores) == intervals.ap_interval(labels, scores)
    assert intervals.ap_interval(labels, scores) != intervals.ap_interval(labels, scores, seed=1)


def test_two_thousand_draws_of_two_thousand_images_take_a_moment():
    rng = np.random.default_rng(8)
    labels = np.repeat([0, 1], [1700, 300])
    scores = rng.normal(size=2000) + 2 * labels
    started = time.perf_counter()
    intervals.ap_interval(labels, scores)
    assert time.perf_counter() - started < 2


def test_a_hundred_thousand_images_need_no_more_memory():
    rng = np.random.default_rng(9)
    labels = np.repeat([0, 1], [80_000, 20_000])
    scores = rng.normal(size=100_000) + 2 * labels
    tracemalloc.start()
    try:
        intervals.ap_interval(labels, scores, resamples=60)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 200 * 2**20


# What is refused


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0, math.nan])
def test_a_level_that_is_not_a_share_is_refused(level):
    calls = (
        lambda: intervals.rate_interval(1, 2, level=level),
        lambda: intervals.most_compatible_rate(3, level=level),
        lambda: intervals.needed_without_event(0.1, level=level),
        lambda: intervals.auroc_interval([0, 1], [0, 1], level=level),
        lambda: intervals.ap_interval([0, 1], [0, 1], level=level),
        lambda: intervals.auroc_difference([0, 1], [0, 1], [1, 0], level=level),
        lambda: intervals.ap_difference([0, 1], [0, 1], [1, 0], level=level),
    )
    for call in calls:
        with pytest.raises(SsnError, match="level of an interval"):
            call()


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, math.nan])
def test_a_rate_that_cannot_be_claimed_is_refused(rate):
    with pytest.raises(SsnError, match="rate to claim"):
        intervals.needed_without_event(rate)


def test_impossible_counts_are_a_bug_not_a_message():
    for events, n in ((-1, 5), (6, 5), (0, -1)):
        with pytest.raises(ValueError, match="not a rate"):
            intervals.rate_interval(events, n)
    with pytest.raises(ValueError, match="cannot be"):
        intervals.most_compatible_rate(-1)
    for function, scores in ((intervals.ap_interval, ([0, 1],)), (intervals.ap_difference, ([0, 1], [1, 0]))):
        with pytest.raises(ValueError, match="resamples"):
            function([0, 1], *scores, resamples=1)


def test_a_score_that_is_not_finite_is_named_in_either_model():
    for function in (intervals.auroc_interval, intervals.ap_interval):
        with pytest.raises(SsnError, match="Score number 2 of 3 is not finite: nan"):
            function([0, 1, 0], [0.0, math.nan, 1.0])
    for function in (intervals.auroc_difference, intervals.ap_difference):
        for pair in (([0.0, math.nan], [0.0, 1.0]), ([0.0, 1.0], [0.0, math.nan])):
            with pytest.raises(SsnError, match="Score number 2 of 2 is not finite: nan"):
                function([0, 1], *pair)


def test_decisions_repeated_on_the_same_things_are_not_more_things():
    found = intervals.repeated_rate_interval(6, 60, units=20)
    expected = stats.binomtest(2, 20).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.method == "Wilson, each part counted once"
    assert intervals.repeated_rate_interval(0, 0, units=0) is None
    for units in (0, 61):
        with pytest.raises(ValueError, match="cannot be on"):
            intervals.repeated_rate_interval(6, 60, units=units)
