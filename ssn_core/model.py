"""The network above the frozen backbone: combined taps -> adaptor -> CAM head.

    taps (layer2, layer3) -> one feature map -> 1x1 adaptor -> 5x5 convolution, batch norm, ReLU -> CAM -> score

GAP+CAM (the SuperSimpleNet-Evolved study; Zhou et al., CVPR 2016) with one generalisation: the score is the mean of the
top fraction q of the CAM's cells plus a bias, and q = 1 is global average pooling. By construction

    score = mean of the pooled CAM cells + bias

so that each cell's contribution to the logit is known exactly. Image labels are all this network can learn from: it has
no mask input anywhere.

Border: zero padding makes a convolution see an edge that is not there, and the map of the published method shows it as
a bright frame. Here the edge is continued ("replicate") in the head, in the 3x3 average and in the backbone, so a
uniform surface has a uniform map. "zeros" stays for comparison with the published method.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssn_core.backbone import TAP_CHANNELS
from ssn_core.evidence import pooled_count
from ssn_core.recipes import Padding, Recipe


class Output(NamedTuple):
    """What the network says about a batch."""

    score: Tensor  # (B,) logit; positive = bad
    cam: Tensor  # (B, h, w) contribution of each cell to the logit


def pad_edges(x: Tensor, width: int, padding: Padding) -> Tensor:
    """Pad both spatial axes by `width` cells: continue the edge, or zeros."""
    return F.pad(x, (width,) * 4, mode="replicate") if padding == "replicate" else F.pad(x, (width,) * 4)


class TapCombiner(nn.Module):
    """Both taps at one resolution, concatenated and averaged over 3x3 cells. Nothing to learn.

    Args:
        scale: cells per layer2 cell and axis. The authors' code upsamples to twice layer2's size with corners aligned.
    """

    def __init__(self, *, scale: int, padding: Padding) -> None:
        super().__init__()
        self.scale = scale
        self.padding: Padding = padding

    def forward(self, tap2: Tensor, tap3: Tensor) -> Tensor:
        """(B, C2, h, w) and (B, C3, h/2, w/2) -> (B, C2 + C3, scale * h, scale * w)."""
        size = (tap2.shape[-2] * self.scale, tap2.shape[-1] * self.scale)
        if self.scale != 1:
            tap2 = F.interpolate(tap2, size, mode="bilinear", align_corners=True)
        tap3 = F.interpolate(tap3, size, mode="bilinear", align_corners=True)
        return F.avg_pool2d(pad_edges(torch.cat((tap2, tap3), dim=1), 1, self.padding), 3, stride=1)


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
        hidden = F.relu(self.norm(self.conv(pad_edges(features, 2, self.padding))))
        cam = torch.einsum("bkhw,k->bhw", hidden, self.weight.to(hidden.dtype)).float()
        return Output(score=pool_top(cam, self.pooling_fraction) + self.bias, cam=cam)


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


class CamNet(nn.Module):
    """Everything that is trained, for one recipe."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        channels = sum(TAP_CHANNELS[recipe.backbone])
        self.combine = TapCombiner(scale=recipe.feature_scale, padding=recipe.padding)
        self.adaptor = nn.Conv2d(channels, channels, 1)
        self.head = CamHead(
            channels, width=recipe.head_width, pooling_fraction=recipe.pooling_fraction, padding=recipe.padding
        )

    @torch.no_grad()
    def start_standardised(self, mean: Tensor, std: Tensor) -> None:
        """Let the adaptor start as x -> (x - mean) / std for each channel; both are (C,), std > 0."""
        self.adaptor.weight.copy_(torch.diag(1 / std)[:, :, None, None])
        if self.adaptor.bias is not None:
            self.adaptor.bias.copy_(-mean / std)

    def adapt(self, tap2: Tensor, tap3: Tensor) -> Tensor:
        """Taps -> adapted features (B, C, h, w): where synthetic anomalies are added in training."""
        features: Tensor = self.adaptor(self.combine(tap2, tap3))
        return features

    def forward(self, tap2: Tensor, tap3: Tensor) -> Output:
        """Taps -> score and CAM, as in inference."""
        output: Output = self.head(self.adapt(tap2, tap3))
        return output
