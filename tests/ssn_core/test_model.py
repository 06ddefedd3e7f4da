"""The network: shapes, the identity of score and map, pooling, and the border."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from ssn_core.backbone import load_backbone, local_size, tap_sizes
from ssn_core.model import CamNet, TapCombiner, pad_edges, pool_top
from ssn_core.recipes import Padding, get_recipe


def taps(batch: int, height: int, width: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    (h2, w2), (h3, w3) = tap_sizes((height, width))
    return (
        torch.rand(batch, 128, h2, w2, generator=generator),
        torch.rand(batch, 256, h3, w3, generator=generator),
        torch.rand(batch, 64, *local_size((height, width)), generator=generator),
    )


def net_for(**settings_: object) -> CamNet:
    torch.manual_seed(0)
    net = CamNet(get_recipe("cam").with_settings(settings_)).eval()
    torch.nn.init.normal_(net.head.bias)
    return net


@settings(max_examples=20, deadline=None)
@given(
    q=st.floats(0.001, 1.0),
    height=st.integers(64, 150),
    width=st.integers(64, 150),
    padding=st.sampled_from(["replicate", "zeros"]),
)
def test_the_mean_of_the_pooled_cells_plus_the_bias_is_the_score(
    q: float, height: int, width: int, padding: Padding
) -> None:
    net = net_for(pooling_fraction=q, padding=padding)
    with torch.no_grad():
        output = net(*taps(2, height, width))
    for score, cam in zip(output.score, output.cam, strict=True):
        cells = np.sort(cam.numpy().astype(np.float64).ravel())[::-1]
        count = max(1, round(q * cells.size))
        assert float(score) == pytest.approx(cells[:count].mean() + net.head.bias.item(), abs=1e-5)


def test_a_pooling_fraction_of_one_is_global_average_pooling() -> None:
    cam = torch.randn(3, 7, 5)
    torch.testing.assert_close(pool_top(cam, 1.0), cam.mean((1, 2)))


def test_a_tiny_pooling_fraction_takes_the_highest_cell() -> None:
    cam = torch.randn(3, 7, 5)
    torch.testing.assert_close(pool_top(cam, 1e-9), cam.amax((1, 2)))


@pytest.mark.parametrize("scale", [1, 2])
def test_taps_are_combined_as_the_plain_formula_says(scale: int) -> None:
    tap2, tap3, _ = taps(1, 64, 96)
    combined = TapCombiner(scale=scale, padding="zeros")(tap2, tap3)
    size = (tap2.shape[2] * scale, tap2.shape[3] * scale)
    both = torch.cat(
        [F.interpolate(t, size, mode="bilinear", align_corners=True) for t in (tap2, tap3)], dim=1
    ).double()
    padded = F.pad(both, (1, 1, 1, 1))
    naive = sum(padded[:, :, dy : dy + size[0], dx : dx + size[1]] for dy in range(3) for dx in range(3)) / 9
    torch.testing.assert_close(combined.double(), naive, atol=1e-6, rtol=1e-6)


def test_edges_are_continued_or_zero() -> None:
    x = torch.arange(4.0).view(1, 1, 2, 2)
    assert pad_edges(x, 2, "replicate")[0, 0, 0].tolist() == [0, 0, 0, 1, 1, 1]
    assert pad_edges(x, 2, "zeros")[0, 0, 0].tolist() == [0] * 6


@pytest.mark.parametrize("size", [(64, 64), (96, 200), (75, 131)])
def test_a_uniform_surface_has_a_uniform_map_right_up_to_the_border(size: tuple[int, int]) -> None:
    backbone = load_backbone("resnet18", weights="random", padding="replicate", local=True)
    net = net_for(padding="replicate")
    pixels = torch.full((1, 3, *size), 140, dtype=torch.uint8)
    with torch.no_grad():
        cam = net(*backbone(pixels)).cam[0]
    assert (cam.amax() - cam.amin()).item() < 1e-4 * max(1.0, cam.abs().amax().item())


def test_zero_padding_does_light_up_the_border() -> None:
    backbone = load_backbone("resnet18", weights="random", padding="zeros")
    net = net_for(padding="zeros", local_width=0)
    with torch.no_grad():
        cam = net(*backbone(torch.full((1, 3, 128, 128), 140, dtype=torch.uint8))).cam[0]
    inside = cam[6:-6, 6:-6]
    assert (cam.amax() - cam.amin()).item() > 10 * (inside.amax() - inside.amin()).item()


def test_the_wide_backbone_fits_the_same_network() -> None:
    backbone = load_backbone("wide_resnet50_2", weights="random", local=True)
    net = net_for(backbone="wide_resnet50_2")
    with torch.no_grad():
        output = net(*backbone(torch.zeros(1, 3, 64, 80, dtype=torch.uint8)))
    assert output.cam.shape == (1, 16, 20)
    assert output.score.shape == (1,)
