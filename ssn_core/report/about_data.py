"""The sections on what a report is about: purpose, data and labels, splits, method and settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ssn_core.report.facts import Facts, Portion
from ssn_core.report.html import Content, Html, join, pairs, paragraphs, table, tag
from ssn_core.report.words import count, missing, number, plain_value
from ssn_core.settling import in_words

_PARTS = {
    "train": "Train: to learn from",
    "calibration": "Calibration: for thresholds and the colour scale",
    "test": "Test: to measure with",
}
_ROLES = {
    "train": "Learned from",
    "calibration": "Calibration: thresholds and colour scale were chosen on them",
    "test": "Test: never seen; the figures rest on them",
    "out_of_fold": "Out-of-fold: each scored by a network that had not seen its group; the figures rest on them",
    "unseen": "Never seen, scored later (no label at that time, or new): no figure rests on them",
}
_WEIGHTS = {
    "imagenet": "ImageNet weights (photographs of everyday things)",
    "bundled": "bundled weights, pretrained on generated textures alone (less accurate than ImageNet's)",
    "random": "random weights, which nothing was learned with before (for tests)",
}
_LEARNS = {
    "labels": "The model learns from verdicts on whole images (weak supervision); it never sees a mask.",
    "good": "The model learns from good images alone, against noise that it adds to their features; bad images only "
    "measure it, and it never sees a mask.",
    "masks": "The model learns from good images and from bad ones whose defects are marked by masks.",
    "mixed": "The model learns from verdicts on whole images, and from masks where bad images have one.",
}
# What the settings are called in words; the others are shown by their names.
_SETTINGS = {
    "image_size": "Image size, height × width in pixels",
    "seed": "Seed of every random choice",
    "epochs": "Passes over the training images (0: as many as the steps below need)",
    "min_steps": "Optimiser steps at least",
    "early_stop": "A trial run finds out how many of these passes are needed",
    "batch_size": "Images in one step",
    "pooling_fraction": "Share of the map's cells, most suspicious first, whose mean is the score",
    "learns_from": "Learns from (labels of whole images; good images alone; masks; mixed: labels and masks)",
    "head": "Head (cam: weighted channels; ssn: segmentation and classification; map: segmentation alone)",
    "adaptor": "Adaptor, the first trained layer",
    "losses": "Losses that are added up",
    "noise": "Kind of feature noise",
    "noise_shape": "Where the feature noise may lie",
    "noise_on": "What gets feature noise (copy: a second copy of each batch; both: each batch and its copy)",
    "beta": "Largest value of the learned noise",
    "generator_lr": "Learning rate of the learned noise",
    "generator_every": "Batches from one step of the learned noise to the next",
    "generator_penalty": "Penalty on the size of the learned noise",
    "scales": "Sizes at which an image is looked at, each with half the pixels of the one before",
    "plain_class_features": "The classification head sees features before the adaptor",
    "local_width": "Hidden units of the local head, which makes the map finer (0: none)",
    "cam_fraction": "Share of the coarse map's cells that the training counts (none: the share above)",
    "map_width": "Channels inside the segmentation head",
    "align_corners": "Features are enlarged with corners aligned",
    "l1_margin": "Margin of the truncated L1 loss",
    "dilation": "Pixels by which masks grow to each side before training",
    "distance_weight": "Weight of a marked defect's innermost pixel (0: all pixels weigh 1)",
    "distance_power": "How fast that weight falls to the defect's edge",
    "padding": "Border of each convolution",
    "standardise": "Features start with mean 0 and variance 1",
    "feature_scale": "Map cells per feature cell and axis",
    "head_width": "Channels of the head",
    "noise_std": "Standard deviation of the feature noise",
    "noise_threshold": "Threshold of the noise's shape",
    "noise_skip": "Share of samples without added noise",
    "focal_gamma": "Gamma of the focal loss (0: cross-entropy)",
    "adaptor_lr": "Learning rate of the adaptor",
    "head_lr": "Learning rate of the head",
    "head_weight_decay": "Weight decay of the head",
    "clip_norm": "Largest norm of a gradient (0: not limited)",
    "flip_good": "Good images are mirrored too",
    "map_sigma": "Blur of the maps that people see, pixels",
}
_SAID_ELSEWHERE = {"name", "title", "description", "backbone", "image_size", "seed"}


def purpose(facts: Facts) -> Html:
    """What the model is for, as a person typed it."""
    if not facts.purpose.strip():
        return tag("p", "No purpose was written down for this model.", class_="none")
    return tag("div", paragraphs(facts.purpose), class_="typed")


def data(facts: Facts) -> Html:
    """Images and labels of today."""
    found = facts.data
    rows: list[tuple[Content, Content]] = [
        ("Images", number(found.total)),
        ("Parts or items (groups: images of one are never on both sides of a split)", number(found.groups)),
        ("Labelled good", number(found.good)),
        ("Labelled bad", number(found.bad)),
        ("Unsure", number(found.unsure)),
        ("Not labelled", number(found.unlabelled)),
        (f"Images with a defect mask ({_use_of_masks(facts)})", number(found.with_mask)),
    ]
    if found.by_inspector:
        inspectors = table(
            ["Inspector", "good", "bad", "unsure"],
            ([one.inspector, number(one.good), number(one.bad), number(one.unsure)] for one in found.by_inspector),
        )
    else:
        inspectors = tag("p", "No image has a label.", class_="none")
    return join(
        tag("p", "The images of the project with their labels as they are now. The newest label of an image counts."),
        pairs(rows),
        tag("h3", "Who gave the labels"),
        inspectors,
        _learned_from(facts),
    )


def _learned_from(facts: Facts) -> Html:
    heading = tag("h3", "What the model learned from")
    trained = facts.trained
    if isinstance(trained, str):
        return join(heading, tag("p", missing(trained), class_="none"))
    by = "their labels and the masks of bad ones" if _learns_from_masks(facts) else "their labels alone"
    sentences = [f"{count(trained.n_good, 'good image')} and {count(trained.n_bad, 'bad image')}, by {by}."]
    if trained.relabelled:
        sentences.append(
            f"{count(trained.relabelled, 'image')} that had a label at the training "
            f"{'has' if trained.relabelled == 1 else 'have'} another one today, or none, or "
            f"{'is' if trained.relabelled == 1 else 'are'} gone."
        )
    else:
        sentences.append("All labels of the training are still the same.")
    if trained.labelled_since:
        sentences.append(
            f"{count(trained.labelled_since, 'image')} was labelled since."
            if trained.labelled_since == 1
            else f"{count(trained.labelled_since, 'image')} were labelled since."
        )
    return join(heading, tag("p", " ".join(sentences)))


def split(facts: Facts) -> Html:
    """What was trained on, what was measured on, and why the one never saw the other."""
    if facts.held_out == "test":
        how = (
            "Each group (all images of one part or item) was put into one of three parts, once and for ever, by a hash "
            "of its name. The model was trained on the train part alone; the colour scale and the thresholds that a "
            "rule suggests were chosen on the calibration part; the figures of this report rest on the test part, "
            "which took no part in either."
        )
    else:
        how = (
            "There were too few labels to set a part aside, so the figures rest on out-of-fold scores "
            "(cross-validation by group): the groups were dealt to three folds (fewer where there are fewer groups), "
            "three networks were each trained without one fold, and each scored the fold it had not seen. The model "
            "itself was then trained on all labelled images with the same settings. Thresholds and colour scale were "
            "chosen on the out-of-fold scores."
        )
    found = facts.data
    roles = [*_portions(found.roles, _ROLES)]
    if found.without_score:
        roles.append(["Without a score of this model", "", "", "", "", number(found.without_score)])
    parts = "Every group belongs to one of these parts for ever."
    if facts.held_out != "test":
        parts += " They are used once there are enough labels in each."
    return join(
        tag("p", how),
        tag("h3", "What the images were to this model"),
        _counts(roles, "The model has scored no image."),
        tag("h3", "Parts of the project's data"),
        tag("p", parts),
        _counts(_portions(found.parts, _PARTS), "There is no image."),
    )


_HEAD = ("", "good", "bad", "other", "groups", "images")


def _counts(rows: Iterable[Iterable[Content]], nothing: str) -> Html:
    found = list(rows)
    return table(_HEAD, found, class_="counts") if found else tag("p", nothing, class_="none")


def _use_of_masks(facts: Facts) -> str:
    return "this model learned from those of bad images" if _learns_from_masks(facts) else "never used to train"


def _learns_from_masks(facts: Facts) -> bool:
    return facts.settings.get("learns_from") in ("masks", "mixed")


def _portions(portions: Iterable[Portion], words: dict[str, str]) -> Iterable[list[Content]]:
    for one in portions:
        counts = (one.good, one.bad, one.other, one.groups, one.good + one.bad + one.other)
        yield [words.get(one.name, one.name), *map(number, counts)]


def _score(settings: Mapping[str, Any]) -> str:
    fraction = settings.get("pooling_fraction")
    if settings.get("head") == "ssn":
        return "computed by a second head from the features and the whole map, so no place's share in it is known."
    cells = (
        "the mean of the whole map"
        if fraction == 1
        else "the map's highest cell"
        if fraction == 0
        else f"the mean of its most suspicious {100 * fraction:g}\N{NO-BREAK SPACE}% of cells"
        if isinstance(fraction, int | float)
        else "the mean of its most suspicious cells"
    )
    return f"{cells}, plus a constant, so the map is the evidence itself and not an explanation made up afterwards."


def method(facts: Facts) -> Html:
    """How a score comes about, and every setting."""
    settings = facts.settings
    trained = facts.trained
    hashed = None if isinstance(trained, str) else trained.weights_sha256
    size = settings.get("image_size")
    rows: list[tuple[Content, Content]] = [
        ("Recipe", _recipe(facts)),
        ("Backbone", facts.backbone),
        ("Weights of the backbone", _WEIGHTS.get(facts.weights or "", facts.weights or missing("not recorded"))),
        ("SHA-256 of these weights", _hash(hashed, "the model's folder does not say")),
        (_SETTINGS["image_size"], plain_value(size) if size else missing("not recorded")),
        (_SETTINGS["seed"], plain_value(settings["seed"]) if "seed" in settings else missing("not recorded")),
        ("Trained on", facts.device or missing("not recorded")),
    ]
    if facts.length is not None:
        rows.append(("Length of the training", in_words(facts.length)))
    others = [
        (_SETTINGS.get(key, key.replace("_", " ")), plain_value(settings[key]))
        for key in sorted(settings, key=lambda key: (list(_SETTINGS).index(key) if key in _SETTINGS else 99, key))
        if key not in _SAID_ELSEWHERE
    ]
    return join(
        tag(
            "p",
            f"{_LEARNS.get(settings.get('learns_from', ''), _LEARNS['labels'])} A frozen network, the backbone, turns "
            "each image into features. A small trained head on top of it gives every place of the image a value, the "
            "map: the higher, the more it speaks for a defect. The score (a logit) is "
            f"{_score(settings)} A score at or above the threshold means bad.",
        ),
        pairs(rows),
        tag("h3", "All other settings"),
        pairs(others) if others else tag("p", missing("the settings were not recorded"), class_="none"),
    )


def _recipe(facts: Facts) -> Content:
    if not facts.recipe_title:
        return facts.recipe
    return [f"{facts.recipe}: {facts.recipe_title}", tag("br"), tag("small", facts.recipe_description)]


def _hash(value: str | None, reason: str) -> Content:
    return tag("code", value) if value else missing(reason)
