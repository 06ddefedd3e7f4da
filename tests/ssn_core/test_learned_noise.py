"""The learned noise: its generator raises the detector's loss, the detector lowers it; neither disturbs the other."""

from __future__ import annotations

import pytest
import torch

from ssn_core.anomalies import Cells, Truth, draw_places, marked_bad, with_noise
from ssn_core.learned_noise import LearnedNoise, statistics_held
from ssn_core.losses import total_loss
from ssn_core.model import CamNet, Features
from ssn_core.recipes import Recipe, get_recipe

CPU = torch.device("cpu")


class Duel:
    """A detector, a generator and one batch that stays the same."""

    def __init__(self, name: str, **settings: object) -> None:
        base = get_recipe(name)
        self.recipe: Recipe = base.with_settings(
            {"image_size": (64, 64), "map_width": 32, "head_width": 8, **base.noise_settings("learned"), **settings}
        )
        torch.manual_seed(0)
        self.net = CamNet(self.recipe).train()
        self.learned = LearnedNoise(self.recipe, 384, CPU)
        generator = torch.Generator().manual_seed(1)
        taps = (torch.rand(4, 128, 8, 8, generator=generator), torch.rand(4, 256, 4, 4, generator=generator))
        with torch.no_grad():
            self.features: Features = self.net.features(*taps)
        size = (self.features.adapted.shape[-2], self.features.adapted.shape[-1])
        shape = (4, 1, *size)
        cells = Cells(torch.zeros(shape, dtype=torch.bool), torch.ones(shape), torch.ones(4, dtype=torch.bool))
        truth = Truth(torch.zeros(4), None if self.recipe.losses == ("score-focal",) else cells)
        self.places = draw_places(self.recipe, truth, size, generator)
        self.truth = marked_bad(truth.twice(), self.places)
        repeats = 2 if self.recipe.noise_on == "both" else 1
        self.adapted = torch.cat((self.features.adapted,) * repeats)
        self.z = self.learned.draw_z(self.adapted, generator)

    def loss_of(self, noise: torch.Tensor) -> torch.Tensor:
        judged = self.net.judge(with_noise(self.recipe, self.features, noise, self.places))
        return total_loss(self.recipe, judged, self.truth)

    def loss(self) -> float:
        with torch.no_grad(), statistics_held(self.net):
            return self.loss_of(self.learned.noise(self.adapted, self.z)).item()

    def generator_steps(self, count: int) -> None:
        with statistics_held(self.net):
            for _ in range(count):
                self.learned.step(self.adapted, self.z, self.loss_of)

    def detector_steps(self, count: int) -> None:
        optimiser = torch.optim.AdamW(self.net.head.parameters(), lr=1e-3)
        for _ in range(count):
            optimiser.zero_grad()
            with statistics_held(self.net):
                self.loss_of(self.learned.noise(self.adapted, self.z)).backward()
            optimiser.step()


@pytest.mark.parametrize("name", ["gap-cam", "supersimplenet", "simplenet", "mixed"])
def test_the_generators_step_raises_the_loss_and_the_detectors_lowers_it(name: str) -> None:
    duel = Duel(name, generator_lr=1e-3, generator_penalty=0.0, beta=0.5)
    before = duel.loss()
    duel.generator_steps(5)
    raised = duel.loss()
    assert raised > before
    duel.detector_steps(5)
    assert duel.loss() < raised


def test_the_generator_follows_the_loss_and_not_the_penalty_alone() -> None:
    """With the published script's mistake, the generator's gradient is the penalty's, whatever the detector says."""
    duel = Duel("supersimplenet")
    noise = duel.learned.network(duel.adapted, duel.z)
    parameters = list(duel.learned.network.parameters())
    penalty = torch.autograd.grad(10 * noise.square().mean(), parameters, retain_graph=True)
    with statistics_held(duel.net):
        wanted = torch.autograd.grad(10 * noise.square().mean() - duel.loss_of(noise), parameters)
    seen: list[torch.Tensor] = []
    duel.learned.optimiser.step = lambda: seen.extend(p.grad.clone() for p in parameters)  # type: ignore[method-assign]
    duel.generator_steps(1)
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-9) for a, b in zip(seen, wanted, strict=True))
    assert not all(torch.allclose(a, b, rtol=1e-2) for a, b in zip(seen, penalty, strict=True))


def test_the_generators_step_leaves_the_detector_as_it_is() -> None:
    duel = Duel("supersimplenet-supervised")
    before = {key: value.clone() for key, value in duel.net.state_dict().items()}
    duel.generator_steps(3)
    assert all(torch.equal(value, before[key]) for key, value in duel.net.state_dict().items())
    assert all(p.grad is None for p in duel.net.parameters())
    duel.net(torch.rand(2, 128, 8, 8), torch.rand(2, 256, 4, 4))  # batch norms learn again afterwards
    assert not torch.equal(duel.net.head.norm.running_mean, before["head.norm.running_mean"])


def test_the_detectors_step_leaves_the_generator_as_it_is() -> None:
    duel = Duel("gap-cam")
    before = [p.clone() for p in duel.learned.network.parameters()]
    duel.detector_steps(3)
    assert all(torch.equal(a, b) for a, b in zip(before, duel.learned.network.parameters(), strict=True))


def test_a_larger_penalty_means_less_noise() -> None:
    sizes = []
    for penalty in (0.0, 1e5):
        duel = Duel("supersimplenet", generator_penalty=penalty, generator_lr=1e-3, beta=0.5)
        duel.generator_steps(30)
        sizes.append(duel.learned.noise(duel.adapted, duel.z).abs().mean().item())
    assert sizes[1] < 0.5 * sizes[0]


def test_the_generator_steps_on_every_fourth_batch() -> None:
    learned = Duel("gap-cam").learned
    assert [learned.is_due() for _ in range(9)] == [False, False, False, True, False, False, False, True, False]


def test_in_few_bits_too_the_detector_gets_the_noise_of_the_generator_after_its_step() -> None:
    duel = Duel("gap-cam", generator_lr=1e-2, beta=0.5)

    def noise() -> torch.Tensor:
        return duel.learned.noise(duel.adapted, duel.z)

    with torch.autocast("cpu", torch.bfloat16):
        before = noise()
        duel.generator_steps(1)
        after = noise()
    with torch.autocast("cpu", torch.bfloat16):
        fresh = noise()
    assert torch.equal(after, fresh)
    assert not torch.equal(after, before)
