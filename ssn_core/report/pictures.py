"""The pictures of a report: the photo, and beside it the photo with its map on the model's fixed colour scale.

Small enough that a report of a dozen stays below a megabyte, large enough for print. The same pixels give the same
bytes: JPEG at a fixed quality, without metadata.
"""

from __future__ import annotations

import io
import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from ssn_core.rendering import draw_outline, overlay

MAX_AREA = 80_000  # pixels of one half of a picture
MAX_SIDE = 480
_GAP = 6  # white pixels between the halves
_QUALITY = 82
_OPACITY = 0.6
_ROOM = 4  # pixels between a defect and the line around it


class Picture(NamedTuple):
    """A picture for the page."""

    jpeg: bytes
    width: int  # pixels
    height: int


def beside(
    photo: Image.Image,
    anomaly_map: NDArray[np.floating[Any]] | None,
    *,
    low: float,
    high: float,
    mask: NDArray[np.bool_] | None = None,
) -> Picture:
    """Photo and photo with map, side by side; without a map the photo alone.

    Args:
        photo: RGB, upright.
        anomaly_map: float (h, w) as people see it, in the units of the scale; None: there is none.
        low, high: the model's one fixed colour scale.
        mask: bool (H, W) of the photo's size; its outline is drawn on the photo.
    """
    width, height = shown_size(photo.width, photo.height)
    small = np.asarray(photo.resize((width, height), Image.Resampling.BOX, reducing_gap=None), dtype=np.uint8)
    left = small if mask is None else draw_outline(small, _around(mask, (width, height)), width=1)
    halves = [left]
    if anomaly_map is not None:
        halves.append(np.full((height, _GAP, 3), 255, dtype=np.uint8))
        halves.append(overlay(small, anomaly_map, low=low, high=high, opacity=_OPACITY))
    target = io.BytesIO()
    picture = Image.fromarray(np.concatenate(halves, axis=1))
    picture.save(target, format="JPEG", quality=_QUALITY, subsampling=0, optimize=False, progressive=False)
    return Picture(target.getvalue(), picture.width, picture.height)


def shown_size(width: int, height: int) -> tuple[int, int]:
    """Width and height of one half: the photo's own, or smaller; at least a pixel each."""
    factor = min(1.0, math.sqrt(MAX_AREA / (width * height)), MAX_SIDE / max(width, height))
    return max(1, round(width * factor)), max(1, round(height * factor))


def _around(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask at (width, height) with some pixels around it: a line around that leaves a thin crack to be seen.

    A small pixel belongs to the mask where any part of it does, so that thin cracks stay.
    """
    grey = Image.fromarray(mask.astype(np.uint8) * np.uint8(255))
    shrunk = np.asarray(grey.resize(size, Image.Resampling.BOX)) > 0
    return np.asarray(ndimage.binary_dilation(shrunk, structure=np.ones((3, 3), bool), iterations=_ROOM), dtype=bool)
