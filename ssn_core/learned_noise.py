"""Learned noise: a small network looks for the feature noise that the detector finds hardest.

The SuperSimpleNet-Evolved study's contribution 2 ("v2"). The generator exists in training only: it is no part of the
detector, is never saved with a model, and costs nothing at inference.

The published script calls backward on L and then on -L + penalty without clearing the gradients between, so the
detector's gradient cancels and the generator receives the penalty alone. Here the generator's gradient is one
computation of its own, with respect to the generator's parameters and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ssn_core.recipe_settings import Recipe

RANDOM_CHANNELS = 32  # of z, at each cell


class NoiseGenerator(nn.Module):
    """n = beta * tanh(G([adapted, z])); G: 1x1 (C + 32 -> C/2), ReLU, 1x1 (C/2 -> C/2), ReLU, 1x1 (C/2 -> C)."""

    def __init__(self, channels: int, *, beta: float) -> None:
        super().__init__()
        inside = channels // 2
        self.layers = nn.Sequential(
            nn.Conv2d(channels + RANDOM_CHANNELS, inside, 1),
            nn.ReLU(),
            nn.Conv2d(inside, inside, 1),
            nn.ReLU(),
            nn.Conv2d(inside, channels, 1),
        )
        self.beta = beta

    def forward(self, adapted: Tensor, z: Tensor) -> Tensor:
        """(B, C, h, w) and (B, 32, h, w) -> noise (B, C, h, w), within +-beta."""
        noise: Tensor = self.beta * torch.tanh(self.layers(torch.cat((adapted, z), dim=1)))
        return noise


class LearnedNoise:
    """The generator with its own optimiser, and its step against the detector."""

    def __init__(self, recipe: Recipe, channels: int, device: torch.device) -> None:
        self.every, self.penalty = recipe.generator_every, recipe.generator_penalty
        self.network = NoiseGenerator(channels, beta=recipe.beta).to(memory_format=torch.channels_last).to(device)
        self.optimiser = torch.optim.AdamW(self.network.parameters(), lr=recipe.generator_lr)
        self.batches = 0

    def draw_z(self, adapted: Tensor, generator: torch.Generator) -> Tensor:
        """z ~ N(0, I) for a batch of adapted features: (B, 32, h, w)."""
        shape = (adapted.shape[0], RANDOM_CHANNELS, *adapted.shape[2:])
        return torch.randn(shape, generator=generator, device=generator.device, dtype=adapted.dtype)

    @torch.no_grad()
    def noise(self, adapted: Tensor, z: Tensor) -> Tensor:
        """The noise for the detector's own step: a constant to it."""
        noise: Tensor = self.network(adapted, z)
        return noise

    def is_due(self) -> bool:
        """Count one batch; whether the generator takes its step on it (every fourth, by default)."""
        self.batches += 1
        return self.batches % self.every == 0

    def step(self, adapted: Tensor, z: Tensor, loss_of: Callable[[Tensor], Tensor]) -> Tensor:
        """One step that maximises the detector's loss minus penalty * mean(n^2). The detector is left as it is.

        Args:
            adapted: (B, C, h, w), no gradient is taken through it.
            loss_of: noise (B, C, h, w) -> the detector's loss with that noise.

        Returns:
            the detector's loss before the step.
        """
        noise = self.network(adapted.detach(), z)
        loss = loss_of(noise)
        objective = self.penalty * noise.square().mean() - loss
        parameters = list(self.network.parameters())
        # Not backward(): that would leave gradients in the detector's parameters as well.
        gradients = torch.autograd.grad(objective, parameters)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        torch.clear_autocast_cache()  # it would give the noise of this batch from the weights before the step
        return loss.detach()

    def state(self) -> dict[str, Any]:
        """What a run that was interrupted needs to go on."""
        return {
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "batches": self.batches,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state`."""
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.batches = state["batches"]


@contextmanager
def statistics_held(network: nn.Module) -> Iterator[None]:
    """Batch norms use their batch as ever, but do not learn their running statistics from it."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
