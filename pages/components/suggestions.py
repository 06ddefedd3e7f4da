"""Suggested thresholds side by side: what each rule gives on the scores it may be chosen on."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssn_core import crossfit, thresholds
from ssn_core.errors import SsnError

MAX_COST = 1e9

Labels = NDArray[np.int8]
Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Targets:
    """What a person types in; each browser remembers its own."""

    escape: float = 2.0  # largest escape rate, %
    overkill: float = 2.0  # largest overkill rate, %
    escape_cost: float = 100.0  # of one bad part that passes, in any unit
    overkill_cost: float = 1.0  # of one good part that is rejected, in the same unit
    bad_share: float | None = None  # of bad parts in production, %; None: as among the images

    @classmethod
    def of(cls, typed: object) -> Targets:
        """From what a browser sent: a number out of its range is brought into it, anything else keeps its default."""
        if not isinstance(typed, Mapping):
            return cls()
        values = {}
        for field in fields(cls):
            value = typed.get(field.name)
            if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
                most = MAX_COST if field.name.endswith("cost") else 100.0
                values[field.name] = min(max(float(value), 0.0), most)
        return cls(**values)

    @classmethod
    def of_cookie(cls, text: str) -> Targets:
        """From the browser's cookie: the five values in order, "_" between them, "" for none."""
        names = [field.name for field in fields(cls)]
        return cls.of({name: _number(part) for name, part in zip(names, text.split("_"), strict=False)})

    def as_data(self) -> dict[str, float | None]:
        """Whole numbers without ".0", as people type them."""
        return {name: value if value is None else _tidy(value) for name, value in asdict(self).items()}


@dataclass(frozen=True)
class Suggestion:
    """One rule's thresholds, or why there are none."""

    id: str
    words: str  # as it is kept with a version
    high: float | None  # a score at or above it means bad
    low: float | None = None  # of two thresholds: below it means good
    reason: str | None = None
    # What the rule does to images that had no say in it; None: count its thresholds on the images that are shown.
    counted: thresholds.Outcome | None = None
    uncounted: str | None = None  # why neither can be said


def suggest(
    labels: NDArray[np.int8],
    scores: NDArray[np.float64],
    targets: Targets,
    *,
    groups: Sequence[str] | None = None,
) -> list[Suggestion]:
    """All rules on these scores: those of calibration images, or out-of-fold ones.

    Args:
        labels: (N,) 0 good, 1 bad.
        scores: (N,) finite.
        groups: (N,) of out-of-fold scores, which are also those to count on: each rule is then counted crosswise, where
            there are parts enough (:func:`ssn_core.crossfit.deal_blocks`).

    A rule that has no answer here (a class is missing, both costs are 0) says why.
    """
    t = targets
    escape, overkill = t.escape / 100, t.overkill / 100
    share = "" if t.bad_share is None else f", {_plain(t.bad_share)} % bad"

    def cost(labels: Labels, scores: Scores) -> float:
        return thresholds.lowest_cost(
            labels,
            scores,
            escape_cost=t.escape_cost,
            overkill_cost=t.overkill_cost,
            bad_share=None if t.bad_share is None else t.bad_share / 100,
        )

    def pair(labels: Labels, scores: Scores) -> tuple[float, float]:
        return thresholds.two_thresholds(labels, scores, escape_rate=escape, overkill_rate=overkill)

    rules: list[tuple[str, str, Callable[[Labels, Scores], float | tuple[float, float]]]] = [
        ("youden", "Youden's J", thresholds.youden),
        ("f1", "Best F1", thresholds.best_f1),
        (
            "escape",
            f"Escape rate at most {_plain(t.escape)} %",
            lambda labels, scores: thresholds.escape_at_most(labels, scores, escape),
        ),
        (
            "overkill",
            f"Overkill rate at most {_plain(t.overkill)} %",
            lambda labels, scores: thresholds.overkill_at_most(labels, scores, overkill),
        ),
        ("cost", f"Lowest cost, escape {_plain(t.escape_cost)} : overkill {_plain(t.overkill_cost)}{share}", cost),
        ("above", "Just above every good part", thresholds.above_every_good),
        (
            "pair",
            f"Escape rate at most {_plain(t.escape)} %, overkill rate at most {_plain(t.overkill)} %, rest to a person",
            pair,
        ),
    ]
    dealt = groups is not None and crossfit.deal_blocks(labels, groups) is not None
    found = []
    for name, words, answer in rules:

        def rule(labels: Labels, scores: Scores, answer: Any = answer) -> crossfit.Thresholds:
            return _high_and_low(answer(labels, scores))

        try:
            high, low = rule(labels, scores)
        except SsnError as error:
            found.append(Suggestion(name, words, None, reason=error.what))
            continue
        counted, uncounted = None, None
        if dealt and groups is not None:
            counted = crossfit.crosswise(labels, scores, groups, rule)
            uncounted = None if counted is not None else "Without a fifth of the parts this rule has no answer"
        found.append(Suggestion(name, words, high, low, counted=counted, uncounted=uncounted))
    return found


def _high_and_low(answer: float | tuple[float, float]) -> crossfit.Thresholds:
    if not isinstance(answer, tuple):
        return answer, None
    low, high = answer
    return high, (low if low < high else None)  # equal: one threshold keeps both rates


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _tidy(value: float) -> float:
    return int(value) if value == int(value) else value


def _plain(value: float) -> str:
    return f"{value:.6g}"
