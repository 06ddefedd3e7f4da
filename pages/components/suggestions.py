"""Suggested thresholds side by side: what each rule gives on the scores it may be chosen on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssn_core import crossfit, honest, thresholds
from ssn_core.errors import SsnError
from ssn_core.rules import Rule

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

    id: str  # of its row
    rule: Rule
    high: float | None  # a score at or above it means bad
    low: float | None = None  # of two thresholds: below it means good
    reason: str | None = None
    # What the rule does to images that had no say in it; None: count its thresholds on the images that are shown.
    counted: thresholds.Outcome | None = None
    uncounted: str | None = None  # why neither can be said
    note: str = ""  # what the counts rest on
    flatters: bool = False  # they are optimistic

    def as_data(self) -> dict[str, Any]:
        """For the browser, the rule in words."""
        return {**asdict(self), "rule": self.rule.title}


def suggest(
    labels: NDArray[np.int8],
    scores: NDArray[np.float64],
    targets: Targets,
    *,
    out_of_fold: bool,
    blocks: NDArray[np.int64] | None,
) -> list[Suggestion]:
    """All rules on these scores: those of calibration images, or out-of-fold ones.

    Args:
        labels: (N,) 0 good, 1 bad.
        scores: (N,) finite.
        out_of_fold: the scores are also those to count on: each rule is then counted crosswise, where there are parts
            enough.
        blocks: (N,) then, of :func:`ssn_core.crossfit.deal_blocks`.

    A rule that has no answer here (a class is missing, both costs are 0) says why.
    """
    # Each of the rules sorts them again and again, without one block or another: that is quick where they are in order.
    order = np.argsort(scores)
    labels, scores, blocks = labels[order], scores[order], None if blocks is None else blocks[order]
    dealt = out_of_fold and blocks is not None
    basis: honest.Basis = "separate" if not out_of_fold else "crosswise" if dealt else "same"
    found = []
    for name, rule in _rules(targets).items():
        try:
            high, low = rule.choose(labels, scores)
        except SsnError as error:
            found.append(Suggestion(name, rule, None, reason=error.what))
            continue
        counted, uncounted = None, None
        if dealt:
            counted = crossfit.crosswise(labels, scores, blocks, rule.choose)
            uncounted = None if counted is not None else "Without a fifth of the parts this rule has no answer"
        rests_on: honest.Basis = "same" if uncounted else basis
        found.append(
            Suggestion(
                name,
                rule,
                high,
                low,
                counted=counted,
                uncounted=uncounted,
                note=honest.note(rests_on, "out_of_fold" if out_of_fold else "test"),
                flatters=honest.flatters(rests_on),
            )
        )
    return found


def _rules(targets: Targets) -> dict[str, Rule]:
    """Row of the table -> its rule with the targets that were typed in."""
    t = targets
    costs = (t.escape_cost, t.overkill_cost)
    return {
        "youden": Rule("youden"),
        "f1": Rule("f1"),
        "escape": Rule("escape", (t.escape,)),
        "overkill": Rule("overkill", (t.overkill,)),
        "cost": Rule("cost", costs) if t.bad_share is None else Rule("cost_at_share", (*costs, t.bad_share)),
        "above": Rule("above"),
        "pair": Rule("pair", (t.escape, t.overkill)),
    }


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _tidy(value: float) -> float:
    return int(value) if value == int(value) else value
