"""The rules that suggest thresholds, and the words by which the rule behind a saved threshold is known again.

A version of the thresholds says in words how it was found. The same table writes these words and reads them, so that
figures can be counted by the rule (:mod:`ssn_core.honest`) wherever a version goes: the database, a model folder, a
report.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssn_core import thresholds
from ssn_core.crossfit import Thresholds

Labels = NDArray[np.int8]
Scores = NDArray[np.float64]

BY_HAND = "By hand"
SCORES = {"calibration": "calibration", "out_of_fold": "out-of-fold"}  # role -> what scores of that role are called
_BY_TRAINING = "Suggested by the training: "
_RESTORED = re.compile(r"Version \d+ restored: ")
_NUMBER = r"(\d+(?:\.\d+)?(?:e[+-]?\d+)?)"


def _plain(value: float) -> str:
    """As people type it, and exactly: "2", "2.5"."""
    return str(int(value)) if value == int(value) and value < 1e15 else repr(float(value))


@dataclass(frozen=True)
class _Kind:
    """What rules of one kind have in common."""

    title: str  # with {} for each value
    choose: Callable[..., float | tuple[float, float]]  # (labels, scores, *values) -> threshold, or (low, high)

    def read(self, title: str) -> tuple[float, ...] | None:
        pattern = re.escape(self.title).replace(re.escape("{}"), _NUMBER)
        found = re.fullmatch(pattern, title, re.ASCII)
        values = tuple(float(value) for value in found.groups()) if found else None
        return None if values is None or not all(map(math.isfinite, values)) else values


def _lowest_cost(labels: Labels, scores: Scores, escape: float, overkill: float, bad: float | None = None) -> float:
    return thresholds.lowest_cost(
        labels, scores, escape_cost=escape, overkill_cost=overkill, bad_share=None if bad is None else bad / 100
    )


def _pair(labels: Labels, scores: Scores, escape: float, overkill: float) -> tuple[float, float]:
    return thresholds.two_thresholds(labels, scores, escape_rate=escape / 100, overkill_rate=overkill / 100)


_KINDS = {
    "youden": _Kind("Youden's J", thresholds.youden),
    "f1": _Kind("Best F1", thresholds.best_f1),
    "escape": _Kind(
        "Escape rate at most {} %", lambda labels, scores, rate: thresholds.escape_at_most(labels, scores, rate / 100)
    ),
    "overkill": _Kind(
        "Overkill rate at most {} %",
        lambda labels, scores, rate: thresholds.overkill_at_most(labels, scores, rate / 100),
    ),
    "cost": _Kind("Lowest cost, escape {} : overkill {}", _lowest_cost),
    "cost_at_share": _Kind("Lowest cost, escape {} : overkill {}, {} % bad", _lowest_cost),
    "above": _Kind("Just above every good part", thresholds.above_every_good),
    "pair": _Kind("Escape rate at most {} %, overkill rate at most {} %, rest to a person", _pair),
}


@dataclass(frozen=True)
class Rule:
    """A rule with the targets that were typed in."""

    kind: str  # a key of the table above
    values: tuple[float, ...] = ()  # rates and shares in %, costs in any one unit; at least 0

    @property
    def title(self) -> str:
        """In words; :func:`rule_of` gives the rule back."""
        return _KINDS[self.kind].title.format(*map(_plain, self.values))

    def choose(self, labels: Labels, scores: Scores) -> Thresholds:
        """Its thresholds for these images: (upper, lower), the lower one None where there is one threshold.

        Args:
            labels: (N,) 0 good, 1 bad.
            scores: (N,) finite; higher = more suspicious.

        Raises:
            SsnError: a class that it needs is missing, or a value is out of its range.
        """
        answer = _KINDS[self.kind].choose(labels, scores, *self.values)
        if not isinstance(answer, tuple):
            return answer, None
        low, high = answer
        return high, (low if low < high else None)  # equal: one threshold keeps both rates


YOUDEN = Rule("youden")
FROM_TRAINING = _BY_TRAINING + YOUDEN.title
_FROM_GOOD_ALONE = _BY_TRAINING + Rule("above").title


def by_training(n_bad: int) -> str:
    """How a training found its threshold, from the number of bad images it had to choose on."""
    return FROM_TRAINING if n_bad else _FROM_GOOD_ALONE


def chosen_on(rule: Rule, role: str) -> str:
    """How thresholds were found that a rule chose on the scores of images of this role (a key of SCORES)."""
    return f"{rule.title}, on {SCORES[role]} scores"


def restored(number: int, how: str) -> str:
    """How thresholds were found that version `number` had."""
    return f"Version {number} restored: {_RESTORED.sub('', how)}"


def rule_of(how: str) -> Rule | None:
    """The rule that chose a version's thresholds; None where no rule did, or it is not known."""
    title = _RESTORED.sub("", how, count=1).removeprefix(_BY_TRAINING)
    for scores in SCORES.values():
        title = title.removesuffix(f", on {scores} scores")
    for name, kind in _KINDS.items():
        values = kind.read(title)
        if values is not None:
            return Rule(name, values)
    return None
