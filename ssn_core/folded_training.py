"""One training step of a CAM network with a fraction of the multiplications: the same outputs, the same gradients.

Training spends its time in the adaptor and the 5x5 convolution, at layer2's size for the channels of both taps. Both
are linear in the taps, so the identity of :mod:`ssn_core.folded` holds here too, and stays differentiable: each step
multiplies the two weights into one kernel (a small product that does not grow with the batch), applies the part that
belongs to layer3 at layer3's own size, and leaves out the gradient of the features, which nobody needs: the taps are
fixed.

    out = conv(tap2; K2) + sum_dy sum_dx  R_dy (K3_dydx tap3) R_dx^T + c,       K = conv weight . adaptor weight

c is what the convolution makes of the adaptor's bias. Batch norm would take it away in training, but its running mean,
which inference uses, must know it. With continued edges it is the same everywhere, so it is that convolution's bias.

That is how it is done in bfloat16. Products are made a kernel row (dy) at a time: each then lies in memory as the next
product wants it, which saves two copies of the largest array there is. In float32 both taps go tile by tile, with less
than half of these multiplications (:mod:`ssn_core.winograd`); bfloat16 has not the digits for that.

It needs a linear adaptor, a CAM head and no synthetic anomalies: noise is added to the adapted features, cell by cell.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from ssn_core.adaptors import LinearAdaptor
from ssn_core.folded import axis_matrix, shifted
from ssn_core.heads import CamHead, Output
from ssn_core.model import CamNet
from ssn_core.padding import pad_edges
from ssn_core.recipe_settings import Recipe
from ssn_core.winograd import REACH, Shape, TiledConvolution


def can_fold(recipe: Recipe) -> bool:
    """Whether a recipe's networks are trained in this way."""
    return recipe.adaptor == "linear" and recipe.head == "cam" and not recipe.adds_noise


class FoldedTraining:
    """Layer2 and layer3 -> score and CAM, as the network itself computes them, differentiable in its weights.

    Args:
        net: whose weights are used at every call, as they are then; training or eval mode as it is then, too.
        shapes: of the two taps, layer2 first.
        device: of taps and network.

    Raises:
        ValueError: the identity does not hold for this network (:func:`can_fold`).
    """

    def __init__(self, net: CamNet, shapes: tuple[Shape, Shape], device: torch.device) -> None:
        if not isinstance(net.adaptor, LinearAdaptor) or not isinstance(net.head, CamHead):
            raise ValueError("Only a CAM head on a linear adaptor can be trained in this way")
        self._combine, self._adaptor, self._head = net.combine, net.adaptor, net.head
        self._device = device
        self._channels = [channels for channels, _, _ in shapes]
        (_, *fine), _ = shapes
        combine = net.combine
        self._size = fine[0] * combine.scale, fine[1] * combine.scale
        offsets = self._head.conv.weight.shape[2]
        self._radius = offsets // 2
        # For rows (cells out, offsets x cells in) and columns (cells out, cells in x offsets) of each tap; None: it has
        # the output's size already.
        dtype = self._head.conv.weight.dtype
        self._axes: list[tuple[Tensor, Tensor] | None] = [
            None
            if size == self._size
            else (
                self._axis(size[0], self._size[0], self._radius).transpose(1, 2).flatten(1).to(device, dtype),
                self._axis(size[1], self._size[1], self._radius).flatten(1).to(device, dtype),
            )
            for size in ((height, width) for _, height, width in shapes)
        ]
        self._tiled = TiledConvolution(
            shapes, self._size, partial(self._axis, radius=REACH), dtype=dtype, device=device
        )
        # (cells, offsets): where the kernel's rows and columns see the adaptor's bias; of no use with continued edges,
        # which are seen everywhere.
        offset = range(-self._radius, self._radius + 1)
        ones = [torch.ones(side, dtype=self._head.conv.weight.dtype) for side in self._size]
        self._seen = [torch.stack([shifted(one, d, combine.padding) for d in offset], dim=1).to(device) for one in ones]

    def _axis(self, cells_in: int, cells_out: int, radius: int) -> Tensor:
        padding, align_corners = self._combine.padding, self._combine.align_corners
        return axis_matrix(cells_in, cells_out, radius=radius, padding=padding, align_corners=align_corners)

    def __call__(self, tap2: Tensor, tap3: Tensor) -> Output:
        """(B, C2, h2, w2) and (B, C3, h3, w3) -> score (B,) and CAM (B, h, w)."""
        kernel = self._head.conv.weight  # (k, c, y, x)
        by_tap = torch.split(self._adaptor.weight[:, :, 0, 0], self._channels, dim=1)
        kernels = [kernel.permute(0, 2, 3, 1) @ weight for weight in by_tap]  # (k, y, x, C)
        constant = self._constant(kernel)
        if not torch.is_autocast_enabled(self._device.type):
            hidden = self._tiled((tap2, tap3), kernels)
            return self._head.judge(hidden if constant is None else hidden + constant)
        # What is the same everywhere, a convolution adds in its own pass.
        inside = None
        if constant is not None and self._axes[0] is None and self._combine.padding == "replicate":
            inside, constant = constant.flatten(), None
        found = [self._part(0, tap2, kernels[0], inside), self._part(1, tap3, kernels[1], None)]
        hidden = found[0] + found[1]
        return self._head.judge(hidden if constant is None else hidden + constant)

    def _constant(self, kernel: Tensor) -> Tensor | None:
        """What the kernel (k, c, n, n) makes of the adaptor's bias: (k, 1, 1), or (k, H, W) where it sees the edge."""
        bias = self._adaptor.bias
        if bias is None:
            return None
        if self._combine.padding == "replicate":
            return (kernel.sum((2, 3)) @ bias)[:, None, None]
        seen = torch.einsum("kcyx,c->kyx", kernel, bias)
        return torch.einsum("kyx,hy,wx->khw", seen, *self._seen)

    def _part(self, number: int, tap: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
        """What a tap brings, (B, k, H, W); `bias` is for one that has the output's own size."""
        axes = self._axes[number]
        return self._direct(tap, kernel, bias) if axes is None else self._spread(tap, kernel, *axes)

    def _direct(self, tap: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
        """(B, C, H, W), (k, n, n, C), (k,) -> (B, k, H, W): one convolution, for a tap of the output's own size."""
        averaged = F.avg_pool2d(pad_edges(tap, 1, self._head.padding), 3, stride=1)
        weight = kernel.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
        return F.conv2d(pad_edges(averaged, self._radius, self._head.padding), weight, bias)

    def _spread(self, tap: Tensor, kernel: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """(B, C, h, w) and (k, n, n, C) -> (B, k, H, W)."""
        width, offsets, _, channels = kernel.shape
        batch, _, height, breadth = tap.shape
        cells = tap.permute(0, 2, 3, 1).reshape(-1, channels)
        by_row = kernel.permute(1, 2, 0, 3).reshape(offsets, -1, channels).transpose(1, 2)
        products = (cells @ by_row).view(-1, breadth * offsets, width)  # (dy B h, w dx, k)
        wide = (columns @ products).view(offsets, batch, height, -1)  # (dy, B, h, W k)
        out = rows @ wide.transpose(0, 1).flatten(1, 2)  # (B, H, W k)
        return out.view(batch, *self._size, width).permute(0, 3, 1, 2)
