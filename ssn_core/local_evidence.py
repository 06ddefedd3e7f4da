"""Sharper maps from image labels alone: a small classifier of layer1's cells that learns from where the CAM points.

A CAM cell sees hundreds of pixels, so the map is a blob around a crack of four. A layer1 cell sees little more than
the place it covers. Bad images tell which places to look at (where their own CAM is high), good images tell what is
normal there: most cells under a blob look like cells of good images, and what remains is the defect. The training set
is one-sided noise (positives are mixed, negatives are pure), which leaves the order of a well-fitted classifier as it
is: Elkan and Noto, "Learning classifiers from only positive and unlabeled data", KDD 2008. No mask takes part.

A cell is defective where both agree, context and place. With a and b their logits

    map = logit(exp(G * (log sigmoid(a) + weight * log sigmoid(b)))),    a = CAM - level

where G smooths over the neighbouring cells (a logarithmic opinion pool: Genest and Zidek, Statistical Science 1986,
section 3), and the score is the mean of the highest cells of that map: it stays exact
evidence, only finer (stride 4 instead of 8).

With several scales a is the mean over the sizes, of each CAM less its own level: a spall and a hairline differ most
from good parts at sizes of their own, and what one size alone finds suspicious fades. The place stays the image's own
size's, so that the map is as fine as with one.

With few labels both are surer than they should be, of the very images that they learned from. So (benchmarks/README.md
has what each is worth):

- The classifier is fitted to two thirds of the images three times, and judged on the last third. The share of the
  order learned (2 AUROC - 1) that holds there is its weight (as in stacking: Wolpert, Neural Networks 1992). A share,
  for most cells that a CAM points at are normal, and no classifier tells those from others. With a weight of 0 the map
  is the CAM's.
- The level is what good images reach, where there are many. A CAM trained on few keeps these far darker than any it
  has not seen: then the level is nearer to the network's own boundary between good and bad.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from ssn_core.heads import Output, pool_top
from ssn_core.padding import pad_edges
from ssn_core.seeding import seeded

_STEPS, _POSITIVES, _NEGATIVES = 300, 256, 1024  # optimiser steps, and cells of a step
_BLOCKS, _TRIAL_STEPS = 3, 100  # of the images, and optimiser steps of the fit without one of them
_FEW_GOOD = 20  # images at which the level lies half-way between what they reach and the network's boundary
_LR, _WEIGHT_DECAY = 3e-3, 1e-2
_LEAST = 1e-3  # of a standard deviation
_SURE = -1e-30  # highest log-probability, a logit of 69: beyond it float32 has no smaller numbers
_BINOMIAL = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)  # Gaussian of one cell's standard deviation


@dataclass(frozen=True)
class LocalSettings:
    """Which cells the local head learns from. The defaults are every recipe's; others are for trials."""

    level: float = 0.999  # quantile of good images' CAM cells at which the context's logit is 0, were there many
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
    weight: Tensor
    mean: Tensor
    std: Tensor
    kernel: Tensor

    def __init__(self, channels: int, *, width: int, pooling_fraction: float) -> None:
        super().__init__()
        self.hidden = nn.Conv2d(channels, width, 1)
        self.out = nn.Conv2d(width, 1, 1)
        self.pooling_fraction = pooling_fraction
        self.register_buffer("level", torch.zeros(()))
        self.register_buffer("spread", torch.ones(()))  # other than 1 in models of earlier versions alone
        self.register_buffer("weight", torch.ones(()))  # which these do not name
        self.register_load_state_dict_pre_hook(_with_weight)  # type: ignore[no-untyped-call]
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))
        self.register_buffer("kernel", torch.tensor(_BINOMIAL), persistent=False)

    def place(self, tap1: Tensor) -> Tensor:
        """Logit of every layer1 cell by itself: (B, C, h, w) -> (B, h, w)."""
        normal = (tap1 - self.mean[:, None, None]) / self.std[:, None, None]
        logits: Tensor = self.out(F.gelu(self.hidden(normal)))
        return logits[:, 0].float()

    def forward(self, cam: Tensor, tap1: Tensor, smaller: Sequence[Tensor] = ()) -> Output:
        """CAM (B, h, w) and layer1 (B, C, H1, W1) -> score (B,) and map (B, H1, W1); `smaller` as for :meth:`agree`."""
        return self.agree(cam, self.place(tap1), smaller)

    def agree(self, cam: Tensor, place: Tensor, smaller: Sequence[Tensor] = ()) -> Output:
        """CAM (B, h, w) and every layer1 cell's own logit (B, H1, W1) -> score (B,) and map (B, H1, W1).

        Args:
            smaller: contexts (B, h_i, w_i) at smaller sizes of the image, each CAM less its own level.
        """
        size = (place.shape[-2], place.shape[-1])
        context = (enlarged(cam, size) - self.level) / self.spread
        if smaller:
            context = torch.stack([context, *(enlarged(one, size) for one in smaller)]).mean(0)
        both = F.logsigmoid(context) + self.weight * F.logsigmoid(place)
        cells = log_odds(self.smooth(both))
        return Output(score=pool_top(cells, self.pooling_fraction), cam=cells)

    def smooth(self, cells: Tensor) -> Tensor:
        """(B, h, w), averaged over neighbours; the edge is continued."""
        padded = pad_edges(cells[:, None], len(_BINOMIAL) // 2, "replicate")
        return F.conv2d(F.conv2d(padded, self.kernel.view(1, 1, -1, 1)), self.kernel.view(1, 1, 1, -1))[:, 0]


def _with_weight(_head: nn.Module, state: dict[str, Any], prefix: str, *_: object) -> None:
    """In models of earlier versions context and place weigh the same."""
    state.setdefault(f"{prefix}weight", torch.ones(()))


def log_odds(log_probability: Tensor) -> Tensor:
    """The logit of a probability whose logarithm is given; finite, for no probability is quite 1."""
    sure = log_probability.clamp_max(_SURE)
    return sure - torch.log(-torch.expm1(sure))


def enlarged(cam: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, h, w) -> (B, *size), bilinear."""
    return F.interpolate(cam[:, None], size, mode="bilinear", align_corners=False)[:, 0]


def level_of(cams: Sequence[NDArray[np.float32]], boundary: float, *, quantile: float = _SETTINGS.level) -> float:
    """The CAM cell at which the context's logit is 0.

    Args:
        cams: of good images, any shape.
        boundary: CAM cell at which the network is as sure of good as of bad: minus the bias of its score.
        quantile: of the good images' cells that is the level, were there many.
    """
    few = _FEW_GOOD / (_FEW_GOOD + len(cams))
    reached = float(np.quantile(np.concatenate([cam.ravel() for cam in cams]), quantile))
    return (1 - few) * reached + few * boundary


@dataclass(frozen=True)
class Pointed:
    """One training image as the local head learns from it."""

    cam: Tensor  # (h, w), of the network trained so far
    tap1: Tensor  # (C, H1, W1)
    bad: bool


class LocalTraining:
    """Gathers cells image by image, so that memory holds no more than the chosen ones; then fits the head.

    Args:
        boundary: CAM cell at which the network is as sure of good as of bad: minus the bias of its score.
        seed: of the choice of cells and of the fit.
        settings: which cells are chosen.
    """

    def __init__(self, head: LocalHead, *, boundary: float, seed: int, settings: LocalSettings = _SETTINGS) -> None:
        self.head = head
        self.boundary = boundary
        self.settings = settings
        self.rng = np.random.default_rng(seed)
        self.seed = seed
        self.taken = 0  # images so far
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
        self.taken += 1
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

        Without any bad image whose CAM points somewhere, or where what was learned does not hold on other images, a
        place by itself weighs 0: the map is then the CAM's.
        """
        self.head.level.fill_(level_of(self._cams, self.boundary, quantile=self.settings.level))
        self.head.weight.fill_(self._share_that_holds())
        if self._bad:
            self._fit(self._good, self._bad, _STEPS)

    def _share_that_holds(self) -> float:
        """Of the order that is learned from two thirds of the images, the share that holds on the last third; 0 to 1.

        Less one standard error (Breiman et al., Classification and Regression Trees, 1984, section 3.4.3), so that
        chance among few bad images is not taken for it.
        """
        blocks = min(_BLOCKS, len(self._bad), len(self._good))
        if blocks < 2:
            return 0.0
        seen: list[float] = []
        unseen: list[float] = []
        for block in range(blocks):
            good, bad = (_block(cells, block, blocks, inside=False) for cells in (self._good, self._bad))
            self._fit(good, bad, _TRIAL_STEPS)
            seen += self._orders(good, bad)
            unseen += self._orders(*(_block(cells, block, blocks, inside=True) for cells in (self._good, self._bad)))
        error = float(np.std(unseen, ddof=1)) / len(unseen) ** 0.5
        learned = float(np.mean(seen))
        return min(max((float(np.mean(unseen)) - error) / learned, 0.0), 1.0) if learned > 0 else 0.0

    @torch.no_grad()
    def _orders(self, of_good: Sequence[Tensor], of_bad: Sequence[Tensor]) -> list[float]:
        """For each bad image, 2 AUROC - 1 of its cells against those of good images: 1 in perfect order, 0 in none."""
        normal = torch.cat([self._logits(cells) for cells in of_good]).sort().values
        # All in one: for each number of cells, no two images have the same, the CPU's library keeps code of its own.
        of_each = torch.split(self._logits(torch.cat(tuple(of_bad))), [len(cells) for cells in of_bad])

        def below(logits: Tensor) -> float:  # equal ones count half
            first, last = (torch.searchsorted(normal, logits, right=right) for right in (False, True))
            return float((first + last).double().mean()) / 2

        return [2 * below(logits) / len(normal) - 1 for logits in of_each]

    def _fit(self, of_good: Sequence[Tensor], of_bad: Sequence[Tensor], steps: int) -> None:
        """Fit the head to the cells of some images; (N, C) each."""
        head = self.head
        every, n_bad = torch.cat((*of_bad, *of_good)), sum(map(len, of_bad))
        weights = np.concatenate([np.full(len(cells), 1 / len(cells)) for cells in of_bad])
        weights /= weights.sum()
        head.mean.copy_(every.mean(0))
        head.std.copy_(every.std(0).clamp_min(_LEAST))
        every.sub_(head.mean).div_(head.std)  # once, not whenever a cell is drawn
        # Of the loss: the mean over the chosen cells of bad images, and that over the cells of good ones.
        share = torch.cat(
            (every.new_full((_POSITIVES,), 1 / _POSITIVES), every.new_full((_NEGATIVES,), 1 / _NEGATIVES))
        )
        sign = torch.where(torch.arange(len(share), device=every.device) < _POSITIVES, -1.0, 1.0)
        with seeded(self.seed):
            head.hidden.reset_parameters()
            head.out.reset_parameters()
        with torch.enable_grad():
            optimiser = torch.optim.AdamW(head.parameters(), lr=_LR, weight_decay=_WEIGHT_DECAY, fused=True)
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _LR, total_steps=steps)
            for _ in range(steps):
                bad = self.rng.choice(n_bad, _POSITIVES, p=weights)
                good = self.rng.integers(n_bad, len(every), _NEGATIVES)
                drawn = torch.from_numpy(np.concatenate((bad, good))).to(every.device)
                loss = F.softplus(sign * self._of_standard(every.index_select(0, drawn))) @ share
                optimiser.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                schedule.step()

    def _logits(self, cells: Tensor) -> Tensor:
        """Logits (N,) of cells (N, C) as they are."""
        return self._of_standard((cells - self.head.mean) / self.head.std)

    def _of_standard(self, cells: Tensor) -> Tensor:
        """Logits (N,) of cells (N, C) whose channels are standardised."""
        hidden = F.gelu(F.linear(cells, self.head.hidden.weight.flatten(1), self.head.hidden.bias))
        return F.linear(hidden, self.head.out.weight.flatten(1), self.head.out.bias)[:, 0]


def _block(cells: Sequence[Tensor], block: int, blocks: int, *, inside: bool) -> list[Tensor]:
    """Those of the images that are in a block, or all others."""
    return [one for number, one in enumerate(cells) if (number % blocks == block) is inside]
