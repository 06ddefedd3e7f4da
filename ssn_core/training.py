"""Training of the CAM network on cached taps, from image labels alone.

The trainer knows no file format of a data set, no database and no page; it reports through callbacks. One epoch is
balanced (SuperSimpleNet, arXiv 2408.03143): every bad image in four orientations, and as many good ones, those used
least coming first.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssn_core.features import TapCache
from ssn_core.losses import focal_loss
from ssn_core.model import CamNet
from ssn_core.noise import add_noise, anomaly_mask
from ssn_core.recipes import Recipe

ORIENTATIONS = 4  # none, vertical flip, horizontal flip, both (180 degrees)
_STATISTICS_IMAGES = 64  # enough: each brings hundreds of cells
_LEAST_STD = 1e-3
_FLIPS: tuple[tuple[int, ...], ...] = ((), (-2,), (-1,), (-2, -1))


@dataclass(frozen=True)
class EpochReport:
    """What one epoch did."""

    epoch: int  # 1-based
    epochs: int
    loss: float  # mean focal loss of the epoch's batches
    seconds: float  # since training began


@dataclass(frozen=True)
class Example:
    """One training image: the key of its cached taps, and its label."""

    key: str
    bad: bool


def planned_epochs(recipe: Recipe, n_bad: int) -> int:
    """How many epochs a run takes: the recipe's, or as many as its least number of steps needs."""
    steps_per_epoch = math.ceil(2 * ORIENTATIONS * n_bad / recipe.batch_size)
    return recipe.epochs or math.ceil(recipe.min_steps / steps_per_epoch)


def planned_samples(recipe: Recipe, n_bad: int) -> int:
    """How many samples a run sees, orientations and repetitions counted."""
    return planned_epochs(recipe, n_bad) * 2 * ORIENTATIONS * n_bad


class BalancedSampler:
    """Draws balanced epochs: each bad image in every orientation, and as many good ones, least used first."""

    def __init__(self, examples: Sequence[Example], *, flip_good: bool, seed: int) -> None:
        self.bad = np.array([i for i, example in enumerate(examples) if example.bad])
        self.good = np.array([i for i, example in enumerate(examples) if not example.bad])
        self.uses = np.zeros(len(self.good), dtype=np.int64)
        self.flip_good = flip_good
        self.rng = np.random.default_rng(seed)

    def __len__(self) -> int:
        return 2 * ORIENTATIONS * len(self.bad)

    def epoch(self) -> np.ndarray:
        """(n, 2) int64: index of the example, orientation; shuffled."""
        wanted = ORIENTATIONS * len(self.bad)
        bad = np.stack((np.repeat(self.bad, ORIENTATIONS), np.tile(np.arange(ORIENTATIONS), len(self.bad))), axis=1)
        chosen = []
        while wanted > 0:
            # Ties are broken at random, so that equal use does not mean equal order.
            order = np.lexsort((self.rng.random(len(self.good)), self.uses))[:wanted]
            self.uses[order] += 1
            chosen.append(self.good[order])
            wanted -= len(order)
        good = np.concatenate(chosen)
        flips = self.rng.integers(0, ORIENTATIONS, len(good)) if self.flip_good else np.zeros(len(good), dtype=np.int64)
        samples = np.concatenate((bad, np.stack((good, flips), axis=1)))
        self.rng.shuffle(samples)
        return samples


