"""What the thresholds in force do to held-out images, counted so that no image chose the threshold it is judged by.

- With a fixed split the rule's thresholds come from calibration images: test images are counted at them as they are.
- Out-of-fold there are no other scores to choose on, so a rule is counted crosswise (:mod:`ssn_core.crossfit`).
- Thresholds that a person set while looking at these scores have no rule that could be applied without an image. They
  are counted as they are, and :attr:`Counted.note` says that this is slightly optimistic.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ssn_core import crossfit
from ssn_core.crossfit import Thresholds
from ssn_core.rules import Rule, rule_of
from ssn_core.thresholds import Outcome, outcome

Basis = Literal["separate", "crosswise", "same", "by_hand"]


@dataclass(frozen=True)
class Counted:
    """Counts that a figure may rest on, and why it may, or how far it may not."""

    outcome: Outcome  # at `basis`: what figures show
    as_they_are: Outcome  # at the thresholds in force themselves, as charts and lists of images show them
    basis: Basis
    rule: Rule | None  # None: set by hand, or nobody knows
    held_out: str  # test | out_of_fold
    would_choose: Thresholds | None = None  # of `rule` with the labels of today, where they judge parts otherwise

    @property
    def flatters(self) -> bool:
        """Whether the counts are optimistic: these images had a say in the threshold they are counted at."""
        return flatters(self.basis)

    @property
    def note(self) -> str:
        """In plain words, what the counts rest on."""
        words = note(self.basis, self.held_out)
        if self.would_choose is None:
            return words
        high, low = self.would_choose
        values = f"{high:.3f}" if low is None else f"{low:.3f} and {high:.3f}"
        return f"{words} With the labels of today the rule would choose {values}.".replace(" -", " \N{MINUS SIGN}")

    def as_data(self) -> dict[str, Any]:
        """For model.json: the counts, what they rest on, and the rule in words."""
        return {"rule": self.rule.title if self.rule else None, "basis": self.basis, **asdict(self.outcome)}


@dataclass(frozen=True)
class Cuts:
    """The thresholds that each of N held-out images is counted at."""

    threshold: float  # in force
    threshold_low: float | None
    high: NDArray[np.float64]  # (N,)
    low: NDArray[np.float64]  # (N,) where there is one threshold, the same as `high`
    basis: Basis
    rule: Rule | None
    held_out: str
    would_choose: Thresholds | None = None

    def count(
        self, labels: NDArray[np.int8], scores: NDArray[np.float64], places: NDArray[np.int64] | None = None
    ) -> Counted:
        """Count all of the images, or those at `places`.

        Args:
            labels: (N,) or (P,) 0 good, 1 bad: of the images to count.
            scores: the same length.
            places: (P,) which of the N images they are.
        """
        high, low = (self.high, self.low) if places is None else (self.high[places], self.low[places])
        return Counted(
            outcome(labels, scores, high, low),
            outcome(labels, scores, self.threshold, self.threshold_low),
            self.basis,
            self.rule,
            self.held_out,
            self.would_choose,
        )


def cuts(
    labels: NDArray[np.int8],
    scores: NDArray[np.float64],
    blocks: NDArray[np.int64] | None,
    *,
    held_out: str,
    threshold: float,
    threshold_low: float | None,
    how: str,
) -> Cuts:
    """Where to count each held-out image of a model.

    Args:
        labels: (N,) 0 good, 1 bad; N = 0 and one class are allowed.
        scores: (N,) finite.
        blocks: (N,) of :func:`ssn_core.crossfit.deal_blocks`: what a rule is counted crosswise in.
        held_out: test | out_of_fold: the role of these images.
        threshold: in force, as is `threshold_low`.
        how: the words of the version in force (:mod:`ssn_core.rules`).
    """
    rule = rule_of(how)
    one = np.full(len(scores), threshold, dtype=np.float64)
    as_they_are = (one, one if threshold_low is None else np.full(len(scores), threshold_low, dtype=np.float64))
    basis: Basis = "by_hand" if rule is None else "separate" if held_out != "out_of_fold" else "same"
    if rule is not None and basis == "same":
        found = crossfit.thresholds_without(labels, scores, blocks, rule.choose)
        if found is not None:
            now = rule.choose(labels, scores)
            same = outcome(labels, scores, *now) == outcome(labels, scores, threshold, threshold_low)
            return Cuts(threshold, threshold_low, *found, "crosswise", rule, held_out, None if same else now)
    return Cuts(threshold, threshold_low, *as_they_are, basis, rule, held_out)


def flatters(basis: Basis) -> bool:
    """Whether counts on this basis are optimistic."""
    return basis in ("same", "by_hand")


def counted_how(first: Counted, second: Counted, names: tuple[str, str]) -> str:
    """What the counts of two models rest on: one sentence where it is the same for both."""
    if first.note == second.note:
        return f"Escapes and overkill: {first.note}"
    return f"Escapes and overkill: {names[0]}: {first.note} {names[1]}: {second.note}"


def note(basis: Basis, held_out: str) -> str:
    """What counts rest on, in one or two sentences that a person reads beside them."""
    if basis == "crosswise":
        return "Each part is counted at a threshold chosen without it."
    if basis == "separate":
        return "The threshold was chosen on calibration images, never on these."
    if basis == "same":
        return (
            "Optimistic: the threshold was chosen on these same scores, and there are too few parts to count each at a "
            "threshold chosen without it."
        )
    if held_out == "test":
        return (
            "Slightly optimistic: the threshold was placed by hand, with these same test images in view. For unbiased "
            "rates take a suggestion (chosen on calibration images) or judge a fresh batch of parts."
        )
    return (
        "Slightly optimistic: the threshold was placed by hand, with these same scores in view. For unbiased rates use "
        "a fixed test split or judge a fresh batch of parts."
    )
