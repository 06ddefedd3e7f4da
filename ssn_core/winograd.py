"""A convolution of upsampled, averaged taps with a sixth of the multiplications, differentiable in its kernel.

Minimal filtering (Winograd, Arithmetic Complexity of Computations, SIAM 1980; for convolutions: Lavin and Gray, "Fast
algorithms for convolutional neural networks", CVPR 2016): four neighbouring outputs of a kernel of five,
out_i = sum_k g_k d_(i + k), are

    out = A^T ((G g) * (B^T d))        (4 x 8) ((8 x 5) (5) * (8 x 8) (8))

eight products in place of twenty, and in two dimensions 64 in place of 400. The matrices come from Toom and Cook's
multiplication of polynomials, transposed: with V_n the powers 0 to n - 1 of eight points, one of them infinite,
A = V_4, G = V_5, B^T = V_8^-T. Each point's three rows may be scaled as long as their product stays; here they have one
length. With the points below, float32 gives the plain sum's results to about 2e-6 of the largest output.

What stands before the convolution is linear and has no weights: upsampling, the 3 x 3 average, a continued or an empty
edge. It goes into B^T d, so that nothing of it is ever spread out, whatever size a tap has; and because taps are fixed,
all of it is left out of the gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

OUTPUTS, KERNEL = 4, 5  # along one axis: what a tile gives, and the kernel's size
_POINTS = (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5)  # and infinity
TILE = OUTPUTS + KERNEL - 1  # along one axis: what a tile reads, and its products
REACH = OUTPUTS - 1 + KERNEL // 2  # cells from a tile's first output to the last that it reads

Axis = Callable[[int, int], Tensor]
Shape = tuple[int, int, int]  # (C, h, w)


def _powers(count: int) -> NDArray[np.float64]:
    finite = np.power.outer(np.array(_POINTS), np.arange(count))
    return np.vstack((finite, np.eye(count)[-1:]))


def transforms() -> tuple[Tensor, Tensor, Tensor]:
    """A^T (4, 8), G (8, 5) and B^T (8, 8), float64."""
    parts = [_powers(OUTPUTS), _powers(KERNEL), np.linalg.inv(_powers(TILE)).T]
    lengths = [np.linalg.norm(part, axis=1, keepdims=True) for part in parts]
    alike = np.prod(lengths, axis=0) ** (1 / len(parts))
    out, kernel, cells = (torch.from_numpy(part * alike / length) for part, length in zip(parts, lengths, strict=True))
    return out.T.contiguous(), kernel, cells


class TiledConvolution:
    """Taps and their kernels -> the sum of what each tap gives, (B, k, H, W), differentiable in the kernels.

    Arrays between the steps are kept from call to call (the larger ones are slow to ask for anew), so that a gradient
    has to be taken before the next call.

    Args:
        shapes: of the taps.
        size: (H, W) of the output.
        axis: (cells in, cells out) -> (cells out, cells in, 2 * REACH + 1): what stands so far beside each output cell,
            from -REACH to REACH (:func:`ssn_core.folded.axis_matrix`).
        dtype, device: of taps and kernels.
    """

    def __init__(
        self,
        shapes: Sequence[Shape],
        size: tuple[int, int],
        axis: Axis,
        *,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.size = size
        self.tiles = (-(-size[0] // OUTPUTS), -(-size[1] // OUTPUTS))
        out, kernel, cells = transforms()
        self._out = out.to(device, dtype)
        both = torch.einsum("vx,uy->vuyx", kernel, kernel)
        self._kernel = both.reshape(TILE**2, KERNEL**2).to(device, dtype)
        # (8 tiles, cells in) and (8, tiles, cells in): a tap's rows all at once, its columns product by product.
        self._rows = [_tiled(cells, axis(h, size[0])).flatten(0, 1).to(device, dtype) for _, h, _ in shapes]
        self._columns = [_tiled(cells, axis(w, size[1])).to(device, dtype) for _, _, w in shapes]
        self._arrays: dict[object, Tensor] = {}
        self.calls = 0

    def __call__(self, taps: Sequence[Tensor], kernels: Sequence[Tensor]) -> Tensor:
        """(B, C_i, h_i, w_i) each and (k, 5, 5, C_i) each -> (B, k, H, W)."""
        found: Tensor = _Convolved.apply(self, len(taps), *taps, *kernels)
        return found

    def array(self, name: object, *shape: int) -> Tensor:
        """An array that is kept from call to call, with whatever it holds."""
        wanted, kept = int(np.prod(shape)), self._arrays.get(name)
        if kept is None or len(kept) < wanted:
            with torch.inference_mode(False):  # or a training could not write to it later
                kept = self._arrays[name] = self._out.new_empty(wanted)
        return kept[:wanted].view(shape)

    def read(self, number: int, tap: Tensor) -> Tensor:
        """B^T d of a tap (B, C, h, w), for its columns and rows: (8 8, tiles of all images, C)."""
        _, channels, _, breadth = tap.shape
        rows = self._rows[number] @ tap.permute(2, 0, 3, 1).flatten(1)
        rows = rows.view(-1, breadth, channels)  # (8 tiles down B, w, C)
        found = self.array(("cells", number), TILE, len(rows), self.tiles[1], channels)
        for columns, into in zip(self._columns[number], found, strict=True):
            torch.bmm(columns.expand(len(rows), -1, -1), rows, out=into)
        return found.view(TILE**2, -1, channels)

    def of_kernel(self, kernel: Tensor) -> Tensor:
        """G g of a kernel (k, 5, 5, C): (8 8, k, C)."""
        width, *_, channels = kernel.shape
        return (self._kernel @ kernel.permute(1, 2, 0, 3).reshape(KERNEL**2, -1)).view(-1, width, channels)

    def to_kernel(self, gradient: Tensor) -> Tensor:
        """The gradient of a kernel (k, 5, 5, C) from that of :meth:`of_kernel`."""
        _, width, channels = gradient.shape
        found = self._kernel.T @ gradient.view(TILE**2, -1)
        return found.view(KERNEL, KERNEL, width, channels).permute(2, 0, 1, 3)

    def written(self, products: Tensor, batch: int) -> Tensor:
        """A^T of products (8 8, tiles of all images, k): the output, (B, k, H, W)."""
        width = products.shape[2]
        rows = torch.matmul(self._out, products.view(TILE, TILE, -1), out=self._halfway(products))
        found = (self._out @ rows.view(TILE, -1)).view(OUTPUTS, OUTPUTS, self.tiles[0], batch, self.tiles[1], width)
        found = found.permute(3, 2, 1, 4, 0, 5).reshape(batch, *(OUTPUTS * n for n in self.tiles), width)
        return found[:, : self.size[0], : self.size[1]].permute(0, 3, 1, 2)

    def to_products(self, gradient: Tensor, products: Tensor) -> Tensor:
        """The gradient of the products from that of :meth:`written`; their own array takes it."""
        batch, width, *_ = gradient.shape
        down, across = (OUTPUTS * n - side for n, side in zip(self.tiles, self.size, strict=True))
        cells = F.pad(gradient.permute(0, 2, 3, 1), (0, 0, 0, across, 0, down))
        cells = cells.reshape(batch, self.tiles[0], OUTPUTS, self.tiles[1], OUTPUTS, width)
        halfway = self._halfway(products)
        torch.mm(self._out.T, cells.permute(4, 2, 1, 0, 3, 5).reshape(OUTPUTS, -1), out=halfway.view(TILE, -1))
        torch.matmul(self._out.T, halfway, out=products.view(TILE, TILE, -1))
        return products

    def _halfway(self, products: Tensor) -> Tensor:
        return self.array("halfway", TILE, OUTPUTS, products[0].numel())


def _tiled(cells: Tensor, matrix: Tensor) -> Tensor:
    """B^T for every tile of an axis: (8, tiles, cells in)."""
    return torch.einsum("uj,tij->uti", cells, matrix[::OUTPUTS, :, -TILE:])


class _Convolved(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tiles: TiledConvolution, count: int, *taps_and_kernels: Tensor) -> Tensor:
        taps, kernels = taps_and_kernels[:count], taps_and_kernels[count:]
        if any(tap.requires_grad for tap in taps):
            raise ValueError("Taps are fixed: they have no gradient here")
        tiles.calls += 1
        ctx.tiles, ctx.call, ctx.count = tiles, tiles.calls, count
        ctx.cells = [tiles.read(number, tap) for number, tap in enumerate(taps)]
        first, *others = [tiles.of_kernel(kernel).transpose(1, 2) for kernel in kernels]
        products = tiles.array("products", TILE**2, ctx.cells[0].shape[1], first.shape[2])
        torch.bmm(ctx.cells[0], first, out=products)
        for cells, weight in zip(ctx.cells[1:], others, strict=True):
            torch.baddbmm(products, cells, weight, out=products)
        ctx.products = products
        return tiles.written(products, len(taps[0]))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        tiles: TiledConvolution = ctx.tiles
        if ctx.call != tiles.calls:
            raise RuntimeError("Another call has come between: its arrays are no longer those of this gradient")
        towards = tiles.to_products(gradient, ctx.products).transpose(1, 2)
        found = [tiles.to_kernel(torch.bmm(towards, cells)) for cells in ctx.cells]
        return (None, None, *[None] * ctx.count, *found)
