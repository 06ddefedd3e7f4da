"""The anomaly maps of scored images: one small file for each image and model, in the model's own units.

A map is kept as the network made it: on the network's own grid of cells, not resized, not blurred and, in 32 bits, not
rounded, because it is evidence: the mean of its highest cells plus the bias is the score (ssn_core/evidence.py). What
people see in colour is :func:`as_shown`, which is blurred. Maps used to be kept in 16 bits, each value rounded by up
to 0.05 %; those are read as well, and say so.
"""

from __future__ import annotations

import io
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssn_core.errors import SsnError
from ssn_core.rendering import to_display_size
from storage import files
from storage.db import Database
from storage.registry import Model

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoredMap:
    """A map as it was kept."""

    cells: NDArray[np.float32]  # (h, w), CAM units
    rounded: bool  # kept in 16 bits, as maps used to be


def save(db: Database, *, model_id: int, sha256: str, cam: NDArray[np.floating]) -> None:
    """Keep the anomaly map, float (h, w), of the image with this content, as float32.

    Raises:
        SsnError: the map holds a value that is not finite.
        ValueError: not a two-dimensional map, or not a SHA-256.
    """
    if cam.ndim != 2:
        raise ValueError(f"An anomaly map has the shape (h, w), not {cam.shape}")
    cells = cam.astype(np.float32)
    if not np.isfinite(cells).all():
        raise SsnError(
            "The anomaly map of an image holds values that are not finite",
            value=sha256[:12],
            action="Train the model again, with another seed or fewer epochs",
        )
    target = io.BytesIO()
    np.save(target, cells, allow_pickle=False)
    files.write_atomically(_path(db, model_id, sha256), target.getvalue(), durable=False)


def load(db: Database, *, model_id: int, sha256: str) -> NDArray[np.float32] | None:
    """The anomaly map, float32 (h, w), or None when there is none (or it was damaged, which goes to the log)."""
    found = read(db, model_id=model_id, sha256=sha256)
    return None if found is None else found.cells


def read(db: Database, *, model_id: int, sha256: str) -> StoredMap | None:
    """The anomaly map and how it was kept; None as in :func:`load`."""
    path = _path(db, model_id, sha256)
    try:
        found = np.load(io.BytesIO(path.read_bytes()), allow_pickle=False)
    except FileNotFoundError:
        return None
    except (ValueError, EOFError) as error:
        _log.warning("The anomaly map %s is damaged and is left out: %s", path, error)
        return None
    if not isinstance(found, np.ndarray) or found.ndim != 2 or found.dtype not in (np.float16, np.float32):
        _log.warning("The anomaly map %s is not one of ours and is left out", path)
        return None
    if not np.isfinite(found).all():  # never written by us; it would pass every comparison that follows
        _log.warning("The anomaly map %s holds values that are not finite and is left out", path)
        return None
    return StoredMap(found.astype(np.float32), rounded=found.dtype == np.float16)


def as_shown(cam: NDArray[np.floating], model: Model) -> NDArray[np.float32]:
    """The map as people see it, and as the model's colour scale was set: at the size of the network's input, blurred.

    Args:
        cam: (h, w) cells, CAM units.
        model: whose map it is; its settings hold the size (H, W) and the blur in pixels.

    Returns:
        (H, W), CAM units.
    """
    settings = model.summary["settings"]
    height, width = settings["image_size"]
    return to_display_size(cam.astype(np.float32), (height, width), sigma=settings["map_sigma"])


def folder(db: Database, *, model_id: int) -> Path:
    """Where a model's maps are, and what else is known from them."""
    return db.data_dir / "maps" / str(int(model_id))


def _path(db: Database, model_id: int, sha256: str) -> Path:
    return files.by_content(folder(db, model_id=model_id), sha256, ".npy")
