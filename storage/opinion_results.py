"""What a round of second opinions shows: agreement beyond chance of each pair and of all, and who can settle what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from ssn_core.agreement import Kappa, Share, between_appraisers, cohen_kappa, fleiss_kappa, verdict_counts
from storage.second_opinions import THIRD, Case, inspectors_of


@dataclass(frozen=True)
class Pair:
    """Two inspectors on the images that both judged; agreement is of their own verdicts, never of a third one."""

    first: str
    second: str
    same: int  # images of which they said the same
    kappa: Kappa  # Cohen's; kappa.n images


@dataclass(frozen=True)
class OpinionResults:
    """Everything that the page shows of a round, whoever looks."""

    n_images: int
    complete: int
    agreed: Share | None  # complete images of which all said the same; None: none is complete
    kappa: Kappa | None  # Fleiss', over the label and the first `wanted` opinions of every complete image
    pairs: list[Pair]  # those with an image in common, by name
    disputed: list[Case]  # the unsettled ones first

    @property
    def unsettled(self) -> int:
        """Disputed images without a third verdict."""
        return sum(case.settled is None for case in self.disputed)


def summarise(found: Sequence[Case], *, level: float = 0.95) -> OpinionResults:
    """The results of the images of a round.

    Args:
        found: of `second_opinions.cases`.
        level: of the intervals.

    Raises:
        SsnError: `level` is not between 0 and 1.
    """
    complete = [case for case in found if case.complete]
    # One column of verdicts for the label and each opinion: who gave them may differ from image to image, which is
    # what Fleiss' kappa, unlike Cohen's, allows.
    columns = np.array(
        [[_bad(case.first_verdict), *(_bad(one.verdict) for one in case.opinions[: case.wanted])] for case in complete]
    )
    appraisers = list(columns.T) if complete else []
    return OpinionResults(
        n_images=len(found),
        complete=len(complete),
        agreed=between_appraisers(appraisers, level=level) if complete else None,
        kappa=fleiss_kappa(verdict_counts(appraisers), level=level) if complete else None,
        pairs=_pairs(found, level),
        disputed=sorted(
            (case for case in found if case.disputed), key=lambda case: (case.settled is not None, case.image_id)
        ),
    )


def to_settle(found: Sequence[Case], inspector: str) -> int:
    """How many disputed images this inspector may settle: those that they have not judged."""
    return sum(case.is_for(inspector, THIRD) for case in found)


def _pairs(found: Sequence[Case], level: float) -> list[Pair]:
    said = [
        {case.first_inspector: case.first_verdict} | {one.inspector: one.verdict for one in case.opinions}
        for case in found
    ]
    pairs = []
    for first, second in combinations(inspectors_of(found), 2):
        both = [(one[first], one[second]) for one in said if first in one and second in one]
        if both:
            verdicts = np.array([[_bad(a), _bad(b)] for a, b in both])
            kappa = cohen_kappa(verdicts[:, 0], verdicts[:, 1], level=level)
            pairs.append(Pair(first, second, sum(a == b for a, b in both), kappa))
    return pairs


def _bad(verdict: str) -> int:
    return int(verdict == "bad")