class Trainer:
    """One training run: network, optimiser, schedule, sampler and random state; resumable between epochs.

    Args:
        recipe: all settings.
        examples: training images; their taps must be in `taps`.
        taps: the cache they are read from.
        device: where to train.

    Raises:
        ValueError: a class is missing; see :func:`ssn_core.dataset.check_labels`.
    """

    def __init__(self, recipe: Recipe, examples: Sequence[Example], taps: TapCache, device: torch.device) -> None:
        if len({example.bad for example in examples}) < 2:
            raise ValueError("Training needs good and bad examples; callers check the numbers first")
        self.recipe, self.examples, self.taps, self.device = recipe, list(examples), taps, device
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            self.net = CamNet(recipe).to(memory_format=torch.channels_last).to(device)
        if recipe.standardise:
            self.net.start_standardised(*self._channel_statistics())
        self.generator = torch.Generator(device).manual_seed(recipe.seed)
        self.sampler = BalancedSampler(self.examples, flip_good=recipe.flip_good, seed=recipe.seed)
        self.epochs = planned_epochs(recipe, len(self.sampler.bad))
        self.epoch = 0
        self.optimiser = torch.optim.AdamW(
            [
                {"params": self.net.adaptor.parameters(), "lr": recipe.adaptor_lr},
                {
                    "params": self.net.head.parameters(),
                    "lr": recipe.head_lr,
                    "weight_decay": recipe.head_weight_decay,
                },
            ]
        )
        steps = self.epochs * math.ceil(len(self.sampler) / recipe.batch_size)
        self.schedule = torch.optim.lr_scheduler.MultiStepLR(
            self.optimiser, milestones=[round(0.8 * steps), round(0.9 * steps)], gamma=0.4
        )

    def run(
        self,
        *,
        on_epoch: Callable[[EpochReport], None] | None = None,
        on_step: Callable[[int, int], None] | None = None,
    ) -> CamNet:
        """Train to the end and return the network in eval mode.

        Args:
            on_epoch: called after each epoch.
            on_step: called after each optimiser step with (samples seen, samples in all). Either callback may raise to
                stop; the trainer is then at the end of its last whole epoch only if :meth:`save` was called there.
        """
        began = time.monotonic()
        self.net.train()
        seen, total = self.epoch * len(self.sampler), self.epochs * len(self.sampler)
        while self.epoch < self.epochs:
            losses = []
            samples = self.sampler.epoch()
            for start in range(0, len(samples), self.recipe.batch_size):
                batch = samples[start : start + self.recipe.batch_size]
                losses.append(self._step(batch))
                seen += len(batch)
                if on_step:
                    on_step(seen, total)
            self.epoch += 1
            if on_epoch:
                loss = float(torch.stack(losses).mean())
                on_epoch(EpochReport(self.epoch, self.epochs, loss, time.monotonic() - began))
        self.net.eval()
        return self.net

    def _step(self, samples: np.ndarray) -> Tensor:
        recipe = self.recipe
        tap2, tap3 = self._oriented(samples)
        bad = torch.tensor([self.examples[i].bad for i in samples[:, 0]], dtype=torch.float32, device=self.device)
        features = self.net.adapt(tap2, tap3)
        if recipe.noise_std > 0 and recipe.noise_skip < 1:
            mask = anomaly_mask(
                len(samples),
                (features.shape[-2], features.shape[-1]),
                threshold=recipe.noise_threshold,
                skip=recipe.noise_skip,
                generator=self.generator,
            )
            noisy = add_noise(features, mask, std=recipe.noise_std, generator=self.generator)
            features = torch.cat((features, noisy))
            # A perturbed image is bad; a bad one stays bad. Labels never turn good.
            bad = torch.cat((bad, torch.maximum(bad, mask.flatten(1).any(1).float())))
        loss = focal_loss(self.net.head(features).score, bad, gamma=recipe.focal_gamma)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), recipe.clip_norm)
        self.optimiser.step()
        self.schedule.step()
        return loss.detach()

    @torch.no_grad()
    def _channel_statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each channel of the combined taps, (C,), over some training images."""
        rng = np.random.default_rng(self.recipe.seed)
        chosen = rng.permutation(len(self.examples))[:_STATISTICS_IMAGES]
        means, squares = [], []
        for index in chosen:
            tap2, tap3 = self.taps.read([self.examples[index].key])
            features = self.net.combine(tap2.to(self.device), tap3.to(self.device))
            means.append(features.mean((0, 2, 3)))
            squares.append(features.square().mean((0, 2, 3)))
        mean = torch.stack(means).mean(0)
        variance = torch.stack(squares).mean(0) - mean.square()
        # A channel that is nearly constant carries nothing; dividing by its noise would only amplify that.
        return mean, variance.clamp_min(0).sqrt().clamp_min(_LEAST_STD)

    def _oriented(self, samples: np.ndarray) -> tuple[Tensor, Tensor]:
        """Taps of some samples, each flipped as its orientation says."""
        taps = self.taps.read([self.examples[i].key for i in samples[:, 0]])
        for tap in taps:
            for row, orientation in enumerate(samples[:, 1]):
                if orientation:
                    tap[row] = tap[row].flip(_FLIPS[orientation])
        tap2, tap3 = (tap.to(self.device, memory_format=torch.channels_last, non_blocking=True) for tap in taps)
        return tap2, tap3

    def _identity(self) -> dict[str, Any]:
        """What a saved state must share with this run; a GPU's random state means nothing to a CPU."""
        return {
            "examples": [[example.key, example.bad] for example in self.examples],
            "settings": self.recipe.settings(),
            "device": self.device.type,
        }

    def save(self, path: Path) -> None:
        """Write the state between two epochs, atomically."""
        partial = path.with_name(path.name + ".tmp")
        state: dict[str, Any] = {
            "run": self._identity(),
            "epoch": self.epoch,
            "net": self.net.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "generator": self.generator.get_state(),
            "uses": torch.from_numpy(self.sampler.uses.copy()),
            "sampler": self.sampler.rng.bit_generator.state,
        }
        torch.save(state, partial)
        partial.replace(path)

    def restore(self, path: Path) -> bool:
        """Go on from :meth:`save`, if that was the same run: images, labels, settings and kind of device.

        Returns:
            Whether it was; if not, or if the file is damaged, the trainer stays at its beginning.
        """
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
        except Exception:  # noqa: BLE001 - a power cut can leave any bytes; what is lost is time, not the run
            return False
        if not isinstance(state, dict) or state.get("run") != self._identity():
            return False
        self.epoch = state["epoch"]
        self.net.load_state_dict(state["net"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        self.generator.set_state(state["generator"].cpu())
        self.sampler.uses = state["uses"].cpu().numpy()
        self.sampler.rng.bit_generator.state = state["sampler"]
        return True
