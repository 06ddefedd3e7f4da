"""Early stop: whether a training has settled, and how that is written down. No torch, so pages can read it.

The training loss cannot tell: with a focal loss or a margin it goes on falling when nothing that counts improves, or
stands still while the maps still do. So the network is measured on images that it does not learn from; which ones those
may be is the matter of :mod:`ssn_core.training_length`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

CHECKS = 20  # in a training of whole length, if it were checked from its beginning
# Share of a training before which nothing is checked. On few bad images a network that has hardly learned can be better
# by chance than it is for a long time after: without this, one of three SimpleNets ended after a tenth of its length,
# and AP-det of all together fell from 0.61 to 0.46 (KolektorSDD).
BEGIN = 0.25
PATIENCE = 4  # checks without a better figure after which a training has settled


class Check(NamedTuple):
    """One look at images that are not learned from."""

    epoch: int  # 1-based
    ap: float  # AP-det, 0..1
    loss: float  # balanced cross-entropy of the scores, >= 0


@dataclass(frozen=True)
class Length:
    """How long one network is trained, and what that was found on."""

    network: str  # for people: "Fold 1 of 3"
    epochs: int
    planned: int  # epochs
    n_good: int = 0  # images that the trial run was measured on; 0 = there was none, for want of images
    n_bad: int = 0
    trial_planned: int = 0  # epochs
    checks: tuple[Check, ...] = ()  # of the trial run, in its epochs


def is_due(epoch: int, epochs: int) -> bool:
    """Whether a training that is planned to take so many epochs is checked after this one; it is at least once."""
    return epoch >= BEGIN * epochs and epoch % max(1, round(epochs / CHECKS)) == 0


def best_of(checks: Sequence[Check]) -> Check:
    """The best of at least one check: the highest AP-det, then the lowest loss, then the first.

    AP-det is a step function of few bad images, and often 1: the loss goes on telling better from worse there.
    """
    return max(checks, key=lambda check: (check.ap, -check.loss, -check.epoch))


def has_settled(checks: Sequence[Check]) -> bool:
    """Whether none of the last :data:`PATIENCE` checks is better than the best before them."""
    return len(checks) > PATIENCE and best_of(checks) in checks[:-PATIENCE]


def balanced_cross_entropy(labels: Sequence[bool], scores: Sequence[float]) -> float:
    """Binary cross-entropy, the mean of both classes' mean losses; infinite where a score is not finite.

    Args:
        labels: True = bad; both classes must be there.
        scores: logits.
    """
    bad = np.asarray(labels, dtype=bool)
    logits = np.asarray(scores, dtype=np.float64)
    with np.errstate(invalid="ignore"):  # of a score that is not finite
        loss = np.logaddexp(0.0, np.where(bad, -logits, logits))
    value = 0.5 * (loss[bad].mean() + loss[~bad].mean())
    return float(value) if math.isfinite(value) else math.inf


def as_data(epochs: int, planned: int, lengths: Sequence[Length]) -> dict[str, Any]:
    """What model.json and reports keep: the length of the model's own training, and what it was found on."""
    return {"epochs": epochs, "planned": planned, "trials": [asdict(length) for length in lengths]}


def in_words(found: Mapping[str, Any]) -> str:
    """:func:`as_data` in one or two sentences."""
    epochs, planned = found["epochs"], found["planned"]
    trials = [trial for trial in found["trials"] if trial["checks"]]
    if not trials:
        return f"The whole length, {planned} epochs: there were too few labelled images to set some aside for a trial."
    where = "on training images that were set aside in a trial"
    if epochs >= planned:
        return f"The whole length, {planned} epochs: AP-det {where} went on improving."
    said = f"Ended early, after {epochs} of {planned} epochs: AP-det {where} did not improve any more."
    if len(trials) > 1:
        each = ", ".join(f"{trial['epochs']} of {trial['planned']}" for trial in found["trials"])
        said += f" The networks that were measured took {each} epochs, the model's own training their median share."
    return said
