"""The cache of backbone features is kept small: what no image needs goes, then what was not used for longest.

Features cost about a megabyte an image and can be computed again in milliseconds, so losing them is never more than a
loss of time, unless a job counts on them: it fills the cache at its start and reads it for minutes. So a job that has
read the cache cleans it at its end, and only if no other one is at work (:func:`after_job`).
"""

from __future__ import annotations

import logging
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select

from storage import jobs
from storage.db import Database
from storage.settings import get_settings
from storage.tables import ImageRow

_log = logging.getLogger(__name__)
READERS = ("train", "gain")  # the kinds of jobs that read the cache; the second runs aside, beside a training
_HALF_WRITTEN_SECONDS = 3600  # a file that is being written is seconds old


@dataclass(frozen=True)
class Cleaned:
    """What a cleaning did."""

    removed: int  # files
    removed_bytes: int
    kept_bytes: int


def root(db: Database) -> Path:
    """Where the features of all backbones and image sizes are."""
    return db.data_dir / "cache" / "taps"


def after_job(db: Database, *, job_id: int) -> Cleaned | None:
    """Clean down to the bound of the settings; None where another job reads the cache, which then cleans it.

    Args:
        job_id: the job that is at its end.
    """
    if any(job.id != job_id and job.status == "running" for job in jobs.active(db, kinds=READERS)):
        _log.info("The cached features are not cleaned: another job reads them")
        return None
    return clean(db, keep_bytes=int(get_settings().tap_cache_gb * 1e9))


def clean(db: Database, *, keep_bytes: int) -> Cleaned:
    """Remove the features of images that no project has, then the least recently used, until the bound is kept.

    A file that was used since it was listed stays: a job may have begun meanwhile.

    Args:
        keep_bytes: the cache may be so large afterwards.
    """
    with db.read() as session:
        needed = set(session.scalars(select(ImageRow.sha256).distinct().execution_options(yield_per=1000)))
    kept: list[tuple[float, int, str]] = []
    removed = removed_bytes = 0
    # Not `Path.rglob`: it keeps every path that it has given, some 500 bytes each.
    for path in (Path(folder, name) for folder, _, names in os.walk(root(db)) for name in names):
        with suppress(FileNotFoundError):
            found = path.stat()
            if path.suffix == ".npy" and path.stem in needed:
                # TapCache.fill sets the time of access itself: file systems that do not keep it are common.
                kept.append((found.st_atime, found.st_size, str(path)))
                continue
            # Half-written, by a worker that was killed.
            left = path.match("*.npy.*.tmp") and found.st_mtime < time.time() - _HALF_WRITTEN_SECONDS
            if (path.suffix == ".npy" or left) and _remove(path, last_used=found.st_atime):
                removed, removed_bytes = removed + 1, removed_bytes + found.st_size
    total = sum(size for _, size, _ in kept)
    for last_used, size, file in sorted(kept):
        if total <= keep_bytes:
            break
        if _remove(Path(file), last_used=last_used):
            removed, removed_bytes, total = removed + 1, removed_bytes + size, total - size
    if removed:
        _log.info("%d cached features removed (%.1f MB), %.1f MB kept", removed, removed_bytes / 1e6, total / 1e6)
    return Cleaned(removed, removed_bytes, total)


def _remove(path: Path, *, last_used: float) -> bool:
    """Remove a file unless it has been used since; whether it is gone."""
    try:
        if path.stat().st_atime != last_used:
            return False
        path.unlink()
    except FileNotFoundError:
        return True
    except OSError as error:  # open in another process, on Windows: the next cleaning gets it
        _log.warning("Cached features cannot be removed: %s", error)
        return False
    return True
