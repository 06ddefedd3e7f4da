"""Defect masks as targets of a training: dilated, weighted and brought to the grid of the features.

For the recipes that learn from masks alone ("masks", "mixed"); nothing else imports this module. SuperSimpleNet's
extension (JIMS, arXiv 2508.19060) takes dilation and weights from Bozic et al. (arXiv 2104.06064): a pixel inside a
blob weighs w * (d / d_max)^p, with d its distance to the blob's edge; a good pixel weighs 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn import functional as F

from ssn_core.imaging import decode_mask
from ssn_core.recipe_settings import Recipe

_EIGHT_CONNECTED = np.ones((3, 3), dtype=bool)


@dataclass(frozen=True)
class Marks:
    """One image's mask on the grid of the features."""

    bad: NDArray[np.bool_]  # (h, w); a cell is bad where any of its pixels is
    weight: NDArray[np.float32]  # (h, w), > 0; of a bad cell the largest of its bad pixels, of a good one 1


def read_marks(path: Path, recipe: Recipe, grid: tuple[int, int]) -> Marks | None:
    """The target that a mask's file gives, or None if it marks nothing: then nobody has said where the defect is.

    The mask is brought to the network's input size first, so that pixels mean the same for every image.

    Args:
        grid: (h, w) cells of the features.

    Raises:
        ImageError: the mask cannot be read.
    """
    mask = any_pixel(decode_mask(path, size=None), recipe.image_size)
    if not mask.any():
        return None
    grown = dilate(mask, recipe.dilation)
    bad = any_pixel(grown, grid)
    if recipe.distance_weight == 0:
        return Marks(bad, np.ones(grid, dtype=np.float32))
    inside = np.where(grown, distance_weights(grown, weight=recipe.distance_weight, power=recipe.distance_power), 0.0)
    return Marks(bad, np.where(bad, largest(inside, grid), 1.0).astype(np.float32))


def dilate(mask: NDArray[np.bool_], pixels: int) -> NDArray[np.bool_]:
    """The mask grown by so many pixels to each side, corners included."""
    if pixels == 0:
        return mask
    grown: NDArray[np.bool_] = ndimage.maximum_filter(mask, size=2 * pixels + 1, mode="constant", cval=False)
    return grown


def distance_weights(mask: NDArray[np.bool_], *, weight: float, power: float) -> NDArray[np.float64]:
    """weight * (d / d_max)^power inside each 8-connected blob, 1 outside.

    Args:
        mask: (H, W).

    Returns:
        (H, W), > 0; the innermost pixel of each blob has `weight`.
    """
    if mask.all():  # no edge to be far from
        return np.full(mask.shape, weight)
    distance = ndimage.distance_transform_edt(mask)
    blobs, n_blobs = ndimage.label(mask, structure=_EIGHT_CONNECTED)
    furthest = np.concatenate(([1.0], ndimage.maximum(distance, blobs, index=np.arange(1, n_blobs + 1))))
    weights: NDArray[np.float64] = np.where(mask, weight * (distance / furthest[blobs]) ** power, 1.0)
    return weights


def any_pixel(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask at another size (h, w): True where any pixel that a cell covers, even in part, is True."""
    return largest(mask.astype(np.float64), size) > 0


def largest(values: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float64]:
    """The values (H, W) at another size (h, w): of each cell the largest value that it covers, even in part."""
    found: NDArray[np.float64] = F.adaptive_max_pool2d(torch.from_numpy(values)[None], size)[0].numpy()
    return found
