"""How long computations take, measured in turns: a busy machine then slows all of them alike, and ratios hold."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

WARM_UP = 2  # rounds that are not counted: first calls lay out weights, choose algorithms, record graphs
_LEAST_ROUNDS = 3


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one call, over the counted rounds."""

    p50_ms: float
    p95_ms: float


def take_turns(
    computations: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    warm_up: int = WARM_UP,
    seconds: float | None = None,
    tell: Callable[[], None] = lambda: None,
) -> dict[str, Timing]:
    """Median and 95th percentile of each computation, one call of each a round.

    Args:
        computations: by name; a call returns when the work is done (one on a GPU waits for it).
        rounds: that are counted, at least 1.
        seconds: no further round is begun after so long, once three are counted; None: all rounds.
        tell: called between the rounds; may raise to stop.
    """
    taken: dict[str, list[float]] = {name: [] for name in computations}
    start = time.perf_counter()
    for number in range(warm_up + rounds):
        late = seconds is not None and time.perf_counter() - start > seconds
        if late and number >= warm_up + _LEAST_ROUNDS:
            break
        tell()
        for name, compute in computations.items():
            began = time.perf_counter()
            compute()
            if number >= warm_up:
                taken[name].append((time.perf_counter() - began) * 1000)
    return {name: Timing(statistics.median(ms), percentile_95(ms)) for name, ms in taken.items()}


def percentile_95(values: list[float]) -> float:
    """The smallest of the values that at most 5 % of them exceed; of fewer than 20 that is the largest."""
    ordered = sorted(values)
    return ordered[-(-95 * len(ordered) // 100) - 1]
