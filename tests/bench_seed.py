"""Measurements as tests need them, without measuring anything."""

from __future__ import annotations

from typing import Any

from ssn_core.benchmark_row import Row
from storage import benchmarks, registry
from storage.benchmarks import Measured
from storage.db import Database

_VALUES: dict[str, Any] = {"float": 2.0, "int": 3, "str": "x", "float | None": None}


def bench_row(**values: Any) -> Row:
    """A row in which every figure is 2 or 3 unless it is given."""
    return Row(**{**{name: _VALUES[str(kind)] for name, kind in Row.__annotations__.items()}, **values})


def add_measurement(db: Database, model: registry.Model, *, ms: float, memory: float = 50.0, **values: Any) -> Row:
    """Keep a measurement of a model: `ms` an image, one more with decoding, four times as long the published way."""
    row = bench_row(
        **{
            "title": model.name,
            "recipe": model.recipe,
            "backbone": model.backbone,
            "p50_ms": ms,
            "p95_ms": 1.2 * ms,
            "decoded_p50_ms": ms + 1,
            "decoded_p95_ms": 1.2 * ms + 1,
            "reference_p50_ms": 4 * ms,
            "ratio": 4.0,
            "peak_memory_mib": 300 + memory,
            "memory_before_model_mib": 300.0,
            "machine": "Test CPU",
            "measured_at": "2026-11-24T10:00:00+00:00",
            **values,
        }
    )
    benchmarks.keep(db, project_id=model.project_id, model_id=model.id, measured=Measured(1, row))
    return row
