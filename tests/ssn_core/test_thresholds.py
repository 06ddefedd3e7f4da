import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssn_core.errors import SsnError
from ssn_core.metrics import confusion
from ssn_core.thresholds import youden

samples = st.lists(
    st.tuples(st.booleans(), st.floats(-1e6, 1e6, allow_subnormal=False).map(lambda v: round(v, 2))),
    min_size=2,
    max_size=30,
).filter(lambda rows: 0 < sum(bad for bad, _ in rows) < len(rows))


def j_at(labels, scores, threshold):
    found = confusion(labels, scores, threshold)
    return (1 - found.escape_rate) - found.overkill_rate


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
