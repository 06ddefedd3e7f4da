"""Recipes: every setting of a training run, frozen, named and checked in one place.

One network family serves all recipes (backbone x adaptor x noise x head x pooling); a recipe is an instance of
:class:`Recipe`, not a file of code. Nothing here imports torch, so pages can offer the recipes without waiting for it.

Sources of the values: SuperSimpleNet (Rolih et al., ICPR 2024, arXiv 2408.03143) and the SuperSimpleNet-Evolved study
(GAP+CAM head). Where `cam` departs from them, the comment beside the field says why.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ssn_core.errors import SettingError

BACKBONES: tuple[str, ...] = ("resnet18", "wide_resnet50_2")
BACKBONE_TITLES: dict[str, str] = {
    "resnet18": "ResNet18 – small and fast, for the edge",
    "wide_resnet50_2": "WideResNet50-2 – larger and slower",
}

# Fewer than these leave nothing to measure with: of three bad images, each in turn is held out while two train.
MIN_GOOD = 4
MIN_BAD = 3

Padding = Literal["replicate", "zeros"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """All settings of one training run. Immutable; make variants with :meth:`with_settings`."""

    name: str
    title: str
    description: str

    backbone: str = "resnet18"
    image_size: tuple[int, int] = (256, 256)  # (H, W), pixels
    padding: Padding = "replicate"  # of every convolution: zeros light up the map's border (see model.py)
    # The adaptor starts as the map that gives each channel of the training images mean 0 and variance 1, instead of
    # from random numbers: channels differ a hundredfold in scale, and a short training cannot undo that.
    standardise: bool = True
    feature_scale: int = 1  # cells per layer2 cell and axis; the papers use 2, at four times the work
    pooling_fraction: float = 0.01  # q: share of CAM cells, highest first, whose mean is the score; 1 is GAP
    head_width: int = 128  # channels between the 5x5 convolution and the CAM

    noise_std: float = 0.015  # of the Gaussian feature noise, per element
    noise_threshold: float = 0.2  # a cell is perturbed where the Perlin noise exceeds this
    noise_skip: float = 1.0  # probability that a sample gets no synthetic anomaly at all

    # Cross-entropy and five times the published rates: this recipe takes some 120 steps, not 300 epochs, and a focal
    # loss of gamma 4 all but stops learning from what is half right already.
    focal_gamma: float = 0.0
    adaptor_lr: float = 5e-4
    head_lr: float = 1e-3
    head_weight_decay: float = 1e-5
    clip_norm: float = 1.0
    batch_size: int = 8  # images; noise doubles it
    epochs: int = 0  # 0 = automatic: as many as `min_steps` optimiser steps need
    min_steps: int = 120
    flip_good: bool = True  # good images are flipped as well as bad ones, so that a flip never means "bad"
    seed: int = 0

    map_sigma: float = 4.0  # pixels; Gaussian blur of the map for people, 0 = none

    def with_settings(self, settings: Mapping[str, Any]) -> Recipe:
        """A copy with some settings changed.

        Raises:
            SettingError: a setting that does not exist, or a value outside its range.
        """
        known = {field.name for field in dataclasses.fields(self)} - {"name", "title", "description"}
        for key in settings:
            if key not in known:
                raise SettingError(
                    "This setting does not exist", value=key, expected="one of " + ", ".join(sorted(known))
                )
        changed = dict(settings)
        if isinstance(changed.get("image_size"), list):  # as JSON has it
            changed["image_size"] = tuple(changed["image_size"])
        recipe = dataclasses.replace(self, **changed)
        recipe.check()
        return recipe

    def check(self) -> None:
        """Check every value against its range.

        Raises:
            SettingError: names the first setting that is out of range, its value and the range.
        """
        if self.backbone not in BACKBONES:
            raise SettingError("Unknown backbone", value=self.backbone, expected="one of " + ", ".join(BACKBONES))
        if self.padding not in ("replicate", "zeros"):
            raise SettingError("Unknown padding", value=self.padding, expected="replicate or zeros")
        for name in ("standardise", "flip_good"):
            if not isinstance(getattr(self, name), bool):
                raise SettingError(f"{name} is out of range", value=getattr(self, name), expected="true or false")
        if not isinstance(self.image_size, tuple) or len(self.image_size) != 2:
            raise SettingError("image_size has two numbers", value=self.image_size, expected="height and width")
        for side in self.image_size:
            # 64 leaves 4 cells at stride 16; above 2048 a training batch no longer fits ordinary memory.
            if not _is_whole(side) or not 64 <= side <= 2048:
                raise SettingError("image_size is out of range", value=side, expected="whole pixels from 64 to 2048")
        for name, low, high in (
            ("feature_scale", 1, 4),
            ("head_width", 1, 4096),
            ("batch_size", 1, 1024),
            ("epochs", 0, 100_000),
            ("min_steps", 1, 1_000_000),
            ("seed", 0, 2**32 - 1),
        ):
            value = getattr(self, name)
            if not _is_whole(value) or not low <= value <= high:
                raise SettingError(f"{name} is out of range", value=value, expected=f"a whole number, {low} to {high}")
        for name, least, most, open_low in (
            ("pooling_fraction", 0.0, 1.0, True),
            ("noise_std", 0.0, 10.0, False),
            ("noise_threshold", -1.0, 1.0, False),
            ("noise_skip", 0.0, 1.0, False),
            ("focal_gamma", 0.0, 20.0, False),
            ("adaptor_lr", 0.0, 1.0, False),
            ("head_lr", 0.0, 1.0, True),
            ("head_weight_decay", 0.0, 1.0, False),
            ("clip_norm", 0.0, 1e6, True),
            ("map_sigma", 0.0, 64.0, False),
        ):
            number = getattr(self, name)
            real = isinstance(number, int | float) and not isinstance(number, bool)
            valid = real and least <= number <= most and not (open_low and number == least)
            if not valid:
                bounds = f"a number {'above' if open_low else 'from'} {least:g} to {most:g}"
                raise SettingError(f"{name} is out of range", value=number, expected=bounds)

    def settings(self) -> dict[str, Any]:
        """All settings as plain values, for model.json and reports."""
        values = dataclasses.asdict(self)
        values["image_size"] = list(self.image_size)
        return values


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


_ALL = (
    Recipe(
        name="cam",
        title="CAM – image labels only (recommended)",
        description="Learns from Good and Bad on whole images. Scores an image by its most suspicious cells, "
        "so that a small defect is not averaged away.",
    ),
    Recipe(
        name="gap-cam",
        title="GAP+CAM – as published",
        description="The SuperSimpleNet-Evolved study's method: the mean of the whole map is the score. "
        "Slower, and small defects are diluted by their area.",
        padding="zeros",
        standardise=False,
        feature_scale=2,
        pooling_fraction=1.0,
        noise_skip=0.5,
        focal_gamma=4.0,
        adaptor_lr=1e-4,
        head_lr=2e-4,
        batch_size=32,
        epochs=300,
        flip_good=False,
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
