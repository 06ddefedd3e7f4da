"""The network above the frozen backbone, one for all recipes: combined taps -> adaptor -> head.

    taps (layer2, layer3) -> one feature map -> adaptor -> head -> score and map

With a local head (local_evidence.py) layer1 comes in as a third tap and makes the map finer. With several scales, a
network without one looks at each smaller size of the image, and their CAMs join the first one's. Adaptors and heads are
described in their own modules. Nothing here takes a mask: masks are targets of a loss, in training alone, and only for
the recipes that ask for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssn_core.adaptors import make_adaptor
from ssn_core.backbone import LOCAL_CHANNELS, TAP_CHANNELS
from ssn_core.heads import CamHead, MapHead, Output, SsnHead, make_head, pool_top
from ssn_core.local_evidence import LocalHead
from ssn_core.padding import pad_edges
from ssn_core.recipe_settings import Padding, Recipe

__all__ = ["CamHead", "CamNet", "Features", "MapHead", "Output", "SsnHead", "TapCombiner", "pad_edges", "pool_top"]


class Features(NamedTuple):
    """What the heads see, both (B, C, h, w)."""

    adapted: Tensor
    plain: Tensor | None  # before the adaptor; None where no head asks for them


class TapCombiner(nn.Module):
    """All taps at one resolution, concatenated and averaged over 3x3 cells. Nothing to learn.

    Args:
        scale: cells per cell of the first tap and axis. The authors' code upsamples to twice layer2's size.
        align_corners: of the bilinear upsampling; the authors' code has True, anomalib's port False.
    """

    def __init__(self, *, scale: int, padding: Padding, align_corners: bool = True) -> None:
        super().__init__()
        self.scale = scale
        self.padding: Padding = padding
        self.align_corners = align_corners

    def forward(self, *taps: Tensor) -> Tensor:
        """Taps (B, C_i, h_i, w_i), the finest first -> (B, sum of C_i, scale * h_0, scale * w_0)."""
        size = (taps[0].shape[-2] * self.scale, taps[0].shape[-1] * self.scale)
        same = [
            tap
            if tap.shape[-2:] == size
            else F.interpolate(tap, size, mode="bilinear", align_corners=self.align_corners)
            for tap in taps
        ]
        return F.avg_pool2d(pad_edges(torch.cat(same, dim=1), 1, self.padding), 3, stride=1)


class CamNet(nn.Module):
    """Everything that is trained, for one recipe."""

    levels: Tensor

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        channels = sum(TAP_CHANNELS[recipe.backbone])
        self.combine = TapCombiner(
            scale=recipe.feature_scale, padding=recipe.padding, align_corners=recipe.align_corners
        )
        self.adaptor = make_adaptor(recipe.adaptor, channels, padding=recipe.padding)
        self.head = make_head(recipe, channels)
        self.local: LocalHead | None = None
        if recipe.has_local_head and recipe.pooling_fraction is not None:
            self.local = LocalHead(
                LOCAL_CHANNELS[recipe.backbone], width=recipe.local_width, pooling_fraction=recipe.pooling_fraction
            )
        # Networks of the smaller sizes, and of each the CAM cell at which its context's logit is 0.
        self.smaller_sizes = nn.ModuleList()
        self.register_buffer("levels", torch.zeros(0), persistent=False)
        if recipe.scales > 1:
            self.take_smaller([CamNet(one) for one in recipe.at_sizes()[1:]], [0.0] * (recipe.scales - 1))
        self.plain_class_features = recipe.plain_class_features
        if recipe.head != "cam":
            self.apply(_start_as_published)

    def take_smaller(self, nets: Sequence[CamNet], levels: Sequence[float]) -> None:
        """Look at smaller sizes of the image too.

        Args:
            nets: one a size, with a CAM head and without a local one.
            levels: of each the CAM cell at which its context's logit is 0 (:func:`ssn_core.local_evidence.level_of`).
        """
        self.smaller_sizes = nn.ModuleList(nets)
        self.register_buffer("levels", torch.tensor(levels, device=self.levels.device), persistent=True)

    @property
    def smaller(self) -> list[CamNet]:
        """The networks of the smaller sizes, the largest first."""
        return [net for net in self.smaller_sizes if isinstance(net, CamNet)]

    @property
    def boundary(self) -> float:
        """The CAM cell at which the network is as sure of good as of bad: minus the bias of its score."""
        return -float(self.head.bias.detach()) if isinstance(self.head, CamHead) else 0.0

    def start_standardised(self, mean: Tensor, std: Tensor) -> None:
        """Let the adaptor start with channels of mean 0 and variance 1; both are (C,), std > 0."""
        self.adaptor.start_standardised(mean, std)

    def features(self, *taps: Tensor) -> Features:
        """Layer2 and layer3 -> features: where synthetic anomalies are added in training."""
        plain = self.combine(*taps)
        return Features(self.adaptor(plain), plain if self.plain_class_features else None)

    def judge(self, features: Features) -> Output:
        """Features -> score and map."""
        output: Output
        if isinstance(self.head, SsnHead):
            output = self.head(features.adapted, features.plain)
        else:
            output = self.head(features.adapted)
        return output

    def forward(self, *taps: Tensor) -> Output:
        """Layer2, layer3 and, for a local head, layer1 -> score and map, as in inference.

        With several scales layer2 and layer3 of each smaller size follow.
        """
        if self.local is None:
            return self.judge(self.features(*taps))
        tap2, tap3, tap1, *of_smaller = taps
        return self.refine(self.judge(self.features(tap2, tap3)), tap1, self.contexts(of_smaller))

    def contexts(self, taps: Sequence[Tensor]) -> list[Tensor]:
        """Layer2 and layer3 of each smaller size -> its CAM less its level, (B, h_i, w_i)."""
        pairs = zip(taps[::2], taps[1::2], strict=True)
        return [
            net.judge(net.features(*pair)).cam - level
            for net, level, pair in zip(self.smaller, self.levels, pairs, strict=True)
        ]

    def refine(self, output: Output, tap1: Tensor, smaller: Sequence[Tensor] = ()) -> Output:
        """The head's score and map, made finer by the local head; `smaller`: :meth:`contexts`."""
        if self.local is None:
            raise ValueError("This network has no local head")
        fine = self.local(output.cam, tap1, smaller)
        return Output(score=fine.score + self.head.bias, cam=fine.cam)


def _start_as_published(module: nn.Module) -> None:
    """SuperSimpleNet's start: Xavier's normal distribution for every convolution and linear layer."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.xavier_normal_(module.weight)
