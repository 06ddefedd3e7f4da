"""Sharper maps from image labels alone: a small classifier of layer1's cells that learns from where the CAM points.

A CAM cell sees hundreds of pixels, so the map is a blob around a crack of four. A layer1 cell sees little more than
the place it covers. Bad images tell which places to look at (where their own CAM is high), good images tell what is
normal there: most cells under a blob look like cells of good images, and what remains is the defect. The training set
is one-sided noise (positives are mixed, negatives are pure), which leaves the order of a well-fitted classifier as it
is: Elkan and Noto, "Learning classifiers from only positive and unlabeled data", KDD 2008. No mask takes part.

A cell is defective where both agree, context and place. With a and b their logits

    map = logit(exp(G * log(sigmoid(a) sigmoid(b)))),    a = (CAM - level) / spread

where G smooths over the neighbouring cells, and the score is the mean of the highest cells of that map: it stays exact
evidence, only finer (stride 4 instead of 8).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from ssn_core.heads import Output, pool_top
from ssn_core.padding import pad_edges

_STEPS, _POSITIVES, _NEGATIVES = 300, 1024, 4096  # optimiser steps, and cells of a step
_LR, _WEIGHT_DECAY = 3e-3, 1e-2
_LEAST = 1e-3  # of a standard deviation
_SURE = -1e-30  # highest log-probability, a logit of 69: beyond it float32 has no smaller numbers
_BINOMIAL = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)  # Gaussian of one cell's standard deviation


@dataclass(frozen=True)
class LocalSettings:
    """Which cells the local head learns from. The defaults are every recipe's; others are for trials."""

    level: float = 0.999  # quantile of good images' CAM cells at which the context's logit is 0
    dark: float = 0.95  # quantile of the same below which a CAM cell of a bad image points at nothing
    top: float = 0.5  # a place is pointed at from this share of the way from dark to the image's highest cell
    cells_per_good: int = 600


_SETTINGS = LocalSettings()


