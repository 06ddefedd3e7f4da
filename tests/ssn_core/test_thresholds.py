import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, f1_score

from ssn_core.errors import SsnError
from ssn_core.thresholds import (
    Outcome,
    above_every_good,
    best_f1,
    escape_at_most,
    lowest_cost,
    outcome,
    overkill_at_most,
    two_thresholds,
    youden,
)

samples = st.lists(
    st.tuples(st.booleans(), st.floats(-1e6, 1e6, allow_subnormal=False).map(lambda v: round(v, 2))),
    min_size=2,
    max_size=30,
).filter(lambda rows: 0 < sum(bad for bad, _ in rows) < len(rows))


def counted_by_scikit_learn(labels, scores, threshold):
    """Escapes and overkill, and how many bad and good there are."""
    called_bad = np.asarray(scores) >= threshold
    tn, fp, fn, tp = confusion_matrix(np.asarray(labels, dtype=bool), called_bad, labels=[False, True]).ravel()
    return int(fn), int(fp), int(fn + tp), int(fp + tn)


def j_at(labels, scores, threshold):
    escapes, overkill, n_bad, n_good = counted_by_scikit_learn(labels, scores, threshold)
    return 1 - escapes / n_bad - overkill / n_good


@settings(deadline=None)
@given(samples)
def test_no_other_threshold_has_a_larger_j(rows):
    labels, scores = zip(*rows, strict=True)
    best = j_at(labels, scores, youden(labels, scores))
    assert all(best >= j_at(labels, scores, other) - 1e-9 for other in scores)


def test_it_lies_midway_between_the_two_neighbouring_scores():
    assert youden([0, 0, 1, 1], [1.0, 2.0, 4.0, 5.0]) == 3.0


def test_neighbours_without_a_number_between_them_give_the_upper_one():
    low = 1.0
    high = float(np.nextafter(low, 2.0))
    threshold = youden([0, 1], [low, high])
    assert low < threshold <= high


def test_of_equal_thresholds_the_one_with_fewer_escapes_is_taken():
    # Cutting at 3 finds one of two bad at no false alarm; cutting at 1 finds both at one of two: J = 0.5 each.
    assert youden([0, 1, 0, 1], [0.0, 1.0, 2.0, 3.0]) == 0.5


def test_scores_that_separate_nothing_call_everything_bad():
    assert youden([0, 1], [2.0, 2.0]) == 2.0
    assert youden([1, 0], [1.0, 2.0]) == 1.0


def test_extreme_scores_do_not_overflow():
    huge = float(np.finfo(np.float64).max)
    threshold = youden([0, 1], [huge * 0.9, huge])
    assert huge * 0.9 < threshold <= huge


@pytest.mark.parametrize(("labels", "counts"), [([0, 0], "2 good, 0 bad"), ([1, 1], "0 good, 2 bad")])
def test_a_missing_class_is_named(labels, counts):
    with pytest.raises(SsnError, match=counts):
        youden(labels, [0.0, 1.0])


def test_a_score_that_is_not_a_number_is_named():
    with pytest.raises(SsnError, match="nan"):
        youden([0, 1], [0.0, float("nan")])


# Few distinct scores, so that ties within and between the classes are the rule.
tied_samples = st.lists(st.tuples(st.booleans(), st.integers(0, 8).map(float)), min_size=2, max_size=25).filter(
    lambda rows: 0 < sum(bad for bad, _ in rows) < len(rows)
)
rates = st.sampled_from([0.0, 0.05, 0.1, 0.25, 1 / 3, 0.5, 0.99, 1.0])


def unzip(rows):
    return [bad for bad, _ in rows], [score for _, score in rows]


def every_cut(scores):
    """One threshold for every way to cut: at each score, and above all."""
    return [*sorted(set(scores)), max(scores) + 1]


