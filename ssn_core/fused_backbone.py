"""The backbone for inference: the same taps, computed faster.

Batch norm is folded into the convolutions, bias, residual addition and ReLU are part of their pass, memory is laid out
channels last, and the normalisation of the pixels is part of the first convolution. In float32 the taps are those of
:class:`ssn_core.backbone.Backbone` within rounding; bfloat16 and float16 are for inference where the error of the score
was measured (:mod:`ssn_core.engine`), never for taps that are kept.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssn_core.backbone import Backbone
from ssn_core.packed import PackedConv, exactly, folded_norm


class FusedBackbone:
    """A frozen backbone, rewritten for speed.

    Args:
        backbone: whose taps; it is not changed.
        image_size: (H, W), pixels, of all images.
        dtype: float32, or bfloat16 or float16 where the device computes with it.
        exact_stages: of stem, layer1, layer2 and layer3 so many compute in float32 all the same, from the first on: an
            error made early goes through everything after it.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        image_size: tuple[int, int],
        dtype: torch.dtype,
        device: torch.device,
        exact_stages: int = 0,
    ) -> None:
        self._dtypes = [torch.float32 if number < exact_stages else dtype for number in range(4)]
        self._local = backbone.local
        with torch.inference_mode():
            mean = exactly(backbone.mean).flatten() * 255
            # Pixels minus a whole number have no rounding error in 16 bits; what is left of the mean goes into the
            # bias. (Zero padding then stands for a colour that is off by less than half a level.)
            centre = mean if self._dtypes[0] == torch.float32 else mean.round()
            # In full size: repeating three values over an image takes ten times as long as subtracting an image.
            everywhere = centre.view(1, 3, 1, 1).expand(1, 3, *image_size).to(device, self._dtypes[0])
            self._centre = everywhere.contiguous(memory_format=torch.channels_last)
            self._stem = _Builder(backbone, self._dtypes[0], device).stem(centre, mean, image_size)
            size = _halved(_halved(image_size))
            self._stages: list[list[_Block]] = []
            for stage, own in zip((backbone.layer1, backbone.layer2, backbone.layer3), self._dtypes[1:], strict=True):
                build = _Builder(backbone, own, device)
                blocks = []
                for block in stage:
                    blocks.append(_Block(build, block, size))
                    size = _halved(size) if block.stride > 1 else size
                self._stages.append(blocks)

    def __call__(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """The taps of a batch, as :meth:`ssn_core.backbone.Backbone.forward`, channels last, each in its stage's dtype.

        Args:
            pixels: (B, 3, H, W), whole numbers from 0 to 255 of any type, RGB, on the device.
        """
        x = pixels.to(dtype=self._centre.dtype, memory_format=torch.channels_last) - self._centre
        x = F.max_pool2d(self._stem(x), 3, stride=2, padding=1)
        taps: list[Tensor] = []
        for stage, dtype in zip(self._stages, self._dtypes[1:], strict=True):
            x = x.to(dtype)
            for block in stage:
                x = block(x)
            taps.append(x)
        return (*taps[1:], taps[0]) if self._local else tuple(taps[1:])


class _Builder:
    """Makes this backbone's convolutions."""

    def __init__(self, backbone: Backbone, dtype: torch.dtype, device: torch.device) -> None:
        self._backbone, self._dtype, self._device = backbone, dtype, device

    def stem(self, centre: Tensor, mean: Tensor, size: tuple[int, int]) -> PackedConv:
        """The first convolution, for pixels minus `centre` instead of (pixels / 255 - mean) / std."""
        conv: Any = self._backbone.stem[0]
        norm: Any = self._backbone.stem[1]
        weight, bias = folded_norm(conv.weight, conv.bias, norm)
        weight = weight / (255 * exactly(self._backbone.std)).view(1, 3, 1, 1)
        bias = bias + (weight.sum((2, 3)) * (centre - mean)).sum(1)
        return self._packed(conv, weight, bias, size, relu=True)

    def conv(self, conv: nn.Conv2d, norm: nn.BatchNorm2d, size: tuple[int, int], *, relu: bool = True) -> PackedConv:
        """A convolution and its batch norm."""
        return self._packed(conv, *folded_norm(conv.weight, conv.bias, norm), size, relu=relu)

    def _packed(
        self, conv: nn.Conv2d, weight: Tensor, bias: Tensor, size: tuple[int, int], *, relu: bool
    ) -> PackedConv:
        padding = conv.padding[0]
        if isinstance(padding, str) or conv.groups != 1 or conv.dilation != (1, 1):
            raise ValueError("The backbone has a convolution of another kind")
        return PackedConv(
            weight,
            bias,
            stride=conv.stride[0],
            padding=padding,
            edges=self._backbone.padding,
            relu=relu,
            size=size,
            dtype=self._dtype,
            device=self._device,
        )


class _Block:
    """A residual block of either kind: two 3x3 convolutions, or 1x1, 3x3, 1x1."""

    def __init__(self, build: _Builder, block: Any, size: tuple[int, int]) -> None:
        entry = size
        pairs = [(block.conv1, block.bn1), (block.conv2, block.bn2)]
        if hasattr(block, "conv3"):
            pairs.append((block.conv3, block.bn3))
        self._convs = []
        for conv, norm in pairs:
            self._convs.append(build.conv(conv, norm, size))
            size = _halved(size) if conv.stride[0] > 1 else size
        self._shortcut: PackedConv | None = None
        if block.downsample is not None:
            self._shortcut = build.conv(block.downsample[0], block.downsample[1], entry, relu=False)

    def __call__(self, x: Tensor) -> Tensor:
        y = x
        for conv in self._convs[:-1]:
            y = conv(y)
        # Without a shortcut x itself is overwritten. It may be: only a stage's first block gets what is kept as a tap,
        # and where the stage before it is a tap, that block has a shortcut.
        return self._convs[-1](y, x if self._shortcut is None else self._shortcut(x))


def _halved(size: tuple[int, int]) -> tuple[int, int]:
    return (size[0] + 1) // 2, (size[1] + 1) // 2
