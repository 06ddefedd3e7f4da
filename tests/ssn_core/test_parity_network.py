"""Every module of the network against a deliberately naive reference: loops and plain formulas in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from ssn_core.adaptors import ConvAdaptor, LinearAdaptor
from ssn_core.heads import CamHead, MapHead, SsnHead
from ssn_core.learned_noise import NoiseGenerator
from ssn_core.model import TapCombiner

Array = NDArray[np.float64]
EPSILON = 1e-5  # of torch's batch norm


def f64(tensor: torch.Tensor) -> Array:
    return tensor.detach().double().numpy()


def bilinear(x: Array, size: tuple[int, int], *, align_corners: bool) -> Array:
    """(C, h, w) -> (C, H, W), pixel by pixel."""
    channels, height, width = x.shape
    out = np.zeros((channels, *size))
    for i in range(size[0]):
        for j in range(size[1]):
            at = []
            for place, target, source in ((i, size[0], height), (j, size[1], width)):
                if align_corners:
                    at.append(place * (source - 1) / (target - 1) if target > 1 else 0.0)
                else:
                    at.append(max((place + 0.5) * source / target - 0.5, 0.0))
            (y, fy), (x0, fx) = ((math.floor(v), v - math.floor(v)) for v in at)
            y1, x1 = min(y + 1, height - 1), min(x0 + 1, width - 1)
            out[:, i, j] = (
                (1 - fy) * (1 - fx) * x[:, y, x0]
                + (1 - fy) * fx * x[:, y, x1]
                + fy * (1 - fx) * x[:, y1, x0]
                + fy * fx * x[:, y1, x1]
            )
    return out


def pixel(x: Array, channel: int, i: int, j: int, padding: str) -> float:
    height, width = x.shape[1:]
    if padding == "replicate":
        return float(x[channel, min(max(i, 0), height - 1), min(max(j, 0), width - 1)])
    return float(x[channel, i, j]) if 0 <= i < height and 0 <= j < width else 0.0


def average_3x3(x: Array, padding: str) -> Array:
    out = np.zeros_like(x)
    for c, i, j in np.ndindex(*x.shape):
        around = [pixel(x, c, i + dy, j + dx, padding) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
        out[c, i, j] = sum(around) / 9  # zeros beyond the border are counted
    return out


def convolve(x: Array, weight: Array, bias: Array | None, padding: str) -> Array:
    out_channels, in_channels, size, _ = weight.shape
    reach = size // 2
    out = np.zeros((out_channels, *x.shape[1:]))
    for o, i, j in np.ndindex(*out.shape):
        total = 0.0 if bias is None else float(bias[o])
        for c in range(in_channels):
            for dy in range(size):
                for dx in range(size):
                    total += weight[o, c, dy, dx] * pixel(x, c, i + dy - reach, j + dx - reach, padding)
        out[o, i, j] = total
    return out


def normalise(x: Array, norm: nn.BatchNorm2d) -> Array:
    mean, variance, weight, bias = (f64(t) for t in (norm.running_mean, norm.running_var, norm.weight, norm.bias))
    shape = (-1, 1, 1)
    scaled = (x - mean.reshape(shape)) / np.sqrt(variance.reshape(shape) + EPSILON)
    return scaled * weight.reshape(shape) + bias.reshape(shape)


def shake(module: nn.Module) -> nn.Module:
    """Numbers that no part of a formula can hide behind: no zeros, no ones."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for tensor in (*module.parameters(), *(b for b in module.buffers() if b.is_floating_point() and b.dim())):
            tensor.copy_(torch.rand(tensor.shape, generator=generator) - 0.4)
        for norm in (m for m in module.modules() if isinstance(m, nn.BatchNorm2d)):
            norm.running_var.abs_().add_(0.3)
    return module.eval()


def features(channels: int = 6, size: tuple[int, int] = (4, 5), seed: int = 0) -> torch.Tensor:
    return torch.randn(2, channels, *size, generator=torch.Generator().manual_seed(seed))