def test_of_the_scores_themselves_the_outcome_counts_each_part_once():
    labels = [0, 0, 0, 0, 1, 1, 1, 1]
    scores = [0.0, 1.0, 2.0, 3.0, 0.5, 1.0, 2.0, 4.0]
    assert outcome(labels, scores, 2.0) == Outcome(4, 4, escapes=2, overkill=2, to_person_good=0, to_person_bad=0)
    both = outcome(labels, scores, 2.0, 1.0)
    assert both == Outcome(4, 4, escapes=1, overkill=2, to_person_good=1, to_person_bad=1)
    assert (both.escape_rate, both.overkill_rate, both.to_person_rate) == (0.25, 0.5, 0.25)


@settings(deadline=None)
@given(tied_samples, st.integers(-1, 9), st.integers(0, 4))
def test_every_part_has_one_fate(rows, low, width):
    labels, scores = unzip(rows)
    found = outcome(labels, scores, low + width, low)
    called_bad = [bad for bad, score in rows if score >= low + width]
    called_good = [bad for bad, score in rows if score < low]
    assert found.escapes == sum(called_good)
    assert found.overkill == len(called_bad) - sum(called_bad)
    assert found.to_person_bad + found.to_person_good == len(rows) - len(called_bad) - len(called_good)
    assert found.to_person_bad == sum(labels) - sum(called_bad) - sum(called_good)
    assert (found.n_bad, found.n_good) == (sum(labels), len(labels) - sum(labels))


@settings(deadline=None)
@given(tied_samples, st.integers(-1, 9))
def test_one_threshold_is_the_confusion_and_sends_nothing_to_a_person(rows, threshold):
    labels, scores = unzip(rows)
    found = outcome(labels, scores, threshold)
    assert found.to_person_rate == 0.0
    assert (found.escapes, found.overkill, found.n_bad, found.n_good) == counted_by_scikit_learn(
        labels, scores, threshold
    )
    assert found == outcome(labels, scores, threshold, threshold)


def test_each_image_can_have_thresholds_of_its_own():
    labels, scores = [1, 1, 0, 0, 1, 0], np.zeros(6)
    high = np.array([1.0, 0.0, 1.0, 0.0, 1.0, 1.0])
    low = np.array([1.0, 0.0, 1.0, -1.0, 0.0, 0.0])
    assert outcome(labels, scores, high, low) == Outcome(3, 3, escapes=1, overkill=1, to_person_good=1, to_person_bad=1)
    with pytest.raises(SsnError, match="must not lie above"):
        outcome(labels, scores, low, high)


def test_rates_are_none_where_nothing_was_there_to_count():
    empty = outcome([], [], 0.5)
    assert (empty.escape_rate, empty.overkill_rate, empty.to_person_rate) == (None, None, None)
    good_only = outcome([0, 0], [0.0, 1.0], 0.5)
    assert (good_only.escape_rate, good_only.overkill_rate) == (None, 0.5)


def test_a_lower_threshold_above_the_upper_one_is_refused():
    with pytest.raises(SsnError, match=r"must not lie above the upper one: 2.0. Expected a number up to 1.0"):
        outcome([0, 1], [0.0, 1.0], 1.0, 2.0)
    with pytest.raises(SsnError, match="must not lie above"):
        outcome([0, 1], [0.0, 1.0], 1.0, math.nan)


@settings(deadline=None)
@given(tied_samples)
def test_no_other_threshold_has_a_larger_f1_and_equal_ones_let_more_bad_parts_pass(rows):
    labels, scores = unzip(rows)
    threshold = best_f1(labels, scores)

    def f1(at):
        return f1_score(labels, [score >= at for score in scores], zero_division=0.0)

    by_cut = {cut: f1(cut) for cut in every_cut(scores)}
    best = max(by_cut.values())
    assert f1(threshold) == pytest.approx(best)
    equal = [cut for cut, value in by_cut.items() if value > best - 1e-9]
    assert outcome(labels, scores, threshold).escapes == min(outcome(labels, scores, other).escapes for other in equal)


