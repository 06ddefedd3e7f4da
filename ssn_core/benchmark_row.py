"""One measurement of :mod:`ssn_core.benchmark`, as CSV and JSON. Imports no torch: pages read it."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from ssn_core.errors import SsnError


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measurement; times in ms, memory in MiB, None = n/a. A ratio above 1 means faster than what it names."""

    title: str
    recipe: str
    backbone: str
    weights: str  # imagenet | bundled | random
    head: str  # trained | random
    image_size: str  # "H x W", pixels
    computation: str  # ours, in words
    p50_ms: float
    p95_ms: float
    reference_p50_ms: float
    reference_p95_ms: float
    ratio: float
    plain_p50_ms: float
    ratio_to_plain: float
    decoded_p50_ms: float  # file to score
    decoded_p95_ms: float
    reference_decoded_p50_ms: float
    reference_decoded_p95_ms: float
    decoded_ratio: float
    decoded_files: str
    images_per_s: float
    best_batch: int
    reference_images_per_s: float
    reference_best_batch: int
    throughput_ratio: float
    peak_memory_mib: float
    memory_before_model_mib: float
    reference_peak_memory_mib: float
    gpu_memory_mib: float | None
    reference_gpu_memory_mib: float | None
    parameters: int
    reference_parameters: int
    multiply_adds: int
    reference_multiply_adds: int
    error: float  # of a score, logit: ours against the plain network
    device: str
    machine: str
    threads: int
    omp_wait_policy: str
    rounds: int
    warm_up: int
    seed: int
    python: str
    torch: str
    torchvision: str
    measured_at: str  # UTC, ISO 8601

    @property
    def model_memory_mib(self) -> float:
        """What loading and running the model added to the process's memory, MiB."""
        return self.peak_memory_mib - self.memory_before_model_mib

    @classmethod
    def of(cls, values: Any) -> Row:
        """A row from plain JSON, such as `dataclasses.asdict` gave.

        Raises:
            SsnError: a column is missing, unknown or holds something else.
        """
        columns = {field.name: str(field.type) for field in fields(cls)}
        if not isinstance(values, dict) or set(values) != set(columns):
            raise SsnError("This is no row of the benchmark", action="Measure again")
        for name, kind in columns.items():
            value = values[name]
            right = isinstance(value, str) if kind == "str" else _is_number(value) or (value is None and "None" in kind)
            if not right:
                raise SsnError(f"The benchmark's column {name} holds something else", value=value, expected=kind)
        return cls(**values)


COLUMNS = tuple(field.name for field in fields(Row))


def to_csv(rows: Sequence[Row]) -> bytes:
    """The rows as CSV; "" = n/a."""
    target = io.StringIO()
    table = csv.DictWriter(target, COLUMNS)
    table.writeheader()
    for row in rows:
        table.writerow({name: _cell(value) for name, value in asdict(row).items()})
    return target.getvalue().encode("utf-8", "replace")


def _cell(value: object) -> object:
    if isinstance(value, float):
        return format(value, ".5g")
    return "" if value is None else value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
