"""Honest counts for a threshold that is chosen on the scores it is counted on: choose and count crosswise.

The parts are dealt into up to five blocks. In each block the rule's threshold is chosen on all other blocks and counted
on this one, so no image has a say in the threshold that it is judged by ("cross-fitting", as in Chernozhukov et al.,
The Econometrics Journal 2018). The sum over the blocks says how a rule does, not how one particular number does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ssn_core.errors import SsnError
from ssn_core.thresholds import Outcome, outcome

BLOCKS = 5

Thresholds = tuple[float, float | None]  # (upper, lower or None)
Choose = Callable[[NDArray[np.int8], NDArray[np.float64]], Thresholds]  # a rule: labels and scores of some images


def deal_blocks(labels: NDArray[np.int8], groups: Sequence[str], *, blocks: int = BLOCKS) -> NDArray[np.int64] | None:
    """A block for every image, whole groups together, groups with a bad image spread evenly.

    Args:
        labels: (N,) 0 good, 1 bad.
        groups: (N,) images of one physical part share theirs.
        blocks: wished number; fewer where fewer groups hold a bad image, or a good one.

    Returns:
        (N,) from 0; None where only one group holds a bad image, or a good one: nothing can be left out then. Without
        any bad image the good ones alone are dealt, for rules that need no others.
    """
    number: dict[str, int] = {}  # of each group; all else is arrays
    of_image = np.fromiter((number.setdefault(group, len(number)) for group in groups), np.int64, count=len(groups))
    good, bad = (np.isin(np.arange(len(number)), of_image[np.asarray(labels) == label]) for label in (0, 1))
    n = min([blocks, *filter(None, (int(good.sum()), int(bad.sum())))]) if number else 0
    if n < 2:
        return None
    shuffled = np.fromiter(map(_shuffled, number), dtype="S32", count=len(number)).view(">u8").reshape(-1, 4)
    order = np.lexsort((*shuffled.T[::-1], ~good, ~bad))  # those with a bad image first, of them those with both
    block = np.empty(len(number), dtype=np.int64)
    block[order] = np.arange(len(number)) % n
    dealt: NDArray[np.int64] = block[of_image]
    return dealt


def thresholds_without(
    labels: NDArray[np.int8], scores: NDArray[np.float64], blocks: NDArray[np.int64] | None, choose: Choose
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """For each image the thresholds that a rule chooses on the other blocks.

    Args:
        labels: (N,) 0 good, 1 bad.
        scores: (N,) finite, each from a network that had not seen the image's group.
        blocks: (N,) of :func:`deal_blocks`, dealt once for all rules.
        choose: the rule.

    Returns:
        upper and lower ones, (N,) each, equal where the rule gives one threshold; None where blocks cannot be dealt, or
        the rule has no answer on some of them.
    """
    if blocks is None:
        return None
    high, low = np.empty(len(scores)), np.empty(len(scores))
    for left_out in range(int(blocks.max()) + 1):
        here = blocks == left_out
        try:
            upper, lower = choose(labels[~here], scores[~here])
        except SsnError:
            return None
        high[here], low[here] = upper, upper if lower is None else lower
    return high, low


def crosswise(
    labels: NDArray[np.int8], scores: NDArray[np.float64], blocks: NDArray[np.int64] | None, choose: Choose
) -> Outcome | None:
    """What a rule does to images that had no say in its thresholds; arguments and None as above."""
    found = thresholds_without(labels, scores, blocks, choose)
    return None if found is None else outcome(labels, scores, *found)


def _shuffled(group: str) -> bytes:
    """An order of the groups that has nothing to do with their names."""
    return hashlib.sha256(group.encode("utf-8", "surrogatepass")).digest()
