"""The settings of a training run: one frozen dataclass, each value checked against its range and against the others.

One network family serves all recipes (backbone x adaptor x noise x head x pooling x losses); a recipe is an instance
of :class:`Recipe` (:mod:`ssn_core.recipes`), not a file of code. Nothing here imports torch, so pages can offer the
recipes without waiting for it.

A setting that is added later gets as its default what the code did before the setting existed: model folders written
until then do not name it (:func:`ssn_core.recipes.recorded`).

Sources of the values: SuperSimpleNet (Rolih et al., ICPR 2024, arXiv 2408.03143) and its extension (JIMS, arXiv
2508.19060), SimpleNet (Liu et al., CVPR 2023) and the SuperSimpleNet-Evolved study (GAP+CAM head, learned noise). Where
`cam` departs from them, the comment beside the field says why.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from ssn_core.errors import SettingError
from ssn_core.sizes import LEAST, sizes_of

BACKBONES: tuple[str, ...] = ("resnet18", "wide_resnet50_2")

Padding = Literal["replicate", "zeros"]
# Good and bad images | good images alone | masks of all bad images | masks of some bad images, labels of the others
LearnsFrom = Literal["labels", "good", "masks", "mixed"]
Adaptor = Literal["linear", "conv"]
Head = Literal["cam", "ssn", "map"]  # heads.py describes them
Noise = Literal["gaussian", "learned"]
NoiseShape = Literal["perlin", "everywhere"]
NoiseOn = Literal["copy", "both"]  # the copy of the batch alone, or the batch and its copy
Loss = Literal["score-focal", "map-focal", "map-l1"]  # losses.py describes them

ADAPTORS: tuple[str, ...] = get_args(Adaptor)
NOISES: tuple[str, ...] = ("none", *get_args(Noise))  # as :meth:`Recipe.noise_settings` takes them

_CHOICES: dict[str, tuple[str, ...]] = {
    "backbone": BACKBONES,
    "padding": get_args(Padding),
    "learns_from": get_args(LearnsFrom),
    "adaptor": ADAPTORS,
    "head": get_args(Head),
    "noise": get_args(Noise),
    "noise_shape": get_args(NoiseShape),
    "noise_on": get_args(NoiseOn),
}
_SWITCHES = ("standardise", "flip_good", "align_corners", "plain_class_features", "early_stop")
_WHOLE: dict[str, tuple[int, int]] = {
    "feature_scale": (1, 4),
    "head_width": (1, 4096),
    "map_width": (1, 16384),
    "local_width": (0, 4096),
    "scales": (1, 4),
    "batch_size": (1, 1024),
    "epochs": (0, 100_000),
    "min_steps": (1, 1_000_000),
    "generator_every": (1, 1_000_000),
    "dilation": (0, 1024),
    "seed": (0, 2**32 - 1),
}
_NUMBERS: dict[str, tuple[float, float, bool]] = {  # least, most, whether the least itself is excluded
    "noise_std": (0.0, 10.0, False),
    "noise_threshold": (-1.0, 1.0, False),
    "noise_skip": (0.0, 1.0, False),
    "beta": (0.0, 10.0, True),
    "generator_lr": (0.0, 1.0, True),
    "generator_penalty": (0.0, 1e6, False),
    "focal_gamma": (0.0, 20.0, False),
    "l1_margin": (0.0, 100.0, False),
    "distance_weight": (0.0, 1000.0, False),
    "distance_power": (0.0, 20.0, False),
    "adaptor_lr": (0.0, 1.0, False),
    "head_lr": (0.0, 1.0, True),
    "head_weight_decay": (0.0, 1.0, False),
    "clip_norm": (0.0, 1e6, False),
    "map_sigma": (0.0, 64.0, False),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """All settings of one training run. Immutable; make variants with :meth:`with_settings`."""

    name: str
    title: str
    description: str

    learns_from: LearnsFrom = "labels"

    # Network
    backbone: str = "resnet18"
    image_size: tuple[int, int] = (256, 256)  # (H, W), pixels
    padding: Padding = "replicate"  # of every convolution: zeros light up the map's border (see model.py)
    feature_scale: int = 1  # cells per layer2 cell and axis; the papers use 2, at four times the work
    align_corners: bool = True  # of the taps' upsampling: the authors' code; anomalib's port has False
    adaptor: Adaptor = "linear"  # 1x1; "conv" is the study's Scenario B: 3x3, batch norm, ReLU
    # The adaptor starts as the map that gives each channel of the training images mean 0 and variance 1, instead of
    # from random numbers: channels differ a hundredfold in scale, and a short training cannot undo that.
    standardise: bool = True
    head: Head = "cam"
    head_width: int = 128  # channels between the 5x5 convolution and the CAM or the score
    map_width: int = 1024  # channels inside the segmentation head
    # q: share of map cells, highest first, whose mean is the score; 1 is GAP, 0 the highest cell alone.
    # None: the head computes the score in another way.
    pooling_fraction: float | None = 0.01
    # Hidden units of the local head, which makes the map finer (local_evidence.py); 0 = none. The cells that q counts
    # are then those of the fine map, and the CAM is trained with a q of its own (None: with the same).
    local_width: int = 0
    cam_fraction: float | None = None
    # Sizes at which the image is looked at, each with half the pixels of the one before and a CAM of its own; what they
    # point at together is the context of the local head (local_evidence.py).
    scales: int = 1
    plain_class_features: bool = False  # the classification head sees un-adapted features (JIMS)

    # Synthetic anomalies (training only)
    noise: Noise = "gaussian"
    noise_shape: NoiseShape = "perlin"
    noise_on: NoiseOn = "copy"
    noise_std: float = 0.015  # of the Gaussian feature noise, per element
    noise_threshold: float = 0.2  # a cell is perturbed where the Perlin noise exceeds this
    noise_skip: float = 1.0  # probability that a sample gets no synthetic anomaly at all
    beta: float = 0.05  # bound of the learned noise, per element; the study: 0.05 detects best, 0.1 localises best
    generator_lr: float = 1e-4
    generator_every: int = 4  # batches from one step of the learned noise's generator to the next
    generator_penalty: float = 10.0  # on the mean square of the learned noise

    # Losses
    losses: tuple[Loss, ...] = ("score-focal",)
    # Cross-entropy and five times the published rates: this recipe takes some 120 steps, not 300 epochs, and a focal
    # loss of gamma 4 all but stops learning from what is half right already.
    focal_gamma: float = 0.0
    l1_margin: float = 0.5  # "th" of the truncated L1 loss
    dilation: int = 0  # pixels of the network's input by which marked defects grow to each side before training
    distance_weight: float = 0.0  # w: weight of a blob's innermost pixel against 1 of a good one; 0 = all weigh 1
    distance_power: float = 2.0  # p: how fast the weight falls to the blob's edge

    # Optimiser and schedule
    adaptor_lr: float = 5e-4
    head_lr: float = 1e-3
    head_weight_decay: float = 1e-5
    clip_norm: float = 1.0  # 0 = gradients are not clipped
    batch_size: int = 8  # images; noise doubles it
    epochs: int = 0  # 0 = automatic: as many as `min_steps` optimiser steps need
    min_steps: int = 120
    early_stop: bool = False  # find out in a trial how many of these epochs are needed (training_length.py)
    flip_good: bool = True  # good images are flipped as well as bad ones, so that a flip never means "bad"
    seed: int = 0

    map_sigma: float = 4.0  # pixels; Gaussian blur of the map for people, 0 = none

    @property
    def adds_noise(self) -> bool:
        """Whether the training makes synthetic anomalies at all."""
        return self.noise_skip < 1 and (self.noise == "learned" or self.noise_std > 0)

    @property
    def reads_marks(self) -> bool:
        """Whether the training opens defect masks."""
        return self.learns_from in ("masks", "mixed")

    @property
    def has_local_head(self) -> bool:
        """Whether layer1 is read too."""
        return self.local_width > 0

    def at_sizes(self) -> list[Recipe]:
        """What the network of each size is trained with, the image's own size first: it alone has the local head."""
        first = dataclasses.replace(self, scales=1)
        q = self.pooling_fraction if self.cam_fraction is None else self.cam_fraction
        smaller = dataclasses.replace(first, local_width=0, pooling_fraction=q, cam_fraction=None)
        sizes = sizes_of(self.image_size, self.scales)[1:]
        return [first, *(dataclasses.replace(smaller, image_size=size) for size in sizes)]

    @property
    def noise_kind(self) -> str:
        """none | gaussian | learned."""
        return self.noise if self.adds_noise else "none"

    def noise_settings(self, kind: str) -> dict[str, Any]:
        """The settings that choose a kind of synthetic anomalies: one of :data:`NOISES`.

        Raises:
            SettingError: unknown.
        """
        if kind not in NOISES:
            raise SettingError("Unknown noise", value=kind, expected="one of " + ", ".join(NOISES))
        if kind == "none":
            return {"noise_skip": 1.0}
        # Half of the samples stay as they are, as published, where the recipe itself adds none.
        return {"noise": kind, "noise_skip": self.noise_skip if self.noise_skip < 1 else 0.5}

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
        # JSON has lists where this has tuples.
        changed: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()
        }
        recipe = dataclasses.replace(self, **changed)
        recipe.check()
        return recipe

    def check(self) -> None:
        """Check every value against its range, and that they go together.

        Raises:
            SettingError: names the first setting that is out of range, its value and the range.
        """
        for name, choices in _CHOICES.items():
            if (chosen := getattr(self, name)) not in choices:
                raise SettingError(f"Unknown {name}", value=chosen, expected="one of " + ", ".join(choices))
        for name in _SWITCHES:
            if not isinstance(getattr(self, name), bool):
                raise SettingError(f"{name} is out of range", value=getattr(self, name), expected="true or false")
        if not isinstance(self.image_size, tuple) or len(self.image_size) != 2:
            raise SettingError("image_size has two numbers", value=self.image_size, expected="height and width")
        for side in self.image_size:
            # 64 leaves 4 cells at stride 16; above 2048 a training batch no longer fits ordinary memory.
            if not _is_whole(side) or not 64 <= side <= 2048:
                raise SettingError("image_size is out of range", value=side, expected="whole pixels from 64 to 2048")
        for name, (low, high) in _WHOLE.items():
            value = getattr(self, name)
            if not _is_whole(value) or not low <= value <= high:
                raise SettingError(f"{name} is out of range", value=value, expected=f"a whole number, {low} to {high}")
        for name, (least, most, open_low) in _NUMBERS.items():
            number = getattr(self, name)
            if not _is_number(number) or not least <= number <= most or (open_low and number == least):
                bounds = f"a number {'above' if open_low else 'from'} {least:g} to {most:g}"
                raise SettingError(f"{name} is out of range", value=number, expected=bounds)
        self._check_together()

    def _check_together(self) -> None:
        q = self.pooling_fraction
        if self.head == "ssn":
            if q is not None:
                raise SettingError(
                    "pooling_fraction has no meaning for this head: it computes the score from features and map",
                    value=q,
                    expected="none",
                )
        elif not _is_number(q) or q is None or not 0 <= q <= 1:
            raise SettingError("pooling_fraction is out of range", value=q, expected="a number from 0 to 1")
        if self.local_width and self.head != "cam":
            raise SettingError("A local head refines a CAM", value=self.head, expected="head cam, or local_width 0")
        if self.scales > 1 and not self.has_local_head:
            raise SettingError("Only a local head takes in several sizes", value=self.scales, expected="scales 1")
        smallest = sizes_of(self.image_size, self.scales)[-1]
        if self.scales > 1 and min(smallest) < LEAST:
            raise SettingError(
                "The image is too small for so many sizes",
                value=f"{self.scales}, the smallest {smallest[0]} x {smallest[1]} pixels",
                expected=f"at least {LEAST} pixels a side",
                action="Choose a larger image_size or fewer scales",
            )
        if self.cam_fraction is not None and not (_is_number(self.cam_fraction) and 0 <= self.cam_fraction <= 1):
            raise SettingError(
                "cam_fraction is out of range", value=self.cam_fraction, expected="a number from 0 to 1, or none"
            )
        if not isinstance(self.losses, tuple) or not self.losses or set(self.losses) - set(get_args(Loss)):
            expected = "some of " + ", ".join(get_args(Loss))
            raise SettingError("losses is out of range", value=self.losses, expected=expected)
        if self.head == "cam" and self.losses != ("score-focal",):
            raise SettingError("A CAM learns from its score alone", value=self.losses, expected="score-focal")
        if self.learns_from == "good" and not self.adds_noise:
            raise SettingError(
                "Good images alone teach nothing without synthetic anomalies",
                value=f"noise_skip {self.noise_skip:g}, noise_std {self.noise_std:g}",
                expected="noise_skip below 1 and noise_std above 0, or learned noise",
            )

    def settings(self) -> dict[str, Any]:
        """All settings as plain values, for model.json and reports."""
        return {
            key: list(value) if isinstance(value, tuple) else value for key, value in dataclasses.asdict(self).items()
        }


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
