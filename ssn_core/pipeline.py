"""From labelled images to a calibrated, measured model.

Used by the command line and by the training job alike. Figures, threshold and colour scale always come from images
that the scoring network was not trained on:

- with enough labels, the images' fixed parts: train on "train", calibrate on "calibration", measure on "test";
- with few, out-of-fold: three networks, each trained without one third of the groups, score that third; the model
  itself is then trained on everything.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ssn_core.calibration import Calibration, calibrate, check_scale, map_peaks
from ssn_core.checkpoint import DataEntry, Model
from ssn_core.course import Course
from ssn_core.dataset import LabelledImage, check_labels, check_masks, deal_folds, examples
from ssn_core.evaluation import count_at_threshold, measure
from ssn_core.features import TapCache
from ssn_core.folded_training import can_fold
from ssn_core.half_precision import bfloat16_pays
from ssn_core.inference import device_title, score_cached
from ssn_core.local_evidence import level_of
from ssn_core.map_files import MapFiles, temporary_maps
from ssn_core.memory import give_back
from ssn_core.model import CamNet
from ssn_core.recipes import Recipe
from ssn_core.reporting import Reporter
from ssn_core.rules import by_training
from ssn_core.sampling import LOCAL_IMAGES
from ssn_core.settling import Length, as_data
from ssn_core.side_by_side import Crew
from ssn_core.training import Trainer, room_of
from ssn_core.training_length import epochs_planned, find_length, of_length, samples_ahead, shared_length

# With fewer in the test part, one image moves a rate by more than ten points: then out-of-fold scores say more.
MIN_TEST_PER_CLASS = 10
MIN_CALIBRATION_PER_CLASS = 5
N_FOLDS = 3


@dataclass(frozen=True, slots=True)
class Prediction:
    """A labelled image's score, and the role the image played for the model."""

    score: float  # logit; positive = bad
    role: str  # train | calibration | test | out_of_fold


@dataclass(frozen=True)
class _Networks:
    """What training gives before anything is measured."""

    net: CamNet  # of the model
    scores: dict[str, float]  # by key, of all labelled images: each from the network that is to be judged by it
    length: dict[str, Any] | None  # how long the model was trained, where that was to be found out


@dataclass(frozen=True)
class _Planned:
    """One of the networks that a training needs."""

    name: str
    state: str  # file that keeps its state between epochs
    training: list[LabelledImage]
    wanted: list[LabelledImage]  # that it scores


@dataclass(frozen=True)
class _Fitted:
    """What became of it."""

    net: CamNet
    scores: dict[str, float]  # by key, of the images that it scores
    lengths: list[Length]  # one, where its length was to be found out


@dataclass(frozen=True)
class Trained:
    """What a training run gives."""

    model: Model
    held_out: str  # test | out_of_fold: the role whose predictions are honest
    predictions: dict[str, Prediction]  # by key, for all labelled images


def fill_taps(taps: TapCache, images: Sequence[LabelledImage], *, device: torch.device, reporter: Reporter) -> None:
    """Compute the taps that are not cached yet."""
    title = device_title(device)
    taps.fill(
        ((image.key, image.file) for image in images),
        device=device,
        progress=lambda done, total: reporter.progress("Reading images", done, total, device=title),
    )


def fit(
    recipe: Recipe,
    images: Sequence[LabelledImage],
    taps: TapCache,
    *,
    device: torch.device,
    reporter: Reporter,
    name: str,
    state_file: Path | None = None,
    course: Course | None = None,
    on_length: Callable[[Length], None] | None = None,
) -> CamNet:
    """Train one network on labelled images whose taps are cached, as long as the recipe or a trial run says.

    At several sizes of the images each size's part is trained by itself, one after the other.

    Args:
        name: of the network, for progress and the loss curve: "Model", "Fold 1 of 3".
        state_file: where the state is kept between epochs; a run that was interrupted goes on from there. Those of the
            trial run and of smaller sizes are beside it.
        course: that this training is a part of, where progress is to cover several; None: it stands alone.
        on_length: told how long this network is trained, where the recipe asks to find out (`early_stop`).
    """
    course = course or Course(reporter, samples_ahead(recipe, images), device)
    planned = 0
    if recipe.early_stop:
        trial_state = state_file.with_stem(f"{state_file.stem}-trial") if state_file else None
        length = find_length(recipe, images, taps, course, device=device, name=name, state_file=trial_state)
        planned, recipe = length.planned, of_length(recipe, length.epochs)
        if on_length:
            on_length(length)
    levels, nets = _levels(taps, recipe), []
    for number, (one, level) in enumerate(zip(recipe.at_sizes(), levels, strict=True)):
        beside = state_file.with_stem(f"{state_file.stem}-size-{number}") if state_file and number else state_file
        called = name if recipe.scales == 1 else f"{name}, size {number + 1} of {recipe.scales}"
        # Without a name of its own: what a trainer holds is to be gone before memory is given back.
        nets.append(
            course.run(
                Trainer(one, examples(images, one), level, device), name=called, state_file=beside, planned=planned
            )
        )
        give_back()
    net, *smaller = nets
    if smaller:
        net.take_smaller(
            smaller, [_level(one, images, level, device) for one, level in zip(smaller, levels[1:], strict=True)]
        )
    return net