class LocalHead(nn.Module):
    """From the CAM and layer1 to a map four times as fine and its score.

    Args:
        channels: of layer1.
        width: hidden units.
        pooling_fraction: share of the fine map's cells, highest first, whose mean is the score.
    """

    level: Tensor
    spread: Tensor
    mean: Tensor
    std: Tensor
    kernel: Tensor

    def __init__(self, channels: int, *, width: int, pooling_fraction: float) -> None:
        super().__init__()
        self.hidden = nn.Conv2d(channels, width, 1)
        self.out = nn.Conv2d(width, 1, 1)
        self.pooling_fraction = pooling_fraction
        self.register_buffer("level", torch.zeros(()))
        self.register_buffer("spread", torch.ones(()))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))
        self.register_buffer("kernel", torch.tensor(_BINOMIAL), persistent=False)

    def place(self, tap1: Tensor) -> Tensor:
        """Logit of every layer1 cell by itself: (B, C, h, w) -> (B, h, w)."""
        normal = (tap1 - self.mean[:, None, None]) / self.std[:, None, None]
        logits: Tensor = self.out(F.gelu(self.hidden(normal)))
        return logits[:, 0].float()

    def forward(self, cam: Tensor, tap1: Tensor) -> Output:
        """CAM (B, h, w) and layer1 (B, C, H1, W1) -> score (B,) and map (B, H1, W1)."""
        return self.agree(cam, self.place(tap1))

    def agree(self, cam: Tensor, place: Tensor) -> Output:
        """CAM (B, h, w) and every layer1 cell's own logit (B, H1, W1) -> score (B,) and map (B, H1, W1)."""
        context = (enlarged(cam, (place.shape[-2], place.shape[-1])) - self.level) / self.spread
        both = F.logsigmoid(context) + F.logsigmoid(place)
        cells = log_odds(self.smooth(both))
        return Output(score=pool_top(cells, self.pooling_fraction), cam=cells)

    def smooth(self, cells: Tensor) -> Tensor:
        """(B, h, w), averaged over neighbours; the edge is continued."""
        padded = pad_edges(cells[:, None], len(_BINOMIAL) // 2, "replicate")
        return F.conv2d(F.conv2d(padded, self.kernel.view(1, 1, -1, 1)), self.kernel.view(1, 1, 1, -1))[:, 0]


def log_odds(log_probability: Tensor) -> Tensor:
    """The logit of a probability whose logarithm is given; finite, for no probability is quite 1."""
    sure = log_probability.clamp_max(_SURE)
    return sure - torch.log(-torch.expm1(sure))


def enlarged(cam: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, h, w) -> (B, *size), bilinear."""
    return F.interpolate(cam[:, None], size, mode="bilinear", align_corners=False)[:, 0]


@dataclass(frozen=True)
class Pointed:
    """One training image as the local head learns from it."""

    cam: Tensor  # (h, w), of the network trained so far
    tap1: Tensor  # (C, H1, W1)
    bad: bool


class LocalTraining:
    """Gathers cells image by image, so that memory holds no more than the chosen ones; then fits the head.

    Args:
        seed: of the choice of cells and of the fit.
        settings: which cells are chosen.
    """

    def __init__(self, head: LocalHead, *, seed: int, settings: LocalSettings = _SETTINGS) -> None:
        self.head = head
        self.settings = settings
        self.rng = np.random.default_rng(seed)
        self.seed = seed
        self._cams: list[NDArray[np.float32]] = []  # of good images: what the CAM says where nothing is
        self._good: list[Tensor] = []
        self._bad: list[Tensor] = []

    @cached_property
    def _dark(self) -> float:
        """From here on a CAM cell points at something."""
        return float(np.quantile(np.concatenate(self._cams), self.settings.dark))

    def add(self, image: Pointed) -> None:
        """Take an image's cells: of a good one some at random, of a bad one those its CAM points at, if it does.

        All good images come before the first bad one.
        """
        cells = image.tap1.flatten(1).T  # (H1 * W1, C)
        if not image.bad:
            self._cams.append(image.cam.flatten().float().cpu().numpy())
            chosen = self.rng.permutation(len(cells))[: self.settings.cells_per_good]
            self._good.append(cells[torch.from_numpy(chosen).to(cells.device)].float())
            return
        fine = enlarged(image.cam[None], (image.tap1.shape[-2], image.tap1.shape[-1]))[0]
        peak = float(fine.max())
        if peak > self._dark:
            self._bad.append(cells[(fine >= self._dark + self.settings.top * (peak - self._dark)).flatten()].float())

    def fit(self) -> None:
        """Fit the head; each bad image has the same say, however large the place that its CAM points at.

        Without any bad image whose CAM points somewhere, every cell's own logit stays 0: the map is then the CAM's.
        """
        head = self.head
        cams = np.concatenate(self._cams).astype(np.float64)
        head.level.fill_(float(np.quantile(cams, self.settings.level)))
        head.spread.fill_(max(float(cams.std()), _LEAST))
        if not self._bad:
            for parameter in head.out.parameters():
                nn.init.zeros_(parameter)
            return
        bad, good = torch.cat(self._bad), torch.cat(self._good)
        weights = np.concatenate([np.full(len(cells), 1 / len(cells)) for cells in self._bad])
        weights /= weights.sum()
        every = torch.cat((bad, good))
        head.mean.copy_(every.mean(0))
        head.std.copy_(every.std(0).clamp_min(_LEAST))
        bad, good = ((cells - head.mean) / head.std for cells in (bad, good))
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(self.seed)
            head.hidden.reset_parameters()
            head.out.reset_parameters()
            optimiser = torch.optim.AdamW(head.parameters(), lr=_LR, weight_decay=_WEIGHT_DECAY)
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _LR, total_steps=_STEPS)
            for _ in range(_STEPS):
                of_bad = self._some(bad, self.rng.choice(len(bad), _POSITIVES, p=weights))
                of_good = self._some(good, self.rng.integers(0, len(good), _NEGATIVES))
                loss = F.softplus(-of_bad).mean() + F.softplus(of_good).mean()
                optimiser.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                schedule.step()

    def _some(self, cells: Tensor, chosen: NDArray[np.int64]) -> Tensor:
        picked = cells[torch.from_numpy(chosen).to(cells.device)]
        hidden = F.gelu(F.linear(picked, self.head.hidden.weight[:, :, 0, 0], self.head.hidden.bias))
        return F.linear(hidden, self.head.out.weight[:, :, 0, 0], self.head.out.bias)[:, 0]
