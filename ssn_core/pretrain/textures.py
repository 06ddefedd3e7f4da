"""Procedural textures for pretraining: thousands of parametrised classes, drawn in batches on any device.

Learning from noise works when the noise has the statistics of natural textures (Baradad et al., "Learning to See by
Looking at Noise", NeurIPS 2021; Kataoka et al., "Pre-training without Natural Images", ACCV 2020). A class here is one
draw of parameters: the spectrum of its noise, its gratings (weaves, brushed metal), its cells (grains, dead leaves),
the filters of a small random network that noise passes through, how all is mixed and sharpened, and its colours. An
image is one draw of phases and positions of its class. What a camera adds is in :mod:`ssn_core.pretrain.scenes`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional as F

MAX_CELLS = 48  # seed points of the cellular layer
_CHANNELS, _WIDTH = 4, 5  # of the random network: hidden channels, filter width in pixels
_LEAST = 0.12  # a layer of less weight is left out


@dataclass(frozen=True)
class Bank:
    """Parameters of all classes, one row each."""

    exponent: Tensor  # (N, 2) slope of the power spectrum, two noise layers
    angle: Tensor  # (N, 2) main direction, radians
    stretch: Tensor  # (N, 2) anisotropy, >= 1
    band: Tensor  # (N, 2) centre frequency, cycles a image; 0 = no band
    grating: Tensor  # (N, 2) cycles a image, of two crossed gratings
    grating_angle: Tensor  # (N,) radians
    warp: Tensor  # (N,) how far noise bends the gratings, radians
    crossed: Tensor  # (N,) 0 = one grating, 1 = a weave
    cells: Tensor  # (N,) seed points
    cell_kind: Tensor  # (N,) 0 = distance to the nearest, 1 = borders between cells
    filters_in: Tensor  # (N, channels, 2, width, width) of the random network, from two noises
    filters_out: Tensor  # (N, 1, channels, width, width)
    mix: Tensor  # (N, 5) weights of noise, noise, grating, cells, random network
    sharpness: Tensor  # (N,) of the squashing of the mixed field
    colours: Tensor  # (N, 3, 3) low, middle, high; RGB in [0, 1]

    @property
    def n_classes(self) -> int:
        """The number of classes."""
        return len(self.warp)

    def to(self, device: torch.device) -> Bank:
        """The same parameters on another device."""
        return Bank(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})


def make_bank(n_classes: int, *, seed: int) -> Bank:
    """Draw the parameters of `n_classes` classes."""
    g = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(n_classes, *shape, generator=g)

    mix = torch.rand(n_classes, 5, generator=g) ** 3  # mostly one or two layers
    mix[:, 0] += 0.15  # never without noise
    mix = mix / mix.sum(1, keepdim=True)
    mix = torch.where(mix < _LEAST, 0.0, mix)
    grey = uniform(0.0, 1.0, 3, 1)
    tint = 0.35 * torch.randn(n_classes, 1, 3, generator=g) * (torch.rand(n_classes, 1, 1, generator=g) < 0.5)
    return Bank(
        exponent=uniform(0.2, 3.2, 2),
        angle=uniform(0.0, math.pi, 2),
        stretch=torch.exp(uniform(0.0, math.log(12.0), 2)),
        band=uniform(3.0, 36.0, 2) * (torch.rand(n_classes, 2, generator=g) < 0.35),
        grating=torch.exp(uniform(math.log(2.0), math.log(32.0), 2)),
        grating_angle=uniform(0.0, math.pi),
        warp=uniform(0.0, 3.0) * (torch.rand(n_classes, generator=g) < 0.6),
        crossed=(torch.rand(n_classes, generator=g) < 0.5).float(),
        cells=torch.exp(uniform(math.log(4.0), math.log(MAX_CELLS))).round(),
        cell_kind=(torch.rand(n_classes, generator=g) < 0.5).float(),
        filters_in=torch.randn(n_classes, _CHANNELS, 2, _WIDTH, _WIDTH, generator=g) / (2 * _WIDTH**2) ** 0.5,
        filters_out=torch.randn(n_classes, 1, _CHANNELS, _WIDTH, _WIDTH, generator=g) / (_CHANNELS * _WIDTH**2) ** 0.5,
        mix=mix / mix.sum(1, keepdim=True),
        sharpness=torch.exp(uniform(math.log(0.5), math.log(6.0))),
        colours=(grey + tint).clamp(0.0, 1.0),
    )


def render(bank: Bank, classes: Tensor, size: int, *, generator: torch.Generator) -> Tensor:
    """One image of each class given.

    Args:
        bank: parameters, on the device to draw on.
        classes: (B,) class numbers.
        size: height and width, pixels.
        generator: on the same device.

    Returns:
        (B, 3, size, size) float32 in [0, 1].
    """
    device, batch = generator.device, len(classes)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(batch, *shape, generator=generator, device=device)

    turn = uniform(-0.12, 0.12)  # parts are never placed twice in quite the same way
    zoom = uniform(0.85, 1.18)
    noise = [_noise(bank, classes, layer, size, turn, zoom, generator) for layer in (0, 1)]
    weight = bank.mix[classes][:, :, None, None]
    field = weight[:, 0] * noise[0] + weight[:, 1] * noise[1]
    phase = uniform(0.0, 2 * math.pi, 2)
    for layer in (2, 3, 4):  # only for the classes that have it
        some = (bank.mix[classes, layer] > 0).nonzero()[:, 0]
        if not len(some):
            continue
        if layer == 2:
            drawn = _grating(bank, classes[some], size, turn[some], zoom[some], noise[0][some], phase[some])
        elif layer == 3:
            drawn = _cells(bank, classes[some], size, zoom[some], generator)
        else:
            drawn = _network(bank, classes[some], torch.stack((noise[0][some], noise[1][some]), dim=1))
        field[some] += weight[some, layer] * drawn
    field = torch.tanh(bank.sharpness[classes, None, None] * standardised(field))
    rgb = _coloured(bank.colours[classes], 0.5 + 0.5 * field)
    rgb = torch.where(uniform(0.0, 1.0, 1, 1, 1) < 0.5, rgb.flip(-1), rgb)
    return torch.where(uniform(0.0, 1.0, 1, 1, 1) < 0.5, rgb.flip(-2), rgb)


def standardised(field: Tensor) -> Tensor:
    """(B, H, W) with mean 0 and standard deviation 1 for each sample."""
    centred = field - field.mean((1, 2), keepdim=True)
    return centred / centred.square().mean((1, 2), keepdim=True).sqrt().clamp_min(1e-6)


def _noise(
    bank: Bank, classes: Tensor, layer: int, size: int, turn: Tensor, zoom: Tensor, generator: torch.Generator
) -> Tensor:
    """Gaussian noise with the class's spectrum, shaped in the frequency domain; (B, size, size)."""
    device = generator.device
    fy = (torch.fft.fftfreq(size, device=device) * size)[None, :, None]
    fx = (torch.fft.rfftfreq(size, device=device) * size)[None, None, :]
    angle = (bank.angle[classes, layer] + turn)[:, None, None]
    along, across = fx * angle.cos() + fy * angle.sin(), fy * angle.cos() - fx * angle.sin()
    frequency = ((along * bank.stretch[classes, layer, None, None]).square() + across.square()).sqrt()
    frequency = (frequency * zoom[:, None, None]).clamp_min(1.0)
    amplitude = frequency ** (-bank.exponent[classes, layer, None, None])
    band = bank.band[classes, layer, None, None]
    amplitude = torch.where(band > 0, torch.exp(-(((frequency - band) / (0.35 * band + 1e-6)) ** 2)), amplitude)
    white = torch.randn(len(classes), size, size, generator=generator, device=device)
    return standardised(torch.fft.irfft2(torch.fft.rfft2(white) * amplitude, s=(size, size)))