def _levels(taps: TapCache, recipe: Recipe) -> list[TapCache]:
    levels = taps.levels
    if len(levels) < recipe.scales:
        raise ValueError(f"The recipe looks at {recipe.scales} sizes, the cache holds {len(levels)}")
    return levels[: recipe.scales]


def _level(net: CamNet, images: Sequence[LabelledImage], taps: TapCache, device: torch.device) -> float:
    """The CAM cell of a smaller size's network at which its context's logit is 0."""
    good = [image.key for image in images if not image.bad]
    chosen = np.random.default_rng(len(good)).permutation(len(good))[:LOCAL_IMAGES]
    cams = [found.cam for found in score_cached(net, taps, [good[index] for index in chosen], device=device)]
    return level_of(cams, net.boundary)


def train_model(
    recipe: Recipe,
    images: Sequence[LabelledImage],
    taps: TapCache,
    *,
    device: torch.device,
    reporter: Reporter,
    state_folder: Path | None = None,
    maps: MapFiles | None = None,
) -> Trained:
    """Train, calibrate and measure a model.

    Args:
        images: labelled images, each with its `part` where fixed parts are wanted.
        taps: the cache for this backbone, image size and number of scales.
        state_folder: keeps the state of each network between epochs, so that an interrupted run can go on.
        maps: where the maps of all labelled images are kept, as the predictions were made; None: for measuring only.

    Raises:
        TooFewLabelsError: too few good or bad images, or all of one class come from one part.
    """
    check_labels(images, recipe)
    fill_taps(taps, images, device=device, reporter=reporter)
    with ExitStack() as stack:
        kept = stack.enter_context(temporary_maps()) if maps is None else maps
        return _train_filled(recipe, images, taps, kept, device=device, reporter=reporter, state_folder=state_folder)


def _train_filled(
    recipe: Recipe,
    images: Sequence[LabelledImage],
    taps: TapCache,
    maps: MapFiles,
    *,
    device: torch.device,
    reporter: Reporter,
    state_folder: Path | None,
) -> Trained:
    fixed = fixed_parts_suffice(images)
    networks = _train_networks(
        recipe, images, taps, maps, fixed=fixed, device=device, reporter=reporter, state_folder=state_folder
    )
    held_out, source = ("test", "calibration") if fixed else ("out_of_fold", "out_of_fold")
    reporter.progress("Measuring", 0, 0)
    scores, measured = networks.scores, _with_role(images, held_out, fixed=fixed)
    calibration = _calibrate(recipe, images, scores, maps, source, fixed=fixed)
    figures = measure(measured, scores, maps.read, size=recipe.image_size, sigma=recipe.map_sigma)
    at_threshold = count_at_threshold(
        measured,
        scores,
        held_out=held_out,
        threshold=calibration.threshold,
        how=by_training(calibration.n_bad),
    )
    model = Model(
        recipe=recipe,
        net=networks.net,
        backbone_hash=taps.backbone.weights_hash,
        backbone_weights=taps.backbone.weights,
        calibration=calibration,
        data=[
            DataEntry(image.key, "bad" if image.bad else "good", image.group, _role(image, fixed=fixed))
            for image in images
        ],
        figures={
            "held_out": held_out,
            **dataclasses.asdict(figures),
            "at_threshold": at_threshold,
            "device": device_title(device),
            "length": networks.length,
        },
    )
    predictions = {image.key: Prediction(scores[image.key], _role(image, fixed=fixed)) for image in images}
    return Trained(model, held_out, predictions)


