"""Synthetic anomalies and the focal loss, against plain references."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from ssn_core.losses import focal_loss
from ssn_core.noise import anomaly_mask, gaussian, perlin, perturb


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_perlin_noise_has_a_mean_near_zero_and_stays_within_one() -> None:
    fields = perlin(400, (40, 24), generator=generator())
    assert fields.shape == (400, 40, 24)
    assert abs(fields.mean().item()) < 0.02
    assert fields.abs().max().item() <= 1.0
    assert 0.15 < fields.std().item() < 0.5


def test_perlin_noise_is_continuous_on_a_coarse_lattice_and_differs_between_samples() -> None:
    fields = perlin(64, (128, 128), generator=generator())
    steps = (fields[:, 1:] - fields[:, :-1]).abs().amax((1, 2))
    assert steps.min().item() < 0.05  # some sample has a coarse lattice: neighbouring cells are alike
    assert not torch.equal(fields[0], fields[1])


def test_perlin_noise_is_zero_on_lattice_points() -> None:
    fields = perlin(16, (32, 32), generator=generator(3))
    assert fields[:, 0, 0].abs().max().item() < 1e-6


def test_half_of_the_samples_are_left_alone() -> None:
    mask = anomaly_mask(2000, (8, 8), threshold=-1.0, skip=0.5, generator=generator())
    touched = mask.flatten(1).any(1).float().mean().item()
    assert touched == pytest.approx(0.5, abs=0.05)


def test_the_share_of_perturbed_cells_is_that_of_the_threshold() -> None:
    mask = anomaly_mask(500, (32, 32), threshold=0.2, skip=0.0, generator=generator())
    assert 0.1 < mask.float().mean().item() < 0.4


def test_noise_touches_nothing_outside_the_mask_and_has_its_standard_deviation_inside() -> None:
    features = torch.zeros(4, 8, 32, 32)
    mask = anomaly_mask(4, (32, 32), threshold=0.0, skip=0.0, generator=generator())
    noisy = perturb(features, gaussian(features, std=0.015, generator=generator(1)), mask)
    outside = noisy.masked_select(~mask.expand_as(noisy))
    inside = noisy.masked_select(mask.expand_as(noisy))
    assert outside.abs().max().item() == 0.0
    assert inside.std().item() == pytest.approx(0.015, rel=0.05)


@pytest.mark.parametrize("gamma", [0.0, 2.0, 4.0])
def test_focal_loss_is_the_plain_formula(gamma: float) -> None:
    rng = np.random.default_rng(0)
    logits, targets = 3 * rng.standard_normal(50), rng.integers(0, 2, 50)
    expected = 0.0
    for logit, target in zip(logits, targets, strict=True):
        p = 1 / (1 + math.exp(-logit))
        p_t = p if target else 1 - p
        expected += -((1 - p_t) ** gamma) * math.log(p_t)
    loss = focal_loss(torch.tensor(logits), torch.tensor(targets, dtype=torch.float64), gamma=gamma)
    assert loss.item() == pytest.approx(expected / 50, rel=1e-9)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 4.0])
def test_focal_loss_stays_finite_for_extreme_logits(gamma: float) -> None:
    logits = torch.tensor([-200.0, 200.0, -200.0, 200.0], requires_grad=True)
    loss = focal_loss(logits, torch.tensor([0.0, 1.0, 1.0, 0.0]), gamma=gamma)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()
