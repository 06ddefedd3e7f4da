"""A model as one point of the trade-off: how long, how good, how large; numbers alone, no Streamlit, no database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ssn_core.benchmark_row import Row

ACCEPTABLE = 0.95  # I-AUROC, until somebody says another


@dataclass(frozen=True)
class Point:
    """One model; None = n/a, with the reason in `missing`."""

    number: int  # on the chart and in the table, from 1
    model_id: int
    name: str  # as typed by a person
    active: bool
    row: Row | None  # the newest measurement
    auroc: float | None  # I-AUROC on images that it had not seen
    low: float | None  # ends of its 95 % interval
    high: float | None
    n_good: int
    n_bad: int
    missing: str = ""  # why it is not on the chart

    def latency(self, time: str) -> float | None:
        """Median ms of one image: "score" (pixels to score) or "file" (decoding included)."""
        if self.row is None:
            return None
        return self.row.p50_ms if time == "score" else self.row.decoded_p50_ms

    @property
    def memory(self) -> float | None:
        """MiB: on the GPU where there is one, else what the model adds to the process."""
        if self.row is None:
            return None
        return self.row.model_memory_mib if self.row.gpu_memory_mib is None else self.row.gpu_memory_mib


def on_chart(points: Sequence[Point], time: str) -> list[Point]:
    """The points that have both a latency and an I-AUROC."""
    return [point for point in points if point.latency(time) is not None and point.auroc is not None]


def front(points: Sequence[Point], time: str) -> list[Point]:
    """The Pareto front, fastest first: no other point is at least as fast and as good, and better in one of the two."""
    best: list[Point] = []
    for point in sorted(on_chart(points, time), key=lambda one: (one.latency(time) or 0.0, -(one.auroc or 0.0))):
        if not best or (point.auroc or 0.0) > (best[-1].auroc or 0.0):
            best.append(point)
    return best


def fast_and_slow(points: Sequence[Point], time: str) -> tuple[int, int] | None:
    """The fastest acceptable model (of none, the fastest), and of the slower ones the best, by their numbers in the
    database; None: there is no such pair."""
    by_time = sorted(on_chart(points, time), key=lambda one: one.latency(time) or 0.0)
    if len(by_time) < 2:
        return None
    able = [one for one in by_time[:-1] if (one.auroc or 0.0) >= ACCEPTABLE]
    fast = able[0] if able else by_time[0]
    slow = max(by_time[by_time.index(fast) + 1 :], key=lambda one: one.auroc or 0.0)
    return fast.model_id, slow.model_id
