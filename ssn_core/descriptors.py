"""One short row of numbers for a whole image, the means of the frozen backbone's taps, and its outlier score.

The row says how alike two images are, not whether a part is bad: a defect of a few pixels is below what it sees. The
outlier score (:mod:`ssn_core.outliers`) sees cells. Both are made from a small rendition of the image, so that a
hundred thousand take minutes and not hours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ssn_core import weights
from ssn_core.backbone import TAP_CHANNELS, Backbone, load_backbone
from ssn_core.errors import ImageError
from ssn_core.features import load_batches
from ssn_core.fused_backbone import FusedBackbone
from ssn_core.outliers import Usual, joint_score, usual

BACKBONE = "resnet18"
LENGTH = sum(TAP_CHANNELS[BACKBONE])
_AREA = 128 * 128  # pixels of the rendition
_LEAST, _MOST = 32, 512  # pixels of a side


def describing_backbones(weights_dir: Path | None) -> tuple[Backbone, ...]:
    """The backbones that look at images: ImageNet's weights, where they are on this computer, and the bundled ones.

    The first one's taps are the descriptor. For the outlier score all of them count, because they see different things:
    ImageNet's what is foreign in a surface, the bundled ones fine marks (`python -m benchmarks.first_images`). Nothing
    is downloaded: describing goes on unasked, beside other work.

    Raises:
        WeightsError: a file of weights is damaged.
    """
    bundled = load_backbone(BACKBONE, weights="bundled")
    if weights.find_imagenet(BACKBONE, weights_dir) is None:
        return (bundled,)
    return load_backbone(BACKBONE, weights="imagenet", weights_dir=weights_dir), bundled


def rendition_size(image_size: tuple[int, int]) -> tuple[int, int]:
    """(H, W), pixels, of the small rendition, for a project whose images have the shape (H, W)."""
    scale = math.sqrt(_AREA / math.prod(image_size))
    height, width = (min(max(round(side * scale), _LEAST), _MOST) for side in image_size)
    return height, width


class Described(NamedTuple):
    """One image, as it is described."""

    key: str
    values: NDArray[np.float16]  # (LENGTH,)
    outlier: float  # outlier score, at least 0; higher = more unlike the project's other images


Backbones = Sequence[Backbone]
Images = Sequence[tuple[str, Path]]  # key and file of each; a small file, such as a thumbnail, does
OnError = Callable[[str, ImageError], None]


def find_usual(
    backbones: Backbones, images: Images, *, image_size: tuple[int, int], device: torch.device, on_error: OnError
) -> tuple[Usual, ...] | None:
    """What the cells of these images, a sample of a project's, look like to each backbone; None if none can be read.

    Args: as for :func:`describe`.
    """
    batches = [layers for _, layers, _ in _taps(backbones, images, image_size, device, on_error)]
    return tuple(usual(np.concatenate(of_one)) for of_one in zip(*batches, strict=True)) or None


def describe(
    backbones: Backbones,
    images: Images,
    what_is_usual: Sequence[Usual],
    *,
    image_size: tuple[int, int],
    device: torch.device,
    on_error: OnError,
) -> Iterator[Described]:
    """Each image's descriptor and outlier score, as they come.

    Args:
        backbones: as :func:`describing_backbones` gives them.
        what_is_usual: of the project (:func:`find_usual`), made with the same backbones and size.
        image_size: of the rendition.
        on_error: called with (key, error) for a file that cannot be read, which is then left out.
    """
    for keys, layers, means in _taps(backbones, images, image_size, device, on_error):
        for row, (key, values) in enumerate(zip(keys, means, strict=True)):
            yield Described(key, values, joint_score(what_is_usual, [layer2[row] for layer2 in layers]))


def _taps(
    backbones: Backbones, images: Images, image_size: tuple[int, int], device: torch.device, on_error: OnError
) -> Iterator[tuple[Sequence[str], list[NDArray[np.float32]], NDArray[np.float16]]]:
    """A batch's keys, each backbone's layer2 (B, C, h, w), and the means of the first one's taps (B, LENGTH)."""
    fused = [FusedBackbone(one, image_size=image_size, dtype=torch.float32, device=device) for one in backbones]
    for batch in load_batches(images, image_size, on_error=on_error):
        with torch.inference_mode():
            pixels = batch.pixels.to(device, memory_format=torch.channels_last)
            taps = [one(pixels)[:2] for one in fused]
            means = torch.cat([tap.float().mean(dim=(2, 3)) for tap in taps[0]], dim=1)
        layers = [layer2.float().cpu().numpy() for layer2, _ in taps]
        yield batch.keys, layers, means.to("cpu", torch.float16).numpy()
