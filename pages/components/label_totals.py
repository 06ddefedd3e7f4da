"""What a project's labels add up to: figures that take the database some 100 ms with 100,000 labels.

Labels are only ever added, so a figure is as good as new until there is another one; and while people label, it is
counted anew every SECONDS at most, once for all who ask.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from pages.components import resources
from storage import audit, labels

SECONDS = 2.0  # how old a figure may be while there are newer labels
T = TypeVar("T")


@dataclass(frozen=True)
class _Counted(Generic[T]):
    value: T
    newest: int  # number of the newest event when it was counted; 0: there was none
    when: float  # time.monotonic()


class Totals(Generic[T]):
    """One such figure of every project."""

    def __init__(self, count: Callable[[int], T]) -> None:
        """`count`: what the database says of a project."""
        self._count = count
        self._lock = threading.Lock()  # who asks while somebody else counts waits for that answer
        self._counted: dict[tuple[Path, int], _Counted[T]] = {}

    def of(self, project_id: int) -> T:
        """The figure, SECONDS old at most where there are newer labels."""
        db = resources.database()
        which = (db.data_dir, project_id)
        with self._lock:
            found = self._counted.get(which)
            if found is not None and time.monotonic() - found.when < SECONDS:
                return found.value
            newest = next((event.id for event in labels.project_history(db, project_id=project_id, limit=1)), 0)
            if found is None or found.newest != newest:
                found = _Counted(self._count(project_id), newest, time.monotonic())
                self._counted[which] = found
            return found.value


labels_by_inspector = Totals(lambda project_id: labels.count_by_inspector(resources.database(), project_id=project_id))
mind_changes = Totals(lambda project_id: audit.mind_changes(resources.database(), project_id=project_id))
