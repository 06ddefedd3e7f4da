"""Adaptors: from the backbone's features to the ones that the heads see. Same number of channels in and out."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssn_core.padding import pad_edges
from ssn_core.recipe_settings import Adaptor, Padding


class LinearAdaptor(nn.Conv2d):
    """1x1 convolution with bias (SuperSimpleNet; the study's Scenario A)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 1)

    @torch.no_grad()
    def start_standardised(self, mean: Tensor, std: Tensor) -> None:
        """Start as x -> (x - mean) / std for each channel; both are (C,), std > 0."""
        self.weight.copy_(torch.diag(1 / std)[:, :, None, None])
        if self.bias is not None:
            self.bias.copy_(-mean / std)


class ConvAdaptor(nn.Module):
    """3x3 convolution, batch norm, ReLU (the study's Scenario B). No bias: the batch norm has one."""

    def __init__(self, channels: int, *, padding: Padding) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.padding: Padding = padding

    @torch.no_grad()
    def start_standardised(self, mean: Tensor, std: Tensor) -> None:  # noqa: ARG002
        """Start as if each channel came in with variance 1; the batch norm takes any mean away by itself."""
        self.conv.weight.div_(std[None, :, None, None])

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w), >= 0."""
        return F.relu(self.norm(self.conv(pad_edges(features, 1, self.padding))))


def make_adaptor(kind: Adaptor, channels: int, *, padding: Padding) -> LinearAdaptor | ConvAdaptor:
    """The adaptor of a recipe."""
    return LinearAdaptor(channels) if kind == "linear" else ConvAdaptor(channels, padding=padding)
