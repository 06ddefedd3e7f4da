"""Suggested thresholds side by side: what each rule gives on the scores it may be chosen on."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields

import numpy as np
from numpy.typing import NDArray

from ssn_core import thresholds
from ssn_core.errors import SsnError

MAX_COST = 1e9


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


def suggest(labels: NDArray[np.int8], scores: NDArray[np.float64], targets: Targets) -> list[Suggestion]:
    """All rules on these scores: those of calibration images, or out-of-fold ones.

    Args:
        labels: (N,) 0 good, 1 bad.
        scores: (N,) finite.

    A rule that has no answer here (a class is missing, both costs are 0) says why.
    """
    t = targets
    escape, overkill = t.escape / 100, t.overkill / 100
    share = "" if t.bad_share is None else f", {_plain(t.bad_share)} % bad"

    def cost() -> float:
        return thresholds.lowest_cost(
            labels,
            scores,
            escape_cost=t.escape_cost,
            overkill_cost=t.overkill_cost,
            bad_share=None if t.bad_share is None else t.bad_share / 100,
        )

    def pair() -> tuple[float, float]:
        return thresholds.two_thresholds(labels, scores, escape_rate=escape, overkill_rate=overkill)

    rules: list[tuple[str, str, Callable[[], float | tuple[float, float]]]] = [
        ("youden", "Youden's J", lambda: thresholds.youden(labels, scores)),
        ("f1", "Best F1", lambda: thresholds.best_f1(labels, scores)),
        (
            "escape",
            f"Escape rate at most {_plain(t.escape)} %",
            lambda: thresholds.escape_at_most(labels, scores, escape),
        ),
        (
            "overkill",
            f"Overkill rate at most {_plain(t.overkill)} %",
            lambda: thresholds.overkill_at_most(labels, scores, overkill),
        ),
        ("cost", f"Lowest cost, escape {_plain(t.escape_cost)} : overkill {_plain(t.overkill_cost)}{share}", cost),
        ("above", "Just above every good part", lambda: thresholds.above_every_good(labels, scores)),
        (
            "pair",
            f"Escape rate at most {_plain(t.escape)} %, overkill rate at most {_plain(t.overkill)} %, rest to a person",
            pair,
        ),
    ]
    return [_ask(*rule) for rule in rules]


def _ask(rule: str, words: str, answer: Callable[[], float | tuple[float, float]]) -> Suggestion:
    try:
        found = answer()
    except SsnError as error:
        return Suggestion(rule, words, None, reason=error.what)
    if isinstance(found, tuple):
        low, high = found
        return Suggestion(rule, words, high, low if low < high else None)  # equal: one threshold keeps both rates
    return Suggestion(rule, words, found)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _tidy(value: float) -> float:
    return int(value) if value == int(value) else value


def _plain(value: float) -> str:
    return f"{value:.6g}"
