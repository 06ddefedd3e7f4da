"""The defects: what can be wrong with a piece, drawn into its height and its colour.

Each takes a random generator, the good piece, and a strength (1 is usual; more is easier to see), and returns the
damaged piece. All are small: at most a few per cent of a 256 x 256 picture.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from ssn_core.surfaces.fields import F32, Shape, grains, power_law, smoothstep
from ssn_core.surfaces.relief import Relief, between, rgb
from ssn_core.surfaces.strokes import Point, bent_line, blurred, patch, stroke, walk

Defect = Callable[[np.random.Generator, Relief, float], Relief]


def scratch(rng: np.random.Generator, piece: Relief, strength: float) -> Relief:
    """A thin groove across the grain, of uneven depth, with a raised burr on one side."""
    length = _length(rng, piece.shape, 35, 110)
    angle = piece.angle + math.radians(rng.uniform(25, 155))
    points = bent_line(rng, _start(rng, piece.shape, angle, length), angle, length, bend=0.03)
    widths = _widths(rng, len(points), rng.uniform(0.7, 1.5))
    groove = stroke(piece.shape, points, widths) * _fading(rng, piece.shape)
    burr = stroke(piece.shape, [(r + 1.1, c + 1.1) for r, c in points], widths)
    bright = rng.uniform() < 0.5
    factor = 1 + (0.38 if bright else -0.30) * strength * rng.uniform(0.6, 1.2)
    worn = piece.tinted(groove, (factor, factor, factor))
    return worn.raised(strength * (0.35 * blurred(burr, 0.6) - 0.6 * blurred(groove, 0.5)).astype(np.float32))


def crack(rng: np.random.Generator, piece: Relief, strength: float) -> Relief:
    """A dark, jagged line that thins out, sometimes with a branch."""
    return _cracked(rng, piece, strength, angle=rng.uniform(0, 2 * math.pi), jag=0.33)


def split(rng: np.random.Generator, piece: Relief, strength: float) -> Relief:
    """A drying crack: along the grain, nearly straight."""
    return _cracked(rng, piece, strength, angle=piece.angle + math.radians(rng.normal(0, 4)), jag=0.10)


def _cracked(rng: np.random.Generator, piece: Relief, strength: float, *, angle: float, jag: float) -> Relief:
    length = _length(rng, piece.shape, 35, 105)
    points = walk(rng, _start(rng, piece.shape, angle, length), angle, length, jag=jag)
    widest = rng.uniform(0.8, 1.9) * strength
    line = stroke(piece.shape, points, _tapered(rng, len(points), widest))
    if rng.uniform() < 0.45:
        fork = points[rng.integers(len(points) // 4, 3 * len(points) // 4)]
        branch = walk(rng, fork, angle + rng.choice([-1, 1]) * rng.uniform(0.4, 0.9), 0.35 * length, jag=jag)
        line = np.maximum(line, stroke(piece.shape, branch, _tapered(rng, len(branch), 0.7 * widest)))
    line = line * rng.uniform(0.55, 0.85)
    depth = max(0.06, 1 - 0.78 * min(strength, 1.2))
    return piece.tinted(line, (depth, depth, depth)).raised(-0.5 * blurred(line, 0.5))


def dent(rng: np.random.Generator, piece: Relief, strength: float) -> Relief:
    """A shallow hollow without a change of colour: one side dark, the other bright."""
    radius = rng.uniform(5, 11)
    inside = _patch(rng, piece.shape, radius, rough=0.12, stretch=rng.uniform(1, 1.7))
    bowl = smoothstep(inside + 0.15)
    return piece.raised(-(0.17 * strength * radius * rng.uniform(0.8, 1.2)) * blurred(bowl, 0.8))


def pit(rng: np.random.Generator, piece: Relief, strength: float) -> Relief:
    """A hole with a ragged rim, dark inside; now and then with smaller ones beside it."""
    damaged, centre = piece, _place(rng, piece.shape, 14)
    for number in range(1 + min(int(rng.poisson(0.7)), 3)):
        radius = rng.uniform(2.6, 5.2) * (1.0 if number == 0 else 0.5)
        middle = centre if number == 0 else (centre[0] + rng.normal(0, 9), centre[1] + rng.normal(0, 9))
        angle, stretch = rng.uniform(0, math.pi), rng.uniform(1, 1.6)
        inside = patch(rng, piece.shape, middle, radius, rough=0.4, stretch=stretch, angle=angle)
        hole = smoothstep(inside * radius / 1.4 + 0.5)
        dark = max(0.15, 1 - 0.42 * strength)
        damaged = damaged.tinted(hole * smoothstep(inside * 2 + 0.4), (dark, dark, dark))
        damaged = damaged.raised(-(0.45 * strength * radius) * blurred(hole, 0.7))
    return damaged


def stain(rng: np.random.Generator, piece: Relief, strength: float) -> Relief:
    """A dried drop or a smear: a faint, cloudy change of tint, darker at the rim; the grain shows through."""
    radius = rng.uniform(9, 19)
    inside = _patch(rng, piece.shape, radius, rough=0.3, stretch=rng.uniform(1, 2))
    body = smoothstep(inside * radius / 3 + 0.4) * (0.75 + 0.22 * power_law(rng, piece.shape, 1.4, coarsest=60))
    rim = np.exp(-(((inside * radius - 1.2) / 1.6) ** 2))
    cover = np.clip(body + 0.45 * rim, 0, 1.4).astype(np.float32)
    liquid = between(rng, rgb(0.84, 0.79, 0.70), rgb(0.80, 0.80, 0.82))  # oil, or water with dust
    return piece.tinted(cover, 1 - (1 - liquid) * np.float32(strength * rng.uniform(0.75, 1.15)))


def inclusion(rng: np.random.Generator, piece: Relief, strength: float) -> Relief:
    """A foreign grain or chip in the surface, of another colour, with its shadow."""
    radius = rng.uniform(2.8, 5.4)
    angular = rng.uniform(0.3, 0.55)
    inside = _patch(rng, piece.shape, radius, rough=angular, stretch=rng.uniform(1, 2.2))
    chip = smoothstep(inside * radius + 0.5)
    mean = piece.albedo.mean(axis=(0, 1))
    contrast = np.float32(min(0.34 * strength, 0.6) * rng.uniform(0.8, 1.3) * (1 if rng.uniform() < 0.35 else -1))
    colour = np.clip(mean * (1 + contrast) * rgb(*(1 + 0.05 * rng.normal(size=3))), 0.04, 0.95)
    texture = 1 + 0.09 * grains(rng, piece.shape, size=1.0)[..., None]
    shadow = np.roll(chip, (1, 1), axis=(0, 1)) * (1 - chip)
    laid = piece.tinted(shadow, (0.78, 0.78, 0.78)).painted(0.9 * chip, (colour * texture).astype(np.float32))
    return laid.raised(0.5 * blurred(chip, 0.7))


def missing_thread(rng: np.random.Generator, piece: Relief, strength: float) -> Relief:  # noqa: ARG001
    """A stretch of one thread is not there, and the dark behind the cloth shows. Woven pieces only."""
    if piece.unravel is None:
        raise ValueError("only a woven piece can lose a thread")
    return piece.unravel(rng)


def fibre(rng: np.random.Generator, piece: Relief, strength: float) -> Relief:
    """A loose, curled fibre of another colour that lies on the surface."""
    length = _length(rng, piece.shape, 25, 60)
    angle = rng.uniform(0, 2 * math.pi)
    points = walk(rng, _start(rng, piece.shape, angle, length), angle, length, jag=0.2)
    line = stroke(piece.shape, points, [rng.uniform(1.0, 1.7)] * len(points))
    light = piece.albedo.mean() < 0.42
    colour = rgb(0.82, 0.80, 0.76) if light else rgb(0.16, 0.16, 0.18)
    shadow = np.roll(line, (1, 1), axis=(0, 1)) * (1 - line)
    opacity = np.float32(min(0.62 * strength, 0.95))
    return piece.tinted(shadow, (0.8, 0.8, 0.8)).painted(opacity * line, colour).raised(0.3 * blurred(line, 0.6))


KINDS: Mapping[str, Mapping[str, Defect]] = {
    "brushed-metal": {"scratch": scratch, "dent": dent, "stain": stain, "pit": pit, "inclusion": inclusion},
    "fabric": {"missing-thread": missing_thread, "stain": stain, "fibre": fibre, "inclusion": inclusion},
    "concrete": {"crack": crack, "pit": pit, "stain": stain, "inclusion": inclusion},
    "wood": {"split": split, "scratch": scratch, "pit": pit, "stain": stain, "dent": dent},
}
"""Material -> name of a defect that it can have -> how to draw it."""


def _length(rng: np.random.Generator, shape: Shape, shortest: float, longest: float) -> float:
    """Pixels; never more than 0.45 of the picture's shorter side."""
    limit = 0.45 * min(shape)
    return float(rng.uniform(min(shortest, limit / 2), min(longest, limit)))


