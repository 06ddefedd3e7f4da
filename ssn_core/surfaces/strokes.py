"""Lines and patches with soft edges, drawn at four times the size and reduced."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from ssn_core.surfaces.fields import F32, Shape

Point = tuple[float, float]  # (row, column), pixels
_FINER = 4


def stroke(shape: Shape, points: Sequence[Point], widths: Sequence[float]) -> F32:
    """A line of changing width.

    Args:
        points: at least two.
        widths: pixels, one for each point.

    Returns:
        (H, W), the share of each pixel that is covered, 0..1.
    """
    canvas = Image.new("L", (shape[1] * _FINER, shape[0] * _FINER))
    draw = ImageDraw.Draw(canvas)
    fine = [((column + 0.5) * _FINER, (row + 0.5) * _FINER) for row, column in points]
    for start, end, width in zip(fine[:-1], fine[1:], widths[:-1], strict=True):
        thick = max(1, round(width * _FINER))
        draw.line([start, end], fill=255, width=thick)
        if thick > 2:  # round the joints
            r = thick / 2
            draw.ellipse([end[0] - r, end[1] - r, end[0] + r, end[1] + r], fill=255)
    return np.asarray(canvas.reduce(_FINER), dtype=np.float32) / np.float32(255)


def patch(
    rng: np.random.Generator, shape: Shape, centre: Point, radius: float, *, rough: float, stretch: float, angle: float
) -> F32:
    """How deep inside an irregular round patch each pixel lies.

    Args:
        centre: (row, column), pixels.
        radius: mean radius, pixels.
        rough: how irregular the outline is, as a share of the radius (0 is an ellipse).
        stretch: length over width, with the area kept.
        angle: of the longer axis, radians.

    Returns:
        (H, W): 1 at the centre, 0 on the outline, negative outside.
    """
    rows = np.arange(shape[0], dtype=np.float32)[:, None] - centre[0]
    columns = np.arange(shape[1], dtype=np.float32)[None, :] - centre[1]
    c, s = math.cos(angle), math.sin(angle)
    along = (c * columns + s * rows) / math.sqrt(stretch)
    across = (c * rows - s * columns) * math.sqrt(stretch)
    theta = np.arctan2(across, along)
    outline = np.ones(shape, dtype=np.float32)
    for waves in range(2, 9):
        amplitude = np.float32(1.3 * rough * rng.normal() / waves**1.4)
        outline += amplitude * np.cos(waves * theta + rng.uniform(0, 2 * math.pi))
    return (1 - np.hypot(along, across) / (radius * np.maximum(outline, 0.25))).astype(np.float32)


def bent_line(rng: np.random.Generator, start: Point, angle: float, length: float, *, bend: float) -> list[Point]:
    """A smooth line about as straight as a slipped tool makes it; `bend` is its sagitta as a share of the length."""
    t = np.linspace(0, 1, max(8, round(length / 2)))
    sag = length * bend * rng.normal() * 4 * t * (1 - t)
    along = length * t
    c, s = math.cos(angle), math.sin(angle)
    return list(zip(start[0] + along * s + sag * c, start[1] + along * c - sag * s, strict=True))


def walk(rng: np.random.Generator, start: Point, angle: float, length: float, *, jag: float) -> list[Point]:
    """A jagged line that wanders about a direction: steps of 2 pixels whose heading is correlated and pulled back."""
    points, heading, (row, column) = [start], 0.0, start
    for _ in range(max(3, round(length / 2))):
        heading = 0.82 * heading + jag * rng.normal()
        row += 2 * math.sin(angle + heading)
        column += 2 * math.cos(angle + heading)
        points.append((row, column))
    return points


def blurred(field: F32, sigma: float) -> F32:
    """`field` (H, W) smoothed by a Gaussian of `sigma` pixels."""
    smooth: F32 = ndimage.gaussian_filter(field, sigma)
    return smooth
