"""How far several trainings are, one after the other or side by side, as one bar that never goes back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import torch

from ssn_core.inference import device_title
from ssn_core.model import CamNet
from ssn_core.reporting import Reporter
from ssn_core.training import EpochReport, Trainer


@dataclass
class _Running:
    """How far one training is."""

    epochs: int
    planned: int
    seen: int = 0  # samples
    epoch: int = 0
    loss: float | None = None


class Course:
    """Trainings that are counted together, in samples: what is done only grows, and the total only shrinks.

    Args:
        reporter: told of every step and epoch by the thread that trains, by one at a time.
        total: samples of all trainings, as planned.
        device: where they run.
    """

    def __init__(self, reporter: Reporter, total: int, device: torch.device) -> None:
        self._reporter, self._title = reporter, device_title(device)
        self._ended, self.total = 0, total
        self._running: dict[str, _Running] = {}
        self._lock = Lock()

    @property
    def done(self) -> int:
        """Samples of all trainings so far."""
        return self._ended + sum(running.seen for running in self._running.values())

    def drop(self, samples: int) -> None:
        """Some of what was planned will not be needed."""
        with self._lock:
            self.total -= samples

    def run(self, trainer: Trainer, *, name: str, state_file: Path | None = None, planned: int = 0) -> CamNet:
        """Run one training to its end and return the network in eval mode.

        Args:
            name: of the network, for progress and the loss curve; no two that run side by side share it.
            state_file: where the state is kept between epochs; a run that was interrupted goes on from there.
            planned: epochs that this training was to take before it was made shorter; 0 = it was not.
        """
        if state_file is not None and state_file.exists():
            trainer.restore(state_file)
        running = _Running(trainer.epochs, planned, seen=trainer.epoch * len(trainer.sampler))

        def on_step(seen: int, _total: int) -> None:
            with self._lock:
                running.seen = seen
                self._reporter.progress("Training", self.done, self.total, device=self._title, **self._step())

        def on_epoch(report: EpochReport) -> None:
            with self._lock:
                running.epoch, running.loss = report.epoch, report.loss
                self._reporter.point(name, report.epoch, report.loss)
            if state_file is not None:
                trainer.save(state_file)

        with self._lock:
            self._running[name] = running
        net = trainer.run(on_epoch=on_epoch, on_step=on_step)
        with self._lock:
            self._ended += self._running.pop(name).seen
        return net

    def _step(self) -> dict[str, str | float]:
        """What is in training: name, epoch and loss; of several, the epoch that all have done and the mean loss."""
        running = list(self._running.values())
        (name, first), *others = self._running.items()
        found: dict[str, str | float] = {
            "network": f"{len(running)} networks at a time" if others else name,
            "epochs": max(one.epochs for one in running),
            "planned": 0 if others else first.planned,
        }
        losses = [one.loss for one in running if one.loss is not None]
        if losses:
            found.update(epoch=min(one.epoch for one in running), loss=sum(losses) / len(losses))
        return found