@settings(deadline=None)
@given(tied_samples, rates)
def test_a_rate_of_escapes_is_kept_with_the_least_overkill(rows, rate):
    labels, scores = unzip(rows)
    found = outcome(labels, scores, escape_at_most(labels, scores, rate))
    keeping = [outcome(labels, scores, cut) for cut in every_cut(scores)]
    keeping = [one for one in keeping if one.escape_rate <= rate + 1e-9]
    assert found.escape_rate <= rate + 1e-9
    assert found.overkill == min(one.overkill for one in keeping)


@settings(deadline=None)
@given(tied_samples, rates)
def test_a_rate_of_overkill_is_kept_with_the_fewest_escapes(rows, rate):
    labels, scores = unzip(rows)
    found = outcome(labels, scores, overkill_at_most(labels, scores, rate))
    keeping = [outcome(labels, scores, cut) for cut in every_cut(scores)]
    keeping = [one for one in keeping if one.overkill_rate <= rate + 1e-9]
    assert found.overkill_rate <= rate + 1e-9
    assert found.escapes == min(one.escapes for one in keeping)


def test_a_rate_that_is_a_whole_number_of_parts_allows_all_of_them():
    labels, scores = [1] * 100 + [0], [float(n) for n in range(100)] + [-1.0]
    assert 0.29 * 100 < 29
    assert outcome(labels, scores, escape_at_most(labels, scores, 0.29)).escapes == 29


def test_a_target_needs_only_the_class_that_it_speaks_of():
    assert escape_at_most([1, 1], [1.0, 2.0], 0.0) == 1.0
    assert escape_at_most([1, 1], [1.0, 2.0], 0.5) == 1.5
    assert overkill_at_most([0, 0], [1.0, 2.0], 0.5) == 1.5
    assert above_every_good([0, 0], [1.0, 2.0]) == np.nextafter(2.0, np.inf)
    with pytest.raises(SsnError, match=r"rate of escapes needs bad images: '2 good, 0 bad'"):
        escape_at_most([0, 0], [1.0, 2.0], 0.1)
    with pytest.raises(SsnError, match=r"rate of overkill needs good images: '0 good, 2 bad'"):
        overkill_at_most([1, 1], [1.0, 2.0], 0.1)
    with pytest.raises(SsnError, match=r"above every good part needs good images: '0 good, 0 bad'"):
        above_every_good([], [])


@settings(deadline=None)
@given(tied_samples)
def test_above_every_good_rejects_none_of_them_and_no_lower_threshold_does(rows):
    labels, scores = unzip(rows)
    threshold = above_every_good(labels, scores)
    highest = max(score for bad, score in rows if not bad)
    assert highest < threshold
    assert not any(highest < score < threshold for score in scores)


@settings(deadline=None)
@given(tied_samples, st.sampled_from([0.0, 1.0, 3.0, 250.0]), st.sampled_from([0.5, 1.0, 40.0]))
def test_no_other_threshold_is_cheaper(rows, escape_cost, overkill_cost):
    labels, scores = unzip(rows)

    def cost(at):
        found = outcome(labels, scores, at)
        return escape_cost * found.escapes + overkill_cost * found.overkill

    threshold = lowest_cost(labels, scores, escape_cost=escape_cost, overkill_cost=overkill_cost)
    assert cost(threshold) == pytest.approx(min(cost(other) for other in every_cut(scores)))


@settings(deadline=None)
@given(tied_samples, st.sampled_from([0.0, 0.001, 0.3, 1.0]))
def test_no_other_threshold_is_cheaper_at_the_mix_of_a_line(rows, share):
    labels, scores = unzip(rows)

    def cost(at):
        found = outcome(labels, scores, at)
        return 50 * share * found.escape_rate + 1 * (1 - share) * found.overkill_rate

    threshold = lowest_cost(labels, scores, escape_cost=50, overkill_cost=1, bad_share=share)
    assert cost(threshold) == pytest.approx(min(cost(other) for other in every_cut(scores)), abs=1e-9)


