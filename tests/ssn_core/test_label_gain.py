"""Extrapolating learning curves: what is said, and how sure it is."""

from __future__ import annotations

import numpy as np
import pytest

from ssn_core.errors import SsnError
from ssn_core.label_gain import Measured, curves


def law(n: float, *, power: float, height: float = 0.3, floor: float = 0.0) -> float:
    """The figure of a made-up learner with `height` of error at 50 labels."""
    return 1 - (floor + (height - floor) * float((n / 50) ** -power))


def drawn(seed: int, *, power: float, noise: float = 0.01, floor: float = 0.0) -> list[Measured]:
    rng = np.random.default_rng(seed)
    figures = [(n, law(n, power=power, floor=floor) + rng.normal(0, noise)) for n in (50, 50, 100, 100, 200)]
    return [Measured(n, float(np.clip(figure, 0, 1))) for n, figure in figures]


@pytest.mark.parametrize("floor", [0.0, 0.1])
def test_the_interval_holds_what_is_really_reached_about_as_often_as_it_says(floor: float) -> None:
    inside = []
    for seed in range(60):
        power = float(np.random.default_rng([seed, 1]).uniform(0.2, 1.0))
        said = curves(drawn(seed, power=power, floor=floor)).forecast(400)
        inside.append(said.low <= law(400, power=power, floor=floor) <= said.high)
    assert 0.75 <= np.mean(inside) <= 0.97


def test_a_steep_curve_says_that_more_labels_help_and_a_flat_one_that_they_do_not() -> None:
    steep = curves(drawn(0, power=0.8))
    assert steep.chance_of(0.005, n=400) > 0.9
    assert steep.forecast(400).gain > 0.02
    flat = curves([Measured(n, 0.9) for n in (50, 50, 100, 100, 200)])
    assert flat.forecast(400).gain < 0.01
    assert flat.chance_of(0.02, n=400) < 0.3


def test_a_figure_at_its_ceiling_has_nothing_left_to_gain() -> None:
    perfect = curves([Measured(n, 1.0) for n in (50, 50, 100, 100, 200)])
    said = perfect.forecast(1000)
    assert said.figure > 0.99
    assert said.gain < 0.005
    assert perfect.chance_of(0.005, n=400) < 0.2


def test_further_away_is_less_sure_and_never_worse() -> None:
    found = curves(drawn(3, power=0.5))
    near, far = found.forecast(250), found.forecast(2000)
    assert far.figure >= near.figure
    assert far.gain_high - far.gain_low > near.gain_high - near.gain_low
    assert found.forecast(200).gain == 0.0
    for said in (near, far):
        assert 0 <= said.low <= said.figure <= said.high <= 1


def test_draws_that_contradict_each_other_widen_the_interval() -> None:
    agreeing = curves([Measured(50, 0.8), Measured(50, 0.8), Measured(100, 0.85), Measured(200, 0.88)])
    contradicting = curves([Measured(50, 0.7), Measured(50, 0.9), Measured(100, 0.85), Measured(200, 0.88)])
    a, b = (found.forecast(400) for found in (agreeing, contradicting))
    assert b.high - b.low > a.high - a.low


@pytest.mark.parametrize(
    "measured",
    [[], [Measured(50, 0.9)], [Measured(50, 0.9), Measured(50, 0.8)], [Measured(50, 0.9), Measured(100, 1.2)]],
)
def test_too_little_to_fit_is_refused(measured: list[Measured]) -> None:
    with pytest.raises(SsnError, match="learning curve"):
        curves(measured)
