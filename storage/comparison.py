"""Two models on the same images: those that neither had seen, with their labels of today."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssn_core.honest import Counted
from ssn_core.operating_point import verdicts
from storage import predictions, registry, thresholds
from storage.db import Database


@dataclass(frozen=True)
class Comparison:
    """The honest scores of two models, restricted to the images that were held out for both."""

    first: registry.Model  # compared against: the one in use, or the older one
    second: registry.Model
    image_ids: tuple[int, ...]
    names: tuple[str, ...]
    labels: NDArray[np.int8]  # (N,) 0 good, 1 bad
    first_scores: NDArray[np.float64]  # (N,)
    second_scores: NDArray[np.float64]  # (N,)
    first_counted: Counted  # each at its own thresholds in force
    second_counted: Counted
    first_held_out: int  # labelled images that were held out for it, shared or not
    second_held_out: int

    @property
    def n_bad(self) -> int:
        """Bad images among the shared ones."""
        return int(self.labels.sum())

    @property
    def n_good(self) -> int:
        """Good images among the shared ones."""
        return len(self.image_ids) - self.n_bad


@dataclass(frozen=True)
class Flip:
    """An image that the two models judge differently, each at its own thresholds in force."""

    image_id: int
    name: str
    label: str  # good | bad, today's
    first: str  # good | check | bad; check = a person decides
    second: str
    first_score: float
    second_score: float

    @property
    def outcome(self) -> str:
        """What the second model makes of it: "right", "wrong" or "check"."""
        if self.second == "check":
            return "check"
        return "right" if self.second == self.label else "wrong"


def compare(
    db: Database,
    *,
    first_id: int,
    second_id: int,
    held_out: Callable[[registry.Model], predictions.HeldOut] | None = None,
) -> Comparison:
    """The images that both models were honest about, with both scores of each.

    Args:
        held_out: where the caller keeps a model's honest scores; None: they are read.

    Raises:
        SsnError: there is no such model.
    """
    models = [registry.get(db, model_id=number) for number in (first_id, second_id)]
    first, second = (held_out(model) if held_out else predictions.held_out(db, model_id=model.id) for model in models)
    shared, at_first, at_second = np.intersect1d(
        np.array(first.image_ids, dtype=np.int64),
        np.array(second.image_ids, dtype=np.int64),
        assume_unique=True,
        return_indices=True,
    )
    counted = [
        thresholds.cuts(thresholds.in_force(db, model_id=number), one).count(
            one.labels[places], one.scores[places], places
        )
        for number, one, places in ((first_id, first, at_first), (second_id, second, at_second))
    ]
    every = len(shared) == len(first.image_ids)  # then they are the first one's as they are: both are in order
    return Comparison(
        first=models[0],
        second=models[1],
        image_ids=first.image_ids if every else tuple(shared.tolist()),
        names=first.names if every else tuple(map(first.names.__getitem__, at_first.tolist())),
        labels=first.labels[at_first],
        first_scores=first.scores[at_first],
        second_scores=second.scores[at_second],
        first_counted=counted[0],
        second_counted=counted[1],
        first_held_out=len(first.image_ids),
        second_held_out=len(second.image_ids),
    )


def flips(compared: Comparison) -> list[Flip]:
    """The images with another verdict, the clearest of the second model's verdicts first."""
    models, scores = (compared.first, compared.second), (compared.first_scores, compared.second_scores)
    first, second = (
        verdicts(values, model.threshold, model.threshold_low) for model, values in zip(models, scores, strict=True)
    )
    lines = [line for line in (models[1].threshold, models[1].threshold_low) if line is not None]
    clear = np.min([np.abs(scores[1] - line) for line in lines], axis=0)
    changed = np.flatnonzero(first != second)
    changed = changed[np.argsort(-clear[changed], kind="stable")]
    columns = (np.where(compared.labels == 1, "bad", "good"), first, second, *scores)
    return [
        Flip(compared.image_ids[place], compared.names[place], *found)
        for place, *found in zip(changed.tolist(), *(column[changed].tolist() for column in columns), strict=True)
    ]


def regrets(found: list[Flip]) -> tuple[list[Flip], list[Flip]]:
    """What is lost and what is gained by taking the first model (the fast one) instead of the second (the slow one).

    Returns:
        (the first is wrong and the second right, the first is right and the second wrong). A verdict that leaves the
        image to a person is neither right nor wrong.
    """
    lost = [flip for flip in found if flip.outcome == "right" and flip.first not in (flip.label, "check")]
    gained = [flip for flip in found if flip.outcome == "wrong" and flip.first == flip.label]
    return lost, gained
