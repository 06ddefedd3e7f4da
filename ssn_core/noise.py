"""Synthetic feature anomalies: noise inside Perlin masks, added to adapted features in training only.

SuperSimpleNet (arXiv 2408.03143), section 3.2; Perlin, "Improving noise", SIGGRAPH 2002. The other kind of noise is in
learned_noise.py; which samples get any is decided in anomalies.py.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

MAX_LATTICE_EXPONENT = 5  # lattice scales are drawn from 2^0 .. 2^5 per axis


def perlin(batch: int, size: tuple[int, int], *, generator: torch.Generator) -> Tensor:
    """A batch of Perlin noise fields, each with its own random lattice scale per axis.

    No loop over samples: each cell gathers the four gradients around it from its sample's lattice.

    Args:
        batch: number of fields, B.
        size: (H, W) cells.
        generator: source of randomness; its device is the result's.

    Returns:
        (B, H, W) float32, mean near 0, within [-1, 1].
    """
    device = generator.device
    height, width = size
    lattice = 2**MAX_LATTICE_EXPONENT + 1
    exponents = torch.randint(0, MAX_LATTICE_EXPONENT + 1, (batch, 2), generator=generator, device=device)
    scales = 2.0**exponents
    angles = 2 * math.pi * torch.rand(batch, lattice, lattice, generator=generator, device=device)
    gradients = torch.stack((angles.cos(), angles.sin()), dim=-1)  # (B, L, L, 2), unit vectors (y, x)

    # Each cell's upper left corner in lattice units: (B, H, 1) and (B, 1, W)
    y = (torch.arange(height, device=device) / height)[None, :] * scales[:, :1]
    x = (torch.arange(width, device=device) / width)[None, :] * scales[:, 1:]
    y0, x0 = y.floor(), x.floor()
    fy, fx = (y - y0)[:, :, None], (x - x0)[:, None, :]
    row, column = y0.long()[:, :, None], x0.long()[:, None, :]
    sample = torch.arange(batch, device=device)[:, None, None]

    def corner(dy: int, dx: int) -> Tensor:
        gradient = gradients[sample, row + dy, column + dx]  # (B, H, W, 2)
        return gradient[..., 0] * (fy - dy) + gradient[..., 1] * (fx - dx)

    ty, tx = _fade(fy), _fade(fx)
    top = torch.lerp(corner(0, 0), corner(0, 1), tx.expand(-1, height, -1))
    bottom = torch.lerp(corner(1, 0), corner(1, 1), tx.expand(-1, height, -1))
    return math.sqrt(2) * torch.lerp(top, bottom, ty.expand(-1, -1, width))


def _fade(t: Tensor) -> Tensor:
    return t * t * t * (t * (t * 6 - 15) + 10)


def anomaly_mask(
    batch: int, size: tuple[int, int], *, threshold: float, skip: float, generator: torch.Generator
) -> Tensor:
    """Which cells are perturbed.

    Args:
        threshold: a cell is perturbed where its Perlin noise exceeds this.
        skip: probability that a sample has no perturbed cell at all.

    Returns:
        (B, 1, H, W) bool.
    """
    mask = perlin(batch, size, generator=generator) > threshold
    kept = torch.rand(batch, generator=generator, device=generator.device) >= skip
    return (mask & kept[:, None, None])[:, None]


def gaussian(features: Tensor, *, std: float, generator: torch.Generator) -> Tensor:
    """N(0, std^2) per element, in the shape of the features (B, C, H, W)."""
    return std * torch.randn(features.shape, generator=generator, device=generator.device, dtype=features.dtype)


def perturb(features: Tensor, noise: Tensor, mask: Tensor) -> Tensor:
    """Features plus noise inside the mask; cells outside are untouched.

    Args:
        features, noise: (B, C, H, W).
        mask: (B, 1, H, W) bool.
    """
    return features + noise * mask
