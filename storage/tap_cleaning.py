"""The cache of backbone features is kept small: what no image needs goes, then what was not used for longest.

Features cost about a megabyte an image and can be computed again in milliseconds, so losing them is never more than a
loss of time. Only the compute lane's worker cleans, after a training: nothing else reads the cache then.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select

from storage.db import Database
from storage.tables import ImageRow

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cleaned:
    """What a cleaning did."""

    removed: int  # files
    removed_bytes: int
    kept_bytes: int


def root(db: Database) -> Path:
    """Where the features of all backbones and image sizes are."""
    return db.data_dir / "cache" / "taps"


def clean(db: Database, *, keep_bytes: int) -> Cleaned:
    """Remove the features of images that no project has, then the least recently used, until the bound is kept.

    Args:
        keep_bytes: the cache may be so large afterwards.
    """
    with db.read() as session:
        needed = set(session.scalars(select(ImageRow.sha256).distinct()))
    kept: list[tuple[float, int, Path]] = []
    removed = removed_bytes = 0
    for path in root(db).rglob("*.npy"):
        try:
            found = path.stat()
        except FileNotFoundError:
            continue
        if path.stem in needed:
            # TapCache.fill sets the time of access itself: file systems that do not keep it are common.
            kept.append((found.st_atime, found.st_size, path))
        else:
            path.unlink(missing_ok=True)
            removed, removed_bytes = removed + 1, removed_bytes + found.st_size
    total = sum(size for _, size, _ in kept)
    for _, size, path in sorted(kept):
        if total <= keep_bytes:
            break
        path.unlink(missing_ok=True)
        removed, removed_bytes, total = removed + 1, removed_bytes + size, total - size
    if removed:
        _log.info("%d cached features removed (%.1f MB), %.1f MB kept", removed, removed_bytes / 1e6, total / 1e6)
    return Cleaned(removed, removed_bytes, total)
