"""Heads: from adapted features to a score and a map.

- "cam": GAP+CAM (the SuperSimpleNet-Evolved study; Zhou et al., CVPR 2016) with one generalisation: the score is the
  mean of the top fraction q of the CAM's cells plus a bias, and q = 1 is global average pooling. By construction

      score = mean of the pooled CAM cells + bias

  so that each cell's contribution to the logit is known exactly. Image labels are all it can learn from.
- "map": the segmentation head alone; the score is the mean of the top fraction q of its map (SimpleNet, CVPR 2023,
  takes the highest cell: q = 0). The same identity holds, with a bias of 0.
- "ssn": SuperSimpleNet's two heads (arXiv 2408.03143, section 3.3). The score comes from features and map together, so
  no cell's share in it is known.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssn_core.evidence import pooled_count
from ssn_core.padding import pad_edges
from ssn_core.recipe_settings import Padding, Recipe


class Output(NamedTuple):
    """What the network says about a batch."""

    score: Tensor  # (B,) logit; positive = bad
    # (B, h, w) the map that people see: for "cam" and "map" each cell's contribution to the logit (before the mean),
    # for "ssn" the segmentation head's logit of each cell.
    cam: Tensor


def pool_top(cam: Tensor, fraction: float) -> Tensor:
    """Mean of the highest `fraction` of each map's cells, at least one; 1.0 is global average pooling.

    Args:
        cam: (B, h, w).

    Returns:
        (B,).
    """
    cells = cam.flatten(1)
    count = pooled_count(cells.shape[1], fraction)
    return cells.mean(1) if count == cells.shape[1] else cells.topk(count, dim=1).values.mean(1)


class CamHead(nn.Module):
    """5x5 convolution, batch norm, ReLU, then a weighted sum of channels: the CAM; pooled, plus bias: the score."""

    def __init__(self, channels: int, *, width: int, pooling_fraction: float, padding: Padding) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, 5, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.weight = nn.Parameter(torch.empty(width))
        self.bias = nn.Parameter(torch.zeros(()))
        nn.init.uniform_(self.weight, -1 / math.sqrt(width), 1 / math.sqrt(width))  # as nn.Linear does
        self.pooling_fraction = pooling_fraction
        self.padding: Padding = padding

    def forward(self, features: Tensor) -> Output:
        """(B, C, h, w) -> score (B,), cam (B, h, w)."""
        return self.judge(self.conv(pad_edges(features, 2, self.padding)))

    def judge(self, convolved: Tensor) -> Output:
        """What follows the convolution: (B, width, h, w) -> score (B,), cam (B, h, w)."""
        hidden = F.relu(self.norm(convolved))
        cam = torch.einsum("bkhw,k->bhw", hidden, self.weight.to(hidden.dtype)).float()
        return Output(score=pool_top(cam, self.pooling_fraction) + self.bias, cam=cam)


class SegmentationHead(nn.Module):
    """1x1 convolution, batch norm, LeakyReLU 0.2, 1x1 convolution without bias: a logit for every cell."""

    def __init__(self, channels: int, *, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, 1)
        self.norm = nn.BatchNorm2d(width)
        self.out = nn.Conv2d(width, 1, 1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, 1, h, w)."""
        cells: Tensor = self.out(F.leaky_relu(self.norm(self.conv(features)), 0.2))
        return cells


class MapHead(nn.Module):
    """The segmentation head; its pooled map is the score."""

    bias: Tensor

    def __init__(self, channels: int, *, width: int, pooling_fraction: float) -> None:
        super().__init__()
        self.segmentation = SegmentationHead(channels, width=width)
        self.pooling_fraction = pooling_fraction
        self.register_buffer("bias", torch.zeros(()))  # so that whoever takes the score apart finds it as in CamHead

    def forward(self, features: Tensor) -> Output:
        """(B, C, h, w) -> score (B,), map (B, h, w)."""
        cells = self.segmentation(features)[:, 0].float()
        return Output(score=pool_top(cells, self.pooling_fraction) + self.bias, cam=cells)


class SsnHead(nn.Module):
    """SuperSimpleNet's segmentation head and, on top of it, its classification head.

    concat(features, map) -> 5x5 convolution, batch norm, ReLU -> [global max, global mean] of it and of the map ->
    linear -> score.

    Args:
        isolated: no gradient from the score into the segmentation head (the unsupervised mode).
    """

    def __init__(self, channels: int, *, width: int, map_width: int, padding: Padding, isolated: bool) -> None:
        super().__init__()
        self.segmentation = SegmentationHead(channels, width=map_width)
        self.conv = nn.Conv2d(channels + 1, width, 5, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.score = nn.Linear(2 * width + 2, 1)
        self.padding: Padding = padding
        self.isolated = isolated

    def forward(self, features: Tensor, classified: Tensor | None = None) -> Output:
        """Score (B,) and map (B, h, w).

        Args:
            features: (B, C, h, w), adapted: what the segmentation head sees.
            classified: (B, C, h, w), what the classification head sees; None: the same.
        """
        cells = self.segmentation(features)
        seen = cells.detach() if self.isolated else cells
        both = torch.cat((features if classified is None else classified, seen.to(features.dtype)), dim=1)
        hidden = F.relu(self.norm(self.conv(pad_edges(both, 2, self.padding))))
        summary = torch.cat([summarised(x) for x in (hidden, seen) for summarised in (_highest, _mean)], dim=1)
        # Not self.score(summary): in half precision a logit would have two digits.
        score = (summary * self.score.weight).sum(1) + self.score.bias
        return Output(score=score, cam=cells[:, 0].float())


def _highest(x: Tensor) -> Tensor:
    return x.float().amax((2, 3))  # (B, C)


def _mean(x: Tensor) -> Tensor:
    return x.float().mean((2, 3))  # (B, C)


def make_head(recipe: Recipe, channels: int) -> CamHead | MapHead | SsnHead:
    """The head of a recipe."""
    if recipe.pooling_fraction is None:
        return SsnHead(
            channels,
            width=recipe.head_width,
            map_width=recipe.map_width,
            padding=recipe.padding,
            isolated=recipe.learns_from == "good",
        )
    if recipe.head == "map":
        return MapHead(channels, width=recipe.map_width, pooling_fraction=recipe.pooling_fraction)
    # With a local head the score is pooled from the fine map, and the CAM's own q is for its training alone.
    own = recipe.cam_fraction if recipe.has_local_head else None
    fraction = recipe.pooling_fraction if own is None else own
    return CamHead(channels, width=recipe.head_width, pooling_fraction=fraction, padding=recipe.padding)
