import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import cohen_kappa_score

from ssn_core import agreement, rates
from ssn_core.agreement import (
    all_versus_reference,
    appraise,
    between_appraisers,
    cohen_kappa,
    false_alarm_rate,
    fleiss_kappa,
    miss_rate,
    reference_kappa,
    verdict_counts,
    versus_reference,
    within_appraiser,
)
from ssn_core.errors import SsnError

# Fleiss 1971, table 1: 30 patients, 6 psychiatrists; depression, personality disorder, schizophrenia, neurosis, other.
PATIENTS = [
    (0, 0, 0, 6, 0), (0, 3, 0, 0, 3), (0, 1, 4, 0, 1), (0, 0, 0, 0, 6), (0, 3, 0, 3, 0), (2, 0, 4, 0, 0),
    (0, 0, 4, 0, 2), (2, 0, 3, 1, 0), (2, 0, 0, 4, 0), (0, 0, 0, 0, 6), (1, 0, 0, 5, 0), (1, 1, 0, 4, 0),
    (0, 3, 3, 0, 0), (1, 0, 0, 5, 0), (0, 2, 0, 3, 1), (0, 0, 5, 0, 1), (3, 0, 0, 1, 2), (5, 1, 0, 0, 0),
    (0, 2, 0, 4, 0), (1, 0, 2, 0, 3), (0, 0, 0, 0, 6), (0, 1, 0, 5, 0), (0, 2, 0, 1, 3), (2, 0, 0, 4, 0),
    (1, 0, 0, 4, 1), (0, 5, 0, 1, 0), (4, 0, 0, 0, 2), (0, 2, 0, 4, 0), (1, 0, 5, 0, 0), (0, 0, 0, 0, 6),
]  # fmt: skip

pairs = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=2, max_size=40)


# Kappa


def test_fleiss_own_example():
    assert np.sum(PATIENTS, axis=0).tolist() == [26, 26, 30, 55, 43]  # the totals printed in the paper
    found = fleiss_kappa(PATIENTS)
    assert found.value == pytest.approx(0.430, abs=0.0005)
    assert found.n == 30
    assert found.interval.low < 0.430 < found.interval.high


def test_a_second_example_of_fleiss_kappa():
    """Ten subjects, fourteen raters, five categories: the worked example of many textbooks, 0.210."""
    table = [
        (0, 0, 0, 0, 14), (0, 2, 6, 4, 2), (0, 0, 3, 5, 6), (0, 3, 9, 2, 0), (2, 2, 8, 1, 1),
        (7, 7, 0, 0, 0), (3, 2, 6, 3, 0), (2, 5, 3, 2, 2), (6, 5, 2, 1, 0), (0, 2, 2, 3, 7),
    ]  # fmt: skip
    assert fleiss_kappa(table).value == pytest.approx(0.210, abs=0.0005)


def test_a_worked_example_of_cohens_kappa():
    """Fifty proposals: both yes 20, first alone 5, second alone 10, both no 15; kappa 0.4."""
    first = ["yes"] * 25 + ["no"] * 25
    second = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    found = cohen_kappa(first, second)
    assert found.value == pytest.approx(0.4)
    assert (found.n, found.reason) == (50, None)


@settings(deadline=None)
@given(pairs)
def test_cohens_kappa_is_scikit_learns(rows):
    first, second = (list(column) for column in zip(*rows, strict=True))
    found = cohen_kappa(first, second)
    if found.value is None:
        assert len({*first, *second}) == 1  # scikit-learn divides by zero here
        assert found.interval is None
        assert "same" in found.reason
    else:
        assert found.value == pytest.approx(cohen_kappa_score(first, second), abs=1e-12)


@settings(deadline=None)
@given(pairs)
def test_an_interval_holds_its_kappa_and_does_not_care_who_is_first(rows):
    first, second = zip(*rows, strict=True)
    found, turned = cohen_kappa(first, second), cohen_kappa(second, first)
    assert (found.interval is None) == (found.reason is not None)
    assert (found.interval is None) == (turned.interval is None)
    if found.interval is not None:
        assert -1 <= found.interval.low <= found.value <= found.interval.high <= 1
        assert found.interval.low < found.interval.high
        assert (found.interval.low, found.interval.high) == pytest.approx((turned.interval.low, turned.interval.high))


