"""How far several trainings are, one after the other, as one bar that never goes back."""

from __future__ import annotations

from pathlib import Path

import torch

from ssn_core.inference import device_title
from ssn_core.model import CamNet
from ssn_core.reporting import Reporter
from ssn_core.training import EpochReport, Trainer


class Course:
    """Trainings that are counted together, in samples: what is done only grows, and the total only shrinks.

    Args:
        reporter: told of every step and epoch.
        total: samples of all trainings, as planned.
        device: where they run.
    """

    def __init__(self, reporter: Reporter, total: int, device: torch.device) -> None:
        self._reporter, self._title = reporter, device_title(device)
        self.done, self.total = 0, total

    def drop(self, samples: int) -> None:
        """Some of what was planned will not be needed."""
        self.total -= samples

    def run(self, trainer: Trainer, *, name: str, state_file: Path | None = None, planned: int = 0) -> CamNet:
        """Run one training to its end and return the network in eval mode.

        Args:
            name: of the network, for progress and the loss curve.
            state_file: where the state is kept between epochs; a run that was interrupted goes on from there.
            planned: epochs that this training was to take before it was made shorter; 0 = it was not.
        """
        if state_file is not None and state_file.exists():
            trainer.restore(state_file)
        before = self.done
        last: dict[str, float] = {}

        def on_step(seen: int, _total: int) -> None:
            self.done = before + seen
            self._reporter.progress(
                "Training",
                self.done,
                self.total,
                network=name,
                epochs=trainer.epochs,
                planned=planned,
                device=self._title,
                **last,
            )

        def on_epoch(report: EpochReport) -> None:
            last.update(epoch=report.epoch, loss=report.loss)
            self._reporter.point(name, report.epoch, report.loss)
            if state_file is not None:
                trainer.save(state_file)

        net = trainer.run(on_epoch=on_epoch, on_step=on_step)
        self.done = before + trainer.epoch * len(trainer.sampler)
        return net