def _train_networks(
    recipe: Recipe,
    images: Sequence[LabelledImage],
    taps: TapCache,
    maps: MapFiles,
    *,
    fixed: bool,
    device: torch.device,
    reporter: Reporter,
    state_folder: Path | None,
) -> _Networks:
    """Train the folds' networks and the model, side by side where that pays, and score every image.

    Maps go to their files.

    Args:
        fixed: the images' fixed parts are used; else folds are dealt.
    """
    folds = {} if fixed else deal_folds(images, N_FOLDS, need_bad=recipe.learns_from != "good")
    n_folds = len(set(folds.values()))
    of_folds = [
        _Planned(
            name=f"Fold {fold + 1} of {n_folds}",
            state=f"fold-{fold}.pt",
            training=[image for image in images if folds[image.key] != fold],
            wanted=[image for image in images if folds[image.key] == fold],
        )
        for fold in range(n_folds)
    ]
    everything = [image for image in images if not fixed or image.part == "train"]
    model = _Planned("Model", "model.pt", training=everything, wanted=list(images) if fixed else [])
    for planned in (*of_folds, model):
        check_masks(recipe, planned.training, planned.name)
    # Out-of-fold, the model is trained as long as the folds' networks turned out to be: without a trial of its own.
    whole = recipe if fixed else of_length(recipe, recipe.epochs)
    ahead = sum(samples_ahead(recipe, planned.training) for planned in of_folds)
    crew = Crew(reporter, device, room=room_of(recipe))
    course = Course(crew, ahead + samples_ahead(whole, everything), device)
    bfloat16_pays(device, folded=can_fold(recipe))  # measured now, while nothing else computes

    def fitted(recipe: Recipe, planned: _Planned) -> _Fitted:
        lengths: list[Length] = []
        net = fit(
            recipe,
            planned.training,
            taps,
            device=device,
            reporter=crew,
            name=planned.name,
            state_file=state_folder / planned.state if state_folder else None,
            course=course,
            on_length=lengths.append,
        )
        found = score_cached(net, taps, [image.key for image in planned.wanted], device=device)
        return _Fitted(net, maps.keep(found), lengths)

    tasks = [partial(fitted, recipe, planned) for planned in of_folds]
    if recipe.early_stop and not fixed:
        done = crew.run(tasks)
        lengths = [length for one in done for length in one.lengths]
        chosen = of_length(recipe, shared_length(recipe, everything, lengths)) if lengths else whole
        course.drop(samples_ahead(whole, everything) - samples_ahead(chosen, everything))
        done += crew.run([partial(fitted, chosen, model)])
    else:
        done = crew.run([*tasks, partial(fitted, whole, model)])
    scores = {key: score for one in done for key, score in one.scores.items()}
    return _Networks(done[-1].net, scores, _length(recipe, everything, [x for one in done for x in one.lengths]))


def _length(recipe: Recipe, training: Sequence[LabelledImage], lengths: Sequence[Length]) -> dict[str, Any] | None:
    """How long the model was trained, where that was to be found out; with fixed parts, by its own trial."""
    if not lengths:
        return None
    return as_data(shared_length(recipe, training, lengths), epochs_planned(recipe, training), lengths)


def fixed_parts_suffice(images: Sequence[LabelledImage]) -> bool:
    """Whether the fixed parts hold enough labelled images of both classes to calibrate and to measure with."""

    def least(part: str) -> int:
        return min(sum(image.part == part and image.bad is bad for image in images) for bad in (False, True))

    return (
        least("test") >= MIN_TEST_PER_CLASS
        and least("calibration") >= MIN_CALIBRATION_PER_CLASS
        and least("train") >= MIN_TEST_PER_CLASS
    )


def _role(image: LabelledImage, *, fixed: bool) -> str:
    """The role that an image plays for the model."""
    return (image.part or "train") if fixed else "out_of_fold"


def _with_role(images: Sequence[LabelledImage], role: str, *, fixed: bool) -> list[LabelledImage]:
    return [image for image in images if _role(image, fixed=fixed) == role]


def _calibrate(
    recipe: Recipe,
    images: Sequence[LabelledImage],
    scores: Mapping[str, float],
    maps: MapFiles,
    role: str,
    *,
    fixed: bool,
) -> Calibration:
    def peaks(used: Sequence[LabelledImage]) -> list[float]:
        cams = (maps.read(image.key) for image in used)
        return map_peaks(cams, recipe.image_size, sigma=recipe.map_sigma)

    used = _with_role(images, role, fixed=fixed)
    found = calibrate(
        [bool(image.bad) for image in used],
        [scores[image.key] for image in used],
        peaks(used),
        source=role,
        groups=[image.group for image in used] if role == "out_of_fold" else (),
    )
    if role == "out_of_fold":
        return found
    good = [image for image in _with_role(images, "test", fixed=fixed) if not image.bad]
    return dataclasses.replace(found, scale_check=check_scale(peaks(good), low=found.scale_low))