def fleiss_cohen_everitt(p):
    """Kappa, and its large-sample variance times n as printed in 1969, by loops over the table of shares `p`."""
    categories = range(len(p))
    row = [sum(p[i][j] for j in categories) for i in categories]
    column = [sum(p[i][j] for i in categories) for j in categories]
    po, pe = sum(p[i][i] for i in categories), sum(row[i] * column[i] for i in categories)
    kappa = (po - pe) / (1 - pe)
    a = sum(p[i][i] * (1 - (row[i] + column[i]) * (1 - kappa)) ** 2 for i in categories)
    b = (1 - kappa) ** 2 * sum(p[i][j] * (column[i] + row[j]) ** 2 for i in categories for j in categories if i != j)
    c = (kappa - pe * (1 - kappa)) ** 2
    return kappa, (a + b - c) / (1 - pe) ** 2


def test_the_lower_end_is_where_the_variance_of_fleiss_cohen_and_everitt_just_refutes_it():
    rng = np.random.default_rng(3)
    first = rng.integers(0, 3, size=80)
    second = np.where(rng.random(80) < 0.6, first, rng.integers(0, 3, size=80))
    seen = np.zeros((3, 3))
    np.add.at(seen, (first, second), 1 / 80)
    found = cohen_kappa(first, second)
    independent = np.outer(seen.sum(axis=1), seen.sum(axis=0))  # the same shares of categories, and a kappa of 0
    share = found.interval.low / found.value
    kappa, variance = fleiss_cohen_everitt(share * seen + (1 - share) * independent)
    assert kappa == pytest.approx(found.interval.low)
    assert 80 * (found.value - kappa) ** 2 == pytest.approx(stats.norm.ppf(0.975) ** 2 * variance)


def test_the_upper_end_is_where_the_variance_of_fleiss_cohen_and_everitt_just_refutes_it():
    seen = np.array([(20, 4, 1), (4, 21, 3), (1, 3, 23)]) / 80  # both call each category as often
    first, second = np.repeat(np.indices((3, 3)).reshape(2, 9), np.round(80 * seen).astype(int).ravel(), axis=1)
    found = cohen_kappa(first, second)
    share = (1 - found.interval.high) / (1 - found.value)
    kappa, variance = fleiss_cohen_everitt(share * seen + (1 - share) * np.diag(seen.sum(axis=0)))
    assert kappa == pytest.approx(found.interval.high)
    assert 80 * (found.value - kappa) ** 2 == pytest.approx(stats.norm.ppf(0.975) ** 2 * variance)


def test_the_lower_end_of_fleiss_kappa_counts_verdicts_drawn_by_chance():
    """All 27 ways in which three raters can judge a part, each with its probability, against the closed form."""
    rng = np.random.default_rng(7)
    truth = rng.integers(0, 3, size=60)
    verdicts = np.where(rng.random((60, 3)) < 0.7, truth[:, None], rng.integers(0, 3, size=(60, 3)))
    counts = np.stack([np.sum(verdicts == category, axis=1) for category in range(3)], axis=1)
    found = fleiss_kappa(counts)
    shares = counts.mean(axis=0) / 3
    ways = np.array(list(itertools.product(range(3), repeat=3)))
    by_chance = np.stack([np.sum(ways == category, axis=1) for category in range(3)], axis=1)
    share = found.interval.low / found.value
    table = np.concatenate((counts, by_chance))
    weights = np.concatenate((np.full(60, share / 60), (1 - share) * shares[ways].prod(axis=1)))

    expected = shares @ shares
    agreed, pull = (table * (table - 1)).sum(axis=1) / 6, table @ shares / 3
    of_part = (agreed - expected - 2 * (1 - found.interval.low) * (pull - expected)) / (1 - expected)
    assert weights @ of_part == pytest.approx(found.interval.low)
    variance = weights @ (of_part - found.interval.low) ** 2
    assert 60 * (found.value - found.interval.low) ** 2 == pytest.approx(stats.norm.ppf(0.975) ** 2 * variance)


@pytest.mark.parametrize("agreed", [14, 20, 27, 30])
def test_with_half_of_the_parts_bad_kappas_interval_is_wilsons(agreed):
    """Then kappa is twice the share of agreement less 1, and nothing else is to be estimated."""
    apart = (30 - agreed) // 2
    first = np.repeat([0, 0, 1, 1], [15 - apart, apart, apart, 15 - apart])
    second = np.repeat([0, 1, 0, 1], [15 - apart, apart, apart, 15 - apart])
    same = int((first == second).sum())
    wilson = stats.binomtest(same, 30).proportion_ci(method="wilson")
    found = cohen_kappa(first, second).interval
    assert (found.low, found.high) == pytest.approx((2 * wilson.low - 1, 2 * wilson.high - 1))


