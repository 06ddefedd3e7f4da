"""The published way of computing, written plainly: what every speed is compared with.

Pixels normalised, the backbone as torchvision has it (zero padding), both taps upsampled to twice layer2's size (for
SimpleNet: to layer2's own), concatenated, 3x3 average, adaptor, head; float32, PyTorch's own memory layout; with the
weights of the network at hand. Of a recipe that departs from the published ones (replicate padding, features of
layer2's own size, a local head, several sizes) it is another function of the image with the same parts: compare speed,
not scores.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from ssn_core.adaptors import ConvAdaptor
from ssn_core.backbone import Backbone
from ssn_core.heads import CamHead, MapHead, Output, SsnHead, pool_top
from ssn_core.model import CamNet

Scores = Callable[[Tensor], Output]


def published(backbone: Backbone, net: CamNet, device: torch.device) -> Scores:
    """The published way with these weights: pixels (B, 3, H, W) uint8 -> scores and maps.

    Args:
        backbone: with any padding; its weights are shared, not changed.
        net: in eval mode, moved to the device.
    """
    zeros = as_torchvision(backbone).to(device)
    net.to(device)
    scale = 1 if isinstance(net.head, MapHead) else 2

    def forward(pixels: Tensor) -> Output:
        x = (pixels.to(device).contiguous().float() / 255 - zeros.mean) / zeros.std
        tap2 = zeros.layer2(zeros.layer1(zeros.stem(x)))
        tap3 = zeros.layer3(tap2)
        size = (scale * tap2.shape[2], scale * tap2.shape[3])
        taps = [F.interpolate(tap, size, mode="bilinear", align_corners=True) for tap in (tap2, tap3)]
        features = F.avg_pool2d(torch.cat(taps, dim=1), 3, stride=1, padding=1)
        return _judged(net, features, _adapted(net, features))

    return forward


def as_torchvision(backbone: Backbone) -> Backbone:
    """The same backbone with zero padding, as torchvision has it, and without layer1 as a tap."""
    names = {"stem.0": "conv1", "stem.1": "bn1"}
    state = {}
    for key, value in backbone.state_dict().items():
        stage = next((name for name in names if key.startswith(name + ".")), None)
        state[key.replace(stage, names[stage], 1) if stage else key] = value
    return Backbone(backbone.name, state, padding="zeros", weights=backbone.weights, source=backbone.source)


def _adapted(net: CamNet, features: Tensor) -> Tensor:
    adaptor = net.adaptor
    if isinstance(adaptor, ConvAdaptor):
        return F.relu(adaptor.norm(F.conv2d(features, adaptor.conv.weight, padding=1)))
    adapted: Tensor = adaptor(features)
    return adapted


def _judged(net: CamNet, plain: Tensor, adapted: Tensor) -> Output:
    head = net.head
    if isinstance(head, CamHead):
        hidden = F.relu(head.norm(F.conv2d(adapted, head.conv.weight, padding=2)))
        cam = torch.einsum("bkhw,k->bhw", hidden, head.weight)
        return Output(score=pool_top(cam, head.pooling_fraction) + head.bias, cam=cam)
    cells = head.segmentation(adapted)
    if isinstance(head, SsnHead):
        both = torch.cat((plain if net.plain_class_features else adapted, cells), dim=1)
        hidden = F.relu(head.norm(F.conv2d(both, head.conv.weight, padding=2)))
        summary = [pooled(x, dim=(2, 3)) for x in (hidden, cells) for pooled in (torch.amax, torch.mean)]
        return Output(score=head.score(torch.cat(summary, dim=1))[:, 0], cam=cells[:, 0])
    return Output(score=pool_top(cells[:, 0], head.pooling_fraction) + head.bias, cam=cells[:, 0])
