"""The descriptors of a project's images (ssn_core.descriptors) and their outlier scores, on the disk.

A folder for each project and set-up (backbone, its weights, size), with numbered files of some hundred rows each,
written whole and never changed: describing that was cut off goes on where it stopped, and new images make new
files. Beside them lies what is usual in the project, which the scores were made with; without it they say nothing, and
all of it is made anew. It is a cache: a file that is damaged is left out and its images are described again.
"""

from __future__ import annotations

import io
import logging
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssn_core.outliers import Usual
from storage import files
from storage.db import Database

_log = logging.getLogger(__name__)
ROWS = 256  # in one file: some seconds of describing, which are lost when it is cut off
Described = tuple[str, NDArray[np.float16], float]  # SHA-256 of the image, its descriptor, its outlier score
_USUAL = "usual.npz"
_COLUMNS = ("sha256", "values", "outlier")


class Table(NamedTuple):
    """N images, in no particular order."""

    names: list[str]  # SHA-256
    values: NDArray[np.float16]  # (N, D), of the descriptors; (0, 0) where there is none
    outliers: NDArray[np.float32]  # (N,), scores


def folder(db: Database, *, project_id: int, setup: str) -> Path:
    """Where a project's descriptors of one set-up are.

    Args:
        setup: the name of backbone, weights and size; letters, digits and "-".
    """
    if not setup.replace("-", "").replace("_", "").isalnum():
        raise ValueError(f"not a name of a set-up: {setup!r}")
    return db.data_dir / "cache" / "descriptors" / str(project_id) / setup


def add(where: Path, described: Sequence[Described]) -> None:
    """Keep some descriptors as one more file; at least one."""
    number = max((int(path.stem) for path in where.glob("*.npy")), default=0) + 1
    length = len(described[0][1])
    table = np.zeros(len(described), dtype=[("sha256", "u1", (32,)), ("values", "<f2", (length,)), ("outlier", "<f4")])
    names = "".join(sha256 for sha256, _, _ in described)
    table["sha256"] = np.frombuffer(bytes.fromhex(names), dtype=np.uint8).reshape(-1, 32)
    table["values"] = np.stack([values for _, values, _ in described])
    table["outlier"] = [outlier for _, _, outlier in described]
    target = io.BytesIO()
    np.save(target, table, allow_pickle=False)
    files.write_atomically(where / f"{number:08d}.npy", target.getvalue(), durable=False)


def read(where: Path) -> Table:
    """All that a folder holds."""
    tables = [table for path in sorted(where.glob("*.npy")) if (table := _read(path)) is not None]
    lengths = {table["values"].shape[1] for table in tables}
    if len(lengths) != 1:
        return Table([], np.zeros((0, 0), np.float16), np.zeros(0, np.float32))
    names = b"".join(table["sha256"].tobytes() for table in tables).hex()
    values: NDArray[np.float16] = np.concatenate([table["values"] for table in tables])
    outliers: NDArray[np.float32] = np.concatenate([table["outlier"] for table in tables])
    return Table([names[64 * row : 64 * row + 64] for row in range(len(values))], values, outliers)


def keep_usual(where: Path, usual: Sequence[Usual]) -> None:
    """Keep what is usual in a project to each backbone, before anything is described with it."""
    target = io.BytesIO()
    named = {f"{name}{n}": getattr(one, name) for n, one in enumerate(usual) for name in ("mean", "whitening")}
    np.savez(target, **named)
    files.write_atomically(where / _USUAL, target.getvalue(), durable=False)


def read_usual(where: Path) -> tuple[Usual, ...] | None:
    """What :func:`keep_usual` kept. Where it is missing or damaged: None, and what was described with it is removed."""
    path = where / _USUAL
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as kept:
            backbones = sum(name.startswith("mean") for name in kept.files)
            found = tuple(Usual(kept[f"mean{n}"], kept[f"whitening{n}"]) for n in range(backbones))
        if not found:
            raise ValueError("nothing is in it")
        for one in found:
            if one.mean.ndim != 1 or one.whitening.ndim != 2 or len(one.mean) != len(one.whitening):
                raise ValueError("not a mean and a matrix of the same length")
    except (ValueError, TypeError, KeyError, EOFError, OSError, zipfile.BadZipFile) as error:
        if where.exists():
            _log.warning("%s is missing or damaged; the project's images are described anew: %s", path, error)
            shutil.rmtree(where, ignore_errors=True)
        return None
    return found


def forget_others(where: Path) -> None:
    """Remove a project's descriptors of other set-ups than this: other weights are there now, or another size."""
    for other in where.parent.glob("*"):
        if other != where and other.is_dir():
            shutil.rmtree(other, ignore_errors=True)


def _read(path: Path) -> NDArray[Any] | None:
    try:
        table: NDArray[Any] = np.load(io.BytesIO(path.read_bytes()), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        _log.warning("Descriptors in %s are damaged and are made anew: %s", path, error)
        path.unlink(missing_ok=True)
        return None
    if not isinstance(table, np.ndarray) or table.ndim != 1 or table.dtype.names != _COLUMNS:
        _log.warning("The file %s does not hold descriptors and is left out", path)
        return None
    return table
