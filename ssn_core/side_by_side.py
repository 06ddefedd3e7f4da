"""Several trainings at a time on one CPU, each with some of its threads.

One training's products are small: two trainings with a thread each are done sooner than one after the other with two
threads (benchmarks/README.md says by how much). Threads of this process are enough, for nearly all time is spent
outside the interpreter. A GPU runs one thing after the other all the same, and its memory is better left to one.

Only the calling thread ever speaks to the reporter: a job's database is not for several threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from queue import SimpleQueue
from threading import Event
from typing import NamedTuple, TypeVar

import psutil
import torch
from torch import Tensor

from ssn_core.reporting import Reporter

T = TypeVar("T")
_AT_ONCE = 4  # each holds batches and gradients of its own


class _Stopped(Exception):  # noqa: N818  # a request that is obeyed, not an error
    """Ends a task because another one, or the reporter, has failed."""


@contextmanager
def threads_shared(among: int) -> Iterator[None]:
    """Meanwhile this thread, and each that begins, computes with its share of the threads there are."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, before // among))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def each(call: Callable[[Tensor], T], parts: Sequence[Tensor]) -> list[T]:
    """`call` for each of some parts of a batch on the CPU, side by side; without gradients."""

    @torch.inference_mode()  # which each thread has to be told
    def one(part: Tensor) -> T:
        return call(part)

    workers = min(torch.get_num_threads(), len(parts))
    if workers <= 1:
        return [one(part) for part in parts]
    with threads_shared(workers), ThreadPoolExecutor(workers, thread_name_prefix="side-by-side") as pool:
        return list(pool.map(one, parts))


def how_many(tasks: int, device: torch.device, room: int) -> int:
    """How many of some tasks to run at a time: on a CPU one a thread, as far as half of the free memory holds them.

    Args:
        room: bytes that a task takes, about.
    """
    if device.type != "cpu":
        return 1
    fitting = psutil.virtual_memory().available // 2 // max(1, room)
    return max(1, min(tasks, torch.get_num_threads(), _AT_ONCE, fitting))


class _Said(NamedTuple):
    """What a task has to say."""

    call: Callable[[], None]
    kept: bool  # even when the work is stopped: a point of a curve that is not computed again


class _Run:
    """One round of tasks: what they have said, and whether they are to stop."""

    def __init__(self) -> None:
        self.said: SimpleQueue[_Said | None] = SimpleQueue()  # None: a task is done
        self.stop = Event()


class Crew:
    """Runs tasks, several at a time where that pays, and hands what they report on to one reporter.

    Args:
        reporter: called by the thread that calls :meth:`run` alone. If it raises, all tasks are stopped; points of
            curves that were reported by then still reach it.
        device: where the tasks compute.
        room: bytes that a task takes, about.
    """

    def __init__(self, reporter: Reporter, device: torch.device, *, room: int = 0) -> None:
        self._reporter, self._device, self._room = reporter, device, room
        self._run: _Run | None = None

    def progress(self, phase: str, done: int, total: int, **metrics: str | float) -> None:
        """As of :class:`ssn_core.reporting.Reporter`, from any task."""
        self._say(_Said(lambda: self._reporter.progress(phase, done, total, **metrics), kept=False))

    def point(self, series: str, step: int, value: float) -> None:
        """As of :class:`ssn_core.reporting.Reporter`, from any task."""
        self._say(_Said(lambda: self._reporter.point(series, step, value), kept=True))

    def _say(self, what: _Said) -> None:
        run = self._run
        if run is None:
            what.call()
        elif run.stop.is_set():
            raise _Stopped
        else:
            run.said.put(what)

    def run(self, tasks: Sequence[Callable[[], T]]) -> list[T]:
        """What the tasks give, in their order. They begin in that order too.

        Raises:
            Exception: what the reporter raised, or the first task that failed; by then all tasks have ended.
        """
        self._run = None
        at_once = how_many(len(tasks), self._device, self._room)
        if at_once == 1:
            return [task() for task in tasks]
        run = self._run = _Run()

        def unless_stopped(task: Callable[[], T]) -> T:
            if run.stop.is_set():
                raise _Stopped
            return task()

        with threads_shared(at_once), ThreadPoolExecutor(at_once, thread_name_prefix="side-by-side") as pool:
            try:
                futures = [pool.submit(unless_stopped, task) for task in tasks]
                for future in futures:
                    future.add_done_callback(lambda _: run.said.put(None))
                _listen(run, futures)
            finally:
                run.stop.set()
        # Only here, when all have ended: a thread that is left over after a second interrupt must find its own run.
        self._run = None
        return [future.result() for future in futures]


def _listen(run: _Run, futures: Sequence[Future[T]]) -> None:
    """Hand on what is said until all tasks are done, or one has failed."""
    left = len(futures)
    try:
        while left:
            said = run.said.get()
            if said is not None:
                said.call()
                continue
            left -= 1
            for future in futures:
                if future.done() and (error := future.exception()) is not None:
                    raise error
    except BaseException:
        run.stop.set()
        wait(futures)
        while not run.said.empty():
            said = run.said.get()
            if said is not None and said.kept:
                said.call()
        raise
