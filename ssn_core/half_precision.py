"""Whether training in bfloat16 pays on this machine.

That a CPU multiplies bfloat16 itself says nothing of its speed: on some, twice as many products fit into an
instruction; others take twice as long for one. So the work that training spends its time on is measured, once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch
from torch.nn import functional as F

from ssn_core.engine import cpu_has_bfloat16
from ssn_core.timing import take_turns

# What the folded step does at layer2's size for two images of 256 x 256 pixels: (B, C, h, w), and width x 5 x 5.
_CELLS, _WIDTH = (2, 128, 32, 32), 128
_ROUNDS = 7
# Less would be noise; a choice that flips from day to day would make two runs with one seed differ.
_LEAST_GAIN = 1.2


@lru_cache
def bfloat16_pays(device: torch.device) -> bool:
    """Whether a training step is at least a fifth faster in bfloat16; on a CPU that is measured, in about a second.

    GPUs older than Ampere only emulate bfloat16. Once for each process, so that all networks of a training are made
    alike.
    """
    if device.type != "cpu":
        return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    if not cpu_has_bfloat16():
        return False
    exact, half = (_step(enabled) for enabled in (False, True))
    timings = take_turns({"float32": exact, "bfloat16": half}, rounds=_ROUNDS)
    return timings["float32"].p50_ms >= _LEAST_GAIN * timings["bfloat16"].p50_ms


def _step(half: bool) -> Callable[[], None]:
    """Forward pass and weight gradient of the 5x5 convolution, the largest part of a step."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        cells = torch.rand(_CELLS).to(memory_format=torch.channels_last)
        kernel = torch.rand(_WIDTH, _CELLS[1], 5, 5).requires_grad_()

    def step() -> None:
        kernel.grad = None
        with torch.enable_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            out = F.conv2d(cells, kernel, padding=2)
        out.float().square().mean().backward()  # type: ignore[no-untyped-call]

    return step
