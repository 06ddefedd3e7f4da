"""Counting a rule on parts that had no say in its threshold."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ssn_core import crossfit, thresholds
from ssn_core.errors import SsnError


def youden(labels: np.ndarray, scores: np.ndarray) -> crossfit.Thresholds:
    return thresholds.youden(labels, scores), None


def parts(n: int) -> list[str]:
    return [f"part {number}" for number in range(n)]


def test_blocks_keep_groups_whole_and_spread_the_bad_ones() -> None:
    labels = np.array([1] * 10 + [0] * 40, dtype=np.int8)
    groups = [f"bad {i // 2}" for i in range(10)] + [f"good {i // 4}" for i in range(40)]
    block = crossfit.deal_blocks(labels, groups)
    assert block is not None
    assert set(block.tolist()) == {0, 1, 2, 3, 4}
    for group in set(groups):
        assert len({block[i] for i, name in enumerate(groups) if name == group}) == 1
    assert [int(labels[block == number].sum()) for number in range(5)] == [2] * 5
    assert [int((labels[block == number] == 0).sum()) for number in range(5)] == [8] * 5


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.integers(0, 12), st.booleans()), max_size=40), st.integers(2, 6))
def test_blocks_are_dealt_in_turns_to_the_groups_in_the_order_of_their_hashes(
    images: list[tuple[int, bool]], wished: int
) -> None:
    """The same as one group after the other: with bad images first, of these the ones that also hold good images."""
    groups, bad = [f"part {number}" for number, _ in images], [is_bad for _, is_bad in images]
    said = {name: {b for group, b in zip(groups, bad, strict=True) if group == name} for name in groups}
    order = sorted(
        said, key=lambda name: (True not in said[name], False not in said[name], hashlib.sha256(name.encode()).digest())
    )
    holders = [sum(label in found for found in said.values()) for label in (False, True)]
    n = min([wished, *filter(None, holders)])
    block = crossfit.deal_blocks(np.array(bad, dtype=np.int8), groups, blocks=wished)
    if not images or n < 2:
        assert block is None
    else:
        assert block is not None
        assert block.tolist() == [order.index(group) % n for group in groups]


@pytest.mark.parametrize("labels", [[], [0], [1, 0, 0], [1, 1, 0]])
def test_one_group_of_a_class_cannot_be_left_out(labels: list[int]) -> None:
    assert crossfit.deal_blocks(np.array(labels, dtype=np.int8), parts(len(labels))) is None
    assert crossfit.crosswise(np.array(labels, dtype=np.int8), np.arange(len(labels)), None, youden) is None


def test_a_rule_that_needs_good_parts_alone_is_counted_crosswise_on_them() -> None:
    """Just above every good part: on the parts that chose it, by definition no overkill; on others, some."""
    rng = np.random.default_rng(8)
    labels, scores = np.zeros(60, dtype=np.int8), rng.normal(size=60)
    groups = [f"part {i // 2}" for i in range(60)]

    def above(labels: np.ndarray, scores: np.ndarray) -> crossfit.Thresholds:
        return thresholds.above_every_good(labels, scores), None

    block = crossfit.deal_blocks(labels, groups)
    assert block is not None
    assert np.bincount(block).tolist() == [12] * 5
    highest = [scores[block != number].max() for number in range(5)]
    found = crossfit.crosswise(labels, scores, block, above)
    assert found is not None
    assert found.overkill == sum(score > highest[at] for score, at in zip(scores, block, strict=True)) > 0
    assert (found.n_good, found.n_bad, found.escape_rate) == (60, 0, None)
    assert crossfit.crosswise(labels, scores, block, youden) is None  # it needs bad ones too


def test_the_counts_are_those_of_loops_over_the_blocks() -> None:
    rng = np.random.default_rng(3)
    labels = (rng.random(120) < 0.3).astype(np.int8)
    scores = rng.normal(size=120) + 1.2 * labels
    groups = [f"part {i // 2}" for i in range(120)]
    block = crossfit.deal_blocks(labels, groups)
    assert block is not None
    escapes = overkill = 0
    for number in range(5):
        cut = thresholds.youden(labels[block != number], scores[block != number])
        for label, score, at in zip(labels, scores, block, strict=True):
            if at == number:
                escapes += bool(label == 1 and score < cut)
                overkill += bool(label == 0 and score >= cut)
    found = crossfit.crosswise(labels, scores, block, youden)
    assert found is not None
    assert (found.escapes, found.overkill) == (escapes, overkill)
    assert (found.n_good, found.n_bad) == (int((labels == 0).sum()), int(labels.sum()))


def test_noise_looks_like_noise_and_not_like_the_best_cut_through_it() -> None:
    """Scores that know nothing: the best cut on them looks better than chance, crosswise counts do not."""
    same, cross = [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        labels = np.array([0] * 30 + [1] * 30, dtype=np.int8)
        scores = rng.normal(size=60)
        seen = thresholds.outcome(labels, scores, thresholds.youden(labels, scores))
        unseen = crossfit.crosswise(labels, scores, crossfit.deal_blocks(labels, parts(60)), youden)
        assert unseen is not None
        for kept, one in ((same, seen), (cross, unseen)):
            kept.append((one.escape_rate or 0) + (one.overkill_rate or 0))  # 1 for a coin
    assert np.mean(same) < 0.85
    assert abs(np.mean(cross) - 1) < 0.06


def test_a_second_threshold_is_counted_too() -> None:
    labels = np.array([0, 1] * 10, dtype=np.int8)
    scores = np.linspace(-1, 1, 20)
    found = crossfit.crosswise(labels, scores, crossfit.deal_blocks(labels, parts(20)), lambda *_: (0.5, -0.5))
    assert found == thresholds.outcome(labels, scores, 0.5, -0.5)


def test_a_rule_without_an_answer_on_some_block_is_not_counted() -> None:
    def never(*_: object) -> crossfit.Thresholds:
        raise SsnError("No threshold")

    labels = np.array([0, 1] * 5, dtype=np.int8)
    assert crossfit.crosswise(labels, np.arange(10.0), crossfit.deal_blocks(labels, parts(10)), never) is None