def _grating(bank: Bank, classes: Tensor, size: int, turn: Tensor, zoom: Tensor, bend: Tensor, phase: Tensor) -> Tensor:
    """One or two crossed gratings, bent by noise; (B, size, size)."""
    axis = torch.linspace(0.0, 1.0, size, device=bend.device)
    y, x = axis[None, :, None], axis[None, None, :]
    waves = []
    for index, offset in enumerate((0.0, math.pi / 2)):
        angle = (bank.grating_angle[classes] + turn + offset)[:, None, None]
        cycles = (bank.grating[classes, index] * zoom)[:, None, None]
        travelled = 2 * math.pi * cycles * (x * angle.cos() + y * angle.sin())
        waves.append(torch.cos(travelled + phase[:, index, None, None] + bank.warp[classes, None, None] * bend))
    crossed = bank.crossed[classes, None, None]
    return standardised(waves[0] + crossed * (waves[1] + waves[0] * waves[1]))


def _cells(bank: Bank, classes: Tensor, size: int, zoom: Tensor, generator: torch.Generator) -> Tensor:
    """Cells around random points (Worley, SIGGRAPH 1996): distance to the nearest, or the borders; (B, size, size)."""
    device = generator.device
    points = torch.rand(len(classes), MAX_CELLS, 2, generator=generator, device=device) * 1.3 - 0.15
    unused = (
        torch.arange(MAX_CELLS, device=device)[None, :] >= (bank.cells[classes] * zoom).clamp(3, MAX_CELLS)[:, None]
    )
    points = points.masked_fill(unused[:, :, None], 9.0)  # far outside
    axis = torch.linspace(0.0, 1.0, size, device=device)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), dim=-1).view(1, -1, 2).expand(len(classes), -1, -1)
    nearest = torch.cdist(grid, points).topk(2, dim=2, largest=False).values
    border = nearest[..., 1] - nearest[..., 0]
    kind = bank.cell_kind[classes, None]
    field = (kind * border.clamp_max(0.06) / 0.06 + (1 - kind) * nearest[..., 0]).view(-1, size, size)
    return standardised(field)


def _network(bank: Bank, classes: Tensor, noises: Tensor) -> Tensor:
    """Two noises (B, 2, size, size) through each class's own two random layers; (B, size, size)."""
    batch, size = len(classes), noises.shape[-1]
    hidden = F.conv2d(
        noises.reshape(1, batch * 2, size, size), bank.filters_in[classes].flatten(0, 1), padding="same", groups=batch
    )
    folded = torch.sin(3.0 * hidden)
    drawn = F.conv2d(folded, bank.filters_out[classes].flatten(0, 1), padding="same", groups=batch)
    return standardised(drawn[0])


def _coloured(colours: Tensor, value: Tensor) -> Tensor:
    """Values in [0, 1] through each class's three colours; (B, 3, H, W)."""
    value = value[:, None]
    low, middle, high = (colours[:, step, :, None, None] for step in range(3))
    return torch.where(value < 0.5, low + (middle - low) * 2 * value, middle + (high - middle) * (2 * value - 1))
