"""The network above the backbone for inference: the same scores and maps from far fewer multiplications.

Upsampling, 3x3 average, linear adaptor and the heads' first convolution are linear, and all but the last two act on
each axis by itself. So adaptor and convolution fold into one kernel K for each tap f, and

    out = sum_dy sum_dx  R_dy (K_dydx f) R_dx^T,        R_d = shift by d . edge . average . edge . upsampling

with either kind of edge. K_dydx f is computed at the tap's own
resolution; R_d is one small matrix per axis and offset, (cells out x cells in). The adaptor's bias becomes a constant
map, because zero padding does not see it.

It is exact: only the order of additions differs. It does not hold for the conv adaptor, which has a ReLU between:
:func:`fold` then says so, and the plain network is used.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ssn_core.adaptors import LinearAdaptor
from ssn_core.heads import CamHead, MapHead, Output, SegmentationHead, SsnHead, pool_top
from ssn_core.model import CamNet
from ssn_core.packed import PackedConv, exactly, folded_norm
from ssn_core.padding import pad_edges
from ssn_core.recipe_settings import Padding
from ssn_core.rounding import rounded

Taps = Sequence[Tensor]
Folded = Callable[[Taps], Output]
# Output cells of an axis that share one dense matrix: R_d is a narrow band, and of a longer axis most would be zeros.
_BLOCK = 64


@dataclass(frozen=True)
class Place:
    """Where and for what taps a network is folded.

    Args:
        shapes: (C, h, w) of each tap, in the order in which the network takes them.
        dtype: of taps and products.
    """

    shapes: tuple[tuple[int, int, int], ...]
    dtype: torch.dtype
    device: torch.device

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """(h, w) of each tap."""
        return [(height, width) for _, height, width in self.shapes]


def why_not(net: CamNet) -> str | None:
    """Why the algebra does not hold for this network, in words; None where it does."""
    if not isinstance(net.adaptor, LinearAdaptor):
        return "the conv adaptor is not linear"
    if not isinstance(net.head, CamHead | MapHead | SsnHead):
        return f"{type(net.head).__name__} is not known to it"
    return next(filter(None, map(why_not, net.smaller)), None)


def fold(net: CamNet, place: Place) -> Folded:
    """A function taps -> output with the network's present weights, for inference.

    Args:
        net: in eval mode; is not changed, and later changes of it are not followed.

    Raises:
        ValueError: the algebra does not hold (:func:`why_not`).
    """
    reason = why_not(net)
    if reason is not None:
        raise ValueError(f"This network cannot be folded: {reason}")
    with torch.inference_mode():
        if net.local is not None:
            return _FoldedFine(net, place)
        if isinstance(net.head, CamHead):
            return _FoldedCam(net, net.head, place)
        if isinstance(net.head, MapHead):
            return _FoldedMap(net, net.head, place)
        return _FoldedSsn(net, net.head, place)


def axis_matrix(cells_in: int, cells_out: int, *, radius: int, padding: Padding, align_corners: bool) -> Tensor:
    """R_d of one axis for all offsets d of a kernel.

    Args:
        cells_in: of the tap; cells_out: after upsampling.
        radius: of the kernel; 2 for 5x5.

    Returns:
        (cells_out, cells_in, 2 * radius + 1), float64.
    """
    unit = torch.eye(cells_in, dtype=torch.float64)[:, None]  # one signal an input cell
    if cells_in != cells_out:
        unit = F.interpolate(unit, cells_out, mode="linear", align_corners=align_corners)
    upsampled = unit[:, 0].T
    average = torch.stack([shifted(upsampled, d, padding) for d in (-1, 0, 1)]).mean(0)
    return torch.stack([shifted(average, d, padding) for d in range(-radius, radius + 1)], dim=2)


def shifted(signal: Tensor, offset: int, padding: Padding) -> Tensor:
    """Row i becomes row i + offset; beyond the edge: the edge's row, or zeros."""
    wanted = torch.arange(signal.shape[0]) + offset
    inside = wanted.clamp(0, signal.shape[0] - 1)
    if padding == "replicate":
        return signal[inside]
    return signal[inside] * (wanted == inside).view(-1, *[1] * (signal.dim() - 1))


