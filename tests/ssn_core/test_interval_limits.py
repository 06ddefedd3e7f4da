import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from benchmarks import interval_limits as limits
from benchmarks.score_shapes import draw_flat, flat_truths
from ssn_core import intervals
from ssn_core.metrics import ap, i_auroc


@pytest.mark.parametrize("shares", [(0.2, 0.0), (0.0, 0.05), (0.3, 0.1), (0.0, 0.0)])
def test_the_truth_of_parts_that_fall_flat_is_that_of_very_many_of_them(shares):
    labels = np.repeat([1, 0], [100_000, 300_000])
    rng = np.random.default_rng(1)
    scores = draw_flat(rng, n_bad=100_000, n_good=300_000, flat_bad=shares[0], flat_good=shares[1])
    auroc, precision = (float(end) for end in flat_truths(*map(np.float64, shares), 0.25))
    assert i_auroc(labels, scores) == pytest.approx(auroc, abs=0.005)
    assert ap(labels, scores) == pytest.approx(precision, abs=0.005)


@settings(deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=5), st.lists(st.integers(-3, 3), min_size=1, max_size=5))
def test_a_cover_is_the_fewest_images_without_which_no_pair_is_wrong(bad, good):
    def clean(some_bad, some_good):
        return all(x > y for x, y in itertools.product(some_bad, some_good))

    fewest = {}
    for kept in itertools.product((0, 1), repeat=len(bad)):
        for others in itertools.product((0, 1), repeat=len(good)):
            if clean(itertools.compress(bad, kept), itertools.compress(good, others)):
                left_out = len(bad) - sum(kept)
                fewest[left_out] = min(fewest.get(left_out, 9), len(good) - sum(others))
    found = limits._cover(np.array(bad, float), np.array(good, float))
    assert {int(k): int(n) for k, n in found} == fewest


def test_perfect_separation_leaves_open_what_would_show_a_mistake_often_enough():
    (auroc, _), (end, _) = limits.perfect_ends(20, 10_000), [array[0, 0] for array in limits.lowest_ends(20, 10_000)]
    assert auroc == pytest.approx(0.065 ** (1 / 20), abs=0.002)  # as a rate of 20 in 20
    assert end == pytest.approx(auroc - 1, abs=0.002)
    assert [array[0, 0] for array in limits.highest_ends(20, 10_000)] == [1.0, 1.0]


def test_an_upper_end_is_that_of_a_rate_whose_exact_test_has_a_size_of_six_and_a_half_percent():
    auroc, _ = limits.highest_ends(30, 100)
    for flat in (1, 2, 4):
        share = stats.beta.ppf(0.065, flat, 30 - flat + 1)
        assert auroc[flat, 0] == pytest.approx(1 - share, abs=0.004)


@pytest.mark.parametrize("n_bad", [10, 20, 100])
def test_three_images_never_tell_which_of_two_models_is_better_and_four_do(n_bad):
    """By the sign test: flat in A or in B, by equal chances, as often as makes three of one side and none likeliest."""
    auroc, _ = limits.lowest_ends(n_bad, 1000)

    def either_side(least, share):
        flat = np.arange(least, n_bad + 1)
        return 2 * np.sum(stats.binom.pmf(flat, n_bad, share) * 0.5**flat)

    shares = np.linspace(0, 1, 500)
    assert max(either_side(3, share) for share in shares) > 0.065 > max(either_side(4, share) for share in shares)
    assert auroc[3, 0] <= 0 < auroc[4, 0]


def test_an_end_that_were_higher_would_be_missed_too_often():
    """Simulated: samples with three flat images or more in one model and none in the other, of two equal ones."""
    rng = np.random.default_rng(2)
    flat = rng.choice(3, size=(20_000, 20), p=[0.8, 0.1, 0.1])
    in_a, in_b = ((flat == model).sum(axis=1) for model in (1, 2))
    broken = np.mean((in_a == 0) & (in_b >= 3)) + np.mean((in_b == 0) & (in_a >= 3))
    assert broken > limits.MOST_MISSED + 0.005
    assert limits.lowest_ends(20, 200)[0][3, 0] <= 0


def test_equal_models_that_hardly_err_are_forced_and_poor_ones_are_not():
    cases = {
        ("difference of AUROC", "10/50", "heavy, 0.8", "AUROC 0.995 less 0.995"): 100.0,
        ("difference of AUROC", "10/50", "normal, 0.36", "AUROC 0.7 less 0.7"): 97.6,
        ("AUROC", "10/50", "heavy", "AUROC 0.995"): 96.8,
        ("AP", "10/50", "heavy", "AUROC 0.995"): 96.4,  # not above 96.5
    }
    found = {limit.truth: limit for limit in limits.limits(500, 3, cases, sizes=((10, 50),))}
    assert [limit.figure for limit in found.values()] == ["AUROC", "difference of AUROC", "difference of AUROC"]
    forced = found["AUROC 0.995 less 0.995"]
    assert forced.forced
    assert forced.missed_at_most < forced.surely_at_most < 3.5
    assert forced.same > 50
    assert forced.replications == 500
    open_ones = [found["AUROC 0.7 less 0.7"], found["AUROC 0.995"]]
    assert not any(limit.forced for limit in open_ones)
    assert open_ones[0].replications == limits.FIRST


@pytest.mark.parametrize("n", [5, 10, 14])
def test_in_a_gap_no_choice_of_outcomes_is_missed_as_often_as_asked(n):
    """By going through every choice of numbers of flat images that a method could miss."""
    chosen = np.array(list(itertools.product((False, True), repeat=n + 1)))
    found = limits.gaps(n)
    inside = [share for low, high in found for share in np.linspace(low, high, 7)]
    assert inside
    for share in inside:
        missed = chosen @ stats.binom.pmf(np.arange(n + 1), n, share)
        assert not np.any((missed >= 0.035) & (missed <= 0.065)), share
    between = [(high + low) / 2 for (_, high), (low, _) in itertools.pairwise(found)]
    assert between
    for share in between:  # what is called no gap is none, or the next step of the search
        missed = chosen @ stats.binom.pmf(np.arange(n + 1), n, share)
        assert np.any((missed >= 0.035) & (missed <= 0.065)), share


def test_half_a_percent_flat_of_twenty_images_is_a_gap():
    assert any(low < 0.005 < high for low, high in limits.gaps(20))


@pytest.mark.parametrize("model", [0, 1])
@pytest.mark.parametrize("kind", ["bad", "good"])
def test_three_flat_images_do_not_make_our_interval_call_a_model_better(kind, model):
    for n_bad, n_good in ((10, 50), (20, 200), (100, 1000)):
        labels = np.repeat([1, 0], [n_bad, n_good])
        perfect = np.concatenate((np.full(n_bad, 2.0), np.linspace(0, 1, n_good)))
        flat = perfect.copy()
        if kind == "bad":
            flat[:3] = -1
        else:
            flat[-3:] = 3
        pair = (perfect, flat)[:: 1 - 2 * model]
        for function in (intervals.auroc_difference, intervals.ap_difference):
            found = function(labels, *pair).interval
            assert found.low <= 0 <= found.high
