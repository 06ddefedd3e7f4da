"""The folded network gives the plain network's scores and maps."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from ssn_core.backbone import LOCAL_CHANNELS, TAP_CHANNELS, local_size, tap_sizes
from ssn_core.folded import Place, axis_matrix, fold, why_not
from ssn_core.model import CamNet
from ssn_core.recipes import get_recipe

CPU = torch.device("cpu")


def random_net(name: str = "cam", seed: int = 0, **settings: object) -> CamNet:
    """A network whose every weight, bias and running statistic is random."""
    torch.manual_seed(seed)
    net = CamNet(get_recipe(name).with_settings(settings)).eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.3, 3)
            nn.init.normal_(module.weight, 1, 0.3)
            nn.init.normal_(module.bias)
    for name_, parameter in net.named_parameters():
        if name_.endswith("bias"):
            nn.init.normal_(parameter)
    return net


def taps_of(backbone: str, size: tuple[int, int], batch: int = 1, seed: int = 1) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    channels = (*TAP_CHANNELS[backbone], LOCAL_CHANNELS[backbone])
    return tuple(
        torch.rand(batch, c, *cells, generator=generator) * 3
        for c, cells in zip(channels, (*tap_sizes(size), local_size(size)), strict=True)
    )


def read_by(net: CamNet, taps: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return taps if net.local is not None else taps[:2]


def place_of(taps: tuple[torch.Tensor, ...], dtype: torch.dtype = torch.float32) -> Place:
    return Place(tuple((tap.shape[1], tap.shape[2], tap.shape[3]) for tap in taps), dtype, CPU)


def compare(net: CamNet, taps: tuple[torch.Tensor, ...], *, tolerance: float, dtype: torch.dtype) -> None:
    taps = read_by(net, taps)
    place = place_of(taps, dtype)
    with torch.inference_mode():
        expected, found = net(*taps), fold(net, place)(taps)
    for ours, plain in zip(found, expected, strict=True):
        assert ours.dtype == torch.float32
        assert ours.shape == plain.shape
        assert float((ours - plain).abs().max()) <= tolerance * float(plain.abs().max())


@pytest.mark.parametrize(
    ("padding", "scale", "align"), list(itertools.product(("replicate", "zeros"), (1, 2), (True, False)))
)
@pytest.mark.parametrize("size", [(64, 64), (75, 131), (200, 96)])
def test_scores_and_maps_are_the_plain_networks(size: tuple[int, int], padding: str, scale: int, align: bool) -> None:
    net = random_net(padding=padding, feature_scale=scale, align_corners=align, pooling_fraction=0.05)
    compare(net, taps_of("resnet18", size, batch=2), tolerance=1e-5, dtype=torch.float32)


@pytest.mark.parametrize("name", ["cam", "gap-cam"])
def test_it_holds_for_the_wide_backbones_channels(name: str) -> None:
    net = random_net(name, 2, backbone="wide_resnet50_2")
    compare(net, taps_of("wide_resnet50_2", (72, 104)), tolerance=1e-5, dtype=torch.float32)


@pytest.mark.parametrize("scale", [3, 4])
def test_it_holds_for_axes_of_several_blocks(scale: int) -> None:
    net = random_net(feature_scale=scale, padding="zeros")
    compare(net, taps_of("resnet18", (280, 330)), tolerance=1e-5, dtype=torch.float32)


@pytest.mark.parametrize("name", ["simplenet", "supersimplenet", "supersimplenet-supervised"])
@pytest.mark.parametrize("scale", [1, 2])
def test_it_holds_for_the_other_heads_of_a_linear_adaptor(name: str, scale: int) -> None:
    net = random_net(name, backbone="resnet18", feature_scale=scale, adaptor="linear")
    compare(net, taps_of("resnet18", (88, 120), batch=2), tolerance=1e-5, dtype=torch.float32)


@pytest.mark.parametrize("name", ["cam", "gap-cam"])
def test_bfloat16_stays_close(name: str) -> None:
    compare(random_net(name), taps_of("resnet18", (96, 120)), tolerance=0.02, dtype=torch.bfloat16)


def test_later_training_does_not_change_what_was_folded() -> None:
    net, taps = random_net(), taps_of("resnet18", (64, 64))
    folded = fold(net, place_of(taps_of("resnet18", (64, 64))))
    with torch.inference_mode():
        before = folded(taps).score.clone()
        for parameter in net.parameters():
            parameter.add_(1.0)
        assert torch.equal(folded(taps).score, before)


def test_the_conv_adaptor_is_refused_in_words() -> None:
    net = random_net(adaptor="conv")
    assert why_not(net) == "the conv adaptor is not linear"
    with pytest.raises(ValueError, match="conv adaptor"):
        fold(net, place_of(taps_of("resnet18", (64, 64))))


def test_along_an_axis_a_constant_stays_a_constant_and_zeros_cut_it_at_the_edge() -> None:
    replicate = axis_matrix(6, 12, radius=2, padding="replicate", align_corners=True)
    torch.testing.assert_close(replicate.sum(1), torch.ones(12, 5, dtype=torch.float64))
    zeros = axis_matrix(6, 12, radius=2, padding="zeros", align_corners=True).sum(1)
    assert zeros[0].tolist() == pytest.approx([0, 0, 2 / 3, 1, 1])
    torch.testing.assert_close(zeros[3:-3], torch.ones(6, 5, dtype=torch.float64))
