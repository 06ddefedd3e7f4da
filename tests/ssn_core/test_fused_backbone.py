"""The rewritten backbone gives the plain backbone's taps; weights in few bits keep their sums."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ssn_core import packed
from ssn_core.backbone import Backbone, load_backbone
from ssn_core.fused_backbone import FusedBackbone
from ssn_core.recipe_settings import Padding
from ssn_core.rounding import rounded, rounded_kernel

CPU = torch.device("cpu")


def random_backbone(name: str, padding: Padding) -> Backbone:
    """Random weights; batch norms as after a training, or they would fold into nothing."""
    backbone = load_backbone(name, weights="random", padding=padding)
    torch.manual_seed(1)
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.2)
            nn.init.normal_(module.bias, 0, 0.2)
    return backbone


def pixels_of(batch: int, height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, (batch, height, width, 3), generator=generator, dtype=torch.uint8).permute(0, 3, 1, 2)


@pytest.mark.parametrize("padding", ["replicate", "zeros"])
@pytest.mark.parametrize(
    ("name", "size"),
    [("resnet18", (64, 64)), ("resnet18", (75, 131)), ("resnet18", (97, 66)), ("wide_resnet50_2", (67, 90))],
)
@pytest.mark.parametrize("native", [True, False])
def test_taps_are_the_plain_backbones(
    name: str, size: tuple[int, int], padding: Padding, native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not native:
        monkeypatch.setattr(packed, "_has_native", lambda _dtype: False)
    backbone, pixels = random_backbone(name, padding), pixels_of(2, *size)
    with torch.inference_mode():
        fused = FusedBackbone(backbone, image_size=size, dtype=torch.float32, device=CPU)
        for ours, plain in zip(fused(pixels), backbone(pixels), strict=True):
            assert ours.shape == plain.shape
            assert float((ours - plain).abs().max()) <= 1e-5 * float(plain.abs().max())


def test_an_image_has_the_same_taps_alone_and_in_a_batch() -> None:
    backbone, pixels = random_backbone("resnet18", "replicate"), pixels_of(3, 80, 72)
    with torch.inference_mode():
        for dtype in (torch.float32, torch.bfloat16):
            fused = FusedBackbone(backbone, image_size=(80, 72), dtype=dtype, device=CPU)
            together = fused(pixels)
            alone = [fused(pixels[index : index + 1]) for index in range(3)]
            for number, tap in enumerate(together):
                single = torch.cat([taps[number] for taps in alone])
                assert float((tap - single).abs().max()) <= 1e-5 * float(tap.abs().max())


@pytest.mark.parametrize("exact", [0, 2, 4])
def test_bfloat16_is_close_and_exact_stages_are_exact(exact: int) -> None:
    backbone, pixels = random_backbone("resnet18", "replicate"), pixels_of(1, 96, 96)
    with torch.inference_mode():
        fused = FusedBackbone(backbone, image_size=(96, 96), dtype=torch.bfloat16, device=CPU, exact_stages=exact)
        found, expected = fused(pixels), backbone(pixels)
    kinds = [torch.float32 if stage < exact else torch.bfloat16 for stage in (2, 3)]
    assert [tap.dtype for tap in found] == kinds
    for ours, plain in zip(found, expected, strict=True):
        error = float((ours.float() - plain).norm() / plain.norm())
        assert error < (1e-5 if ours.dtype == torch.float32 else 0.02)


def test_rounded_rows_keep_their_sum_far_better_than_rounding_to_the_nearest() -> None:
    torch.manual_seed(0)
    rows = torch.randn(500, 25, dtype=torch.float64)
    wanted, nearest = rows.sum(1), rows.to(torch.bfloat16).double().sum(1)
    found = rounded(rows, torch.bfloat16)
    assert found.dtype == torch.bfloat16
    worst = float((found.double().sum(1) - wanted).abs().max())
    assert worst < float((nearest - wanted).abs().max()) / 10
    assert float((found.double() - rows).abs().max()) <= float(rows.abs().max()) * 2**-7


def test_rounding_keeps_zeros_and_leaves_float32_to_the_nearest() -> None:
    rows = torch.tensor([[1.001, 0.0, -0.333, 0.0, 1e-4]], dtype=torch.float64)
    assert (rounded(rows, torch.bfloat16)[0, [1, 3]] == 0).all()
    assert torch.equal(rounded(rows, torch.float32), rows.float())


def test_a_1x1_kernel_keeps_the_sum_over_its_channels() -> None:
    torch.manual_seed(0)
    weight = torch.randn(8, 64, 1, 1, dtype=torch.float64)
    error = rounded_kernel(weight, torch.bfloat16).double().sum((1, 2, 3)) - weight.sum((1, 2, 3))
    assert float(error.abs().max()) < 1e-3


def test_where_a_cpu_cannot_pack_bfloat16_float32_stays_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object) -> bool:
        return False

    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", refuses, raising=False)
    torch.manual_seed(2)
    weight, bias, x = torch.randn(4, 3, 3, 3), torch.randn(4), torch.randn(2, 3, 10, 9)
    wanted = nn.functional.conv2d(x, weight, bias, padding=1).relu()
    packs = packed._has_native(torch.float32)
    for dtype, native, error in ((torch.float32, packs, 1e-5), (torch.bfloat16, False, 0.1)):
        conv = packed.PackedConv(weight, bias, padding=1, relu=True, size=(10, 9), dtype=dtype, device=CPU)
        assert conv._native is native
        with torch.inference_mode():
            found = conv(x.to(dtype).contiguous(memory_format=torch.channels_last)).float()
        torch.testing.assert_close(found, wanted, rtol=0, atol=error)
