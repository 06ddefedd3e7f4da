"""Photographs of textured things: one texture beside another, light and contrast, blur, camera noise, JPEG.

Parts have edges, holes and backgrounds. A network that has only seen one texture at a time takes every edge for a mark;
so some images show two textures with a border between them, which is no mark.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ssn_core.pretrain.marks import Draws

_BLOCK = 8  # pixels, of JPEG
# Quantisation of luminance at quality 50: ITU-T T.81 (1992), annex K, table K.1.
_QUANTISATION = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)


@dataclass(frozen=True)
class Scenes:
    """Lit, unmarked images of one or two textures.

    Attributes:
        images: (B, 3, S, S) in [0, 1].
        second: (B, S, S) in [0, 1], how much of a pixel belongs to the second texture; 0 where there is only one.
        classes: (B, 2) int64, class of the first and of the second texture.
    """

    images: Tensor
    second: Tensor
    classes: Tensor


def compose(textures: Tensor, classes: Tensor, *, share: float, generator: torch.Generator) -> Scenes:
    """Lay a piece of the next texture of the batch over some of them, then light everything.

    Args:
        textures: (B, 3, S, S) in [0, 1].
        classes: (B,) their classes.
        share: probability that an image shows two.
    """
    d, side = Draws(generator, len(textures)), textures.shape[-1]
    axis = torch.arange(side, device=textures.device, dtype=torch.float32) / side
    y, x = axis[None, :, None] - d.uniform(0.2, 0.8), axis[None, None, :] - d.uniform(0.2, 0.8)
    angle = d.uniform(0.0, math.pi)
    along, across = x * angle.cos() + y * angle.sin(), y * angle.cos() - x * angle.sin()
    disc = (x.square() + y.square()).sqrt() - d.uniform(0.15, 0.45)
    bar = across.abs() - d.uniform(0.1, 0.25)
    corner = torch.maximum(along, across)
    kind = d.uniform(0.0, 1.0)
    distance = torch.where(kind < 0.4, along, torch.where(kind < 0.6, disc, torch.where(kind < 0.8, bar, corner)))
    second = torch.sigmoid(-distance * side / d.log_uniform(0.3, 2.0)) * (d.uniform(0.0, 1.0) < share)
    mixed = textures + second[:, None] * (textures.roll(-1, 0) - textures)
    return Scenes(_lit(mixed, generator), second, torch.stack((classes, classes.roll(-1, 0)), dim=1))


def photograph(images: Tensor, *, generator: torch.Generator) -> Tensor:
    """Blur, camera noise and JPEG's losses, each in some of the images; (B, 3, S, S) in [0, 1]."""
    d = Draws(generator, len(images), 3)
    kernel = torch.tensor([1.0, 2.0, 1.0], device=images.device) / 4
    weight = (kernel[:, None] * kernel[None, :]).expand(3, 1, 3, 3)
    blurred = F.conv2d(F.pad(images, (1,) * 4, mode="replicate"), weight, groups=3)
    images = images + d.uniform(-0.3, 1.0).clamp_min(0.0) * (blurred - images)  # a third of them stays sharp
    white = torch.randn(images.shape, generator=generator, device=images.device)
    grey = white[:, :1].expand_as(white)
    images = images + d.log_uniform(0.002, 0.05) * torch.where(d.uniform(0.0, 1.0) < 0.5, grey, white)
    some = (torch.rand(len(images), generator=generator, device=images.device) < 0.4).nonzero()[:, 0]
    images[some] = as_jpeg(images[some], Draws(generator, len(some), 3).log_uniform(0.2, 2.0))
    return images.clamp(0.0, 1.0)


def as_jpeg(images: Tensor, coarseness: Tensor) -> Tensor:
    """What quantising 8 x 8 blocks of cosines leaves of an image, each channel as JPEG treats luminance.

    Args:
        images: (B, 3, S, S) in [0, 1], S a multiple of 8.
        coarseness: (B, 1, 1, 1) factor on the table of quality 50: 0.2 is quality 90, 2 is quality 25.
    """
    batch, channels, side = images.shape[:3]
    index = torch.arange(_BLOCK, device=images.device, dtype=torch.float32)
    cosines = torch.cos(math.pi / _BLOCK * (index[None, :] + 0.5) * index[:, None]) * (2 / _BLOCK) ** 0.5
    cosines[0] /= 2**0.5
    table = torch.tensor(_QUANTISATION, device=images.device, dtype=torch.float32)
    step = coarseness[..., None, None] * table / 255  # (B, 1, 1, 1, 8, 8)
    blocks = images.view(batch, channels, side // _BLOCK, _BLOCK, side // _BLOCK, _BLOCK).transpose(3, 4)
    coefficients = cosines @ blocks @ cosines.T
    blocks = cosines.T @ ((coefficients / step).round() * step) @ cosines
    whole: Tensor = blocks.transpose(3, 4).reshape(images.shape)
    return whole


def _lit(images: Tensor, generator: torch.Generator) -> Tensor:
    """Grey or coloured, contrast, exposure and a gradient of light."""
    d = Draws(generator, len(images), 3)
    grey = images.mean(1, keepdim=True).expand_as(images)
    images = torch.where(d.uniform(0.0, 1.0) < 0.5, grey, images)
    images = (images - 0.5) * d.log_uniform(0.15, 1.3) + d.uniform(0.25, 0.75)
    axis = torch.linspace(-1.0, 1.0, images.shape[-1], device=images.device)
    slope = d.uniform(-0.15, 0.15) * axis[:, None] + d.uniform(-0.15, 0.15) * axis[None, :]
    return (images + slope).clamp(0.0, 1.0)
