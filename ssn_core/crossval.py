"""Grouped cross-validation: honest figures for all labelled images, each scored by a network that never saw its group.

Settings that are to be chosen (here the pooling fraction q) are chosen inside: for each outer fold, on its training
folds alone, so the left-out fold takes no part in any choice.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch

from ssn_core import metrics
from ssn_core.dataset import LabelledImage, check_labels, check_masks, deal_folds
from ssn_core.errors import LayoutError, SettingError, SsnError, TooFewLabelsError
from ssn_core.evaluation import count_at_threshold, measure
from ssn_core.features import TapCache
from ssn_core.inference import device_title, score_cached
from ssn_core.map_files import MapFiles, temporary_maps
from ssn_core.pipeline import N_FOLDS, fill_taps, fit
from ssn_core.recipes import Recipe
from ssn_core.reporting import Reporter
from ssn_core.rules import by_training, rule_of
from ssn_core.settling import Length, balanced_cross_entropy


def assign_folds(images: Sequence[LabelledImage], *, from_data: bool, need_bad: bool = True) -> dict[str, str]:
    """key -> fold name: those of the data set, or dealt by group.

    Args:
        need_bad: as for :func:`ssn_core.dataset.deal_folds`.

    Raises:
        LayoutError: an image without a fold, a group on both sides of a fold, or fewer than two folds.
    """
    if not from_data:
        return {key: str(fold) for key, fold in deal_folds(images, N_FOLDS, need_bad=need_bad).items()}
    folds: dict[str, str] = {}
    of_group: dict[str, str] = {}
    for image in images:
        if not image.fold:
            raise LayoutError("An image has no fold", value=str(image.path), expected="a fold in every labelled row")
        first = of_group.setdefault(image.group, image.fold)
        if first != image.fold:
            raise LayoutError(
                "A group of images is in two folds, which would leak",
                value=image.group,
                expected=f"one fold, not {first} and {image.fold}",
                action="Correct the fold column, or leave --fold-column out",
            )
        folds[image.key] = image.fold
    if len(set(folds.values())) < 2:
        raise LayoutError("There is only one fold", expected="at least two")
    return folds


def cross_validate(
    recipe: Recipe,
    images: Sequence[LabelledImage],
    taps: TapCache,
    *,
    folds: dict[str, str],
    pooling_fractions: Sequence[float] = (),
    device: torch.device,
    reporter: Reporter,
    maps: MapFiles | None = None,
) -> dict[str, Any]:
    """Cross-validate a recipe.

    Args:
        images: labelled images.
        folds: key -> fold name (:func:`assign_folds`).
        pooling_fractions: candidates for q, chosen per fold on its training folds; empty = the recipe's own.
        maps: where the held-out maps are kept; None: they are gone afterwards.

    Returns:
        `pooled` and `folds` (figures, counts and seconds each), `scores` by image, `seconds`, `device`, `settings`.

    Raises:
        TooFewLabelsError: too few good or bad images, or one fold holds all of a class.
        SettingError: candidates were given, but two training folds are needed to choose between them.
    """
    check_labels(images, recipe)
    names = sorted(set(folds.values()))
    for word, bad in (("good", False), ("bad", True))[: 1 if recipe.learns_from == "good" else 2]:
        holding = {folds[image.key] for image in images if image.bad is bad}
        if len(holding) < 2:
            raise TooFewLabelsError(
                f"All {word} images are in one fold, so without it none are left to train on",
                value=min(holding),
                expected=f"{word} images in at least two folds",
                action="Correct the fold column, or leave --fold-column out",
            )
    for fold in names:
        others = [image for image in images if folds[image.key] != fold]
        check_masks(recipe, others, f"Without fold {fold}, the network")
    if pooling_fractions and recipe.pooling_fraction is None:
        raise SettingError(f"{recipe.name} has no pooling fraction to choose", value=list(pooling_fractions))
    if pooling_fractions and len(names) < 3:
        raise SettingError("Choosing the pooling fraction needs folds to choose on", value=len(names), expected="3")
    with ExitStack() as stack:
        return _cross_validate(
            recipe,
            images,
            taps,
            stack.enter_context(temporary_maps()) if maps is None else maps,
            folds=folds,
            pooling_fractions=pooling_fractions,
            device=device,
            reporter=reporter,
        )


def _cross_validate(
    recipe: Recipe,
    images: Sequence[LabelledImage],
    taps: TapCache,
    maps: MapFiles,
    *,
    folds: dict[str, str],
    pooling_fractions: Sequence[float],
    device: torch.device,
    reporter: Reporter,
) -> dict[str, Any]:
    names = sorted(set(folds.values()))
    began = time.monotonic()
    fill_taps(taps, images, device=device, reporter=reporter)
    everything: dict[str, float] = {}
    reports = []
    for fold in names:
        start = time.monotonic()
        training = [image for image in images if folds[image.key] != fold]
        left_out = [image for image in images if folds[image.key] == fold]
        chosen = recipe
        trials: list[dict[str, float | None]] = []
        if pooling_fractions:
            chosen, trials = _choose_q(
                recipe, training, taps, folds, pooling_fractions, fold=fold, device=device, reporter=reporter
            )
        lengths: list[Length] = []
        net = fit(
            chosen, training, taps, device=device, reporter=reporter, name=f"fold {fold}", on_length=lengths.append
        )
        scores = maps.keep(score_cached(net, taps, [image.key for image in left_out], device=device))
        everything.update(scores)
        figures = measure(left_out, scores, maps.read, size=recipe.image_size, sigma=recipe.map_sigma)
        reports.append(
            {
                "fold": fold,
                **dataclasses.asdict(figures),
                "pooling_fraction": chosen.pooling_fraction,
                "pooling_fraction_trials": trials,
                "length": dataclasses.asdict(lengths[0]) if lengths else None,
                "seconds": round(time.monotonic() - start, 1),
                "device": device_title(device),
                "settings": chosen.settings(),
            }
        )
    reporter.progress("Measuring", 0, 0)
    pooled = measure(images, everything, maps.read, size=recipe.image_size, sigma=recipe.map_sigma)
    seconds = round(time.monotonic() - began, 1)
    return {
        "pooled": {
            **dataclasses.asdict(pooled),
            "at_threshold": _at_suggested(images, everything, pooled.n_bad),
            "seconds": seconds,
            "device": device_title(device),
            "settings": recipe.settings(),
        },
        "folds": reports,
        "seconds": seconds,
        "device": device_title(device),
        "settings": {**recipe.settings(), "pooling_fractions": list(pooling_fractions)},
        "backbone_sha256": taps.backbone.weights_hash,
        "scores": [
            {
                "sha256": image.key,
                "fold": folds[image.key],
                "label": "bad" if image.bad else "good",
                "score": everything[image.key],
            }
            for image in images
        ],
    }


def _at_suggested(images: Sequence[LabelledImage], scores: Mapping[str, float], n_bad: int) -> dict[str, Any] | None:
    """Escapes and overkill by the rule that a training suggests, each image at a threshold chosen without it."""
    how = by_training(n_bad)
    rule = rule_of(how)
    labels = np.array([bool(image.bad) for image in images], dtype=np.int8)
    found = np.array([scores[image.key] for image in images], dtype=np.float64)
    if rule is None or n_bad == len(images):
        return None
    threshold, _ = rule.choose(labels, found)
    return count_at_threshold(images, scores, held_out="out_of_fold", threshold=threshold, how=how)


def _choose_q(
    recipe: Recipe,
    training: Sequence[LabelledImage],
    taps: TapCache,
    folds: dict[str, str],
    candidates: Sequence[float],
    *,
    fold: str,
    device: torch.device,
    reporter: Reporter,
) -> tuple[Recipe, list[dict[str, float | None]]]:
    """The candidate with the highest AP on one inner fold, trained on the others; ties go to the lower loss.

    Trials of automatic length take half the steps: enough to rank, and the whole fits the time of one training.
    """
    inner = sorted({folds[image.key] for image in training})[-1]
    inside = [image for image in training if folds[image.key] != inner]
    outside = [image for image in training if folds[image.key] == inner]
    labels = [bool(image.bad) for image in outside]
    if any(len({image.bad for image in used}) < 2 for used in (inside, outside)):
        raise SsnError(
            f"With fold {fold} left out, nothing can be chosen on the others: one lacks good or bad images",
            value=inner,
            action="Leave --choose-q out, or use folds that hold both",
        )
    trials: list[dict[str, float | None]] = []
    best: tuple[float, float, Recipe] | None = None
    for q in candidates:
        trial = recipe.with_settings(
            {"pooling_fraction": q, "min_steps": math.ceil(recipe.min_steps / 2), "early_stop": False}
        )
        net = fit(trial, inside, taps, device=device, reporter=reporter, name=f"fold {fold}, q = {q:g}")
        scores = [s.score for s in score_cached(net, taps, [image.key for image in outside], device=device)]
        ap = metrics.ap(labels, scores) or 0.0  # never None: both classes are there
        loss = balanced_cross_entropy(labels, scores)
        trials.append({"pooling_fraction": q, "ap_det": ap, "loss": loss})
        if best is None or (ap, -loss) > (best[0], -best[1]):
            best = (ap, loss, recipe.with_settings({"pooling_fraction": q}))
    if best is None:
        raise SettingError("No pooling fraction to choose from", value=list(candidates), expected="at least one")
    return best[2], trials
