from __future__ import annotations

import pytest

from pages.components import charts


def test_each_series_of_the_loss_becomes_one_line_whichever_comes_first() -> None:
    points = [("fold 2 of 2", 1, 0.6), ("fold 1 of 2", 1, 0.5), ("fold 1 of 2", 2, 0.4), ("fold 1 of 2", 3, 0.3)]
    figure = charts.loss_curves(points)
    assert [(trace.name, list(trace.x), list(trace.y)) for trace in figure.data] == [
        ("fold 1 of 2", [1, 2, 3], [0.5, 0.4, 0.3]),
        ("fold 2 of 2", [1], [0.6]),
    ]
    assert figure.layout.showlegend


def test_a_line_keeps_its_colour_as_others_come() -> None:
    names = ["Fold 2 of 3", "Model", "Fold 1 of 3", "Fold 3 of 3"]
    seen = []
    for count in range(1, 5):
        figure = charts.loss_curves([(name, 1, 0.5) for name in names[:count]])
        seen.append({trace.name: trace.line.color for trace in figure.data})
    assert len(set(seen[-1].values())) == 4
    assert all(colours.items() <= seen[-1].items() for colours in seen)


def test_the_sizes_of_one_network_have_its_colour_and_dashes_of_their_own() -> None:
    names = [f"{name}, size {size} of 3" for name in ("Fold 1 of 3", "Model") for size in (1, 2, 3)]
    traces = {trace.name: trace for trace in charts.loss_curves([(name, 1, 0.5) for name in names]).data}
    alone = {trace.name: trace for trace in charts.loss_curves([("Fold 1 of 3", 1, 0.5), ("Model", 1, 0.5)]).data}
    for name in names:
        assert traces[name].line.color == alone[name.partition(",")[0]].line.color
        assert traces[name].showlegend is ("size 1" in name)
    assert {traces[name].line.dash for name in names} == {"solid", "dash", "dashdot"}
    assert alone["Model"].line.dash == "solid"


def test_a_long_curve_is_thinned_and_keeps_its_ends() -> None:
    curve = charts.loss_curves([("model", step, 1.0) for step in range(1, 100_001)]).data[0]
    assert len(curve.x) <= charts.MAX_POINTS
    assert (curve.x[0], curve.x[-1]) == (1, 100_000)


@pytest.mark.parametrize(("last", "step"), [(1, 1), (10, 1), (60, 10), (300, 50), (10_000, None)])
def test_epochs_are_ticked_in_whole_steps(last: int, step: int | None) -> None:
    assert charts.loss_curves([("model", 1, 1.0), ("model", last, 0.1)]).layout.xaxis.dtick == step
