"""Tiles give what the plain convolution gives, and so do their gradients."""

from __future__ import annotations

import itertools
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ssn_core.folded import axis_matrix
from ssn_core.winograd import KERNEL, OUTPUTS, REACH, TILE, TiledConvolution, transforms

CPU = torch.device("cpu")


def tiled(taps: list[Tensor], size: tuple[int, int], *, padding: str, align_corners: bool) -> TiledConvolution:
    axis = partial(axis_matrix, radius=REACH, padding=padding, align_corners=align_corners)  # type: ignore[arg-type]
    shapes = [(tap.shape[1], tap.shape[2], tap.shape[3]) for tap in taps]
    return TiledConvolution(shapes, size, axis, dtype=taps[0].dtype, device=CPU)


def plainly(
    taps: list[Tensor], kernels: list[Tensor], size: tuple[int, int], *, padding: str, align_corners: bool
) -> Tensor:
    """Upsampled, averaged over 3 x 3 cells, convolved; the edge continued, or zeros beyond it, before either."""

    def padded(cells: Tensor, by: int) -> Tensor:
        return F.pad(cells, (by,) * 4, mode="replicate" if padding == "replicate" else "constant")

    found = []
    for tap, kernel in zip(taps, kernels, strict=True):
        if tap.shape[-2:] != size:
            tap = F.interpolate(tap, size, mode="bilinear", align_corners=align_corners)
        averaged = F.avg_pool2d(padded(tap, 1), 3, stride=1)
        found.append(F.conv2d(padded(averaged, KERNEL // 2), kernel.permute(0, 3, 1, 2)))
    return torch.stack(found).sum(0)


def some(size: tuple[int, int], *, batch: int = 2, dtype: torch.dtype = torch.float64) -> tuple[list[Tensor], ...]:
    """Two taps, the second of half the size, and a kernel for each."""
    drawn = torch.Generator().manual_seed(1)
    halves = ((size[0] + 1) // 2, (size[1] + 1) // 2)
    taps = [torch.randn(batch, c, *cells, generator=drawn, dtype=dtype) for c, cells in ((3, size), (5, halves))]
    kernels = [torch.randn(4, KERNEL, KERNEL, tap.shape[1], generator=drawn, dtype=dtype) for tap in taps]
    return taps, [kernel.requires_grad_() for kernel in kernels]


def test_four_outputs_take_eight_products() -> None:
    out, kernel, cells = transforms()
    assert (out.shape, kernel.shape, cells.shape) == ((OUTPUTS, TILE), (TILE, KERNEL), (TILE, TILE))
    drawn = torch.Generator().manual_seed(0)
    d, g = (torch.randn(n, generator=drawn, dtype=torch.float64) for n in (TILE, KERNEL))
    wanted = [sum(float(g[k] * d[i + k]) for k in range(KERNEL)) for i in range(OUTPUTS)]
    assert (out @ ((kernel @ g) * (cells @ d))).tolist() == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("padding", ["replicate", "zeros"])
@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("size", [(8, 12), (9, 14), (3, 1), (1, 7)])
def test_outputs_and_gradients_are_the_plain_convolutions(
    padding: str, align_corners: bool, size: tuple[int, int]
) -> None:
    taps, kernels = some(size)
    ours = tiled(taps, size, padding=padding, align_corners=align_corners)(taps, kernels)
    wanted = plainly(taps, kernels, size, padding=padding, align_corners=align_corners)
    torch.testing.assert_close(ours, wanted, rtol=0, atol=1e-10)
    towards = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    got, expected = (torch.autograd.grad((out * towards).sum(), kernels) for out in (ours, wanted))
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-9)


def test_float32_loses_no_more_than_its_last_digits() -> None:
    taps, kernels = some((32, 32), dtype=torch.float32)
    ours = tiled(taps, (32, 32), padding="replicate", align_corners=True)(taps, kernels)
    exact = [tap.double() for tap in taps], [kernel.double() for kernel in kernels]
    wanted = plainly(*exact, (32, 32), padding="replicate", align_corners=True)
    torch.testing.assert_close(ours.double(), wanted, rtol=0, atol=5e-6 * float(wanted.detach().abs().max()))


def test_batches_of_any_size_one_after_the_other() -> None:
    taps, kernels = some((9, 14), batch=3)
    ours = tiled(taps, (9, 14), padding="replicate", align_corners=True)
    for count, _ in itertools.product((3, 1, 2), range(2)):
        chosen = [tap[:count] for tap in taps]
        wanted = plainly(chosen, kernels, (9, 14), padding="replicate", align_corners=True)
        torch.testing.assert_close(ours(chosen, kernels), wanted, rtol=0, atol=1e-10)


def test_a_gradient_that_comes_too_late_is_refused() -> None:
    taps, kernels = some((8, 8))
    ours = tiled(taps, (8, 8), padding="replicate", align_corners=True)
    first = ours(taps, kernels).sum()
    ours(taps, kernels)
    with pytest.raises(RuntimeError, match="Another call"):
        first.backward()


def test_taps_have_no_gradient() -> None:
    taps, kernels = some((8, 8))
    ours = tiled(taps, (8, 8), padding="replicate", align_corners=True)
    with pytest.raises(ValueError, match="Taps are fixed"):
        ours([taps[0].requires_grad_(), taps[1]], kernels)
