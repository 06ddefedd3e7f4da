"""The anomaly maps of scored images: one small file for each image and model, in the model's own units."""

from __future__ import annotations

import io
import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssn_core.errors import SsnError
from ssn_core.rendering import to_display_size
from storage import files
from storage.db import Database
from storage.registry import Model

_log = logging.getLogger(__name__)
_LARGEST = float(np.finfo(np.float16).max)


def save(db: Database, *, model_id: int, sha256: str, cam: NDArray[np.floating]) -> None:
    """Keep the anomaly map, float (h, w), of the image with this content.

    Stored as float16: a relative error of 0.05 %, far below what a colour can show, at half the size.

    Raises:
        SsnError: the map holds a value that is not finite.
        ValueError: not a two-dimensional map, or not a SHA-256.
    """
    if cam.ndim != 2:
        raise ValueError(f"An anomaly map has the shape (h, w), not {cam.shape}")
    if not np.isfinite(cam).all():
        raise SsnError(
            "The anomaly map of an image holds values that are not finite",
            value=sha256[:12],
            action="Train the model again, with another seed or fewer epochs",
        )
    target = io.BytesIO()
    np.save(target, np.clip(cam, -_LARGEST, _LARGEST).astype(np.float16), allow_pickle=False)
    files.write_atomically(_path(db, model_id, sha256), target.getvalue(), durable=False)


def load(db: Database, *, model_id: int, sha256: str) -> NDArray[np.float32] | None:
    """The anomaly map, float32 (h, w), or None when there is none (or it was damaged, which goes to the log)."""
    path = _path(db, model_id, sha256)
    try:
        found = np.load(io.BytesIO(path.read_bytes()), allow_pickle=False)
    except FileNotFoundError:
        return None
    except (ValueError, EOFError) as error:
        _log.warning("The anomaly map %s is damaged and is left out: %s", path, error)
        return None
    if not isinstance(found, np.ndarray) or found.ndim != 2 or found.dtype != np.float16:
        _log.warning("The anomaly map %s is not one of ours and is left out", path)
        return None
    return found.astype(np.float32)


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


def _path(db: Database, model_id: int, sha256: str) -> Path:
    return files.by_content(db.data_dir / "maps" / str(int(model_id)), sha256, ".npy")