@pytest.mark.parametrize("bad", [0.5, 0.3, 0.125])
def test_cohens_interval_holds_the_truth_in_95_of_100_of_all_tables(bad):
    """Not drawn: every table of 30 parts, with its probability."""
    n = 30
    held, there = (dict.fromkeys((0.2, 0.5, 0.8), 0.0) for _ in range(2))
    tables = [(i, j, k, n - i - j - k) for i in range(n + 1) for j in range(n + 1 - i) for k in range(n + 1 - i - j)]
    apart = {kappa: (1 - kappa) * bad * (1 - bad) for kappa in held}
    chances = {
        kappa: stats.multinomial.pmf(tables, n, (bad - off, off, off, 1 - bad - off)) for kappa, off in apart.items()
    }
    for number in np.flatnonzero(np.max(list(chances.values()), axis=0) > 1e-6):
        first, second = (np.repeat(called, tables[number]) for called in ((1, 1, 0, 0), (1, 0, 1, 0)))
        interval = cohen_kappa(first, second).interval
        if interval is None:
            continue
        for kappa, chance in chances.items():
            there[kappa] += chance[number]
            held[kappa] += chance[number] * (interval.low <= kappa <= interval.high)
    for kappa in held:  # the variance of the kappa seen gives 70 % with one part in eight bad
        assert held[kappa] / there[kappa] == pytest.approx(0.955, abs=0.02)


def borderline(rng, size):
    """The chance that a part is called bad: most are clear, 40 % are borderline, as a study should have them."""
    kind = rng.random(size)
    return np.where(kind < 0.3, 0.98, np.where(kind < 0.6, 0.02, rng.random(size)))


def clear(rng, size):
    return np.where(rng.random(size) < 0.4, 0.97, 0.03)


@pytest.mark.parametrize("n", [30, 50, 100])
@pytest.mark.parametrize("parts", [borderline, clear])
def test_intervals_of_kappa_hold_the_truth_in_95_of_100_cases(n, parts):
    rng = np.random.default_rng(4)
    chance = parts(rng, 2_000_000)
    by_chance = chance.mean() ** 2 + (1 - chance.mean()) ** 2
    truth = (np.mean(chance**2 + (1 - chance) ** 2) - by_chance) / (1 - by_chance)
    held = {"cohen": 0, "fleiss": 0}
    for _ in range(1000):
        p = parts(rng, n)
        called_bad = rng.random((n, 3)) < p[:, None]
        for name, found in (
            ("cohen", cohen_kappa(called_bad[:, 0], called_bad[:, 1])),
            ("fleiss", fleiss_kappa(verdict_counts([called_bad]))),
        ):
            held[name] += found.interval.low <= truth <= found.interval.high
    for count in held.values():
        assert count / 1000 == pytest.approx(0.95, abs=0.015 + 2 * math.sqrt(0.05 * 0.95 / 1000))


def test_perfect_agreement_on_few_parts_is_not_certain():
    for n in (20, 200):
        verdicts = np.arange(n) % 2
        apart = 1 - stats.binomtest(n, n).proportion_ci(method="wilson").low
        # Two verdicts drawn by chance differ on half of the parts, three on three quarters.
        for found, by_chance in (
            (cohen_kappa(verdicts, verdicts), 0.5),
            (fleiss_kappa(verdict_counts([verdicts, verdicts, verdicts])), 0.75),
        ):
            assert found.value == 1.0
            assert found.interval.low == pytest.approx(1 - apart / by_chance)
            assert found.interval.high == 1.0


def test_kappa_says_why_it_has_no_value_or_no_interval():
    assert cohen_kappa([], []) == agreement.Kappa(None, None, 0, "No part was judged by both")
    assert fleiss_kappa(np.zeros((0, 2))).reason == "No part was judged"
    assert fleiss_kappa([(1, 0), (0, 1)]).reason.startswith("Every part was judged once")
    same = fleiss_kappa([(3, 0), (3, 0)])
    assert (same.value, same.interval) == (None, None)
    assert same.reason.startswith("Every verdict was the same")
    one = cohen_kappa([0], [1])
    assert (one.value, one.interval, one.reason) == (0.0, None, "One part alone says nothing about others")
    opposite = cohen_kappa([0, 0, 0], [1, 1, 1])
    assert (opposite.value, opposite.interval) == (0.0, None)
    assert "agree alike" in opposite.reason


def test_parts_that_were_not_judged_equally_often_are_refused():
    with pytest.raises(SsnError, match=r"not judged equally often: '2 to 3 times'"):
        fleiss_kappa([(1, 1), (2, 1)])
    for counts in ([1, 2, 3], [(0.5, 1.5)], [(-1, 3)]):
        with pytest.raises(ValueError, match="whole numbers"):
            fleiss_kappa(counts)
    with pytest.raises(ValueError, match="equally long"):
        cohen_kappa([0, 1], [0, 1, 1])


# Shares and rates: 5 parts, of which the last two are bad; three trials

