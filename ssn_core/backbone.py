"""The frozen backbone: from an image to its two feature taps.

ResNet18 or WideResNet50-2 (torchvision), cut after layer3; layer4 and the classifier are never used, nothing here is
ever trained. Taps: layer2 (stride 8) and layer3 (stride 16), and layer1 (stride 4) for recipes with a local head.
"""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
import torchvision
from torch import Tensor, nn

from ssn_core import weights as places
from ssn_core.errors import SettingError, WeightsError
from ssn_core.recipes import BACKBONES, Padding
from ssn_core.seeding import seeded
from ssn_core.weights import AUTO, SOURCES, WeightsSource

TAP_CHANNELS: dict[str, tuple[int, int]] = {"resnet18": (128, 256), "wide_resnet50_2": (512, 1024)}
LOCAL_CHANNELS: dict[str, int] = {"resnet18": 64, "wide_resnet50_2": 256}  # of layer1
_STEM = {"conv1": "stem.0", "bn1": "stem.1"}  # torchvision's names to ours
_STAGES = ("conv1", "bn1", "layer1", "layer2", "layer3")
# ImageNet statistics of torchvision's weights, RGB in [0, 1].
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_DOWNLOAD_SECONDS = 15  # without an answer: a factory's firewall often swallows requests instead of refusing them


class Backbone(nn.Module):
    """A frozen ResNet up to layer3, in eval mode.

    Args:
        name: one of :data:`ssn_core.recipes.BACKBONES`.
        state: torchvision state dict of that network; layer4 and fc may be missing.
        padding: "replicate" continues the image's edge in every convolution; "zeros" is torchvision's own. With
            replicate padding a uniform surface has uniform features right up to the border, so the border cannot
            light up on the map.
        local: whether layer1 is a tap too.
        weights: which kind of weights these are: "imagenet", "bundled" or "random".
        source: where they came from, for people.

    Raises:
        WeightsError: keys missing, left over or of another shape.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: str,
        state: Mapping[str, Tensor],
        *,
        padding: Padding = "replicate",
        local: bool = False,
        weights: WeightsSource,
        source: str,
    ) -> None:
        super().__init__()
        _check_name(name)
        self.name = name
        self.padding = padding
        self.local = local
        self.weights: WeightsSource = weights
        self.source = source
        with torch.device("meta"):  # no time, memory or random numbers for values that are replaced at once
            network = getattr(torchvision.models, name)(weights=None)
        self.stem = nn.Sequential(network.conv1, network.bn1, network.relu, network.maxpool)
        self.layer1, self.layer2, self.layer3 = network.layer1, network.layer2, network.layer3
        renamed = {
            _rename(key): value.float() if value.is_floating_point() else value
            for key, value in state.items()
            if key.split(".")[0] in _STAGES
        }
        try:
            self.load_state_dict(renamed, strict=True, assign=True)
        except RuntimeError as error:
            raise WeightsError(
                f"The weights from {source} do not fit {name}",
                value=str(error).splitlines()[-1].strip(),
                expected="torchvision's state dict with everything from conv1 to layer3",
            ) from error
        self.weights_hash = _hash(self.state_dict())
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module.padding != (0, 0):
                module.padding_mode = padding
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False)
        self.eval()

    def tap_shapes(self, image_size: tuple[int, int]) -> tuple[tuple[int, int, int], ...]:
        """(C, h, w) of each tap for images of (H, W) pixels, in the order of :meth:`forward`."""
        wide = [(c, h, w) for c, (h, w) in zip(TAP_CHANNELS[self.name], tap_sizes(image_size), strict=True)]
        return (*wide, (LOCAL_CHANNELS[self.name], *local_size(image_size))) if self.local else tuple(wide)

    def train(self, mode: bool = True) -> Backbone:  # noqa: ARG002
        """Stay in eval mode whatever is asked: the backbone is frozen, its batch norms included."""
        return super().train(False)

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """The taps of a batch.

        Args:
            pixels: (B, 3, H, W), whole numbers from 0 to 255 of any type, RGB.

        Returns:
            layer2 (B, C2, ceil(H/8), ceil(W/8)) and layer3 (B, C3, ceil(H/16), ceil(W/16)), float32; with `local` also
            layer1 (B, C1, ceil(H/4), ceil(W/4)), last.
        """
        x = (pixels.to(self.mean.dtype) / 255 - self.mean) / self.std
        tap1 = self.layer1(self.stem(x))
        tap2 = self.layer2(tap1)
        tap3 = self.layer3(tap2)
        return (tap2, tap3, tap1) if self.local else (tap2, tap3)


def tap_sizes(image_size: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Heights and widths of layer2 and layer3 for an image of (H, W) pixels."""
    return _halved(image_size, 3), _halved(image_size, 4)


