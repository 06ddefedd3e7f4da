"""One short row of numbers for a whole image: the means of the frozen backbone's taps.

It says how alike two images are, not whether a part is bad. Made from a small rendition of the image, so that a hundred
thousand take minutes and not hours; a defect of a few pixels is below what it sees.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ssn_core import weights
from ssn_core.backbone import TAP_CHANNELS, Backbone, load_backbone
from ssn_core.errors import ImageError
from ssn_core.features import load_batches
from ssn_core.fused_backbone import FusedBackbone

BACKBONE = "resnet18"
LENGTH = sum(TAP_CHANNELS[BACKBONE])
_AREA = 128 * 128  # pixels of the rendition
_LEAST, _MOST = 32, 512  # pixels of a side


def describing_backbone(weights_dir: Path | None) -> Backbone:
    """The backbone that describes images: ImageNet's weights where they are on this computer, else the bundled ones.

    Nothing is downloaded: describing goes on unasked, beside other work.

    Raises:
        WeightsError: a file of weights is damaged.
    """
    found = weights.find_imagenet(BACKBONE, weights_dir)
    return load_backbone(BACKBONE, weights="bundled" if found is None else "imagenet", weights_dir=weights_dir)


def rendition_size(image_size: tuple[int, int]) -> tuple[int, int]:
    """(H, W), pixels, of the small rendition, for a project whose images have the shape (H, W)."""
    scale = math.sqrt(_AREA / math.prod(image_size))
    height, width = (min(max(round(side * scale), _LEAST), _MOST) for side in image_size)
    return height, width


def describe(
    backbone: Backbone,
    images: Sequence[tuple[str, Path]],
    *,
    image_size: tuple[int, int],
    device: torch.device,
    on_error: Callable[[str, ImageError], None],
) -> Iterator[tuple[str, NDArray[np.float16]]]:
    """Key and descriptor (LENGTH,) of each image, as they come.

    Args:
        images: (key, file) pairs; a small file, such as a thumbnail, does.
        image_size: of the rendition.
        on_error: called with (key, error) for a file that cannot be read, which is then left out.
    """
    fused = FusedBackbone(backbone, image_size=image_size, dtype=torch.float32, device=device)
    for batch in load_batches(images, image_size, on_error=on_error):
        with torch.inference_mode():
            taps = fused(batch.pixels.to(device, memory_format=torch.channels_last))[:2]
            means = torch.cat([tap.float().mean(dim=(2, 3)) for tap in taps], dim=1)
        yield from zip(batch.keys, means.to("cpu", torch.float16).numpy(), strict=True)
