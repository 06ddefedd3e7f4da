"""Which images to label next, and which of them show the same thing: arithmetic on descriptors and scores.

A descriptor (:mod:`ssn_core.descriptors`) stands for a whole image. What is *informative* is uncertain and unlike what
is known: the score is close to the threshold, and the descriptor far from those of labelled images and of images that
come earlier in the queue (farthest-first traversal, Gonzalez 1985, weighted by uncertainty). What counts as a
near-duplicate is told in units of the typical distance between two images of the project: surfaces differ in how alike
their images are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Places = NDArray[np.int64]

# Measured on KolektorSDD and four generated surfaces: another JPEG quality or 3 % more light moves a descriptor by 0.03
# to 0.1 of the typical distance (fine textures by more: those are then not stacked), and the closest two photographs
# of different parts are 0.24 apart.
SAME_WITHIN = 0.15
# In units of the distance to the nearest image of another part. Chosen on what `python -m benchmarks.same_view` prints:
# another photograph of the same view, 1 % aside, is mostly below it, another side of the part hardly ever.
SAME_VIEW_WITHIN = 0.75
_OTHER_PARTS = (
    10  # so many there must be: the nearest of a few may be another product, and far from all sides of a part
)
_STRANGERS = 2000  # images of other parts that are looked at for the nearest
MAX_STACK = 24  # images; what "label all" is for must be seen at a glance
AXES = 32  # of the reduced descriptors
_PAIRS = 4000  # drawn for the typical distance
_BLOCK = 256  # rows compared at a time
_CANDIDATES = 4000  # most uncertain images that are looked at for their diversity


def reduced(descriptors: NDArray[np.floating], axes: int = AXES) -> Floats:
    """Descriptors along their main axes (principal components), (N, `axes`), fewer where D is smaller.

    A projection never lengthens a distance: what is far apart here is at least as far apart in full.

    Args:
        descriptors: (N, D).
    """
    centred = descriptors.astype(np.float32)
    if len(centred) == 0:
        return np.zeros((0, axes), np.float32)
    centred -= centred.mean(axis=0)
    _, vectors = np.linalg.eigh((centred.T @ centred).astype(np.float64))
    return np.asarray(centred @ vectors[:, ::-1][:, :axes].astype(np.float32))


def typical_distance(points: Floats, *, seed: int = 0) -> float:
    """The median distance between two different images, drawn at random; 0 where there is none.

    Args:
        points: (N, D).
    """
    if len(points) < 2:
        return 0.0
    rng = np.random.default_rng(seed)
    first = rng.integers(0, len(points), _PAIRS)
    second = (first + rng.integers(1, len(points), _PAIRS)) % len(points)
    return float(np.median(np.linalg.norm(points[first] - points[second], axis=1)))


def uncertainty(scores: NDArray[np.float64], *, threshold: float) -> NDArray[np.float64]:
    """How much a verdict on each image would tell a model, (N,) in (0, 1]: 1 from the threshold on, less below it.

    The distance from the threshold is told in half the way from there to the median score. Above, it does not count:
    what a model calls bad is a bad part, and these are rare, or a false alarm, of which a model of few labels is as
    sure.

    Args:
        scores: (N,) of images without a label, finite.
    """
    if len(scores) == 0:
        return np.zeros(0)
    from_threshold = np.asarray(scores, dtype=np.float64) - threshold
    spread = abs(float(np.median(from_threshold))) / 2 or float(np.std(scores)) or 1.0
    distance = np.maximum(-from_threshold, 0.0)
    return np.asarray(np.exp(-distance / spread))


def informative(
    points: Floats, known: Places, candidates: Places, weights: NDArray[np.float64] | None, *, n: int
) -> Places:
    """The candidates, the most informative first.

    Args:
        points: (N, D) of all images.
        known: places of images that have a label.
        candidates: places of those to be ordered.
        weights: uncertainty of each candidate; None before there is a model: then diversity alone counts.
        n: the first so many are chosen one by one for their diversity; the others follow by their weight.
    """
    if len(candidates) == 0:
        return candidates
    unsure = np.ones(len(candidates)) if weights is None else weights
    # Of equally uncertain ones any may come first, not those that were imported first.
    order = np.random.default_rng(0).permutation(len(unsure)) if weights is not None else np.arange(len(unsure))
    order = order[np.argsort(-unsure[order], kind="stable")]
    looked_at = order if weights is None else order[:_CANDIDATES]
    place = candidates[looked_at]
    chosen = looked_at[_farthest_first(points[place], points[known], unsure[looked_at], n)]
    taken = np.zeros(len(candidates), dtype=bool)
    taken[chosen] = True
    ordered: Places = candidates[np.concatenate([chosen, order[~taken[order]]])]
    return ordered


def in_turns(first: Places, second: Places) -> Places:
    """Two orders of the same places in turns, beginning with the first one; each place once, where it comes first.

    Before there is a model: outliers find bad parts, and the others show what good ones are like.
    """
    both = np.stack((first, second), axis=1).ravel()
    _, at = np.unique(both, return_index=True)
    merged: Places = both[np.sort(at)]
    return merged


def _farthest_first(points: Floats, known: Floats, weights: NDArray[np.float64], n: int) -> Places:
    """Places of at most `n` points: each time the largest product of weight and distance to what is known so far."""
    n = min(n, len(points))
    if len(known):
        nearest = nearest_distance(points, known)
    else:  # the most usual image first, if nothing speaks for another
        nearest = 1.0 / (1e-6 + np.linalg.norm(points - np.median(points, axis=0), axis=1))
    chosen = np.empty(n, dtype=np.int64)
    free = np.ones(len(points), dtype=bool)
    for step in range(n):
        best = int(np.argmax(np.where(free, nearest * weights, -1.0)))
        chosen[step], free[best] = best, False
        distance = np.linalg.norm(points - points[best], axis=1)
        nearest = distance if step == 0 and not len(known) else np.minimum(nearest, distance)
    return chosen


def nearest_distance(points: Floats, known: Floats) -> Floats:
    """Distance of each point (N, D) to the nearest of the known ones (M, D); M > 0."""
    squares = (known**2).sum(axis=1)
    found = np.empty(len(points), dtype=np.float32)
    for start in range(0, len(points), _BLOCK):
        block = points[start : start + _BLOCK]
        products = squares - 2 * (block @ known.T)
        found[start : start + _BLOCK] = products.min(axis=1) + (block**2).sum(axis=1)
    return np.sqrt(np.maximum(found, 0))


def stacks(
    descriptors: NDArray[np.floating], groups: Sequence[str], sides: NDArray[np.bool_] | None = None
) -> NDArray[np.int32]:
    """Which images go together as one stack: (N,) number of each image's stack, -1 for an image that stands alone.

    Images of one part (their group) that show the same view of it are a stack; of the others, those that are
    near-duplicates by their descriptors. The sides of a part that look different are none: a defect is mostly on one of
    them. A group of more than MAX_STACK images is a batch and not a part, and is no stack. A descriptor does not see a
    hair crack. So images that a model judges differently never share a stack: "label all" must not hide a bad part.

    Args:
        descriptors: (N, D); a row that is not finite stands for an image without a descriptor, which stands alone.
        groups: (N,) images of one part share theirs.
        sides: (N,) whether a model calls the image bad; None: there is no model.
    """
    side = np.zeros(len(groups), dtype=bool) if sides is None else sides
    described = np.isfinite(descriptors).all(axis=1) if len(groups) else np.zeros(0, dtype=bool)
    typical = typical_distance(descriptors[described].astype(np.float32))
    numbers = np.unique(groups, return_inverse=True)[1]
    members: dict[tuple[int, bool], list[int]] = {}
    for place in np.flatnonzero(described & (np.bincount(numbers)[numbers] <= MAX_STACK)).tolist():
        members.setdefault((int(numbers[place]), bool(side[place])), []).append(place)
    nearest_other = nearest_of_others(descriptors, numbers, described)
    usual = float(np.median(nearest_other[nearest_other > 0])) if nearest_other.any() else 0.0
    nearest_other = np.minimum(nearest_other, usual)  # the only part of its kind has nothing near
    if len(np.unique(numbers[described])) <= _OTHER_PARTS:
        nearest_other[:] = 0.0
    found = np.full(len(groups), -1, dtype=np.int32)
    number = 0
    for of_part in members.values():
        left = np.array(of_part)
        while len(left) > 1:
            within = SAME_VIEW_WITHIN * np.minimum(nearest_other[left[0]], nearest_other[left])
            near = _full_distance(descriptors, left[0], left) <= within
            if near.sum() > 1:
                found[left[near]] = number
                number += 1
            near[0] = True  # itself, also where there is no other part to compare with
            left = left[~near]
    for called_bad in (False, True):
        free = np.flatnonzero((found < 0) & described & (side == called_bad))
        for duplicates in near_duplicates(descriptors[free], within=SAME_WITHIN * typical):
            found[free[duplicates]] = number
            number += 1
    return found


def nearest_of_others(
    descriptors: NDArray[np.floating], groups: NDArray[np.integer], described: NDArray[np.bool_], *, seed: int = 0
) -> Floats:
    """(N,) distance of each image to the nearest of up to 2,000 images (drawn, if there are more) of other groups.

    0 where there is none, and where nobody asks.

    Args:
        descriptors: (N, D).
        groups: (N,) numbers; only images whose group has 2 to MAX_STACK are looked at.
        described: (N,) whether an image has a descriptor.
    """
    found = np.zeros(len(groups), dtype=np.float32)
    strangers = np.flatnonzero(described)
    if len(strangers) > _STRANGERS:
        strangers = np.random.default_rng(seed).choice(strangers, _STRANGERS, replace=False)
    sizes = np.bincount(groups)[groups] if len(groups) else groups
    asked = np.flatnonzero(described & (sizes > 1) & (sizes <= MAX_STACK))
    others = descriptors[strangers].astype(np.float32)
    centre = others.mean(axis=0) if len(others) else 0.0
    others -= centre
    for start in range(0, len(asked), _BLOCK):
        some = asked[start : start + _BLOCK]
        block = descriptors[some].astype(np.float32) - centre
        squares = (block**2).sum(axis=1)[:, None] + (others**2).sum(axis=1) - 2 * (block @ others.T)
        squares[groups[some][:, None] == groups[strangers]] = np.inf
        nearest = squares.min(axis=1, initial=np.inf)
        found[some] = np.sqrt(np.maximum(np.where(np.isfinite(nearest), nearest, 0.0), 0.0))
    return found


def near_duplicates(descriptors: NDArray[np.floating], *, within: float) -> Iterator[Places]:
    """Sets of at least two images whose descriptors are at most `within` from that of the first of them.

    Every pair that close is looked at, without comparing all with all: sorted along the first main axis, only images
    whose places on it are that close can be. Around one image, never along a chain: a series of photographs that
    slowly changes does not become one stack.

    Args:
        descriptors: (N, D), finite.
    """
    if len(descriptors) < 2 or within <= 0:
        return
    points = reduced(descriptors)
    order = np.argsort(points[:, 0], kind="stable")
    points = points[order]
    first_axis = points[:, 0]
    free = np.ones(len(points), dtype=bool)
    for start in range(0, len(points), _BLOCK):
        block = points[start : start + _BLOCK]
        end = int(np.searchsorted(first_axis, block[-1, 0] + within, side="right"))
        squares = (points[start:end] ** 2).sum(axis=1)
        distances = squares + (block**2).sum(axis=1)[:, None] - 2 * (block @ points[start:end].T)
        # A little more than asked for, because of the rounding here; the full descriptors decide.
        near = distances <= within**2 * 1.01 + 1e-4 * squares.max(initial=0.0)
        for row in np.flatnonzero(np.triu(near, k=1).any(axis=1)):
            leader = start + int(row)
            if not free[leader]:
                continue
            others = start + row + 1 + np.flatnonzero(near[row, row + 1 :])
            others = others[free[others]]
            distance = _full_distance(descriptors, order[leader], order[others])
            near_enough = np.argsort(distance, kind="stable")[: int((distance <= within).sum())]
            stack = others[near_enough][: MAX_STACK - 1]
            if len(stack):
                free[leader] = free[stack] = False
                yield np.sort(order[np.append(stack, leader)])


def _full_distance(descriptors: NDArray[np.floating], one: int, others: Places) -> Floats:
    difference = descriptors[others].astype(np.float32) - descriptors[one].astype(np.float32)
    return np.asarray(np.linalg.norm(difference, axis=1))


def shuffled(numbers: Places, *, seed: int) -> Places:
    """The numbers in an order that looks random and depends on the seed and on the numbers alone.

    An image keeps its place beside the others when some of them are labelled and leave the list (SplitMix64, Steele
    et al. 2014, as the sort key).
    """
    with np.errstate(over="ignore"):
        mixed = numbers.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15) * np.uint64(seed + 1)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed = mixed ^ (mixed >> np.uint64(31))
    return numbers[np.argsort(mixed, kind="stable")]
