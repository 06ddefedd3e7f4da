"""Which parts a study of agreement shows, and in which order each inspector meets them.

Everything follows from the study's seed: the same images, labels and scores give the same parts, and an inspector who
comes back after a restart meets the same order.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ssn_core.errors import TooFewLabelsError
from ssn_core.operating_point import Verdict


@dataclass(frozen=True)
class Candidate:
    """One image labelled good or bad, with the score of the model where it had not seen the image."""

    image_id: int
    group_key: str  # same part, same item
    reference: str  # good | bad: the label
    score: float | None = None  # None: no model, or the model has seen the image
    verdict: Verdict | None = None  # of the score, at the thresholds in force
    distance: float = 0.0  # of the score from the nearest threshold; 0 between two


@dataclass(frozen=True)
class Part:
    """One part of a study, as it was when the study began."""

    image_id: int
    reference: str  # good | bad
    borderline: bool  # chosen because its score lies close to the threshold
    model_verdict: str | None  # good | bad ("to a person" counts as bad); None: no score that counts


def distance(score: float, threshold: float, threshold_low: float | None) -> float:
    """How far a score is from the nearest threshold; 0 for a score between two, which the model leaves to a person."""
    low = threshold if threshold_low is None else threshold_low
    return max(low - score, score - threshold, 0.0)


def choose(candidates: Iterable[Candidate], *, n: int, borderline: float, seed: int) -> list[Part]:
    """Draw the parts of a study.

    The borderline ones are those with scores closest to the threshold. The others are drawn at random, half good and
    half bad as far as there are any; images that the model has seen come last. An item (group) gives a second image
    only where there is no other item left, so that no part is counted twice.

    Args:
        n: how many parts.
        borderline: the share of borderline parts, 0..1; without any score there are none.

    Raises:
        TooFewLabelsError: fewer than `n` candidates, or only good or only bad ones.
    """
    pool = sorted(candidates, key=lambda one: one.image_id)
    _check(pool, n)
    random.Random(seed).shuffle(pool)  # noqa: S311  # a draw that can be repeated, not a secret
    taken: list[Candidate] = []
    scored = sorted((one for one in pool if one.score is not None), key=lambda one: one.distance)
    _take(scored, min(round(n * borderline), len(scored)), taken)
    close = len(taken)
    gone = {one.image_id for one in taken}
    left = [one for one in pool if one.image_id not in gone]
    left.sort(key=lambda one: one.score is None)
    bad, good = ([one for one in left if one.reference == kind] for kind in ("bad", "good"))
    of_bad = min(len(bad), max((n - close) // 2, n - close - len(good)))
    _take(bad, of_bad, taken)
    _take(good, n - len(taken), taken)
    return [
        Part(
            image_id=one.image_id,
            reference=one.reference,
            borderline=number < close,
            model_verdict=None if one.verdict is None else "good" if one.verdict == "good" else "bad",
        )
        for number, one in enumerate(taken)
    ]


def order(image_ids: Iterable[int], *, seed: int, inspector: str, trial: int) -> list[int]:
    """The parts in the order in which this inspector meets them in this trial: random, and always the same.

    Sorted by a hash rather than shuffled: no library's generator can change it between two sittings.
    """

    def place(image_id: int) -> bytes:
        return hashlib.sha256(f"{seed}\n{trial}\n{image_id}\n{inspector}".encode("utf-8", "replace")).digest()

    return sorted(image_ids, key=place)


def _take(ordered: Sequence[Candidate], n: int, taken: list[Candidate]) -> None:
    """Move the first `n` to `taken`, items that are not there yet first."""
    groups = {one.group_key for one in taken}
    first: list[Candidate] = []
    again: list[Candidate] = []
    for one in ordered:
        (again if one.group_key in groups else first).append(one)
        groups.add(one.group_key)
    taken += [*first, *again][:n]


def _check(pool: Sequence[Candidate], n: int) -> None:
    n_bad = sum(one.reference == "bad" for one in pool)
    if len(pool) < n:
        raise TooFewLabelsError(
            f"A study of {n} parts needs {n} images labelled good or bad",
            value=len(pool),
            action="Label more images, or take fewer parts",
        )
    if n_bad in (0, len(pool)):
        missing = "good" if n_bad else "bad"
        raise TooFewLabelsError(
            f"A study needs good and bad parts, and no image is labelled {missing}",
            action=f"Label some {missing} images first",
        )
