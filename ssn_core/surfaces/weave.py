"""Woven cloth: warp and weft threads that pass over and under each other, each a little different."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from ssn_core.surfaces.fields import F32, Shape, plane, power_law, streaks
from ssn_core.surfaces.relief import Relief, rgb

Index = npt.NDArray[np.intp]

_DYES = (  # (warp, weft): linen, denim, grey work cloth, olive canvas
    (rgb(0.72, 0.66, 0.55), rgb(0.68, 0.61, 0.50)),
    (rgb(0.27, 0.35, 0.50), rgb(0.46, 0.52, 0.60)),
    (rgb(0.52, 0.53, 0.54), rgb(0.46, 0.47, 0.49)),
    (rgb(0.47, 0.46, 0.34), rgb(0.42, 0.40, 0.29)),
)


@dataclass(frozen=True)
class Gap:
    """A piece of a warp thread that is not there: thread number, and from where to where, in weft threads."""

    thread: int
    start: float
    end: float


@dataclass(frozen=True)
class _Cloth:
    """Everything random about one picture of cloth, so that it can be drawn twice."""

    a: F32  # (H, W) position across the warp, in threads; its whole part is the thread's number
    b: F32  # the same for the weft
    twill: bool
    width: float  # of a thread, as a share of the pitch
    pitch: float  # pixels
    warp: F32  # (H, W, 3) colour of the warp thread that would be here
    weft: F32
    angle: float


def fabric(part: np.random.Generator, image: np.random.Generator, shape: Shape) -> Relief:
    """Cloth in plain weave or twill."""
    pitch = part.uniform(6.4, 7.6)
    twill = bool(part.uniform() < 0.35)
    dye = _DYES[part.integers(len(_DYES))]
    tone = np.float32(part.uniform(0.92, 1.08))
    width = part.uniform(0.84, 0.93)
    angle = math.radians(part.normal(0, 2.0) + image.normal(0, 1.5))

    u, v = plane(shape, angle)
    sag = pitch * 0.22
    a = _threads(image, u + sag * power_law(image, shape, 1.9), pitch, shape)
    b = _threads(image, v + sag * power_law(image, shape, 1.9), pitch * 0.96, shape)
    cloth = _Cloth(
        a=a,
        b=b,
        twill=twill,
        width=width,
        pitch=pitch,
        warp=_yarn(image, shape, a, dye[0] * tone, angle + math.pi / 2),
        weft=_yarn(image, shape, b, dye[1] * tone, angle),
        angle=angle,
    )
    return _draw(cloth, None)


def _threads(rng: np.random.Generator, position: F32, pitch: float, shape: Shape) -> F32:
    """Pixels to thread numbers, where no two threads are equally wide."""
    n = int(2 * max(shape) / pitch) + 8
    edges = np.concatenate([[0.0], np.cumsum(pitch * np.clip(rng.normal(1, 0.05, n), 0.8, 1.25))])
    edges += rng.uniform(0, pitch) - edges[-1] / 2
    return np.interp(position, edges, np.arange(n + 1)).astype(np.float32)


def _yarn(rng: np.random.Generator, shape: Shape, position: F32, colour: F32, angle: float) -> F32:
    """The colour (H, W, 3) of threads: each lighter or darker, with fibres along it and thick and thin places."""
    each = rng.normal(0, 0.03, int(position.max()) + 2).astype(np.float32)[position.astype(np.intp)]
    fibres = 0.05 * streaks(rng, shape, along=3.0, across=0.45, angle=angle)
    drift = 0.025 * streaks(rng, shape, along=22.0, across=1.6, angle=angle)
    clouds = 0.02 * power_law(rng, shape, 1.5)
    return np.asarray(colour * (1 + each + fibres + drift + clouds)[..., None], dtype=np.float32)


def _over(i: Index, j: Index, twill: bool) -> F32:
    """+1 where warp thread i lies over weft thread j, else -1."""
    on_top = (i + j) % 4 < 2 if twill else (i + j) % 2 == 0
    return np.where(on_top, 1.0, -1.0).astype(np.float32)


def _draw(cloth: _Cloth, gap: Gap | None) -> Relief:
    i, j = np.floor(cloth.a).astype(np.intp), np.floor(cloth.b).astype(np.intp)
    across_warp, across_weft = cloth.a - i - 0.5, cloth.b - j - 0.5  # -0.5 .. 0.5
    # A thread's height glides from one crossing to the next.
    here = _over(i, j, cloth.twill)
    to_weft = 0.5 - 0.5 * np.cos(np.pi * np.abs(across_weft))
    to_warp = 0.5 - 0.5 * np.cos(np.pi * np.abs(across_warp))
    warp_z = here * (1 - to_weft) + _over(i, j + np.sign(across_weft).astype(np.intp), cloth.twill) * to_weft
    weft_z = -here * (1 - to_warp) - _over(i + np.sign(across_warp).astype(np.intp), j, cloth.twill) * to_warp
    warp_top = 0.5 * warp_z + _round(across_warp, cloth.width)
    weft_top = 0.5 * weft_z + _round(across_weft, cloth.width)
    if gap is not None:
        missing = (i == gap.thread) & (cloth.b > gap.start) & (cloth.b < gap.end)
        warp_top = np.where(missing, -3.0, warp_top)
    top = np.maximum(np.maximum(warp_top, weft_top), -0.9)  # the dark behind the cloth
    is_warp = (warp_top >= weft_top)[..., None]
    depth = np.clip((top + 0.9) / 1.9, 0.0, 1.0)
    albedo = np.where(is_warp, cloth.warp, cloth.weft) * (0.28 + 0.72 * depth**0.8)[..., None]
    return Relief(
        height=(top * cloth.pitch * 0.11).astype(np.float32),
        albedo=np.clip(albedo, 0.0, 1.0).astype(np.float32),
        angle=cloth.angle,
        unravel=partial(_unravelled, cloth) if gap is None else None,
    )


def _round(across: F32, width: float) -> F32:
    """The round top of a thread, 0..0.5; far below where there is none."""
    inside = 1 - (2 * across / width) ** 2
    return np.where(inside > 0, 0.5 * np.sqrt(np.maximum(inside, 0)), -1.0).astype(np.float32)


def _unravelled(cloth: _Cloth, rng: np.random.Generator) -> Relief:
    """The cloth with 32 to 80 pixels of one warp thread missing, well inside the picture."""
    height, width = cloth.a.shape
    row, column = round(rng.uniform(0.25, 0.75) * (height - 1)), round(rng.uniform(0.1, 0.9) * (width - 1))
    length = min(rng.uniform(32, 80), 0.45 * height) / cloth.pitch
    middle = float(cloth.b[row, column])
    gap = Gap(thread=int(cloth.a[row, column]), start=middle - length / 2, end=middle + length / 2)
    return _draw(cloth, gap)
