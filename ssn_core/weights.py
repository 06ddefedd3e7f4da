"""Where backbone weights come from. Imports no torch, so pages can say at once what a training would use.

ImageNet weights are looked for in the folder that SSN_WEIGHTS_DIR names, then in torchvision's own cache, then
downloaded. Without any of them ResNet18 falls back on the backbone that is part of this package, pretrained on
generated textures alone (:mod:`ssn_core.pretrain`).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, get_args

WeightsSource = Literal["imagenet", "bundled", "random"]
SOURCES: tuple[str, ...] = get_args(WeightsSource)
AUTO = "auto"  # ImageNet's, else the bundled ones; never random

IMAGENET_URLS = {
    "resnet18": "https://download.pytorch.org/models/resnet18-f37072fd.pth",
    "wide_resnet50_2": "https://download.pytorch.org/models/wide_resnet50_2-95faca4d.pth",
}
_BUNDLED = {"resnet18": Path(__file__).parent / "bundled" / "resnet18.safetensors"}


def imagenet_places(name: str, weights_dir: Path | None = None) -> list[Path]:
    """Where ImageNet weights may lie on this machine, in the order in which they are looked for.

    Args:
        name: of the backbone.
        weights_dir: searched first; default: the folder named by the environment variable SSN_WEIGHTS_DIR.
    """
    if weights_dir is None and os.environ.get("SSN_WEIGHTS_DIR"):
        weights_dir = Path(os.environ["SSN_WEIGHTS_DIR"])
    # As torch.hub.get_dir() has it.
    cache_home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    torch_home = Path(os.environ.get("TORCH_HOME") or cache_home / "torch").expanduser()
    cached = torch_home / "hub" / "checkpoints" / IMAGENET_URLS[name].rsplit("/", 1)[-1]
    return [*([weights_dir.expanduser() / f"{name}.pth"] if weights_dir else []), cached]


def find_imagenet(name: str, weights_dir: Path | None = None) -> Path | None:
    """The ImageNet weights on this machine, or None."""
    return next((place for place in imagenet_places(name, weights_dir) if place.is_file()), None)


def bundled(name: str) -> Path | None:
    """The weights that come with this package, or None where there are none for this backbone."""
    path = _BUNDLED.get(name)
    return path if path is not None and path.is_file() else None
