"""Likely label errors: what is found, and what is left alone."""

from __future__ import annotations

import numpy as np
import pytest

from ssn_core.errors import SsnError
from ssn_core.label_errors import doubts


def test_swapped_labels_come_first_and_are_called_likely_wrong() -> None:
    rng = np.random.default_rng(0)
    truth = np.arange(300) < 60
    scores = np.where(truth, 3.0, -3.0) + rng.normal(size=300)
    given = truth.copy()
    swapped = [3, 17, 100, 250]
    given[swapped] = ~given[swapped]
    found = doubts(given, scores)
    assert set(found.order[:4].tolist()) == set(swapped)
    assert set(np.flatnonzero(found.likely_wrong).tolist()) == set(swapped)


def test_labels_that_the_scores_support_are_left_alone() -> None:
    found = doubts([False] * 40 + [True] * 10, [-4.0] * 40 + [4.0] * 10)
    assert not found.likely_wrong.any()
    assert (found.self_confidence > 0.5).all()


def test_the_doubtful_ones_are_ordered_by_the_probability_of_their_own_label() -> None:
    found = doubts([0, 0, 0, 1, 1, 1], [-3.0, -1.0, 0.5, -0.2, 2.0, 3.0])
    doubtful = found.order[:2].tolist()
    assert doubtful == [2, 3] or doubtful == [3, 2]
    assert (np.diff(found.self_confidence[found.order[~found.likely_wrong[found.order]]]) >= 0).all()


def test_scores_that_say_nothing_accuse_nobody() -> None:
    found = doubts([0] * 30 + [1] * 5, [1.0] * 35)
    assert not found.likely_wrong.any()
    np.testing.assert_allclose(found.self_confidence, 0.5)


def test_bad_labels_are_not_doubted_for_being_rare() -> None:
    scores = np.random.default_rng(1).normal(size=400)
    labels = np.arange(400) < 20
    scores[labels] += 1.0
    found = doubts(labels, scores)
    first = labels[found.order[:40]]
    assert first.mean() < 0.2


def test_one_class_alone_cannot_be_judged() -> None:
    with pytest.raises(SsnError, match="calibrated probability"):
        doubts([0, 0, 0], [1.0, 2.0, 3.0])
