"""The named recipes. A further one is one more entry of `_ALL`; pages, commands and tests take them all from here.

Imports no torch, so that pages can offer them without waiting for it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ssn_core.errors import SettingError
from ssn_core.recipe_settings import ADAPTORS, BACKBONES, NOISES, Padding, Recipe

__all__ = [
    "ADAPTORS",
    "ADAPTOR_TITLES",
    "BACKBONES",
    "BACKBONE_TITLES",
    "CHOICES",
    "DEFAULT_RECIPE",
    "MIN_BAD",
    "MIN_GOOD",
    "NOISES",
    "NOISE_TITLES",
    "RECIPES",
    "SCALE_TITLES",
    "Padding",
    "Recipe",
    "chosen",
    "completed",
    "get_recipe",
    "lacking",
    "recorded",
]

BACKBONE_TITLES: dict[str, str] = {
    "resnet18": "ResNet18 – small and fast, for the edge",
    "wide_resnet50_2": "WideResNet50-2 – larger and slower",
}
ADAPTOR_TITLES: dict[str, str] = {
    "linear": "1×1 linear – the smallest",
    "conv": "3×3 convolution (Scenario B) – slower",
}
SCALE_TITLES: dict[int, str] = {
    1: "One – the image as it is",
    3: "Three – also at 0.7 and 0.5 of its size",
}
NOISE_TITLES: dict[str, str] = {
    "none": "none",
    "gaussian": "Gaussian",
    "learned": "learned by a second network",
}

# Fewer than these leave nothing to measure with: of three bad images, each in turn is held out while two train.
MIN_GOOD = 4
MIN_BAD = 3

_AS_PUBLISHED: dict[str, Any] = {
    "padding": "zeros",
    "standardise": False,
    "feature_scale": 2,
    "noise_skip": 0.5,
    "focal_gamma": 4.0,
    "adaptor_lr": 1e-4,
    "head_lr": 2e-4,
    "batch_size": 32,
    "epochs": 300,
    "flip_good": False,
}
_SUPERSIMPLENET: dict[str, Any] = {
    **_AS_PUBLISHED,
    "head": "ssn",
    "pooling_fraction": None,
    "noise_on": "both",
    "losses": ("score-focal", "map-focal", "map-l1"),
}
_WITH_MASKS: dict[str, Any] = {
    **_SUPERSIMPLENET,
    "plain_class_features": True,
    "noise_threshold": 0.6,
    "dilation": 7,
    "distance_weight": 3.0,
    "distance_power": 2.0,
}

_ALL = (
    Recipe(
        name="cam",
        title="CAM – image labels only (recommended)",
        description="Learns from Good and Bad on whole images. Scores an image by its most suspicious cells, "
        "so that a small defect is not averaged away, and draws a fine map.",
        cam_fraction=0.01,
        pooling_fraction=0.001,
        local_width=64,
        map_sigma=1.0,
    ),
    Recipe(
        name="gap-cam",
        title="GAP+CAM – image labels only, as published",
        description="The SuperSimpleNet-Evolved study's method: the mean of the whole map is the score. "
        "Small defects are diluted by their area.",
        pooling_fraction=1.0,
        **_AS_PUBLISHED,
    ),
    Recipe(
        name="supersimplenet",
        title="SuperSimpleNet – good images only",
        description="Learns what good looks like, against synthetic anomalies; bad images are used to measure only. "
        "Needs no bad image.",
        learns_from="good",
        clip_norm=0.0,
        **_SUPERSIMPLENET,
    ),
    Recipe(
        name="simplenet",
        title="SimpleNet – good images only",
        description="The older method for good images alone: noise everywhere, the score is the map's highest cell. "
        "Needs no bad image.",
        learns_from="good",
        **{
            **_AS_PUBLISHED,
            "feature_scale": 1,
            "head": "map",
            "pooling_fraction": 0.0,
            "noise_shape": "everywhere",
            "noise_skip": 0.0,
            "losses": ("map-l1",),
            "clip_norm": 0.0,
        },
    ),
    Recipe(
        name="supersimplenet-supervised",
        title="SuperSimpleNet – masks of all bad images",
        description="Learns from drawn defects: every bad image needs a mask. The most exact maps.",
        learns_from="masks",
        **_WITH_MASKS,
    ),
    Recipe(
        name="mixed",
        title="SuperSimpleNet – masks of some bad images",
        description="Learns from Good and Bad on whole images, and from drawn defects where there are any.",
        learns_from="mixed",
        **_WITH_MASKS,
    ),
)

RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in _ALL}
DEFAULT_RECIPE = "cam"


def get_recipe(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        SettingError: no such recipe; the message lists those that exist.
    """
    if name not in RECIPES:
        raise SettingError("Unknown recipe", value=name, expected="one of " + ", ".join(RECIPES))
    return RECIPES[name]