def test_dear_escapes_lower_the_threshold_and_rare_ones_raise_it():
    labels, scores = [0, 0, 0, 1, 1, 1], [0.0, 1.0, 3.0, 2.0, 4.0, 5.0]
    assert lowest_cost(labels, scores, escape_cost=10, overkill_cost=1) == 1.5
    assert lowest_cost(labels, scores, escape_cost=1, overkill_cost=10) == 3.5
    assert lowest_cost(labels, scores, escape_cost=10, overkill_cost=1, bad_share=0.01) == 3.5


def test_where_overkill_is_all_that_costs_and_good_and_bad_look_alike_nothing_is_called_bad():
    threshold = lowest_cost([0, 1], [1.0, 1.0], escape_cost=1, overkill_cost=2)
    assert outcome([0, 1], [1.0, 1.0], threshold).overkill == 0


@pytest.mark.parametrize(
    ("costs", "message"),
    [
        ({"escape_cost": -1, "overkill_cost": 1}, "cost of one escape"),
        ({"escape_cost": 1, "overkill_cost": math.inf}, "cost of one overkill"),
        ({"escape_cost": math.nan, "overkill_cost": 1}, "cost of one escape"),
        ({"escape_cost": 0, "overkill_cost": 0}, "every threshold costs the same"),
        ({"escape_cost": 1, "overkill_cost": 1, "bad_share": 1.5}, "share of bad parts"),
    ],
)
def test_costs_without_a_meaning_are_refused(costs, message):
    with pytest.raises(SsnError, match=message):
        lowest_cost([0, 1], [0.0, 1.0], **costs)


@settings(deadline=None)
@given(tied_samples, rates, rates)
def test_two_thresholds_keep_both_rates_with_the_fewest_parts_to_a_person(rows, escape_rate, overkill_rate):
    labels, scores = unzip(rows)
    low, high = two_thresholds(labels, scores, escape_rate=escape_rate, overkill_rate=overkill_rate)
    assert low <= high
    found = outcome(labels, scores, high, low)
    assert found.escape_rate <= escape_rate + 1e-9
    assert found.overkill_rate <= overkill_rate + 1e-9
    pairs = [outcome(labels, scores, b, a) for a in every_cut(scores) for b in every_cut(scores) if a <= b]
    keeping = [
        one for one in pairs if one.escape_rate <= escape_rate + 1e-9 and one.overkill_rate <= overkill_rate + 1e-9
    ]
    assert found.to_person_rate == min(one.to_person_rate for one in keeping)


def test_where_one_threshold_keeps_both_rates_it_is_the_one_with_the_largest_j():
    labels, scores = [0, 0, 0, 0, 1, 1, 1, 1], [0.0, 1.0, 2.0, 6.0, 3.0, 5.0, 7.0, 8.0]
    low, high = two_thresholds(labels, scores, escape_rate=0.5, overkill_rate=0.5)
    assert low == high == youden(labels, scores) == 2.5


@pytest.mark.parametrize("rate", [-0.01, 1.01, math.nan])
def test_a_rate_that_is_not_a_share_is_refused(rate):
    calls = (
        lambda: escape_at_most([0, 1], [0.0, 1.0], rate),
        lambda: overkill_at_most([0, 1], [0.0, 1.0], rate),
        lambda: two_thresholds([0, 1], [0.0, 1.0], escape_rate=rate, overkill_rate=0.1),
        lambda: two_thresholds([0, 1], [0.0, 1.0], escape_rate=0.1, overkill_rate=rate),
    )
    for call in calls:
        with pytest.raises(SsnError, match="is not a share"):
            call()


def test_every_suggestion_names_a_missing_class_and_a_score_that_is_not_finite():
    calls = (
        best_f1,
        lambda labels, scores: lowest_cost(labels, scores, escape_cost=1, overkill_cost=1),
        lambda labels, scores: two_thresholds(labels, scores, escape_rate=0.1, overkill_rate=0.1),
    )
    for call in calls:
        with pytest.raises(SsnError, match="2 good, 0 bad"):
            call([0, 0], [0.0, 1.0])
        with pytest.raises(SsnError, match="Score number 2 of 2 is not finite: nan"):
            call([0, 1], [0.0, math.nan])
