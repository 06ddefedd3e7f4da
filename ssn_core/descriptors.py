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
from ssn_core.outliers import Usual, usual

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


class Described(NamedTuple):
    """One image, as it is described."""

    key: str
    values: NDArray[np.float16]  # (LENGTH,)
    outlier: float  # outlier score, at least 0; higher = more unlike the project's other images


Images = Sequence[tuple[str, Path]]  # key and file of each; a small file, such as a thumbnail, does
OnError = Callable[[str, ImageError], None]


def find_usual(
    backbone: Backbone, images: Images, *, image_size: tuple[int, int], device: torch.device, on_error: OnError
) -> Usual | None:
    """What the cells of these images, a sample of a project's, look like; None if none of them can be read.

    Args: as for :func:`describe`.
    """
    batches = [layer2 for _, layer2, _ in _taps(backbone, images, image_size, device, on_error)]
    return usual(np.concatenate(batches)) if batches else None


def describe(
    backbone: Backbone,
    images: Images,
    what_is_usual: Usual,
    *,
    image_size: tuple[int, int],
    device: torch.device,
    on_error: OnError,
) -> Iterator[Described]:
    """Each image's descriptor and outlier score, as they come.

    Args:
        what_is_usual: of the project (:func:`find_usual`), made with the same backbone and size.
        image_size: of the rendition.
        on_error: called with (key, error) for a file that cannot be read, which is then left out.
    """
    for keys, layer2, means in _taps(backbone, images, image_size, device, on_error):
        for key, tap, values in zip(keys, layer2, means, strict=True):
            yield Described(key, values, what_is_usual.score(tap))


def _taps(
    backbone: Backbone, images: Images, image_size: tuple[int, int], device: torch.device, on_error: OnError
) -> Iterator[tuple[Sequence[str], NDArray[np.float32], NDArray[np.float16]]]:
    """A batch's keys, its layer2 (B, C, h, w) and the means of layer2 and layer3 (B, LENGTH)."""
    fused = FusedBackbone(backbone, image_size=image_size, dtype=torch.float32, device=device)
    for batch in load_batches(images, image_size, on_error=on_error):
        with torch.inference_mode():
            taps = fused(batch.pixels.to(device, memory_format=torch.channels_last))[:2]
            means = torch.cat([tap.float().mean(dim=(2, 3)) for tap in taps], dim=1)
        yield batch.keys, taps[0].float().cpu().numpy(), means.to("cpu", torch.float16).numpy()
