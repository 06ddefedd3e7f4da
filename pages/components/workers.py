"""The web app's side of the job runner: wake workers, and keep the rows in line with the processes."""

from __future__ import annotations

from functools import lru_cache

from pages.components import resources
from storage.runner import LocalRunner, start_if_needed
from storage.settings import Settings


@lru_cache(maxsize=4)
def _runner(current: Settings) -> LocalRunner:
    return LocalRunner(current)


def look_after_jobs() -> None:
    """Mark jobs whose process is gone and start workers for queued ones. Cheap when nothing has changed.

    Called once at the app's start, after a job was queued, and every second while somebody watches a job.
    """
    current = resources.settings()
    start_if_needed(resources.database(), _runner(current), stale_seconds=current.worker_stale_seconds)
