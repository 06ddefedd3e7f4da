"""What happens once, when the first page of a server process is opened."""

from __future__ import annotations

import gc
import threading
from functools import lru_cache

from pages.components.resources import database
from pages.components.workers import look_after_jobs
from storage import lineage

_lock = threading.Lock()


def once_per_process() -> None:
    """Open the database, pick up jobs and deletions that an earlier run left behind, and settle the garbage collector.

    Raises:
        SsnError: the installation cannot start (a setting is wrong, the database cannot be opened).
    """
    with _lock:
        _start()


@lru_cache(maxsize=1)
def _start() -> None:
    lineage.settle(database())
    look_after_jobs()
    # Everything imported so far stays for the life of the process: the collector need not walk it again
    # (measured with a loaded server: 111 ms -> 0.2 ms per collection).
    gc.collect()
    gc.freeze()
