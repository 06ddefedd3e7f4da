"""How long work reports: one small interface that the command line and the job queue both implement."""

from __future__ import annotations

from typing import Protocol


class Reporter(Protocol):
    """Receives progress. Either method may raise to stop the work; what is written by then stays valid."""

    def progress(self, phase: str, done: int, total: int, **metrics: str | float) -> None:
        """Say how far a phase is.

        Args:
            phase: for people, such as "Reading images".
            done, total: in whatever the phase counts; total 0 = not known.
            metrics: what else is worth showing: epoch, loss, device.
        """

    def point(self, series: str, step: int, value: float) -> None:
        """Add one point to a loss curve."""


class Silent:
    """A reporter for when nobody looks."""

    def progress(self, phase: str, done: int, total: int, **metrics: str | float) -> None:
        """Say nothing."""

    def point(self, series: str, step: int, value: float) -> None:
        """Draw nothing."""