def local_size(image_size: tuple[int, int]) -> tuple[int, int]:
    """Height and width of layer1 for an image of (H, W) pixels."""
    return _halved(image_size, 2)


def _halved(size: tuple[int, int], times: int) -> tuple[int, int]:
    height, width = size
    for _ in range(times):
        height, width = (height + 1) // 2, (width + 1) // 2
    return height, width


def load_backbone(
    name: str,
    *,
    weights: str = AUTO,
    weights_dir: Path | None = None,
    padding: Padding = "replicate",
    local: bool = False,
) -> Backbone:
    """The frozen backbone with its weights.

    Args:
        name: one of :data:`ssn_core.recipes.BACKBONES`.
        weights: "auto" (ImageNet's, else the bundled ones where there are any), "imagenet", "bundled", or "random" (for
            tests and speed measurement; never chosen for you). :mod:`ssn_core.weights` says where each comes from.
        weights_dir: as for :func:`ssn_core.weights.imagenet_places`.
        padding, local: as for :class:`Backbone`.

    Raises:
        WeightsError: no weights found, or a file that is damaged or of another network.
        SettingError: unknown name.
    """
    _check_name(name)
    if weights == "random":
        with seeded(0):
            state = getattr(torchvision.models, name)(weights=None).state_dict()
        return Backbone(name, state, padding=padding, local=local, weights="random", source="random numbers (seed 0)")
    if weights == "bundled":
        return _load_bundled(name, padding, local)
    if weights not in (AUTO, "imagenet"):
        raise SettingError("Unknown backbone weights", value=weights, expected="one of " + ", ".join((AUTO, *SOURCES)))
    found = places.find_imagenet(name, weights_dir)
    if found is not None:
        return Backbone(name, _read_state(found), padding=padding, local=local, weights="imagenet", source=str(found))
    try:
        with _patience(_DOWNLOAD_SECONDS):
            state = torch.hub.load_state_dict_from_url(
                places.IMAGENET_URLS[name], progress=False, check_hash=True, weights_only=True
            )
    except Exception as error:  # whatever the network raises, the answer for the user is the same
        if weights == AUTO and places.bundled(name) is not None:
            return _load_bundled(name, padding, local)
        looked = [*map(str, places.imagenet_places(name, weights_dir)), "torchvision's download"]
        raise WeightsError(
            f"No ImageNet weights for {name} were found",
            value=" | ".join(looked),
            expected=f"a file {name}.pth, torchvision's IMAGENET1K_V1 state dict",
            action="Copy the file into a folder, set SSN_WEIGHTS_DIR to that folder and start again; "
            f"the download failed with: {error}",
        ) from error
    return Backbone(name, state, padding=padding, local=local, weights="imagenet", source="torchvision's download")


def _load_bundled(name: str, padding: Padding, local: bool) -> Backbone:
    path = places.bundled(name)
    if path is None:
        raise WeightsError(
            f"There are no bundled weights for {name}",
            expected="resnet18, or ImageNet weights",
            action="Choose ResNet18, or bring ImageNet weights",
        )
    try:
        state = safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise WeightsError("The bundled weights cannot be read", value=str(path), action="Install again") from error
    return Backbone(name, state, padding=padding, local=local, weights="bundled", source="the bundled backbone")


@contextmanager
def _patience(seconds: float) -> Iterator[None]:
    """Let new connections give up after `seconds` without an answer."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _check_name(name: str) -> None:
    if name not in BACKBONES:
        raise SettingError("Unknown backbone", value=name, expected="one of " + ", ".join(BACKBONES))


def _rename(key: str) -> str:
    stage, _, rest = key.partition(".")
    return f"{_STEM.get(stage, stage)}.{rest}"


def _read_state(path: Path) -> dict[str, Tensor]:
    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise WeightsError(
            "The weights file cannot be read", value=str(path), expected="a state dict saved with torch.save"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(
            "The weights file holds something else", value=str(path), expected="a state dict: names to tensors"
        )
    return state


def _hash(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, shapes and values up to layer3: the same weights give the same hash from any file."""
    digest = hashlib.sha256()
    for key in sorted(state):
        if key.endswith("num_batches_tracked"):
            continue
        value = state[key].detach().to("cpu", torch.float32).contiguous()
        digest.update(f"{key}{tuple(value.shape)}".encode())
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()
