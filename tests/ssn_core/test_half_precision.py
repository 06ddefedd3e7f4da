"""bfloat16 in training is a matter of measurement, not of what the CPU says it has."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import pytest
import torch

from ssn_core import half_precision
from ssn_core.timing import Timing

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Each test measures anew, and leaves nothing behind for trainings in other tests."""
    half_precision.bfloat16_pays.cache_clear()
    yield
    half_precision.bfloat16_pays.cache_clear()


def timed(monkeypatch: pytest.MonkeyPatch, *, exact: float, half: float) -> list[int]:
    """Let the measurement find these milliseconds; the list grows with each measurement."""
    measured: list[int] = []

    def turns(computations: Mapping[str, Callable[[], object]], *, rounds: int) -> dict[str, Timing]:
        measured.append(rounds)
        for compute in computations.values():
            compute()
        return {"float32": Timing(exact, exact), "bfloat16": Timing(half, half)}

    monkeypatch.setattr(half_precision, "take_turns", turns)
    monkeypatch.setattr(half_precision, "cpu_has_bfloat16", lambda: True)
    return measured


@pytest.mark.parametrize(
    ("exact", "half", "pays"), [(40.0, 20.0, True), (25.0, 41.0, False), (22.1, 20.0, True), (21.9, 20.0, False)]
)
def test_bfloat16_is_taken_where_it_is_faster_by_a_tenth(
    exact: float, half: float, pays: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed(monkeypatch, exact=exact, half=half)
    assert half_precision.bfloat16_pays(CPU, folded=True) is pays


def test_it_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = timed(monkeypatch, exact=40.0, half=20.0)
    assert half_precision.bfloat16_pays(CPU, folded=True)
    assert half_precision.bfloat16_pays(CPU, folded=True)
    assert len(measured) == 1


def test_a_cpu_without_it_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = timed(monkeypatch, exact=40.0, half=20.0)
    monkeypatch.setattr(half_precision, "cpu_has_bfloat16", lambda: False)
    assert not half_precision.bfloat16_pays(CPU, folded=True)
    assert not measured


def test_the_measurement_leaves_the_random_state_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    timed(monkeypatch, exact=40.0, half=20.0)
    before = torch.get_rng_state()
    half_precision.bfloat16_pays(CPU, folded=True)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("has_it", [True, False])
def test_a_gpu_that_only_emulates_it_trains_in_float32(has_it: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def supported(including_emulation: bool = True) -> bool:
        asked.append(including_emulation)
        return has_it

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert half_precision.bfloat16_pays(torch.device("cuda"), folded=True) is has_it
    assert asked == [False]
