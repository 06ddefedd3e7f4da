"""The materials: what a good piece of each looks like, and how much good pieces differ.

Each takes two generators: `part` decides what all pictures of one part share (tint, spacing, grain), `image` what is
different in every picture (the place, a small turn, the grain itself).
"""

from __future__ import annotations

import math

import numpy as np

from ssn_core.surfaces.fields import F32, Shape, grains, plane, power_law, smoothstep, streaks
from ssn_core.surfaces.relief import Relief, between, rgb
from ssn_core.surfaces.strokes import bent_line, blurred, stroke
from ssn_core.surfaces.weave import fabric

__all__ = ["brushed_metal", "concrete", "fabric", "wood"]


def brushed_metal(part: np.random.Generator, image: np.random.Generator, shape: Shape) -> Relief:
    """Steel or aluminium with fine parallel lines, a soft highlight and a few longer hairlines: those are normal."""
    tint = between(part, rgb(0.50, 0.52, 0.55), rgb(0.60, 0.585, 0.56))
    depth = part.uniform(0.75, 1.15)
    angle = math.radians(part.normal(0, 2.5) + image.normal(0, 1.5))
    lines = (
        0.55 * streaks(image, shape, along=90, across=0.45, angle=angle)
        + 0.45 * streaks(image, shape, along=28, across=0.4, angle=angle)
        + 0.30 * streaks(image, shape, along=9, across=0.4, angle=angle)
        + 0.30 * streaks(image, shape, along=160, across=2.2, angle=angle)
        + 0.22 * streaks(image, shape, along=220, across=12, angle=angle)
    )
    along, _ = plane(shape, angle)
    centre, reach = image.normal(0, 0.35) * shape[1], image.uniform(0.35, 0.7) * shape[1]
    highlight = np.exp(-(((along - centre) / reach) ** 2)) * image.uniform(0.1, 0.24)
    clouds = 0.012 * power_law(image, shape, 1.6)
    tone = (1 + 0.048 * depth * lines + highlight - 0.08 + clouds).astype(np.float32)
    for _ in range(image.poisson(5)):  # hairlines of the brush, never across it
        start = (image.uniform(0, shape[0]), image.uniform(-0.3, 0.9) * shape[1])
        points = bent_line(image, start, angle + image.normal(0, 0.012), image.uniform(30, 170), bend=0.002)
        tone += np.float32(image.normal(0, 0.05)) * stroke(shape, points, [image.uniform(0.4, 0.9)] * len(points))
    return Relief(
        height=(0.035 * depth * lines).astype(np.float32),
        albedo=np.clip(tint * tone[..., None], 0.0, 1.0).astype(np.float32),
        angle=angle,
    )


def concrete(part: np.random.Generator, image: np.random.Generator, shape: Shape) -> Relief:
    """A cast, granular grey with sand in it, cloudy, and with small air pores: those are normal."""
    tint = between(part, rgb(0.56, 0.56, 0.55), rgb(0.64, 0.615, 0.575))
    sandy = part.uniform(0.7, 1.2)
    angle = image.uniform(0, 2 * math.pi)
    clouds = power_law(image, shape, 1.35, coarsest=150)
    sand = grains(image, shape, size=0.8)
    grit = grains(image, shape, size=1.7)
    stones = smoothstep((grains(image, shape, size=3.6) - 1.5) / 0.6)
    tone = 1 + 0.045 * clouds + sandy * (0.034 * sand + 0.026 * grit) + image.normal(0.05, 0.03) * stones
    specks = np.maximum(grains(image, shape, size=0.7) - 2.3, 0) * -0.16  # dark grains of sand
    height = 0.06 * sandy * sand + 0.08 * sandy * grit + 0.15 * clouds + 0.15 * stones
    pores = np.zeros(shape, dtype=np.float32)
    for _ in range(image.poisson(part.uniform(8, 20) * shape[0] * shape[1] / 65536)):
        pores = np.maximum(pores, _pore(image, shape))
    albedo = tint * (tone + specks)[..., None] * (1 - 0.42 * pores)[..., None]
    return Relief(
        height=(height - 1.1 * blurred(pores, 0.6)).astype(np.float32),
        albedo=np.clip(albedo, 0.0, 1.0).astype(np.float32),
        angle=angle,
    )


def _pore(rng: np.random.Generator, shape: Shape) -> F32:
    """One air pore of 0.8 to 1.7 pixels radius: (H, W), 0..1."""
    row, column, radius = rng.uniform(0, shape[0]), rng.uniform(0, shape[1]), 0.7 + min(rng.exponential(0.35), 1.0)
    angle = rng.uniform(0, math.pi)
    points = [(row, column), (row + 0.6 * math.sin(angle), column + 0.6 * math.cos(angle))]
    return stroke(shape, points, [2 * radius] * 2) * np.float32(rng.uniform(0.5, 1.0))


def wood(part: np.random.Generator, image: np.random.Generator, shape: Shape) -> Relief:
    """Planed wood: growth rings cut at a flat angle, fibres, and short dark vessels."""
    light = between(part, rgb(0.78, 0.62, 0.43), rgb(0.66, 0.49, 0.33))
    dark = light * between(part, rgb(0.70, 0.62, 0.54), rgb(0.82, 0.77, 0.70))
    spacing = part.uniform(15, 30)  # pixels from ring to ring
    porous = part.uniform(0.5, 1.0)
    angle = math.radians(part.normal(0, 3) + image.normal(0, 1.5))
    along, across = plane(shape, angle)
    swing = streaks(image, shape, along=95, across=38, angle=angle)
    wander = streaks(image, shape, along=60, across=9, angle=angle)
    strands = streaks(image, shape, along=30, across=1.5, angle=angle)
    tilt = image.normal(0, 0.0009) * along**2 / 4
    rings = (across + tilt + 9 * swing + 2.2 * wander + 0.5 * strands) / spacing + 40
    phase = rings - np.floor(rings)
    strength = _each(image, rings, 0.55, 1.0)
    # Early wood darkens slowly into late wood, which ends within a pixel or two.
    late = strength * smoothstep((phase - 0.15) / 0.72) * (1 - smoothstep((phase - 0.86) / 0.14))
    fibres = streaks(image, shape, along=26, across=0.6, angle=angle)
    silk = streaks(image, shape, along=70, across=3.0, angle=angle)
    pores = smoothstep((streaks(image, shape, along=5.5, across=0.55, angle=angle) - 1.75) / 0.7)
    vessels = pores * (0.35 + 0.65 * (1 - late)) * porous
    colour = light * (1 - late[..., None]) + dark * late[..., None]
    tone = 1 + 0.035 * fibres + 0.025 * silk + 0.02 * power_law(image, shape, 1.6)
    albedo = colour * tone[..., None] * (1 - vessels[..., None] * (1 - rgb(0.72, 0.66, 0.60)))
    return Relief(
        height=(0.05 * fibres - 0.22 * vessels + 0.12 * late).astype(np.float32),
        albedo=np.clip(albedo, 0.0, 1.0).astype(np.float32),
        angle=angle,
    )


def _each(rng: np.random.Generator, rings: F32, low: float, high: float) -> F32:
    """One random number for each ring, (H, W)."""
    first = int(np.floor(rings.min()))
    values = rng.uniform(low, high, int(np.floor(rings.max())) - first + 1).astype(np.float32)
    return values[np.floor(rings).astype(np.intp) - first]
