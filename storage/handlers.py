"""Which function does which kind of job.

Named, not imported: only the worker process imports a handler, and with it whatever the handler needs (torch).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from storage.job_context import JobContext

Handler = Callable[["JobContext"], Mapping[str, Any] | None]

HANDLERS: Mapping[str, str] = {
    "import": "storage.imports:run_job",
    "demo": "storage.demo:run_job",
    "train": "storage.training_jobs:train",
    "score": "storage.training_jobs:score",
    "inspect": "storage.training_jobs:inspect",
    "benchmark": "storage.benchmark_jobs:run",
    "report": "storage.reports:run_job",
    "describe": "storage.label_jobs:describe",
    "gain": "storage.label_jobs:estimate_gain",
    "thumbnails": "storage.thumbnails:run_job",
}


def load(name: str) -> Handler:
    """The function that "module:function" names."""
    module, _, function = name.partition(":")
    return cast("Handler", getattr(import_module(module), function))
