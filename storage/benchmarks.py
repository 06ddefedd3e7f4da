"""How fast a project's models are: measurements, kept as one small file a model below `benchmarks/` in the data folder.

There is no table: a measurement belongs to this machine, and can be made again at any time. The job that makes them is
in :mod:`storage.benchmark_jobs`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ssn_core.benchmark_row import Row
from ssn_core.errors import SettingError, SsnError
from storage import jobs, registry
from storage.db import Database
from storage.files import write_atomically

KIND = "benchmark"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Measured:
    """The newest measurement of a model."""

    job_id: int
    row: Row


def submit(db: Database, *, project_id: int, model_ids: Sequence[int]) -> int:
    """Queue a job that measures these models, in this order; returns its number.

    Raises:
        SettingError: none was named, or one of another project.
    """
    known = {model.id for model in registry.list_models(db, project_id=project_id, include_archived=True)}
    if not model_ids or not set(model_ids) <= known:
        raise SettingError(
            "These models cannot be measured", value=list(model_ids), expected="models of this project, at least one"
        )
    return jobs.submit(db, kind=KIND, project_id=project_id, payload={"model_ids": list(dict.fromkeys(model_ids))})


def results(db: Database, *, project_id: int) -> dict[int, Measured]:
    """The measurements of the project's models, by the model's number; a file that cannot be read counts as none."""
    found = {}
    for model in registry.list_models(db, project_id=project_id, include_archived=True):
        measured = _read(_path(db, project_id, model.id))
        if measured is not None:
            found[model.id] = measured
    return found


def keep(db: Database, *, project_id: int, model_id: int, measured: Measured) -> None:
    """Write a measurement, and remove those of models that have been deleted since."""
    content = {"job_id": measured.job_id, "row": asdict(measured.row)}
    target = _path(db, project_id, model_id)
    write_atomically(target, json.dumps(content, indent=1, allow_nan=False).encode(), durable=False)
    known = {model.id for model in registry.list_models(db, project_id=project_id, include_archived=True)}
    for path in target.parent.glob("*.json"):
        if not path.stem.isdigit() or int(path.stem) not in known:
            path.unlink(missing_ok=True)


def _path(db: Database, project_id: int, model_id: int) -> Path:
    return db.data_dir / "benchmarks" / str(project_id) / f"{model_id}.json"


def _read(path: Path) -> Measured | None:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return Measured(int(kept["job_id"]), Row.of(kept["row"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, LookupError, SsnError) as error:
        _log.warning("A measurement cannot be read, the model counts as not measured: %s: %r", path.name, error)
        return None
