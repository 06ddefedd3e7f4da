"""Random fields: grey textures with a chosen spectrum, the raw material of every surface."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft

F32 = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Shape = tuple[int, int]  # (H, W), pixels

_PAD = 48  # pixels that are cropped away, so that opposite edges do not continue each other


@lru_cache(maxsize=8)
def _frequencies(shape: Shape) -> tuple[F32, F32]:
    """Vertical and horizontal frequency, cycles per pixel, of the half spectrum of a real (H, W) field."""
    vertical = np.fft.fftfreq(shape[0]).astype(np.float32)[:, None]
    horizontal = np.fft.rfftfreq(shape[1]).astype(np.float32)[None, :]
    return vertical, horizontal


def _filtered(rng: np.random.Generator, padded: Shape, response: F32, shape: Shape) -> F32:
    """White noise with the amplitude `response` (half spectrum), cropped to `shape`; mean 0, standard deviation 1."""
    spectrum = fft.rfft2(rng.standard_normal(padded, dtype=np.float32)) * response
    spectrum[0, 0] = 0.0
    field: F32 = fft.irfft2(spectrum, s=padded)[: shape[0], : shape[1]]
    return np.asarray((field - field.mean()) / (field.std() + 1e-6), dtype=np.float32)


def _padded(shape: Shape) -> Shape:
    return fft.next_fast_len(shape[0] + _PAD, real=True), fft.next_fast_len(shape[1] + _PAD, real=True)


def power_law(rng: np.random.Generator, shape: Shape, exponent: float, *, coarsest: float = 400.0) -> F32:
    """Noise whose amplitude falls as frequency ** -exponent: 0 is white, 1 cloudy, 2 smooth.

    Args:
        coarsest: pixels; waves longer than this do not grow any further.

    Returns:
        (H, W), mean 0, standard deviation 1.
    """
    padded = _padded(shape)
    vertical, horizontal = _frequencies(padded)
    response = ((np.hypot(vertical, horizontal) + 1.0 / coarsest) ** -exponent).astype(np.float32)
    return _filtered(rng, padded, response, shape)


def streaks(rng: np.random.Generator, shape: Shape, *, along: float, across: float, angle: float) -> F32:
    """Noise drawn out in one direction.

    Args:
        along, across: standard deviation, in pixels, of the Gaussian that smooths in and across the direction.
        angle: of the direction, radians; 0 is along the rows.

    Returns:
        (H, W), mean 0, standard deviation 1.
    """
    padded = _padded(shape)
    vertical, horizontal = _frequencies(padded)
    c, s = math.cos(angle), math.sin(angle)
    f_along = c * horizontal + s * vertical
    f_across = c * vertical - s * horizontal
    exponent = (along * f_along) ** 2 + (across * f_across) ** 2
    return _filtered(rng, padded, np.exp(np.float32(-2 * math.pi**2) * exponent), shape)


def grains(rng: np.random.Generator, shape: Shape, *, size: float) -> F32:
    """Blobs of one size: band-passed noise (difference of two Gaussians).

    Args:
        size: radius of a blob, about, in pixels.

    Returns:
        (H, W), mean 0, standard deviation 1.
    """
    padded = _padded(shape)
    vertical, horizontal = _frequencies(padded)
    q = np.float32(-2 * math.pi**2) * (vertical**2 + horizontal**2)
    return _filtered(rng, padded, np.exp(q * size**2) - np.exp(q * (1.8 * size) ** 2), shape)


def plane(shape: Shape, angle: float) -> tuple[F32, F32]:
    """Coordinates in pixels, from the image's centre: along the direction `angle` (radians), and across it."""
    rows = np.arange(shape[0], dtype=np.float32)[:, None] - (shape[0] - 1) / 2
    columns = np.arange(shape[1], dtype=np.float32)[None, :] - (shape[1] - 1) / 2
    c, s = math.cos(angle), math.sin(angle)
    return (c * columns + s * rows).astype(np.float32), (c * rows - s * columns).astype(np.float32)


def smoothstep(x: npt.NDArray[np.floating[Any]]) -> F32:
    """0 up to 0, 1 from 1 on, with soft ends between."""
    t = np.clip(x, 0.0, 1.0)
    return np.asarray(t * t * (3 - 2 * t), dtype=np.float32)
