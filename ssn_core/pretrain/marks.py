"""Synthetic marks on textures: scratches, cracks, spots and foreign patches, with the cells they touch.

Finding them is the second task of pretraining: it teaches the layers whose features the product uses to notice what
does not belong to a texture (the idea of CutPaste, Li et al., CVPR 2021, and DRAEM, Zavrtanik et al., ICCV 2021).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def add_marks(images: Tensor, *, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Put one to three marks on some of the images.

    Args:
        images: (B, 3, S, S) in [0, 1].
        share: probability that an image gets any.

    Returns:
        the images, and the marks' opacity (B, S, S) in [0, 1], 0 where nothing was changed.
    """
    batch, device = len(images), images.device
    marked = images
    opacity = torch.zeros_like(images[:, 0])
    chosen = torch.rand(batch, generator=generator, device=device) < share
    for number in range(3):
        wanted = chosen & (torch.rand(batch, generator=generator, device=device) < 0.5**number)
        shape = _shape(batch, images.shape[-1], generator) * wanted[:, None, None]
        marked = marked + shape[:, None] * (_material(images, generator) - marked)
        opacity = torch.maximum(opacity, shape)
    return marked.clamp(0.0, 1.0), opacity


def cells_touched(opacity: Tensor, cells: int) -> Tensor:
    """Whether each cell of a (cells x cells) grid holds a clear piece of a mark; (B, cells, cells) float 0 or 1."""
    peaks = torch.nn.functional.adaptive_max_pool2d(opacity[:, None], cells)[:, 0]
    return (peaks > 0.4).float()


def _shape(batch: int, size: int, generator: torch.Generator) -> Tensor:
    """Opacity of one mark each: a bent line or an uneven spot; (B, size, size)."""
    device = generator.device

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(batch, *shape, 1, 1, generator=generator, device=device)

    axis = torch.arange(size, device=device, dtype=torch.float32)
    y, x = axis[None, :, None] - uniform(0.1, 0.9) * size, axis[None, None, :] - uniform(0.1, 0.9) * size
    angle = uniform(0.0, math.pi)
    along, across = x * angle.cos() + y * angle.sin(), y * angle.cos() - x * angle.sin()
    # Two slow waves bend a line into a crack, or dent the outline of a spot.
    bend = sum(uniform(0.0, 2.5) * torch.sin(along * uniform(0.03, 0.35) + uniform(0.0, 2 * math.pi)) for _ in range(2))
    length, width = torch.exp(uniform(math.log(4.0), math.log(30.0))), torch.exp(uniform(math.log(0.6), math.log(2.5)))
    line = torch.maximum((across + bend).abs() - width, along.abs() - length)
    radius, squeeze = torch.exp(uniform(math.log(1.5), math.log(9.0))), uniform(0.5, 1.0)
    spot = (along.square() + (across / squeeze).square()).sqrt() + 0.5 * bend - radius
    distance = torch.where(uniform(0.0, 1.0) < 0.6, line, spot)
    softness = uniform(0.3, 1.2)
    return torch.sigmoid(-distance / softness) * uniform(0.6, 1.0)


def _material(images: Tensor, generator: torch.Generator) -> Tensor:
    """What a mark is filled with: a lighter or darker shade of the surface, or a piece of another image."""
    batch, device = len(images), images.device

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(batch, 1, 1, 1, generator=generator, device=device)

    sign = torch.where(uniform(0.0, 1.0) < 0.65, -1.0, 1.0)  # dark more often than light
    shade = images.mean((2, 3), keepdim=True) + sign * uniform(0.06, 0.45)
    shaded = torch.where(uniform(0.0, 1.0) < 0.5, shade.expand_as(images), images + sign * uniform(0.06, 0.35))
    return torch.where(uniform(0.0, 1.0) < 0.25, images.roll(1, 0), shaded)
