"""What a report tells about a model: everything that is in it, and nothing that is not needed.

No database numbers of images and no paths: the same model with the same labels, thresholds and verdicts gives the same
facts on another computer. Dates are kept apart (:class:`Dated`), because they alone may differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssn_core.agreement import Appraiser, Kappa, Share
from ssn_core.calibration import ScaleCheck
from ssn_core.honest import Counted
from ssn_core.intervals import Difference
from ssn_core.report.pictures import Picture


@dataclass(frozen=True)
class LabelledBy:
    """Current labels of one inspector."""

    inspector: str
    good: int
    bad: int
    unsure: int


@dataclass(frozen=True)
class Portion:
    """Images that have one thing in common, with their labels of today."""

    name: str  # a part of the data (train | calibration | test), or a role for the model
    good: int
    bad: int
    other: int  # unsure, or no label
    groups: int  # parts or items: images of one group are never on both sides of a split


@dataclass(frozen=True)
class Data:
    """The project's images and labels of today."""

    good: int
    bad: int
    unsure: int
    unlabelled: int
    groups: int
    with_mask: int
    by_inspector: tuple[LabelledBy, ...]
    parts: tuple[Portion, ...]  # decided once for each group, for ever
    roles: tuple[Portion, ...]  # that scored images played for this model
    without_score: int
    sha256: str  # of all images and their labels, see `Trained.sha256`

    @property
    def total(self) -> int:
        """All images."""
        return self.good + self.bad + self.unsure + self.unlabelled


@dataclass(frozen=True)
class Trained:
    """What the model learned from, as its folder keeps it."""

    n_good: int  # that the model itself learned from
    n_bad: int
    relabelled: int  # images whose label of today is another one, or none, or that are gone
    labelled_since: int  # images with a Good or Bad label that had none then
    sha256: str  # of the lines "<SHA-256 of the image> <label>\n", sorted, in UTF-8
    versions: tuple[tuple[str, str], ...]  # (library, version) at the training
    weights_sha256: str | None  # of the backbone


@dataclass(frozen=True)
class Version:
    """One version of the thresholds."""

    number: int  # as the pages show it; 0: kept before versions were
    threshold: float
    threshold_low: float | None
    how: str
    inspector: str  # "" for the training itself


@dataclass(frozen=True)
class Localisation:
    """How well the maps point at the defects."""

    p_auroc: float | None
    ap_loc: float | None
    aupro: float | None
    n_images: int  # that the pixel figures rest on
    n_masks: int  # 0: there are no masks, and no pixel figures
    hits: int  # verdicts of people on maps: on the defect
    elsewhere: int
    unsure: int
    to_judge: int  # held-out bad images, judged or not


@dataclass(frozen=True)
class Shown:
    """One image with its map, as a picture: the photo, and beside it the photo with the map."""

    name: str
    label: str  # good | bad
    score: float
    verdict: str  # good | check | bad, at the thresholds in force
    picture: Picture | None  # None: see `reason`
    reason: str = ""  # why there is no picture, or no map in it


@dataclass(frozen=True)
class Gallery:
    """Images of one kind."""

    title: str
    sentence: str
    shown: tuple[Shown, ...]


@dataclass(frozen=True)
class Rater:
    """One inspector (or the model) in a study of agreement."""

    is_model: bool
    figures: Appraiser
    standings: tuple[str | None, str | None, str | None]  # as `Agreement.limits`: meets | fails | open; None: no rate


@dataclass(frozen=True)
class Agreement:
    """One closed study of agreement."""

    name: str
    n_parts: int
    n_borderline: int
    trials: int
    limits: tuple[float, float, float]  # effectiveness at least, miss rate and false-alarm rate at most
    raters: tuple[Rater, ...]
    left_out: int  # inspectors who began and completed no trial
    between: Share | None  # parts on which all inspectors agree in all trials; None with fewer than two
    between_kappa: Kappa | None


@dataclass(frozen=True)
class Parent:
    """The comparison with the model that was active when this one was trained."""

    name: str
    reason: str | None  # why nothing can be compared; None: see the rest
    n_good: int  # images that were held out for both
    n_bad: int
    auroc: tuple[float, float, Difference] | None  # the parent's, this model's, this one's less the parent's
    ap: tuple[float, float, Difference] | None
    before: Counted  # of the parent, at its thresholds in force
    after: Counted
    now_right: int  # images that the parent judged wrong and this model judges right
    now_wrong: int
    other_flips: int  # another verdict, neither: one of the two leaves it to a person
    changes: tuple[str, ...]  # in words; empty: nothing is known


@dataclass(frozen=True, eq=False)
class Facts:
    """Everything in a report but its dates."""

    project: str
    model: str
    purpose: str
    recipe: str
    recipe_title: str
    recipe_description: str
    backbone: str
    weights: str | None  # imagenet | bundled | random
    settings: Mapping[str, Any]
    device: str | None
    held_out: str  # test | out_of_fold
    labels: NDArray[np.int8]  # (N,) 0 good, 1 bad: of the held-out images, today
    scores: NDArray[np.float64]  # (N,)
    counted: Counted  # these images at the thresholds in force
    held_out_sha256: str  # as `Trained.sha256`
    threshold: float
    threshold_low: float | None
    scale: tuple[float, float]  # the fixed colour scale, CAM units
    scale_check: ScaleCheck | None  # None: not checked at the training
    versions: tuple[Version, ...]  # newest first
    data: Data
    trained: Trained | str  # or why it is not known
    localisation: Localisation
    galleries: tuple[Gallery, ...]
    studies: tuple[Agreement, ...]
    parent: Parent | None
    files: tuple[tuple[str, int, str], ...] | str  # (name, bytes, SHA-256) of the model folder; or why not
    software: tuple[tuple[str, str], ...]  # (name, version) at the writing of the report
    length: Mapping[str, Any] | None = None  # of the training, where that was to be found out (settling.as_data)


@dataclass(frozen=True)
class Dated:
    """One line of the block of dates."""

    what: str
    when: str
