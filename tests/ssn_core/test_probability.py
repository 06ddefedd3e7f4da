import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from ssn_core.errors import SsnError
from ssn_core.probability import Platt, fit_platt, probability

samples = st.lists(
    st.tuples(st.booleans(), st.floats(-50, 50, allow_subnormal=False).map(lambda v: round(v, 2))),
    min_size=2,
    max_size=30,
).filter(lambda rows: 0 < sum(bad for bad, _ in rows) < len(rows))


def by_scikit_learn(labels, scores):
    """Smoothed targets as each image twice, once as bad and once as good, weighted by its target."""
    n_bad, n_good = int(np.sum(labels)), int(np.sum(np.logical_not(labels)))
    target = np.where(labels, (n_bad + 1) / (n_bad + 2), 1 / (n_good + 2))
    model = LogisticRegression(C=np.inf, tol=1e-10, max_iter=10_000)
    twice = np.concatenate((scores, scores))[:, None]
    model.fit(twice, np.repeat([1, 0], len(scores)), sample_weight=np.concatenate((target, 1 - target)))
    return float(model.coef_[0, 0]), float(model.intercept_[0])


def test_the_sigmoid_is_that_of_a_logistic_regression_on_smoothed_targets():
    rng = np.random.default_rng(0)
    for n_good, n_bad, distance in ((60, 20, 1.0), (300, 40, 2.5), (5, 5, 0.3)):
        labels = np.repeat([0, 1], [n_good, n_bad])
        scores = 3 + 2 * (rng.normal(size=labels.size) + distance * labels)
        found = fit_platt(labels, scores)
        assert (found.slope, found.intercept) == pytest.approx(by_scikit_learn(labels, scores), rel=1e-4)
        assert (found.n_good, found.n_bad) == (n_good, n_bad)


def test_the_mean_probability_is_the_mean_target():
    """The likelihood's own condition: without it the probability would not be one of these images."""
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1], [70, 30])
    scores = rng.normal(size=100) + labels
    mean = probability(fit_platt(labels, scores), scores).mean()
    assert mean == pytest.approx((70 / 72 + 30 * 31 / 32) / 100, abs=1e-6)


def test_what_is_likely_to_be_bad_is_bad_as_often_as_it_says():
    rng = np.random.default_rng(2)
    truth = Platt(slope=1.7, intercept=-2.0, n_good=0, n_bad=0)
    scores = rng.normal(loc=1.0, scale=2.0, size=40_000)
    labels = rng.random(40_000) < probability(truth, scores)
    found = fit_platt(labels[:20_000], scores[:20_000])
    assert (found.slope, found.intercept) == pytest.approx((truth.slope, truth.intercept), abs=0.15)
    said = probability(found, scores[20_000:])
    for low in np.arange(0.0, 1.0, 0.1):
        inside = (said >= low) & (said < low + 0.1)
        assert labels[20_000:][inside].mean() == pytest.approx(said[inside].mean(), abs=0.05)


def test_perfect_separation_claims_no_more_than_so_many_images_carry():
    labels, scores = np.repeat([0, 1], [10, 10]), np.arange(20.0)
    found = fit_platt(labels, scores)
    assert math.isfinite(found.slope)
    assert probability(found, [1e9, -1e9]).tolist() == [1.0, 0.0]
    two_heaps = fit_platt(labels, np.repeat([0.0, 1.0], [10, 10]))
    assert probability(two_heaps, [0.0, 1.0]) == pytest.approx([1 / 12, 11 / 12], abs=1e-6)


def test_equal_scores_give_the_mean_target_at_every_score():
    found = fit_platt([0, 0, 0, 1], [2.0] * 4)
    assert found.slope == 0.0
    assert probability(found, [-5.0, 2.0]) == pytest.approx([(3 / 5 + 2 / 3) / 4] * 2)


def test_scores_that_go_the_wrong_way_get_a_falling_probability():
    found = fit_platt([0, 0, 1, 1], [4.0, 3.0, 2.0, 1.0])
    assert found.slope < 0


@settings(deadline=None)
@given(samples, st.sampled_from([1e-3, 1.0, 1e4]), st.sampled_from([-100.0, 0.0, 7.0]))
def test_the_unit_and_the_zero_of_the_scores_do_not_matter(rows, unit, zero):
    labels, scores = np.array([bad for bad, _ in rows]), np.array([score for _, score in rows])
    found = probability(fit_platt(labels, scores), scores)
    moved = probability(fit_platt(labels, scores * unit + zero), scores * unit + zero)
    assert found == pytest.approx(moved, abs=1e-4)
    assert np.all((found > 0) & (found < 1))


@pytest.mark.parametrize(("labels", "counts"), [([0, 0], "2 good, 0 bad"), ([1, 1], "0 good, 2 bad")])
def test_a_missing_class_is_named(labels, counts):
    with pytest.raises(SsnError, match=f"calibrated probability needs good and bad images: '{counts}'"):
        fit_platt(labels, [0.0, 1.0])


def test_a_score_that_is_not_finite_is_refused():
    with pytest.raises(SsnError, match="nan"):
        fit_platt([0, 1], [0.0, math.nan])
    with pytest.raises(SsnError, match="Score number 2 of 2 is not finite: inf"):
        probability(Platt(1.0, 0.0, 5, 5), [0.0, math.inf])


def test_no_scores_have_no_probabilities():
    assert probability(Platt(1.0, 0.0, 5, 5), []).shape == (0,)


@pytest.mark.parametrize("module", ["intervals", "thresholds", "probability", "agreement"])
def test_a_page_that_imports_the_figures_waits_for_nothing_heavy(module):
    heavy = "{'torch', 'sklearn', 'scipy.stats', 'scipy.optimize', 'pandas'}"
    code = f"import sys, ssn_core.{module}; print(*sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