REFERENCE = [0, 0, 0, 1, 1]
ANNA = [(0, 0, 0), (0, 1, 0), (0, 0, 0), (1, 1, 1), (1, 1, 0)]
BERT = [(0, 0), (0, 0), (1, 1), (1, 1), (1, 1)]


def test_the_figures_of_one_appraiser_by_hand():
    found = appraise("Anna", ANNA, REFERENCE)
    assert (found.name, found.n_parts, found.n_trials) == ("Anna", 5, 3)
    assert (found.within.count, found.within.of) == (3, 5)
    assert (found.versus_reference.count, found.versus_reference.of) == (3, 5)
    assert found.effectiveness == 0.6
    assert (found.miss.count, found.miss.of, found.miss.rate) == (1, 6, 1 / 6)
    assert (found.false_alarm.count, found.false_alarm.of) == (1, 9)
    assert found.within.interval == rates.rate_interval(3, 5)


def test_agreeing_with_oneself_is_not_being_right():
    found = appraise("Bert", BERT, REFERENCE)
    assert found.within.rate == 1.0
    assert found.effectiveness == 0.8
    assert (found.miss.rate, found.false_alarm.rate) == (0.0, 2 / 6)


def test_appraisers_between_and_all_of_them_against_the_reference():
    assert (between_appraisers([ANNA, BERT]).count, between_appraisers([ANNA, BERT]).of) == (2, 5)
    assert all_versus_reference([ANNA, BERT], REFERENCE).count == 2
    assert all_versus_reference([BERT], REFERENCE).count == versus_reference(BERT, REFERENCE).count == 4
    assert verdict_counts([ANNA, BERT]).tolist() == [[5, 0], [4, 1], [3, 2], [0, 5], [1, 4]]


def test_without_a_reference_or_a_second_trial_the_figures_are_none():
    found = appraise("model", [0, 1, 1, 0])
    assert (found.n_trials, found.within, found.within_kappa) == (1, None, None)
    assert (found.versus_reference, found.miss, found.false_alarm, found.effectiveness) == (None,) * 4
    with pytest.raises(ValueError, match="One trial"):
        within_appraiser([0, 1, 1])


def test_a_study_without_a_bad_part_has_no_miss_rate():
    found = miss_rate([(0, 0), (0, 1)], [0, 0])
    assert (found.count, found.of, found.rate, found.interval) == (0, 0, None, None)
    assert false_alarm_rate([(0, 0), (0, 1)], [0, 0]).rate == 0.25
    empty = appraise("nobody", np.zeros((0, 2)), [])
    assert (empty.within.rate, empty.effectiveness, empty.reference_kappa.value) == (None, None, None)


def test_more_trials_on_the_same_parts_do_not_make_the_miss_rate_more_certain():
    once = miss_rate([0, 1, 1, 1], [1, 1, 1, 1])
    thrice = miss_rate([(0, 0, 0), (1, 1, 1), (1, 1, 1), (1, 1, 1)], [1, 1, 1, 1])
    assert (thrice.count, thrice.of) == (3, 12)
    assert (thrice.interval.low, thrice.interval.high) == pytest.approx((once.interval.low, once.interval.high))
    assert thrice.interval.method == "Wilson, each part counted once"


def test_the_kappa_with_a_reference_pools_trials_and_is_cohens_for_one():
    rng = np.random.default_rng(5)
    reference = rng.random(60) < 0.4
    verdicts = reference[:, None] ^ (rng.random((60, 3)) < 0.15)
    assert reference_kappa(verdicts[:, 0], reference) == cohen_kappa(verdicts[:, 0], reference)
    pooled = reference_kappa(verdicts, reference)
    assert pooled.n == 60
    assert pooled.value == pytest.approx(cohen_kappa_score(verdicts.reshape(-1), np.repeat(reference, 3)))
    thrice = reference_kappa(np.repeat(verdicts[:, :1], 3, axis=1), reference)
    once = reference_kappa(verdicts[:, 0], reference)
    assert (thrice.interval.low, thrice.interval.high) == pytest.approx((once.interval.low, once.interval.high))


def test_verdicts_that_do_not_fit_together_are_refused():
    with pytest.raises(SsnError, match="A verdict is not usable: 2"):
        appraise("Anna", [(0, 2)])
    with pytest.raises(ValueError, match="parts, trials"):
        appraise("Anna", np.zeros((2, 2, 2)))
    with pytest.raises(ValueError, match="one verdict for each of 5 parts"):
        versus_reference(ANNA, [0, 1])
    with pytest.raises(ValueError, match="same parts"):
        between_appraisers([ANNA, [0, 1]])
    with pytest.raises(ValueError, match="1 appraiser"):
        between_appraisers([ANNA])
