"""The files of deleted models: moved aside first, removed when the database has forgotten the model.

    data folder/deleted/<number>/deleted.json    what was deleted, when and by whom: stays as a record
    data folder/deleted/<number>/model, maps     what was moved aside; gone once the deletion is complete

The record also keeps numbers from being given twice: SQLite would give the next model the number of a deleted one, and
a browser would then show the deleted one's maps from its cache.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from storage.files import write_atomically

RECORD = "deleted.json"


def move_aside(data_dir: Path, *, model_id: int, folders: Mapping[str, Path], record: Mapping[str, Any]) -> None:
    """Write the record and rename a model's folders away; those that are not there are passed over.

    Args:
        folders: name under which it is kept ("model", "maps") -> the folder, on the same disk as `data_dir`.
        record: plain JSON.

    Raises:
        OSError: a folder cannot be moved; those before it are aside already (see :func:`put_back`).
    """
    aside = _aside(data_dir, model_id)
    write_atomically(aside / RECORD, json.dumps(record, indent=1).encode())
    for name, folder in folders.items():
        if folder.is_dir():
            folder.rename(aside / name)


def put_back(data_dir: Path, *, model_id: int, folders: Mapping[str, Path]) -> None:
    """Undo :func:`move_aside`, for a model that is not deleted after all. Doing it again does no harm.

    Raises:
        OSError: a folder cannot be moved back.
    """
    aside = _aside(data_dir, model_id)
    for name, folder in folders.items():
        if (aside / name).is_dir() and not folder.exists():
            folder.parent.mkdir(parents=True, exist_ok=True)
            (aside / name).rename(folder)
    (aside / RECORD).unlink(missing_ok=True)
    aside.rmdir()


def remove(data_dir: Path, *, model_id: int) -> None:
    """Remove what was moved aside; the record stays.

    Raises:
        OSError: something cannot be removed (open in another program); it is tried again at the next start.
    """
    for entry in _aside(data_dir, model_id).iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)


def numbers(data_dir: Path) -> list[int]:
    """The models that have a record here."""
    root = data_dir / "deleted"
    if not root.is_dir():
        return []
    return sorted(int(e.name) for e in root.iterdir() if e.name.isascii() and e.name.isdigit() and e.is_dir())


def highest(data_dir: Path) -> int:
    """The highest number of a deleted model, which no other model may be given; 0 if none was ever deleted."""
    return max(numbers(data_dir), default=0)


def _aside(data_dir: Path, model_id: int) -> Path:
    return data_dir / "deleted" / str(int(model_id))
