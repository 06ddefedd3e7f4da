import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ssn_core import rates
from ssn_core.errors import SsnError

counts = st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@settings(deadline=None)
@given(counts, st.sampled_from([0.8, 0.95, 0.99]))
def test_the_interval_of_a_rate_is_scipys_wilson(count, level):
    events, n = count
    found = rates.rate_interval(events, n, level=level)
    expected = stats.binomtest(events, n).proportion_ci(confidence_level=level, method="wilson")
    assert found.low == pytest.approx(expected.low, abs=1e-12)
    assert found.high == pytest.approx(expected.high, abs=1e-12)
    assert (found.method, found.level) == ("Wilson", level)


def test_wilson_holds_the_truth_in_95_of_100_cases_over_rates_of_2_to_20_percent():
    for n in (30, 100, 400):
        ends = [rates.rate_interval(events, n) for events in range(n + 1)]
        low, high = np.array([end.low for end in ends]), np.array([end.high for end in ends])
        coverage = [
            stats.binom.pmf(np.arange(n + 1), n, p)[(low <= p) & (p <= high)].sum() for p in np.linspace(0.02, 0.2, 400)
        ]
        assert np.mean(coverage) == pytest.approx(0.95, abs=0.015)


def test_no_event_and_only_events_give_ends_of_exactly_zero_and_one():
    for n in (1, 7, 30, 1000):
        none, every = rates.rate_interval(0, n), rates.rate_interval(n, n)
        assert none.low == 0.0 < none.high < 1.0
        assert every.high == 1.0 > every.low > 0.0
    assert rates.rate_interval(0, 0) is None


@settings(deadline=None)
@given(st.integers(1, 5000), st.sampled_from([0.9, 0.95, 0.99]))
def test_the_largest_compatible_rate_is_the_exact_one_sided_bound(n, level):
    found = rates.most_compatible_rate(n, level=level)
    exact = stats.binomtest(0, n, alternative="less").proportion_ci(confidence_level=level, method="exact")
    assert found == pytest.approx(exact.high, rel=1e-9)
    assert (1 - found) ** n == pytest.approx(1 - level, rel=1e-6)


def test_three_over_n_is_the_rule_of_thumb_and_nothing_seen_proves_nothing():
    assert rates.most_compatible_rate(300) == pytest.approx(3 / 300, rel=0.01)
    assert rates.most_compatible_rate(0) is None


def test_the_images_that_a_claim_needs_are_those_of_the_tables():
    needed = {rate: rates.needed_without_event(rate) for rate in (0.1, 0.05, 0.01, 0.001)}
    assert needed == {0.1: 29, 0.05: 59, 0.01: 299, 0.001: 2995}
    assert rates.needed_without_event(0.01, level=0.99) == 459


@settings(deadline=None)
@given(st.floats(1e-6, 0.999), st.sampled_from([0.9, 0.95, 0.99]))
def test_so_many_images_carry_the_claim_and_one_fewer_do_not(rate, level):
    n = rates.needed_without_event(rate, level=level)
    assert rates.most_compatible_rate(n, level=level) <= rate * (1 + 1e-9)
    assert n == 1 or rates.most_compatible_rate(n - 1, level=level) > rate * (1 - 1e-9)


@settings(deadline=None)
@given(st.integers(1, 3000))
def test_a_claim_that_n_images_just_carry_needs_n_images(n):
    assert rates.needed_without_event(rates.most_compatible_rate(n)) == n


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, math.nan])
def test_a_rate_that_cannot_be_claimed_is_refused(rate):
    with pytest.raises(SsnError, match="rate to claim"):
        rates.needed_without_event(rate)


def test_impossible_counts_are_a_bug_not_a_message():
    for events, n in ((-1, 5), (6, 5), (0, -1)):
        with pytest.raises(ValueError, match="not a rate"):
            rates.rate_interval(events, n)
    with pytest.raises(ValueError, match="cannot be"):
        rates.most_compatible_rate(-1)


def test_decisions_repeated_on_the_same_things_are_not_more_things():
    found = rates.repeated_rate_interval(6, 60, units=20)
    expected = stats.binomtest(2, 20).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.method == "Wilson, each part counted once"
    assert rates.repeated_rate_interval(0, 0, units=0) is None
    for units in (0, 61):
        with pytest.raises(ValueError, match="cannot be on"):
            rates.repeated_rate_interval(6, 60, units=units)
