"""A piece of surface before light falls on it, and the colours it is painted with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ssn_core.surfaces.fields import F32, Shape


@dataclass(frozen=True)
class Relief:
    """Height and colour of a piece of surface.

    Attributes:
        height: (H, W), in pixels; only its slopes matter, they catch the light.
        albedo: (H, W, 3), RGB, 0..1.
        angle: direction of the grain, radians; 0 is along the rows.
        unravel: for woven pieces, draws the piece again with a stretch of one thread missing.
    """

    height: F32
    albedo: F32
    angle: float
    unravel: Callable[[np.random.Generator], Relief] | None = None

    @property
    def shape(self) -> Shape:
        """(H, W), pixels."""
        return self.height.shape[0], self.height.shape[1]

    def raised(self, delta: F32) -> Relief:
        """The piece with `delta` (H, W), in pixels, added to its height."""
        return replace(self, height=(self.height + delta).astype(np.float32))

    def tinted(self, cover: F32, factor: Sequence[float] | F32) -> Relief:
        """The piece with its colour multiplied by `factor` (RGB) where `cover` (H, W) is 1, less where it is less."""
        gain = 1 + cover[..., None] * (np.asarray(factor, dtype=np.float32) - 1)
        return replace(self, albedo=np.clip(self.albedo * gain, 0.0, 1.0).astype(np.float32))

    def painted(self, cover: F32, colour: F32) -> Relief:
        """The piece with `colour` (RGB, or (H, W, 3)) laid over it, opaque where `cover` (H, W) is 1."""
        opacity = cover[..., None]
        return replace(self, albedo=(self.albedo * (1 - opacity) + colour * opacity).astype(np.float32))


def rgb(*values: float) -> F32:
    """A colour, 0..1."""
    return np.array(values, dtype=np.float32)


def between(rng: np.random.Generator, first: F32, second: F32) -> F32:
    """A colour somewhere between two."""
    t = np.float32(rng.uniform())
    return first * (1 - t) + second * t
