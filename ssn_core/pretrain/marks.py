"""Synthetic marks on textures: scratches, cracks, fibres, spots, stains and clusters of pits, and where they are.

Finding and naming them is the main task of pretraining: it teaches the layers whose features the product uses to notice
what does not belong to a texture (the idea of CutPaste, Li et al., CVPR 2021, and DRAEM, Zavrtanik et al., ICCV 2021),
and to tell one kind of it from another. A mark is a shape times a filling, each drawn on its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

MOST_MARKS = 3  # on one image
_CELL = 8  # pixels: the stride of layer2
_CLEAR = 0.35  # opacity of a clear piece of a mark
_NOTHING = -1


class Draws:
    """Random numbers, one per sample of a batch, shaped to multiply images of `dims` dimensions after the batch."""

    def __init__(self, generator: torch.Generator, batch: int, dims: int = 2) -> None:
        self.generator, self.batch, self.dims = generator, batch, dims

    def uniform(self, low: float, high: float) -> Tensor:
        """Between low and high; (B, 1, ...)."""
        shape = (self.batch, *(1,) * self.dims)
        return low + (high - low) * torch.rand(shape, generator=self.generator, device=self.generator.device)

    def log_uniform(self, low: float, high: float) -> Tensor:
        """Between low and high, evenly in the logarithm; (B, 1, ...)."""
        return torch.exp(self.uniform(math.log(low), math.log(high)))

    def sign(self) -> Tensor:
        """-1 or 1; (B, 1, ...)."""
        return torch.sign(self.uniform(-1.0, 1.0) + 1e-9)


@dataclass(frozen=True)
class Marks:
    """Where marks are, in cells of 8 x 8 pixels.

    Attributes:
        touched: (B, h, w) float, 1 where a cell holds a clear and visible piece of a mark.
        hidden: (B, h, w) bool, where a mark is that an eye could not see: neither marked nor unmarked.
        shape: (B, h, w) int64, number in SHAPES of the mark on top; -1 where there is none.
        filling: (B, h, w) int64, number in FILLINGS of the mark on top; -1 where there is none.
    """

    touched: Tensor
    hidden: Tensor
    shape: Tensor
    filling: Tensor

    def coarser(self) -> Marks:
        """The same in cells of twice the side; a mark anywhere in the larger cell counts."""
        touched = F.max_pool2d(self.touched[:, None], 2)[:, 0]
        hidden = (F.max_pool2d(self.hidden[:, None].float(), 2)[:, 0] > 0) & (touched == 0)
        shape, filling = (F.max_pool2d(kind[:, None].float(), 2)[:, 0].long() for kind in (self.shape, self.filling))
        return Marks(touched, hidden, shape, filling)


def add_marks(images: Tensor, *, share: float, generator: torch.Generator) -> tuple[Tensor, Marks]:
    """Put one to three marks on some of the images.

    Args:
        images: (B, 3, S, S) in [0, 1], S a multiple of 8.
        share: probability that an image gets any.

    Returns:
        the images, unchanged where there is no mark, and where the marks are.
    """
    batch, side, device = len(images), images.shape[-1], images.device
    cells = (batch, side // _CELL, side // _CELL)
    touched, hidden = torch.zeros(cells, device=device), torch.zeros(cells, dtype=torch.bool, device=device)
    shape, filling = (torch.full(cells, _NOTHING, device=device) for _ in range(2))
    chosen = torch.rand(batch, generator=generator, device=device) < share
    marked = images.clone()
    for number in range(MOST_MARKS):
        rows = (chosen & (torch.rand(batch, generator=generator, device=device) < 0.45**number)).nonzero()[:, 0]
        if not len(rows):
            continue
        shapes, fillings = (
            torch.randint(len(kinds), (len(rows),), generator=generator, device=device) for kinds in (SHAPES, FILLINGS)
        )
        before = marked[rows]
        opacity = torch.empty_like(before[:, 0])
        for kind, draw in enumerate(SHAPES.values()):
            some = (shapes == kind).nonzero()[:, 0]
            if len(some):
                opacity[some] = draw(Draws(generator, len(some)), side)
        content = torch.empty_like(before)
        others = images[(rows + 1) % batch]
        for kind, fill in enumerate(FILLINGS.values()):
            some = (fillings == kind).nonzero()[:, 0]
            if len(some):
                content[some] = fill(_Ground(before[some], others[some], opacity[some], Draws(generator, len(some), 3)))
        after = (before + opacity[:, None] * (content - before)).clamp(0.0, 1.0)
        marked[rows] = after
        there = _in_cells(opacity) > _CLEAR
        seen = there & (_in_cells(_local_mean((after - before).abs().mean(1), 3)) > _visible(before))
        touched[rows] = torch.maximum(touched[rows], seen.float())
        hidden[rows] = (hidden[rows] | there) & (touched[rows] == 0)
        shape[rows] = torch.where(seen, shapes[:, None, None], shape[rows])
        filling[rows] = torch.where(seen, fillings[:, None, None], filling[rows])
    return marked, Marks(touched, hidden, shape, filling)


def _in_cells(value: Tensor) -> Tensor:
    return F.max_pool2d(value[:, None], _CELL)[:, 0]


def _local_mean(value: Tensor, width: int) -> Tensor:
    padded = F.pad(value[:, None], (width // 2,) * 4, mode="replicate")
    return F.avg_pool2d(padded, width, stride=1)[:, 0]


def _visible(images: Tensor) -> Tensor:
    """The change that an eye notices: more on a busy surface; (B, 1, 1)."""
    grey = images.mean(1)
    texture = (grey - _local_mean(grey, 9)).square().mean((1, 2)).sqrt()
    return (0.02 + 0.5 * texture)[:, None, None]


# Shapes: Draws, side -> opacity (B, side, side) in [0, 1].


def _frame(d: Draws, side: int, margin: float = 0.1) -> tuple[Tensor, Tensor]:
    """Coordinates along and across a random direction, from a random point; pixels, (B, side, side)."""
    axis = torch.arange(side, device=d.generator.device, dtype=torch.float32)
    y = axis[None, :, None] - d.uniform(margin, 1 - margin) * side
    x = axis[None, None, :] - d.uniform(margin, 1 - margin) * side
    angle = d.uniform(0.0, math.pi)
    return x * angle.cos() + y * angle.sin(), y * angle.cos() - x * angle.sin()


def _inside(distance: Tensor, d: Draws) -> Tensor:
    """Opacity from the signed distance to an outline (negative inside), with a softer or harder edge."""
    return torch.sigmoid(-distance / d.log_uniform(0.25, 0.9)) * d.uniform(0.55, 1.0)


def _waves(at: Tensor, d: Draws, *, longest: float, octaves: int, roughness: float) -> Tensor:
    """A random curve: waves of halving length and falling height, about 1 high; same shape as `at`."""
    total = torch.zeros_like(at)
    for octave in range(octaves):
        length = longest / 2**octave * d.uniform(0.7, 1.3)
        total = total + roughness**octave * torch.sin(2 * math.pi * at / length + d.uniform(0.0, 2 * math.pi))
    return total


def _line(d: Draws, *, bend: Tensor, width: Tensor, length: Tensor, along: Tensor, across: Tensor) -> Tensor:
    taper = (1 - (along / length).square()).clamp_min(0.0).sqrt()
    return _inside(torch.maximum((across + bend).abs() - width * taper, along.abs() - length), d)


def _scratch(d: Draws, side: int) -> Tensor:
    along, across = _frame(d, side)
    bend = d.uniform(0.0, 2.5) * _waves(along, d, longest=1.2 * side, octaves=1, roughness=0.5)
    length, width = d.log_uniform(5.0, 0.5 * side), d.log_uniform(0.5, 2.2)
    return _line(d, bend=bend, width=width, length=length, along=along, across=across)


def _crack(d: Draws, side: int) -> Tensor:
    along, across = _frame(d, side)
    bend = d.uniform(0.8, 3.5) * _waves(along, d, longest=0.6 * side, octaves=5, roughness=0.55)
    width = d.log_uniform(0.5, 2.0) * (1 + 0.35 * _waves(along, d, longest=20.0, octaves=2, roughness=0.6))
    length = d.log_uniform(6.0, 0.5 * side)
    return _line(d, bend=bend, width=width, length=length, along=along, across=across)


def _fibre(d: Draws, side: int) -> Tensor:
    """A piece of a circle, or a whole small one."""
    along, across = _frame(d, side)
    radius = d.log_uniform(4.0, 0.5 * side)
    x, y = along - radius * d.uniform(0.0, 1.0), across
    beyond = torch.atan2(y, x).abs() - d.uniform(0.5, math.pi)
    ring = ((x.square() + y.square()).sqrt() - radius).abs() - d.log_uniform(0.5, 1.6)
    return _inside(torch.maximum(ring, beyond * radius), d)


def _outline(d: Draws, along: Tensor, across: Tensor, *, radius: Tensor, rough: float) -> Tensor:
    """Signed distance to an uneven ellipse, pixels."""
    y = across * d.uniform(1.0, 2.2)
    angle = torch.atan2(y, along)
    dents = torch.zeros_like(along)
    for lobes in (2, 3, 5, 8):
        dents = dents + d.uniform(0.0, rough) / lobes**0.5 * torch.sin(lobes * angle + d.uniform(0.0, 2 * math.pi))
    return (along.square() + y.square()).sqrt() - radius * (1 + dents)


def _spot(d: Draws, side: int) -> Tensor:
    along, across = _frame(d, side)
    return _inside(_outline(d, along, across, radius=d.log_uniform(1.2, 9.0), rough=0.35), d)


def _stain(d: Draws, side: int) -> Tensor:
    """A large, cloudy area with a soft edge; now and then only its rim."""
    along, across = _frame(d, side)
    distance = _outline(d, along, across, radius=d.log_uniform(8.0, 0.25 * side), rough=0.4)
    cloudy = 0.7 + 0.15 * (
        _waves(along, d, longest=30.0, octaves=2, roughness=0.6)
        + _waves(across, d, longest=30.0, octaves=2, roughness=0.6)
    )
    soft = torch.sigmoid(-distance / d.uniform(0.8, 3.0))
    rim = torch.exp(-(distance / d.uniform(1.0, 2.5)).square())
    return (torch.where(d.uniform(0.0, 1.0) < 0.3, rim, soft) * cloudy * d.uniform(0.6, 1.0)).clamp(0.0, 1.0)


def _pits(d: Draws, side: int) -> Tensor:
    """Up to six small holes close together."""
    along, across = _frame(d, side)
    spread = d.uniform(3.0, 12.0)
    nearest = torch.full_like(along, 9e9)
    for _ in range(6):
        x, y = along - spread * d.uniform(-1.5, 1.5), across - spread * d.uniform(-1.5, 1.5)
        nearest = torch.minimum(nearest, (x.square() + y.square()).sqrt() - d.uniform(-0.5, 2.6))
    return _inside(nearest, d)


SHAPES: dict[str, Callable[[Draws, int], Tensor]] = {
    "scratch": _scratch,
    "crack": _crack,
    "fibre": _fibre,
    "spot": _spot,
    "stain": _stain,
    "pits": _pits,
}


@dataclass(frozen=True)
class _Ground:
    """What a mark lies on: surfaces, other surfaces, opacity of the marks (B, side, side), and random numbers."""

    surface: Tensor  # (B, 3, side, side)
    other: Tensor  # (B, 3, side, side)
    opacity: Tensor
    draws: Draws


# Fillings: what is there instead of the surface, (B, 3, side, side).


def _darker(on: _Ground) -> Tensor:
    return on.surface * (1 - on.draws.log_uniform(0.15, 0.9))


def _lighter(on: _Ground) -> Tensor:
    return on.surface + on.draws.log_uniform(0.12, 0.8) * (1 - on.surface)


def _shade(on: _Ground) -> Tensor:
    """An even colour without the texture."""
    mean = on.surface.mean((2, 3), keepdim=True)
    tint = torch.cat([on.draws.uniform(-0.08, 0.08) for _ in range(3)], dim=1)
    return (mean + on.draws.sign() * on.draws.log_uniform(0.05, 0.5) + tint).expand_as(on.surface)


def _tint(on: _Ground) -> Tensor:
    """The texture shows through in another colour."""
    tint = torch.cat([on.draws.uniform(0.5, 1.0) for _ in range(3)], dim=1)
    return on.surface * torch.where(on.draws.uniform(0.0, 1.0) < 0.5, tint, tint.mean(1, keepdim=True))


def _foreign(on: _Ground) -> Tensor:
    moved = on.other - on.other.mean((2, 3), keepdim=True) + on.surface.mean((2, 3), keepdim=True)
    return torch.where(on.draws.uniform(0.0, 1.0) < 0.5, moved, on.other)


def _shifted(on: _Ground) -> Tensor:
    """The same texture, but interrupted: turned by a quarter, from elsewhere."""
    return on.surface.transpose(2, 3).roll((17, 23), (2, 3))


def _smooth(on: _Ground) -> Tensor:
    """The texture is worn away."""
    return F.avg_pool2d(F.pad(on.surface, (4,) * 4, mode="replicate"), 9, stride=1)


def _relief(on: _Ground) -> Tensor:
    """A dent or bump under light from one side: one flank dark, the other bright."""
    one, other = (on.opacity - on.opacity.roll(light, (1, 2)) for light in ((2, 1), (1, -2)))
    slope = torch.where(on.draws.uniform(0.0, 1.0)[:, 0] < 0.5, one, other) / on.opacity.clamp_min(0.2)
    return on.surface + on.draws.sign() * on.draws.uniform(0.3, 1.0) * slope[:, None]


FILLINGS: dict[str, Callable[[_Ground], Tensor]] = {
    "darker": _darker,
    "lighter": _lighter,
    "shade": _shade,
    "tint": _tint,
    "foreign": _foreign,
    "shifted": _shifted,
    "smooth": _smooth,
    "relief": _relief,
}
