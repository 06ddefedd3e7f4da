"""Pretrain the bundled backbone: `python -m ssn_core.pretrain --out resnet18.safetensors`."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import torch
from rich.console import Console

from ssn_core.errors import SsnError
from ssn_core.inference import best_device, device_title
from ssn_core.pretrain.training import Settings, pretrain, read_weights, write_weights

_messages = Console(stderr=True, highlight=False, markup=False)


def main(arguments: list[str] | None = None) -> int:
    """Run the pretraining; returns the exit status."""
    defaults = Settings()
    parser = argparse.ArgumentParser(prog="python -m ssn_core.pretrain", description=__doc__, allow_abbrev=False)
    parser.add_argument("--out", type=Path, required=True, help="weights to write (float16 safetensors)")
    parser.add_argument("--state", type=Path, help="keep the run's state here, and go on from it")
    parser.add_argument(
        "--cool-down", type=int, default=0, help="end the run of --state in so many steps, whatever --steps says"
    )
    parser.add_argument("--start", type=Path, help="begin with the weights that an earlier run has written")
    parser.add_argument("--steps", type=int, default=defaults.steps)
    parser.add_argument("--batch-size", type=int, default=defaults.batch_size)
    parser.add_argument("--classes", type=int, default=defaults.n_classes)
    parser.add_argument("--peak-lr", type=float, default=defaults.peak_lr, help="highest learning rate")
    parser.add_argument("--seed", type=int, default=defaults.seed)
    options = parser.parse_args(arguments)
    device = best_device()
    try:
        weights, history, digest = read_weights(options.start) if options.start else (None, None, "")
        settings = Settings(
            steps=options.steps,
            batch_size=options.batch_size,
            n_classes=options.classes,
            peak_lr=options.peak_lr,
            seed=options.seed,
            start=digest,
        )
        state, log = pretrain(
            settings,
            device=device,
            start=weights,
            state_file=options.state,
            cool_down=options.cool_down,
            on_step=lambda _, means: _messages.print(" ".join(f"{k}={v:g}" for k, v in means.items())),
        )
    except SsnError as error:
        _messages.print(f"Error: {error}", style="bold red", soft_wrap=True)
        return 1
    description = {
        "settings": asdict(settings),
        "steps_done": log[-1]["step"],
        "cool_down": options.cool_down,
        "device": device_title(device),
        "torch": torch.__version__,
        "date": datetime.now(UTC).date().isoformat(),
        "seconds": log[-1]["seconds"],
        "log": log[: -1 : max(1, len(log) // 40)] + log[-1:],
        "before": history,
    }
    write_weights(state, options.out, description=description)
    _messages.print(f"Weights written to {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