class _Axis:
    """R_d of one axis and all offsets, in blocks of output cells: each needs a few neighbouring input cells only."""

    def __init__(self, matrix: Tensor, place: Place) -> None:
        self.blocks: list[tuple[slice, Tensor]] = []  # which (input cell, offset) rows; (cells out, those rows)
        offsets = matrix.shape[2]
        for start in range(0, matrix.shape[0], _BLOCK):
            block = matrix[start : start + _BLOCK]
            used = block.abs().amax((0, 2)).nonzero()
            first, end = int(used[0]), int(used[-1]) + 1
            by_sum = block[:, first:end].transpose(1, 2)  # (out, offset, in): a row for each sum that is to be kept
            exact = rounded(by_sum.reshape(-1, end - first), place.dtype).view(by_sum.shape).transpose(1, 2)
            self.blocks.append((slice(first * offsets, end * offsets), exact.reshape(len(block), -1).to(place.device)))


class _Spread:
    """One tap through its kernel and, along x, to the output's cells."""

    def __init__(self, kernel: Tensor, columns: Tensor, size: tuple[int, int], place: Place) -> None:
        self._width, _, self._offsets, _ = kernel.shape
        exact = rounded(kernel.reshape(-1, self._offsets**2), place.dtype).view(kernel.shape)
        # One 1x1 convolution an offset dy; its output channels are (dx, width), so that x and dx lie together.
        self._products = [
            PackedConv(
                exact[:, :, dy].permute(2, 0, 1).reshape(self._offsets * self._width, -1, 1, 1),
                None,
                size=size,
                dtype=place.dtype,
                device=place.device,
            )
            for dy in range(self._offsets)
        ]
        self._columns = _Axis(columns, place)

    def __call__(self, tap: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, h * offsets, columns out * width): each input row with all its offsets dy."""
        batch, _, height, width = tap.shape
        spread = []
        for product in self._products:
            cells = product(tap).permute(0, 2, 3, 1).reshape(batch * height, width * self._offsets, self._width)
            parts = [matrix @ cells[:, used] for used, matrix in self._columns.blocks]
            spread.append(_joined(parts).view(batch, height, 1, -1))
        return torch.cat(spread, dim=2).flatten(1, 2)


class _LinearPart:
    """conv(edge(adaptor(combine(taps)))) + bias, before any non-linearity.

    Args:
        adaptor: None where the convolution sees the features before the adaptor.
        kernel: (width, C, n, n) of the convolution, n odd, float64, batch norm folded in.
        bias: (width,), float64.
    """

    def __init__(self, net: CamNet, adaptor: LinearAdaptor | None, kernel: Tensor, bias: Tensor, place: Place) -> None:
        combine = net.combine
        self._padding: Padding = combine.padding
        self._width, _, n, _ = kernel.shape
        self._radius = n // 2
        self._size = place.sizes[0][0] * combine.scale, place.sizes[0][1] * combine.scale
        seen = torch.zeros(self._width, n, n, dtype=torch.float64)  # what the kernel makes of the adaptor's bias
        if adaptor is not None:
            if adaptor.bias is not None:
                seen = torch.einsum("kcyx,c->kyx", kernel, exactly(adaptor.bias))
            kernel = (kernel.permute(0, 2, 3, 1) @ exactly(adaptor.weight)[:, :, 0, 0]).permute(0, 3, 1, 2)

        def axis(tap: int, which: int) -> Tensor:
            return axis_matrix(
                place.sizes[tap][which],
                self._size[which],
                radius=self._radius,
                padding=combine.padding,
                align_corners=combine.align_corners,
            )

        self._spread: dict[int, _Spread] = {}  # by number of the tap
        self._direct: dict[int, PackedConv] = {}
        rows: list[_Axis] = []
        for tap, part in enumerate(torch.split(kernel, [shape[0] for shape in place.shapes], dim=1)):
            size = place.sizes[tap]
            if size == self._size:  # nothing to gain at its own resolution: one convolution does it
                padded = size[0] + 2 * self._radius, size[1] + 2 * self._radius
                self._direct[tap] = PackedConv(part, None, size=padded, dtype=place.dtype, device=place.device)
            else:
                self._spread[tap] = _Spread(part, axis(tap, 1), size, place)
                rows.append(_Axis(axis(tap, 0), place))
        self._constant, shares = self._constant_map(seen, bias, place)
        # For each block of output rows: what to take of each tap, and the matrix that adds it up.
        self._blocks = [
            ([axis.blocks[number][0] for axis in rows], torch.cat([axis.blocks[number][1] for axis in rows] + [own], 1))
            for number, own in enumerate(torch.split(shares, _BLOCK))
        ]

    def _constant_map(self, seen: Tensor, bias: Tensor, place: Place) -> tuple[Tensor, Tensor]:
        """What is added everywhere: (parts, columns * width), and the share of each part in a row, (rows, parts).

        In few bits a part is followed by what its rounding left over: it is large, and the taps' share nearly cancels
        it, so a rounding error here would be an error of the score.
        """
        ones = [torch.ones(side, 1, dtype=torch.float64) for side in self._size]
        offsets = range(-self._radius, self._radius + 1)
        rows, columns = (torch.cat([shifted(one, d, self._padding) for d in offsets], dim=1) for one in ones)
        through = torch.einsum("kyx,Xx->yXk", seen, columns)
        parts = torch.cat((through, bias.expand(1, self._size[1], -1)))
        shares = torch.cat((rows, ones[0]), dim=1)
        if self._padding == "replicate":
            parts, shares = parts.sum(0, keepdim=True), ones[0]
        first = parts.to(place.dtype)
        if place.dtype != torch.float32:
            left = (parts - first.double()).to(place.dtype)
            first, shares = torch.cat((first, left)), torch.cat((shares, shares), dim=1)
        return first.flatten(1).to(place.device), shares.to(place.device, place.dtype)

    def __call__(self, taps: Taps) -> Tensor:
        """(B, C_i, h_i, w_i), channels last -> (B, width, H, W), channels last."""
        batch = taps[0].shape[0]
        spread = [one(taps[tap]) for tap, one in self._spread.items()]
        constant = self._constant.expand(batch, -1, -1)
        parts = [
            matrix @ torch.cat([rows[:, wanted] for rows, wanted in zip(spread, used, strict=True)] + [constant], dim=1)
            for used, matrix in self._blocks
        ]
        out = _joined(parts).view(batch, *self._size, self._width).permute(0, 3, 1, 2)
        for tap, conv in self._direct.items():
            averaged = F.avg_pool2d(pad_edges(taps[tap], 1, self._padding), 3, stride=1)
            out = conv(pad_edges(averaged, self._radius, self._padding) if self._radius else averaged, out)
        return out


def _joined(parts: list[Tensor]) -> Tensor:
    """(B, rows, columns) parts below each other."""
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


class _FoldedCam:
    def __init__(self, net: CamNet, head: CamHead, place: Place) -> None:
        self._place = place
        self._hidden = _LinearPart(net, _linear(net), *folded_norm(head.conv.weight, None, head.norm), place)
        self._weight = _kept(head.weight, place)
        self._bias = _kept(head.bias, place)
        self._fraction = head.pooling_fraction

    def __call__(self, taps: Taps) -> Output:
        cam = _weighted(self._hidden(_ready(taps, self._place)).relu_(), self._weight)
        return Output(score=pool_top(cam, self._fraction) + self._bias, cam=cam)


class _FoldedFine:
    """A CAM and its local head, which stays in float32: it is small.

    Layer1 is the third tap; layer2 and layer3 of each smaller size follow.
    """

    def __init__(self, net: CamNet, place: Place) -> None:
        if net.local is None or not isinstance(net.head, CamHead):
            raise ValueError("This network has no local head")
        self._wide = _FoldedCam(net, net.head, dataclasses.replace(place, shapes=place.shapes[:2]))
        self._smaller = [
            _FoldedCam(one, _cam_head(one), dataclasses.replace(place, shapes=place.shapes[start : start + 2]))
            for start, one in zip(range(3, len(place.shapes), 2), net.smaller, strict=True)
        ]
        self._levels = [_kept(level, place) for level in net.levels]
        hidden, out = net.local.hidden, net.local.out
        if hidden.bias is None or out.bias is None:
            raise ValueError("The local head has no biases")
        self._local = copy.deepcopy(net.local).to(place.device)
        self._bias = _kept(net.head.bias, place)
        # The standardisation of layer1's channels is linear, and goes into the 1x1 convolution.
        weight = exactly(hidden.weight) / exactly(net.local.std)[:, None, None]
        bias = exactly(hidden.bias) - weight[:, :, 0, 0] @ exactly(net.local.mean)
        _, height, width = place.shapes[2]
        self._place = dataclasses.replace(place, dtype=torch.float32)
        self._hidden = PackedConv(weight, bias, size=(height, width), dtype=torch.float32, device=place.device)
        self._weight, self._own_bias = _kept(out.weight.flatten(), place), _kept(out.bias, place)

    def __call__(self, taps: Taps) -> Output:
        (tap1,) = _ready(taps[2:3], self._place)
        own = _weighted(F.gelu(self._hidden(tap1)), self._weight) + self._own_bias
        smaller = [
            one(taps[start : start + 2]).cam - level
            for start, one, level in zip(range(3, len(taps), 2), self._smaller, self._levels, strict=True)
        ]
        fine = self._local.agree(self._wide(taps[:2]).cam, own, smaller)
        return Output(score=fine.score + self._bias, cam=fine.cam)


class _FoldedSegmentation:
    """Ready taps -> (B, H, W), a logit for every cell."""

    def __init__(self, net: CamNet, head: SegmentationHead, place: Place) -> None:
        kernel, bias = folded_norm(head.conv.weight, head.conv.bias, head.norm)
        self._hidden = _LinearPart(net, _linear(net), kernel, bias, place)
        self._weight = _kept(head.out.weight.flatten(), place)

    def __call__(self, taps: Taps) -> Tensor:
        return _weighted(F.leaky_relu_(self._hidden(taps), 0.2), self._weight)


class _FoldedMap:
    def __init__(self, net: CamNet, head: MapHead, place: Place) -> None:
        self._place = place
        self._cells = _FoldedSegmentation(net, head.segmentation, place)
        self._bias = _kept(head.bias, place)
        self._fraction = head.pooling_fraction

    def __call__(self, taps: Taps) -> Output:
        cells = self._cells(_ready(taps, self._place))
        return Output(score=pool_top(cells, self._fraction) + self._bias, cam=cells)


class _FoldedSsn:
    def __init__(self, net: CamNet, head: SsnHead, place: Place) -> None:
        self._place = place
        self._cells = _FoldedSegmentation(net, head.segmentation, place)
        kernel, bias = folded_norm(head.conv.weight, None, head.norm)  # over features and, last, the map
        seen = None if net.plain_class_features else _linear(net)
        self._hidden = _LinearPart(net, seen, kernel[:, :-1], bias, place)
        self._padding: Padding = head.padding
        self._radius = kernel.shape[2] // 2
        height, width = (side * net.combine.scale + 2 * self._radius for side in place.sizes[0])
        self._of_map = PackedConv(
            kernel[:, -1:], None, relu=True, size=(height, width), dtype=place.dtype, device=place.device
        )
        self._weight, self._bias = _kept(head.score.weight, place), _kept(head.score.bias, place)

    def __call__(self, taps: Taps) -> Output:
        ready = _ready(taps, self._place)
        cells = self._cells(ready)
        seen = cells[:, None]
        padded = pad_edges(seen.to(self._place.dtype), self._radius, self._padding)
        hidden = self._of_map(padded.contiguous(memory_format=torch.channels_last), self._hidden(ready))
        summary = [pooled(x.float(), (2, 3)) for x in (hidden, seen) for pooled in (torch.amax, torch.mean)]
        return Output(score=F.linear(torch.cat(summary, dim=1), self._weight, self._bias)[:, 0], cam=cells)


def _cam_head(net: CamNet) -> CamHead:
    if not isinstance(net.head, CamHead):
        raise ValueError("The network of a smaller size has no CAM")
    return net.head


def _linear(net: CamNet) -> LinearAdaptor:
    if not isinstance(net.adaptor, LinearAdaptor):
        raise ValueError("The adaptor is not linear")
    return net.adaptor


def _ready(taps: Taps, place: Place) -> list[Tensor]:
    return [tap.to(place.device, place.dtype, memory_format=torch.channels_last) for tap in taps]


def _kept(values: Tensor, place: Place) -> Tensor:
    return values.detach().float().to(place.device, copy=True)


def _weighted(hidden: Tensor, weight: Tensor) -> Tensor:
    """Sum over channels, in float32: (B, K, H, W), channels last, and (K,) -> (B, H, W)."""
    return hidden.permute(0, 2, 3, 1).float() @ weight
