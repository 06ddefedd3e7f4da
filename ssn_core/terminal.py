"""What the commands say on the terminal while they work, and how they write a file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

messages = Console(stderr=True, highlight=False, markup=False)


class BarReporter:
    """Shows progress as one bar for each phase."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def progress(self, phase: str, done: int, total: int, **metrics: str | float) -> None:
        """Move the phase's bar, and show the loss beside it."""
        if phase not in self._tasks:
            self._tasks[phase] = self._progress.add_task(phase, total=total or None, note="")
        elif self._progress.tasks[self._tasks[phase]].completed > done:  # the same phase again, for another fold
            self._progress.reset(self._tasks[phase])
        note, loss = "", metrics.get("loss")
        if loss is not None:
            note = f"{metrics['network']}, epoch {metrics['epoch']} of {metrics['epochs']}, loss {loss:.4f}"
        self._progress.update(self._tasks[phase], completed=done, total=total or None, note=note)

    def point(self, series: str, step: int, value: float) -> None:
        """Loss curves are for pages; the bar shows the newest value."""


@contextmanager
def bars() -> Iterator[BarReporter]:
    """Bars on the terminal for as long as the work takes."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=messages) as progress:
        yield BarReporter(progress)


def write(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.tmp")
    partial.write_bytes(data)
    partial.replace(path)
