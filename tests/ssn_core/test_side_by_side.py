"""Trainings at a time: the same results, one voice, and one end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
import torch

from ssn_core.reporting import Silent
from ssn_core.seeding import seeded
from ssn_core.side_by_side import Crew, each, how_many

CPU = torch.device("cpu")
PATIENCE = 30.0  # seconds


class Heard:
    """A reporter that notes what it is told, and by which thread."""

    def __init__(self, fails_after: int | None = None) -> None:
        self.said: list[tuple[str, int]] = []
        self.points: list[tuple[str, int, float]] = []
        self.threads: set[int] = set()
        self.fails_after = fails_after

    def progress(self, phase: str, done: int, total: int, **metrics: str | float) -> None:  # noqa: ARG002
        self.threads.add(threading.get_ident())
        if self.fails_after is not None and len(self.said) >= self.fails_after:
            raise KeyboardInterrupt
        self.said.append((phase, done))

    def point(self, series: str, step: int, value: float) -> None:
        self.threads.add(threading.get_ident())
        self.points.append((series, step, value))


@pytest.mark.parametrize(
    ("threads", "tasks", "at_once"), [(1, 4, 1), (2, 4, 2), (3, 4, 3), (4, 4, 4), (16, 5, 4), (2, 3, 2), (8, 1, 1)]
)
def test_a_task_for_each_thread(threads: int, tasks: int, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert how_many(tasks, CPU, room=1) == at_once
    assert how_many(tasks, torch.device("cuda"), room=1) == 1


@pytest.mark.usefixtures("two_threads")
def test_no_more_at_a_time_than_half_of_the_free_memory_holds() -> None:
    free = psutil.virtual_memory().available
    assert how_many(4, CPU, room=free // 5) == 2
    assert how_many(4, CPU, room=free // 3) == 1
    assert how_many(4, CPU, room=2 * free) == 1


@pytest.mark.usefixtures("two_threads")
def test_parts_of_a_batch_keep_their_order_and_an_error_is_told() -> None:
    threads: set[int] = set()

    def call(part: torch.Tensor) -> torch.Tensor:
        threads.add(torch.get_num_threads())
        if float(part.sum()) == 3.0:
            raise ArithmeticError("three")
        return part.requires_grad_(False) * 2

    parts = torch.split(torch.tensor([0.0, 1.0, 2.0, 4.0]), 1)
    found = each(call, parts)
    assert torch.cat(found).tolist() == [0.0, 2.0, 4.0, 8.0]
    assert all(one.is_inference() for one in found)
    assert threads == {1}
    assert each(call, []) == []
    with pytest.raises(ArithmeticError, match="three"):
        each(call, torch.split(torch.tensor([1.0, 3.0]), 1))
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_a_point_that_was_reported_is_not_lost_when_the_work_is_stopped() -> None:
    heard = Heard(fails_after=0)
    crew, reported = Crew(heard, CPU), threading.Event()

    def task(number: int) -> None:
        if number == 0:
            reported.wait(PATIENCE)
            crew.progress("work", 1, 1)  # and the reporter says stop
        else:
            crew.point("loss", 1, 0.5)
            crew.point("loss", 2, 0.25)
            reported.set()

    with pytest.raises(KeyboardInterrupt):
        crew.run([lambda: task(0), lambda: task(1)])
    assert heard.points == [("loss", 1, 0.5), ("loss", 2, 0.25)]


def test_random_starts_in_several_threads_are_those_of_one() -> None:
    def drawn(seed: int) -> list[float]:
        with seeded(seed):
            return [float(torch.rand(())) for _ in range(200)]

    alone = [drawn(seed) for seed in range(8)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(drawn, range(8))) == alone


@pytest.mark.usefixtures("two_threads")
def test_they_run_at_a_time_with_a_thread_each_and_results_keep_their_order() -> None:
    together, threads = threading.Barrier(2, timeout=PATIENCE), []

    def task(number: int) -> int:
        together.wait()  # passes only when two are there
        threads.append(torch.get_num_threads())
        return number

    tasks: list[Callable[[], int]] = [lambda n=n: task(n) for n in range(4)]  # type: ignore[misc]
    assert Crew(Silent(), CPU).run(tasks) == [0, 1, 2, 3]
    assert threads == [1, 1, 1, 1]
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_only_the_calling_thread_speaks_to_the_reporter() -> None:
    heard = Heard()
    crew = Crew(heard, CPU)

    def task(name: str) -> None:
        for step in range(5):
            crew.progress(name, step, 5)
            crew.point(name, step, 0.5)

    crew.run([lambda: task("one"), lambda: task("two")])
    crew.progress("after", 1, 1)  # as any reporter
    assert heard.threads == {threading.get_ident()}
    for name in ("one", "two"):
        assert [done for phase, done in heard.said if phase == name] == list(range(5))
        assert [step for series, step, _ in heard.points if series == name] == list(range(5))
    assert heard.said[-1] == ("after", 1)


@pytest.mark.usefixtures("two_threads")
def test_when_the_reporter_says_stop_all_stop() -> None:
    heard, begun, ended = Heard(fails_after=3), [], []
    crew = Crew(heard, CPU)

    def task(number: int) -> None:
        begun.append(number)
        for step in range(10_000_000):
            crew.progress("work", step, 0)
        ended.append(number)

    with pytest.raises(KeyboardInterrupt):
        crew.run([lambda: task(0), lambda: task(1), lambda: task(2), lambda: task(3)])
    assert len(begun) <= 2
    assert not ended
    assert torch.get_num_threads() == 2
    assert crew.run([lambda: 1, lambda: 2]) == [1, 2]  # and it can begin anew


@pytest.mark.usefixtures("two_threads")
def test_a_failure_is_told_as_it_was_and_ends_the_others() -> None:
    crew, ended = Crew(Silent(), CPU), []

    def fails() -> None:
        raise ArithmeticError("the loss is not a number")

    def works() -> None:
        for step in range(10_000_000):
            crew.progress("work", step, 0)
        ended.append(True)

    with pytest.raises(ArithmeticError, match="not a number"):
        crew.run([works, fails])
    assert not ended
