"""Whether training in bfloat16 pays on this machine.

That a CPU multiplies bfloat16 itself says nothing of its speed: on some, twice as many products fit into an
instruction; others take twice as long for one. So the work that training spends its time on is measured, once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch

from ssn_core.engine import cpu_has_bfloat16
from ssn_core.folded_training import FoldedTraining
from ssn_core.heads import Output
from ssn_core.model import CamNet
from ssn_core.recipes import DEFAULT_RECIPE, get_recipe
from ssn_core.seeding import seeded
from ssn_core.timing import take_turns

# A batch of images of 256 x 256 pixels: (B, C, h, w) of layer2 and layer3.
_TAPS = (8, 128, 32, 32), (8, 256, 16, 16)
_ROUNDS = 7
# Less would be noise; a choice that flips from day to day would make two runs with one seed differ. On the CPU that
# comes nearest (an AMD EPYC) it was 1.13 to 1.32 times as fast in four measurements.
_LEAST_GAIN = 1.1


@lru_cache
def bfloat16_pays(device: torch.device, *, folded: bool) -> bool:
    """Whether a training step is at least a tenth faster in bfloat16; on a CPU that is measured, in a second or two.

    GPUs older than Ampere only emulate bfloat16. Once for each process, so that all networks of a training are made
    alike.

    Args:
        folded: the step is that of :mod:`ssn_core.folded_training`, which in float32 has other products to compute.
    """
    if device.type != "cpu":
        return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    if not cpu_has_bfloat16():
        return False
    exact, half = (step(enabled, folded=folded) for enabled in (False, True))
    timings = take_turns({"float32": exact, "bfloat16": half}, rounds=_ROUNDS)
    return timings["float32"].p50_ms >= _LEAST_GAIN * timings["bfloat16"].p50_ms


def step(half: bool, *, folded: bool) -> Callable[[], None]:
    """Forward and backward pass of a batch through a network as the default recipe has it, without its backbone."""
    with seeded(0):
        net = CamNet(get_recipe(DEFAULT_RECIPE)).to(memory_format=torch.channels_last).train()
        taps = [torch.rand(shape).to(memory_format=torch.channels_last) for shape in _TAPS]
    shapes = [(channels, height, width) for _, channels, height, width in _TAPS]
    judge: Callable[..., Output] = lambda *found: net.judge(net.features(*found))  # noqa: E731
    if folded:
        judge = FoldedTraining(net, (shapes[0], shapes[1]), torch.device("cpu"))

    def once() -> None:
        net.zero_grad(set_to_none=True)
        with torch.enable_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            score = judge(*taps).score
        score.float().square().mean().backward()  # type: ignore[no-untyped-call]

    return once