def same(found: torch.Tensor, wanted: Array) -> None:
    np.testing.assert_allclose(f64(found), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("padding", ["zeros", "replicate"])
def test_taps_are_upsampled_joined_and_averaged(align_corners: bool, scale: int, padding: str) -> None:
    tap2, tap3 = features(2, (5, 4), seed=1), features(3, (3, 2), seed=2)
    combiner = TapCombiner(scale=scale, padding=padding, align_corners=align_corners)  # type: ignore[arg-type]
    found = combiner(tap2, tap3)
    for one in range(2):
        size = (5 * scale, 4 * scale)
        first = f64(tap2[one]) if scale == 1 else bilinear(f64(tap2[one]), size, align_corners=align_corners)
        second = bilinear(f64(tap3[one]), size, align_corners=align_corners)
        same(found[one], average_3x3(np.concatenate((first, second)), padding))


def test_a_third_tap_finds_its_place() -> None:
    taps = (features(2, (8, 8), 1), features(3, (4, 4), 2), features(4, (2, 2), 3))
    assert TapCombiner(scale=1, padding="zeros")(*taps).shape == (2, 9, 8, 8)


def test_the_linear_adaptor_is_a_matrix_at_every_cell() -> None:
    adaptor = shake(LinearAdaptor(6))
    x = features()
    weight, bias = f64(adaptor.weight)[:, :, 0, 0], f64(adaptor.bias)
    for i, j in np.ndindex(4, 5):
        same(adaptor(x)[0, :, i, j], weight @ f64(x)[0, :, i, j] + bias)


@pytest.mark.parametrize("padding", ["zeros", "replicate"])
def test_the_convolutional_adaptor_is_convolution_batch_norm_and_relu(padding: str) -> None:
    adaptor = shake(ConvAdaptor(4, padding=padding))  # type: ignore[arg-type]
    x = features(4)
    wanted = normalise(convolve(f64(x[0]), f64(adaptor.conv.weight), None, padding), adaptor.norm)
    same(adaptor(x)[0], np.maximum(wanted, 0))


def test_standardised_adaptors_start_with_channels_of_equal_size() -> None:
    scale = torch.tensor([1.0, 10.0, 100.0])[:, None, None]
    x = torch.randn(8, 3, 9, 9) * scale + 5 * scale
    mean, std = x.mean((0, 2, 3)), x.std((0, 2, 3))
    linear = LinearAdaptor(3)
    linear.start_standardised(mean, std)
    torch.testing.assert_close(linear(x), (x - mean[:, None, None]) / std[:, None, None], atol=1e-4, rtol=1e-4)
    conv = ConvAdaptor(3, padding="replicate")
    plain = conv.conv.weight.detach().clone()
    conv.start_standardised(mean, std)
    torch.testing.assert_close(conv.conv.weight * std[None, :, None, None], plain)


def segmentation(x: Array, head: nn.Module) -> Array:
    inside = normalise(convolve(x, f64(head.conv.weight), f64(head.conv.bias), "zeros"), head.norm)
    return convolve(np.where(inside > 0, inside, 0.2 * inside), f64(head.out.weight), None, "zeros")[0]


def test_the_segmentation_head_and_its_highest_cell() -> None:
    head = shake(MapHead(5, width=7, pooling_fraction=0.0))
    head.bias.zero_()
    x = features(5)
    found = head(x)
    for one in range(2):
        wanted = segmentation(f64(x[one]), head.segmentation)
        same(found.cam[one], wanted)
        same(found.score[one], np.array(wanted.max()))


@pytest.mark.parametrize("isolated", [True, False])
@pytest.mark.parametrize("apart", [True, False])
@pytest.mark.parametrize("padding", ["zeros", "replicate"])
def test_the_classification_head_pools_itself_and_the_map(isolated: bool, apart: bool, padding: str) -> None:
    head = shake(SsnHead(3, width=4, map_width=5, padding=padding, isolated=isolated))  # type: ignore[arg-type]
    x, plain = features(3), features(3, seed=9)
    found = head(x, plain) if apart else head(x)
    for one in range(2):
        cells = segmentation(f64(x[one]), head.segmentation)
        seen = np.concatenate((f64((plain if apart else x)[one]), cells[None]))
        hidden = np.maximum(normalise(convolve(seen, f64(head.conv.weight), None, padding), head.norm), 0)
        summary = [*hidden.max((1, 2)), *hidden.mean((1, 2)), cells.max(), cells.mean()]
        score = float(f64(head.score.weight)[0] @ np.array(summary) + f64(head.score.bias)[0])
        same(found.cam[one], cells)
        same(found.score[one], np.array(score))


def test_the_published_classification_head_has_258_numbers() -> None:
    assert SsnHead(6, width=128, map_width=1024, padding="zeros", isolated=True).score.in_features == 258


@pytest.mark.parametrize("isolated", [True, False])
def test_the_score_reaches_the_segmentation_head_only_where_masks_or_labels_teach(isolated: bool) -> None:
    head = SsnHead(3, width=4, map_width=5, padding="zeros", isolated=isolated)
    head(features(3)).score.sum().backward()
    reached = [p.grad is not None and bool(p.grad.abs().sum() > 0) for p in head.segmentation.parameters()]
    assert any(reached) is not isolated
    assert head.conv.weight.grad is not None


@pytest.mark.parametrize("q", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("padding", ["zeros", "replicate"])
def test_the_cam_is_a_weighted_sum_of_channels_and_its_mean_plus_bias_the_score(q: float, padding: str) -> None:
    head = shake(CamHead(3, width=4, pooling_fraction=q, padding=padding))  # type: ignore[arg-type]
    x = features(3)
    found = head(x)
    for one in range(2):
        hidden = np.maximum(
            normalise(convolve(f64(x[one]), f64(head.conv.weight), None, padding), head.norm), 0
        )  # A_k(i, j)
        cam = np.zeros((4, 5))
        for k in range(4):
            cam += f64(head.weight)[k] * hidden[k]
        same(found.cam[one], cam)
        highest = sorted(cam.ravel(), reverse=True)[: max(1, round(q * cam.size))]
        same(found.score[one], np.array(sum(highest) / len(highest) + head.bias.item()))


def test_the_noise_generator_is_three_matrices_and_a_bounded_answer() -> None:
    network = shake(NoiseGenerator(6, beta=0.05))
    adapted, z = features(6), features(32, seed=3)
    found = network(adapted, z)
    first, second, third = (layer for layer in network.layers if isinstance(layer, nn.Conv2d))
    assert (first.out_channels, second.out_channels, third.out_channels) == (3, 3, 6)
    x = f64(torch.cat((adapted, z), dim=1))[0, :, 2, 3]
    for layer, last in ((first, False), (second, False), (third, True)):
        x = f64(layer.weight)[:, :, 0, 0] @ x + f64(layer.bias)
        x = x if last else np.maximum(x, 0)
    same(found[0, :, 2, 3], 0.05 * np.tanh(x))
    assert found.abs().max() <= 0.05