def _place(rng: np.random.Generator, shape: Shape, margin: float) -> Point:
    """A point at least `margin` pixels (a quarter of the side, in small pictures) from the edge."""
    row_margin, column_margin = min(margin, shape[0] / 4), min(margin, shape[1] / 4)
    return rng.uniform(row_margin, shape[0] - row_margin), rng.uniform(column_margin, shape[1] - column_margin)


def _start(rng: np.random.Generator, shape: Shape, angle: float, length: float) -> Point:
    """Where a line of this direction and length must begin for its middle to be well inside the picture."""
    row, column = _place(rng, shape, 0.3 * length + 8)
    return row - length / 2 * math.sin(angle), column - length / 2 * math.cos(angle)


def _patch(rng: np.random.Generator, shape: Shape, radius: float, *, rough: float, stretch: float) -> F32:
    centre = _place(rng, shape, radius + 4)
    return patch(rng, shape, centre, radius, rough=rough, stretch=stretch, angle=rng.uniform(0, math.pi))


def _widths(rng: np.random.Generator, n: int, width: float) -> list[float]:
    """Even in the middle, running out at both ends."""
    ends = np.minimum(1, 0.35 + 6 * np.minimum(np.linspace(0, 1, n), np.linspace(1, 0, n)))
    return list(width * ends * np.clip(1 + 0.12 * rng.normal(size=n), 0.6, 1.4))


def _tapered(rng: np.random.Generator, n: int, width: float) -> list[float]:
    """Widest somewhere in the first half, thin at the ends."""
    t = np.linspace(0, 1, n)
    widest = rng.uniform(0.15, 0.5)
    shape = np.minimum(t / widest, (1 - t) / (1 - widest)) ** 0.6
    return list(np.maximum(0.25, width * shape * np.clip(1 + 0.25 * rng.normal(size=n), 0.4, 1.6)))


def _fading(rng: np.random.Generator, shape: Shape) -> F32:
    """Deeper here, shallower there: (H, W), 0.35..1."""
    return np.asarray(np.clip(0.75 + 0.25 * power_law(rng, shape, 1.8, coarsest=60), 0.35, 1), dtype=np.float32)
