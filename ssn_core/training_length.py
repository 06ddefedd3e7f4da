"""How long to train a network, found in a trial run on half of its own training images and measured on the other half.

The length is a setting like any other: it may be chosen on images that the reported figures do not rest on. A network
is measured on its left-out fold or on the test part, so those images, and whatever was learned from them, may have no
say in it. Stopping a fold's network by its own left-out images would report a figure that was chosen as the best of
many. Nor would it do to take the length over from another fold's network: that one has learned from the images that
this one is measured on. Calibration images are free of that, but the threshold is to be chosen on images that the
training knows nothing of.

So the training images of each network are dealt into two halves, whole groups together. A trial run learns from one
half and is measured on the other about every twentieth of its planned length, from a quarter of it on, until it has
settled (:mod:`ssn_core.settling`). Of it only the length is kept: the network itself starts anew, on all of its
training images, and takes the same share of its planned epochs. A trial's best check came at the high learning rates;
the training spends as long on these, and then its last part on the low ones, as a training that was planned so long
does. This is the same whoever asks (fixed parts, out-of-fold, cross-validation, learning curves), because nothing but
the training images is looked at.

It costs the trial, half of each epoch until it has settled, and so pays where a training needs less than about half of
its planned length; at best it saves half of the steps. Networks of unlike length give scores of unlike scale, which
out-of-fold are judged together, at one threshold. Where too few images of a class are left to measure a trial on, there
is none, and the training takes its whole length. Recipes that learn from good images alone are measured on the bad ones
of the half.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import torch

from ssn_core import metrics
from ssn_core.course import Course
from ssn_core.dataset import LabelledImage, check_labels, deal_folds, examples
from ssn_core.errors import TooFewLabelsError
from ssn_core.features import TapCache
from ssn_core.inference import score_cached
from ssn_core.model import CamNet
from ssn_core.recipes import Recipe
from ssn_core.sampling import local_images, planned_epochs, planned_samples
from ssn_core.settling import Length, balanced_cross_entropy, best_of
from ssn_core.training import MILESTONES, Trainer, Watch

MIN_WATCHED = 5  # of either class: with fewer, one image moves AP-det by more than a longer training does

Halves = tuple[list[LabelledImage], list[LabelledImage]]  # that a trial learns from, and is measured on


def halves(recipe: Recipe, images: Sequence[LabelledImage]) -> Halves | None:
    """A network's training images, dealt for a trial run; None where they are too few, or the recipe takes no trial."""
    if not recipe.early_stop:
        return None
    try:
        dealt = deal_folds(images, 2, need_bad=recipe.learns_from != "good")
        learned, watched = ([image for image in images if dealt[image.key] == half] for half in (0, 1))
        check_labels(learned, recipe)
    except TooFewLabelsError:
        return None
    enough = min(sum(image.bad is bad for image in watched) for bad in (False, True)) >= MIN_WATCHED
    return (learned, watched) if enough else None


def samples_ahead(recipe: Recipe, images: Sequence[LabelledImage]) -> int:
    """Samples that a network's training sees at most, its trial run included."""
    found = halves(recipe, images)
    return _samples(recipe, images) + (0 if found is None else _samples(_of_trial(recipe), found[0]))


def find_length(
    recipe: Recipe,
    images: Sequence[LabelledImage],
    taps: TapCache,
    course: Course,
    *,
    device: torch.device,
    name: str,
    state_file: Path | None,
) -> Length:
    """Run the trial of a network and say how long the network itself is to be trained.

    Args:
        images: the network's training images; their taps are cached.
        course: in which the trial's samples are counted, and those that will not be needed are dropped.
        name: of the network.
        state_file: where the trial's state is kept between epochs.
    """
    planned = epochs_planned(recipe, images)
    found = halves(recipe, images)
    if found is None:
        return Length(name, planned, planned)
    learned, watched = found
    keys, labels = [image.key for image in watched], [bool(image.bad) for image in watched]

    def measure(net: CamNet) -> tuple[float, float]:
        scores = [scored.score for scored in score_cached(net, taps, keys, device=device)]
        return metrics.ap(labels, scores) or 0.0, balanced_cross_entropy(labels, scores)  # never None: see halves

    trial = _of_trial(recipe)
    watch = Watch(tuple(zip(keys, labels, strict=True)), measure)
    trainer = Trainer(trial, examples(learned, trial), taps, device, watch)
    course.run(trainer, name=f"{name}, trial", state_file=state_file)
    course.drop((trainer.epochs - trainer.epoch) * len(trainer.sampler))
    share = best_of(trainer.checks).epoch / trainer.epochs / MILESTONES[0]
    length = Length(
        name,
        min(planned, math.ceil(round(share * planned, 6))),  # rounded: 15.000000000000002 epochs are 15
        planned,
        n_good=labels.count(False),
        n_bad=labels.count(True),
        trial_planned=trainer.epochs,
        checks=tuple(trainer.checks),
    )
    course.drop(_samples(recipe, images) - _samples(of_length(recipe, length.epochs), images))
    return length


def of_length(recipe: Recipe, epochs: int) -> Recipe:
    """The recipe with so many epochs, and no trial any more."""
    return recipe.with_settings({"epochs": epochs, "early_stop": False})


def shared_length(recipe: Recipe, images: Sequence[LabelledImage], lengths: Sequence[Length]) -> int:
    """Epochs of the model that follows several folds' networks: the median of their shares of the planned length."""
    share = statistics.median(Fraction(length.epochs, length.planned) for length in lengths)
    return math.ceil(share * epochs_planned(recipe, images))


def epochs_planned(recipe: Recipe, images: Sequence[LabelledImage]) -> int:
    """Epochs that the training on these images takes if nothing makes it shorter."""
    return planned_epochs(recipe, **_numbers(images))


def _of_trial(recipe: Recipe) -> Recipe:
    """One size without the local head, which learns after the rest: its length does not depend on the rest's."""
    q = recipe.pooling_fraction if recipe.cam_fraction is None else recipe.cam_fraction
    alone = {"local_width": 0, "pooling_fraction": q, "cam_fraction": None} if recipe.has_local_head else {}
    return recipe.with_settings({"scales": 1, **alone})


def _numbers(images: Sequence[LabelledImage]) -> dict[str, int]:
    n_bad = sum(bool(image.bad) for image in images)
    return {"n_good": len(images) - n_bad, "n_bad": n_bad}


def _samples(recipe: Recipe, images: Sequence[LabelledImage]) -> int:
    """At all sizes, without trials."""
    numbers = _numbers(images)
    return recipe.scales * planned_samples(recipe, **numbers) + local_images(recipe, **numbers)