# What the Train page and the command line ask for by name; of all else they take the recipe's own.
CHOICES = (
    "backbone",
    "image_size",
    "scales",
    "epochs",
    "early_stop",
    "seed",
    "pooling_fraction",
    "adaptor",
    "noise",
    "beta",
)


def chosen(name: str, choices: Mapping[str, Any], settings: Mapping[str, Any] | None = None) -> Recipe:
    """The recipe of that name with a person's choices.

    Args:
        choices: values by the names in :data:`CHOICES`; None or missing: the recipe's own. Of "noise" any of
            :data:`NOISES`. Other names are passed over.
        settings: any further settings of the recipe.

    Raises:
        SettingError: a recipe or setting that does not exist, or a value out of range.
    """
    recipe = get_recipe(name)
    wanted = {key: choices[key] for key in CHOICES if choices.get(key) is not None}
    noise = recipe.noise_settings(wanted.pop("noise")) if "noise" in wanted else {}
    return recipe.with_settings({**noise, **(settings or {}), **wanted})


# Settings of earlier versions that only a training knew; a model does not depend on them any more.
_GONE = ("settle_epochs",)


def recorded(name: str, settings: Mapping[str, Any]) -> Recipe:
    """The recipe as it was when a model was trained, from its name and the settings that were written down then.

    Raises:
        SettingError: as :func:`get_recipe` and :meth:`Recipe.with_settings`.
    """
    known = {key: value for key, value in settings.items() if key not in _GONE}
    return get_recipe(name).with_settings(completed(known))


def completed(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that were written down when a model was trained, and those that did not exist at that time.

    Of these the field's default is what the code did then, whatever the recipe of that name has today.
    """
    missing = {
        field.name: field.default
        for field in dataclasses.fields(Recipe)
        if field.default is not dataclasses.MISSING and field.name not in settings
    }
    return {**settings, **missing}


def lacking(recipe: Recipe, *, n_good: int, n_bad: int, n_marked: int) -> str | None:
    """What a recipe still needs before it can be trained, as an instruction for people, or None.

    Args:
        n_good, n_bad: labelled images.
        n_marked: of the bad ones, those that have a defect mask.
    """
    need_bad = 0 if recipe.learns_from == "good" else MIN_BAD
    missing = {"good": max(MIN_GOOD - n_good, 0), "bad": max(need_bad - n_bad, 0)}
    if any(missing.values()):
        asked = [f"{n} more {word} image{'s' if n > 1 else ''}" for word, n in missing.items() if n]
        return f"Label {' and '.join(asked)}, then train"
    if not recipe.reads_marks:
        return None
    if not n_marked:
        return "It learns from defect masks and no bad image has one: import masks, or choose a recipe without"
    if recipe.learns_from == "masks" and n_marked < n_bad:
        n = n_bad - n_marked
        return (
            f"{n} of {n_bad} bad images {'has' if n == 1 else 'have'} no defect mask: import the missing ones, "
            "or choose the recipe for masks of some bad images"
        )
    if n_marked < MIN_BAD:  # each mask is held out once; what trains meanwhile must still hold some
        n = MIN_BAD - n_marked
        return f"Import defect masks of {n} more bad image{'s' if n > 1 else ''}, then train"
    return None
