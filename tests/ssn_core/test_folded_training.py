"""Folded training gives the plain network's outputs, gradients and running statistics."""

from __future__ import annotations

import copy

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from ssn_core.folded_training import FoldedTraining, can_fold
from ssn_core.heads import Output
from ssn_core.model import CamNet
from ssn_core.recipes import get_recipe
from tests.ssn_core.test_folded import random_net, taps_of

CPU = torch.device("cpu")


@pytest.fixture(params=["tiled", "as in bfloat16"])
def either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of computing, the one of bfloat16 with all digits."""
    if request.param != "tiled":
        monkeypatch.setattr(torch, "is_autocast_enabled", lambda _device: True)


def folded(net: CamNet, taps: tuple[torch.Tensor, ...]) -> FoldedTraining:
    shapes = [(tap.shape[1], tap.shape[2], tap.shape[3]) for tap in taps]
    return FoldedTraining(net, (shapes[0], shapes[1]), CPU)


def gradients(net: CamNet, output: Output) -> dict[str, torch.Tensor]:
    # Any function of score and map that no cell drops out of.
    weights = torch.linspace(-1, 1, output.cam.numel()).view_as(output.cam)
    loss = (output.score * torch.arange(1, len(output.score) + 1)).sum() + (output.cam * weights).mean()
    net.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    return {name: value.grad for name, value in net.named_parameters() if value.grad is not None}


@pytest.mark.parametrize("padding", ["replicate", "zeros"])
@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize(("scale", "size"), [(1, (72, 104)), (2, (72, 104)), (1, (80, 64)), (1, (8, 8))])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.usefixtures("either_way")
def test_outputs_gradients_and_running_statistics_are_the_plain_networks(
    padding: str, align_corners: bool, scale: int, size: tuple[int, int], training: bool
) -> None:
    plain = random_net(padding=padding, align_corners=align_corners, feature_scale=scale, pooling_fraction=1.0)
    plain = plain.double()  # else rounding decides on which side of ReLU's 0 a cell is, on each CPU in its own way
    ours = copy.deepcopy(plain)
    plain.train(training)
    ours.train(training)
    taps = tuple(tap.double() for tap in taps_of("resnet18", size, batch=3)[:2])
    expected = plain.judge(plain.features(*taps))
    found = folded(ours, taps)(*taps)
    for one, other in zip(found, expected, strict=True):
        assert float((one - other).detach().abs().max()) <= 1e-4 * float(other.detach().abs().max())
    wanted, got = gradients(plain, expected), gradients(ours, found)
    assert set(wanted) == set(got)
    for name, gradient in wanted.items():
        scale_of = float(gradient.abs().max())
        assert float((got[name] - gradient).abs().max()) <= 1e-5 * scale_of + 1e-9, name
    statistics = dict(plain.named_buffers())
    for name, value in ours.named_buffers():
        torch.testing.assert_close(value, statistics[name], rtol=1e-4, atol=1e-4, msg=name)


def test_it_follows_the_weights_as_they_change() -> None:
    net = random_net()
    taps = taps_of("resnet18", (64, 64))[:2]
    function = folded(net, taps)
    before = function(*taps).cam.detach()
    with torch.no_grad():
        next(net.adaptor.parameters()).mul_(1.5)
    expected = net.judge(net.features(*taps)).cam.detach()
    assert float((function(*taps).cam.detach() - expected).abs().max()) <= 1e-4 * float(expected.abs().max())
    assert not torch.allclose(before, expected)


def test_what_is_not_linear_is_refused() -> None:
    net = random_net(adaptor="conv")
    assert not can_fold(get_recipe("cam").with_settings({"adaptor": "conv"}))
    assert can_fold(get_recipe("cam"))
    with pytest.raises(ValueError, match="linear adaptor"):
        folded(net, taps_of("resnet18", (64, 64))[:2])


@pytest.mark.parametrize("padding", ["replicate", "zeros"])
@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.usefixtures("either_way")
def test_on_a_gpu_no_array_is_left_behind_on_the_cpu(padding: str, scale: int) -> None:
    """A dry run without a GPU: arrays without values, which refuse to be mixed across devices."""
    gpu = torch.device("cuda:0")
    recipe = get_recipe("cam").with_settings({"padding": padding, "feature_scale": scale})
    with FakeTensorMode():
        with gpu:
            net = CamNet(recipe).train()
        ours = FoldedTraining(net, ((128, 8, 9), (256, 4, 5)), gpu)
        found = ours(torch.empty(3, 128, 8, 9, device=gpu), torch.empty(3, 256, 4, 5, device=gpu))
        assert found.score.device == found.cam.device == gpu
        assert found.cam.shape == (3, 8 * scale, 9 * scale)
        with pytest.raises(RuntimeError, match="same device"):
            ours(torch.empty(3, 128, 8, 9), torch.empty(3, 256, 4, 5))
