"""The highest cell of every map of a model, in one small file beside the maps.

A hundred thousand maps are too many to open for one list, and what is wanted of each is two numbers. So they are kept
in `maps/<model>/peaks.npy`: a table, sorted by the images' hashes, 48 bytes a map. What a job adds is a further file,
`peaks-<time>.npy`, so that a scoring of a hundred thousand images writes each peak once; the next list makes them one.
It is a cache: what it lacks is read from the maps and added, and every file is written as a whole, so that two
processes at once (or a crash, or damage) cost time and never a wrong number.
"""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssn_core import evidence
from storage import files, maps
from storage.db import Database

_log = logging.getLogger(__name__)
_PARTS = "peaks-*.npy"
_FIELDS = np.dtype([("sha256", "u1", (32,)), ("peak", "<f8"), ("pooled", "<f8")])


class Peak(NamedTuple):
    """Of one map, CAM units."""

    peak: float  # the highest cell
    pooled: float  # the mean of the cells that count: the score without its bias

    @property
    def lift(self) -> float:
        """By how much the score would be higher if the highest cell alone counted, logit; 0 or more."""
        return self.peak - self.pooled


def peaks(
    db: Database,
    *,
    model_id: int,
    fraction: float,
    sha256s: Iterable[str],
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Peak]:
    """The peaks of these images' maps, by hash; one without a map (or with a damaged one) is left out.

    Args:
        fraction: q of the model.
        progress: called with (done, total) while maps that are not in the file yet are read.
    """
    wanted = list(sha256s)
    path = _path(db, model_id)
    parts = sorted(path.parent.glob(_PARTS))  # the oldest first: of an image that was scored again the newest counts
    known = _read(path)
    for part in parts:
        known.update(_read(part))
    missing = [sha256 for sha256 in wanted if sha256 not in known]
    added: dict[str, Peak] = {}
    for done, sha256 in enumerate(missing, start=1):
        cells = maps.load(db, model_id=model_id, sha256=sha256)
        if cells is not None:
            added[sha256] = of_map(cells, fraction=fraction)
        if progress is not None:
            progress(done, len(missing))
    if added or parts:
        known.update(added)
        _write(path, known)
        for part in parts:
            part.unlink(missing_ok=True)
    return {sha256: known[sha256] for sha256 in wanted if sha256 in known}


def keep(db: Database, *, model_id: int, found: Mapping[str, Peak]) -> None:
    """Add the peaks of maps that were just written; those of an earlier map of the same image are replaced."""
    if found:
        _write(maps.folder(db, model_id=model_id) / f"peaks-{time.time_ns():020}.npy", found)


def of_map(cells: NDArray[np.floating], *, fraction: float) -> Peak:
    """Both numbers of one map, (h, w) cells."""
    found = evidence.explain(cells, fraction=fraction, bias=0.0)
    return Peak(found.peak, found.pooled)


def _path(db: Database, model_id: int) -> Path:
    return maps.folder(db, model_id=model_id) / "peaks.npy"


def _read(path: Path) -> dict[str, Peak]:
    try:
        table: NDArray[Any] = np.load(io.BytesIO(path.read_bytes()), allow_pickle=False)
    except FileNotFoundError:
        return {}
    except (ValueError, EOFError) as error:
        _log.warning("The file of peaks %s is damaged and is made anew: %s", path, error)
        return {}
    if not isinstance(table, np.ndarray) or table.dtype != _FIELDS or table.ndim != 1:
        _log.warning("The file of peaks %s is not one of ours and is made anew", path)
        return {}
    names = table["sha256"].tobytes().hex()
    found = zip(table["peak"].tolist(), table["pooled"].tolist(), strict=True)
    return {names[64 * row : 64 * row + 64]: Peak(*pair) for row, pair in enumerate(found)}


def _write(path: Path, known: Mapping[str, Peak]) -> None:
    table = np.zeros(len(known), dtype=_FIELDS)
    names = sorted(known)
    table["sha256"] = np.frombuffer(bytes.fromhex("".join(names)), dtype=np.uint8).reshape(-1, 32)
    table["peak"] = [known[name].peak for name in names]
    table["pooled"] = [known[name].pooled for name in names]
    target = io.BytesIO()
    np.save(target, table, allow_pickle=False)
    files.write_atomically(path, target.getvalue(), durable=False)
