"""Training on cached taps, for every recipe.

The trainer knows no file format of a data set, no database and no page; it reports through callbacks. What an epoch
consists of is in sampling.py, synthetic anomalies in anomalies.py, targets from masks in marks.py, losses in losses.py.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssn_core.anomalies import Cells, Truth, draw_places, marked_bad, with_noise
from ssn_core.backbone import TAP_CHANNELS, tap_sizes
from ssn_core.features import TapCache
from ssn_core.folded_training import FoldedTraining, can_fold
from ssn_core.half_precision import bfloat16_pays
from ssn_core.heads import CamHead, Output
from ssn_core.learned_noise import LearnedNoise, statistics_held
from ssn_core.local_evidence import LocalHead, LocalTraining, Pointed
from ssn_core.losses import total_loss
from ssn_core.marks import Marks, read_marks
from ssn_core.memory import give_back
from ssn_core.model import CamNet, Features
from ssn_core.noise import gaussian
from ssn_core.recipe_settings import Recipe
from ssn_core.sampling import FLIPS, LOCAL_IMAGES, Example, Sampler, local_images, planned_epochs
from ssn_core.seeding import seeded
from ssn_core.settling import Check, has_settled, is_due
from ssn_core.tap_store import TapStore

_STATISTICS_IMAGES = 64  # enough: each brings hundreds of cells
_LEAST_STD = 1e-3
MILESTONES = (0.8, 0.9)  # shares of the training after which every learning rate is multiplied by
DECAY = 0.4


@dataclass(frozen=True)
class EpochReport:
    """What one epoch did."""

    epoch: int  # 1-based
    epochs: int
    loss: float  # mean loss of the epoch's batches
    seconds: float  # since training began


@dataclass(frozen=True)
class Watch:
    """Looks at images that a training does not learn from, so that it ends when it has settled on them.

    Args:
        images: (key, bad) each.
        measure: AP-det and balanced cross-entropy of the network on these images. It may leave the network in eval
            mode, and must draw no random number.
    """

    images: tuple[tuple[str, bool], ...]
    measure: Callable[[CamNet], tuple[float, float]]


class Trainer:
    """One training run: network, optimiser, schedule, sampler and random state; resumable between epochs.

    Args:
        recipe: all settings.
        examples: training images; their taps must be in `taps`. Bad ones are left out where the recipe learns from good
            images alone.
        taps: the cache they are read from.
        device: where to train.
        watch: ends the run early; None: it takes its whole length.

    Raises:
        ValueError: a class is missing, or a mask was given to a recipe that takes none (see
            :func:`ssn_core.dataset.check_labels`); or the cache lacks a tap.
        ImageError: a mask that is to be learned from cannot be read.
    """

    def __init__(
        self,
        recipe: Recipe,
        examples: Sequence[Example],
        taps: TapCache,
        device: torch.device,
        watch: Watch | None = None,
    ) -> None:
        good_only = recipe.learns_from == "good"
        examples = [example for example in examples if not (good_only and example.bad)]
        if {example.bad for example in examples} != ({False} if good_only else {False, True}):
            raise ValueError("Training needs good and bad examples; callers check the numbers first")
        if not recipe.reads_marks and any(example.marks for example in examples):
            raise ValueError(f"{recipe.name} takes no masks")
        if recipe.scales > 1:
            raise ValueError("A trainer trains the network of one size (Recipe.at_sizes)")
        if recipe.has_local_head and not taps.backbone.local:
            raise ValueError(f"{recipe.name} needs the taps of layer1 too")
        self.recipe, self.examples, self.device, self.watch = recipe, examples, device, watch
        self.cache = taps
        folds = can_fold(recipe)
        self.half = bfloat16_pays(device, folded=folds)
        self.taps = TapStore(taps, [example.key for example in examples], device, beside=room_of(recipe))
        with seeded(recipe.seed):
            self.net = CamNet(recipe).to(memory_format=torch.channels_last).to(device)
            learned = recipe.adds_noise and recipe.noise == "learned"
            self.learned = LearnedNoise(recipe, sum(TAP_CHANNELS[recipe.backbone]), device) if learned else None
        if recipe.standardise:
            self.net.start_standardised(*self._channel_statistics())
        self.folded: FoldedTraining | None = None
        if folds:
            wide = taps.backbone.tap_shapes(recipe.image_size)
            self.folded = FoldedTraining(self.net, (wide[0], wide[1]), device)
        self.marks = self._read_marks()
        self.generator = torch.Generator(device).manual_seed(recipe.seed)
        self.sampler = Sampler(examples, balanced=not good_only, flip_good=recipe.flip_good, seed=recipe.seed)
        self.epochs = planned_epochs(recipe, n_good=len(self.sampler.good), n_bad=len(self.sampler.bad))
        self.epoch = 0
        self.checks: list[Check] = []  # on the images that are watched
        self.optimiser = torch.optim.AdamW(
            [
                {"params": self.net.adaptor.parameters(), "lr": recipe.adaptor_lr},
                {
                    "params": self.net.head.parameters(),
                    "lr": recipe.head_lr,
                    "weight_decay": recipe.head_weight_decay,
                },
            ],
            fused=True,  # one pass over the weights instead of eight, on a CPU as on a GPU
        )
        steps = self.epochs * math.ceil(len(self.sampler) / recipe.batch_size)
        self.schedule = torch.optim.lr_scheduler.MultiStepLR(
            self.optimiser, milestones=[round(share * steps) for share in MILESTONES], gamma=DECAY
        )

    def run(
        self,
        *,
        on_epoch: Callable[[EpochReport], None] | None = None,
        on_step: Callable[[int, int], None] | None = None,
    ) -> CamNet:
        """Train to the end, or until what is watched has settled, and return the network in eval mode.

        Args:
            on_epoch: called after each epoch.
            on_step: called after each optimiser step, and for each batch that the local head learns from, with
                (samples seen, samples in all). Either callback may raise to stop; the trainer is then at the end of
                its last whole epoch only if :meth:`save` was called there.
        """
        began = time.monotonic()
        self.net.train()
        local = local_images(self.recipe, n_good=len(self.sampler.good), n_bad=len(self.sampler.bad))
        seen, total = self.epoch * len(self.sampler), self.epochs * len(self.sampler) + local
        while self.epoch < self.epochs and not has_settled(self.checks):
            losses = []
            samples = self.sampler.epoch()
            for batch, taps in self._batches(samples):
                losses.append(self._step(batch, taps))
                seen += len(batch)
                if on_step:
                    on_step(seen, total)
            self.epoch += 1
            if self.watch is not None and is_due(self.epoch, self.epochs):
                self.checks.append(Check(self.epoch, *self.watch.measure(self.net)))
                self.net.train()
            if on_epoch:
                loss = float(torch.stack(losses).mean())
                on_epoch(EpochReport(self.epoch, self.epochs, loss, time.monotonic() - began))
        self.net.eval()
        if self.net.local is not None:
            give_back()  # what the steps took, before the cells of many images are gathered
            self._train_local(self.net.local, lambda done: on_step(seen + done, total) if on_step else None)
        return self.net

    @torch.no_grad()
    def _train_local(self, local: LocalHead, on_batch: Callable[[int], object]) -> None:
        """The second part: the local head learns from where the network, now at its end, points.

        Args:
            on_batch: called with the number of images that it has looked at.
        """
        rng = np.random.default_rng(self.recipe.seed)
        bad, good = (
            rng.permutation([i for i, example in enumerate(self.examples) if example.bad is wanted])[:LOCAL_IMAGES]
            for wanted in (True, False)
        )

        training = LocalTraining(local, boundary=self.net.boundary, seed=self.recipe.seed)
        # Good ones first: they say from where on a CAM points at something.
        chosen = [self.examples[index] for index in (*good.tolist(), *bad.tolist())]
        size = self.recipe.batch_size
        for batch in (chosen[start : start + size] for start in range(0, len(chosen), size)):
            *wide, tap1 = (tap.to(self.device) for tap in self.cache.read([example.key for example in batch]))
            for example, cam, fine in zip(batch, self._judged(wide).cam, tap1, strict=True):
                training.add(Pointed(cam, fine, example.bad))
            on_batch(training.taken)
        training.fit()
        # The fine map's logits stand for themselves: 0 is where context and place are as likely bad as not.
        if isinstance(self.net.head, CamHead):
            self.net.head.bias.zero_()

    def _judged(self, taps: Sequence[Tensor]) -> Output:
        """Score and CAM without synthetic anomalies: layer2 and layer3, on the device."""
        if self.folded is not None:
            return self.folded(*taps)
        return self.net.judge(self.net.features(*taps))

    def _batches(self, samples: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], list[Tensor]]]:
        """An epoch's batches with their taps, the next one being read while the caller computes with this one."""
        size = self.recipe.batch_size
        batches = [samples[start : start + size] for start in range(0, len(samples), size)]
        with ThreadPoolExecutor(max_workers=1) as reader:
            coming = reader.submit(self._oriented, batches[0])
            for batch, following in zip(batches, [*batches[1:], None], strict=True):
                taps = coming.result()
                if following is not None:
                    coming = reader.submit(self._oriented, following)
                yield batch, taps

    def _step(self, samples: NDArray[np.int64], read: Sequence[Tensor]) -> Tensor:
        truth = self._truth(samples)
        taps = [tap.to(self.device, memory_format=torch.channels_last, non_blocking=True) for tap in read]
        # Weights, scores and losses stay float32 everywhere.
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.half):
            if self.recipe.adds_noise:
                features, truth = self._with_anomalies(self.net.features(*taps), truth)
                output = self.net.judge(features)
            else:
                output = self._judged(taps)
        loss = total_loss(self.recipe, output, truth)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.recipe.clip_norm > 0:
            torch.nn.utils.clip_grad_norm_(self.net.parameters(), self.recipe.clip_norm)
        self.optimiser.step()
        self.schedule.step()
        return loss.detach()

    def _with_anomalies(self, features: Features, truth: Truth) -> tuple[Features, Truth]:
        """The batch and its copy, perturbed here and there; where the noise is learned, its generator may step too."""
        recipe, adapted = self.recipe, features.adapted.detach()
        places = draw_places(recipe, truth, (adapted.shape[-2], adapted.shape[-1]), self.generator)
        truth = marked_bad(truth.twice(), places)
        if recipe.noise_on == "both":
            adapted = torch.cat((adapted, adapted))
        if self.learned is None:
            noise = gaussian(adapted, std=recipe.noise_std, generator=self.generator)
            return with_noise(recipe, features, noise, places), truth
        z = self.learned.draw_z(adapted, self.generator)
        if self.learned.is_due():
            still = Features(features.adapted.detach(), features.plain)

            def loss_of(noise: Tensor) -> Tensor:
                return total_loss(recipe, self.net.judge(with_noise(recipe, still, noise, places)), truth)

            with statistics_held(self.net):
                self.learned.step(adapted, z, loss_of)
        return with_noise(recipe, features, self.learned.noise(adapted, z), places), truth

    def _truth(self, samples: NDArray[np.int64]) -> Truth:
        """Labels of some samples; for a recipe with a loss on the map, also what is known about their cells."""
        chosen = [self.examples[i] for i in samples[:, 0]]
        bad = torch.tensor([example.bad for example in chosen], dtype=torch.float32, device=self.device)
        if self.recipe.losses == ("score-focal",):
            return Truth(bad, None)
        shape = (len(samples), 1, *self._grid())
        cells, weight = np.zeros(shape, dtype=bool), np.ones(shape, dtype=np.float32)
        known = np.array([not self.examples[i].bad or i in self.marks for i in samples[:, 0].tolist()])
        for row, (index, orientation) in enumerate(samples.tolist()):
            if index in self.marks:
                cells[row, 0] = np.flip(self.marks[index].bad, FLIPS[orientation])
                weight[row, 0] = np.flip(self.marks[index].weight, FLIPS[orientation])
        return Truth(bad, Cells(*(torch.from_numpy(x).to(self.device) for x in (cells, weight, known))))

    def _read_marks(self) -> dict[int, Marks]:
        """The targets of the bad examples that are marked, by the example's index."""
        found = {
            index: read_marks(example.marks, self.recipe, self._grid())
            for index, example in enumerate(self.examples)
            if example.bad and example.marks is not None
        }
        return {index: marks for index, marks in found.items() if marks is not None}

    def _grid(self) -> tuple[int, int]:
        """(h, w) cells of the features."""
        (height, width), _ = tap_sizes(self.recipe.image_size)
        return height * self.recipe.feature_scale, width * self.recipe.feature_scale

    @torch.no_grad()
    def _channel_statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each channel of the combined taps, (C,), over some training images."""
        rng = np.random.default_rng(self.recipe.seed)
        chosen = rng.permutation(len(self.examples))[:_STATISTICS_IMAGES]
        means, squares = [], []
        for index in chosen:
            taps = self.taps.read([int(index)])
            # Averages of neighbouring cells are three times as fast where channels lie side by side.
            moved = (tap.to(self.device, memory_format=torch.channels_last) for tap in taps)
            features = self.net.combine(*moved)
            means.append(features.mean((0, 2, 3)))
            squares.append(features.square().mean((0, 2, 3)))
        mean = torch.stack(means).mean(0)
        variance = torch.stack(squares).mean(0) - mean.square()
        # A channel that is nearly constant carries nothing; dividing by its noise would only amplify that.
        return mean, variance.clamp_min(0).sqrt().clamp_min(_LEAST_STD)

    def _oriented(self, samples: NDArray[np.int64]) -> list[Tensor]:
        """Taps of some samples, each flipped as its orientation says."""
        taps = self.taps.read(samples[:, 0].tolist())
        for orientation, axes in enumerate(FLIPS):
            rows = np.flatnonzero(samples[:, 1] == orientation)
            if axes and len(rows):
                for tap in taps:
                    tap[rows] = tap[rows].flip(axes)
        return taps

    def _identity(self) -> dict[str, Any]:
        """What a saved state must share with this run; a GPU's random state means nothing to a CPU."""
        return {
            "examples": _digest(
                (example.key, example.bad, "" if example.marks is None else example.marks.name)
                for example in self.examples
            ),
            "watched": _digest(() if self.watch is None else self.watch.images),
            "settings": self.recipe.settings(),
            "device": self.device.type,
        }

    def save(self, path: Path) -> None:
        """Write the state between two epochs, atomically."""
        partial = path.with_name(path.name + ".tmp")
        sampler = self.sampler.state()
        state: dict[str, Any] = {
            "run": self._identity(),
            "half": self.half,
            "epoch": self.epoch,
            "checks": [list(check) for check in self.checks],
            "net": self.net.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "generator": self.generator.get_state(),
            "learned": self.learned.state() if self.learned is not None else None,
            "sampler": {**sampler, "uses": torch.from_numpy(sampler["uses"])},
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
        if not isinstance(state, dict) or _digested(state.get("run")) != self._identity():
            return False
        self.half = state["half"]  # a busier hour must not change how the rest is computed
        self.epoch, self.checks = state["epoch"], [Check(*check) for check in state["checks"]]
        self.net.load_state_dict(state["net"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        self.generator.set_state(state["generator"].cpu())
        if self.learned is not None:
            self.learned.restore(state["learned"])
        self.sampler.restore({**state["sampler"], "uses": state["sampler"]["uses"].cpu().numpy()})
        return True


def room_of(recipe: Recipe) -> int:
    """Bytes that a training takes, about: of each cell of a batch eight times what the network knows of it."""
    (height, width), _ = tap_sizes(recipe.image_size)
    cells = height * width * recipe.feature_scale**2 * recipe.batch_size * (2 if recipe.adds_noise else 1)
    return 8 * 4 * cells * (sum(TAP_CHANNELS[recipe.backbone]) + recipe.head_width)


def _digest(images: Iterable[Sequence[object]]) -> str:
    """SHA-256 of what is known about images: kept after every epoch, a list of 100,000 would take 30 MB each time."""
    found = hashlib.sha256()
    for image in images:
        found.update(json.dumps(image, default=str).encode() + b"\n")
    return found.hexdigest()


def _digested(run: object) -> object:
    """What a state was kept of, where an older version may have kept the lists of images themselves."""
    if not isinstance(run, dict):
        return run
    return {name: _digest(value) if isinstance(value, list) else value for name, value in run.items()}
