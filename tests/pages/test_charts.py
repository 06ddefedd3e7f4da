from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
import pytest

from pages.components import charts, palette
from ssn_core import metrics

LABELS = np.array([0, 0, 0, 0, 1, 1])
SCORES = np.array([-3.0, -2.0, -1.0, 0.5, 0.2, 4.0])


def _lines(figure: go.Figure) -> list[go.Scatter]:
    return [trace for trace in figure.data if trace.type == "scatter" and trace.mode == "lines"]


def _marker(figure: go.Figure) -> go.Scatter | None:
    return next((trace for trace in figure.data if trace.mode == "markers"), None)


def _lies_on(x: float, y: float, line: go.Scatter) -> bool:
    return any(np.isclose(px, x) and np.isclose(py, y) for px, py in zip(line.x, line.y, strict=True))


@pytest.mark.parametrize("threshold", [-2.5, 0.0, 0.2, 0.5, 4.0])
def test_the_operating_point_lies_on_the_roc_curve(threshold: float) -> None:
    roc, confusion = metrics.roc_curve(LABELS, SCORES), metrics.confusion(LABELS, SCORES, threshold)
    point = (confusion.overkill_rate, 1 - confusion.escape_rate)
    figure = charts.roc(roc.fpr, roc.tpr, point=point, area=0.875)
    marker = _marker(figure)
    assert (marker.x[0], marker.y[0]) == point
    assert _lies_on(*point, _lines(figure)[1])
    assert "0.875" in figure.layout.title.text


@pytest.mark.parametrize("threshold", [0.2, 0.5, 4.0])
def test_the_operating_point_lies_on_the_precision_recall_curve(threshold: float) -> None:
    pr, confusion = metrics.pr_curve(LABELS, SCORES), metrics.confusion(LABELS, SCORES, threshold)
    point = (1 - confusion.escape_rate, confusion.tp / (confusion.tp + confusion.fp))
    figure = charts.precision_recall(pr.precision, pr.recall, point=point, area=None, base_rate=1 / 3)
    guess, curve = _lines(figure)
    assert list(guess.y) == [1 / 3, 1 / 3]
    assert _lies_on(*point, curve)
    assert "n/a" in figure.layout.title.text


def test_the_precision_recall_steps_enclose_the_average_precision() -> None:
    pr = metrics.pr_curve(LABELS, SCORES)
    curve = _lines(charts.precision_recall(pr.precision, pr.recall, point=None, area=None))[0]
    assert curve.line.shape == "vh"  # vertical first: the later point's precision holds over the step
    x, y = np.asarray(curve.x), np.asarray(curve.y)
    assert np.sum(np.diff(x) * y[1:]) == pytest.approx(metrics.ap(LABELS, SCORES))


def test_without_an_operating_point_no_marker_is_drawn() -> None:
    pr = metrics.pr_curve(LABELS, SCORES)
    assert _marker(charts.precision_recall(pr.precision, pr.recall, point=None, area=None)) is None


def test_the_histogram_counts_every_image_once_in_its_own_class() -> None:
    figure = charts.score_histogram(SCORES[LABELS == 0], SCORES[LABELS == 1], threshold=0.1)
    good, bad = figure.data
    assert (sum(good.y), sum(bad.y)) == (4, 2)
    assert (good.marker.color, bad.marker.color) == (palette.GOOD, palette.BAD)
    assert list(good.x) == list(bad.x)


def test_both_rows_of_the_histogram_show_the_threshold() -> None:
    figure = charts.score_histogram(SCORES[:4], SCORES[4:], threshold=0.1)
    assert [shape.x0 for shape in figure.layout.shapes] == [0.1, 0.1]


def test_the_bars_stand_still_when_the_threshold_moves() -> None:
    first, second = (charts.score_histogram(SCORES[:4], SCORES[4:], threshold=t) for t in (0.0, 2.0))
    assert list(first.data[0].x) == list(second.data[0].x)
    assert first.layout.xaxis.range == second.layout.xaxis.range


def test_a_threshold_outside_the_scores_stays_in_the_picture() -> None:
    low, high = charts.score_histogram(SCORES[:4], SCORES[4:], threshold=9.0).layout.xaxis.range
    assert low < -3.0
    assert high > 9.0


@pytest.mark.parametrize("scores", [np.array([]), np.array([1.0]), np.array([2.0, 2.0])])
def test_a_histogram_of_nothing_or_of_one_value_can_be_drawn(scores: np.ndarray) -> None:
    figure = charts.score_histogram(scores, np.array([]), threshold=0.0)
    assert sum(figure.data[0].y) == len(scores)


def test_the_confusion_matrix_names_counts_in_the_factorys_words() -> None:
    figure = charts.confusion_matrix(metrics.confusion(LABELS, SCORES, 0.3))
    texts = {annotation.text for annotation in figure.layout.annotations}
    for count, word, of in ((3, "Good, passed", 4), (1, "Overkill", 4), (1, "Escape", 2), (1, "Bad, caught", 2)):
        assert any(f">{count}<" in text and word in text and f"of {of}" in text for text in texts)


def test_each_series_of_the_loss_becomes_one_line_in_order_of_appearance() -> None:
    points = [("fold 1 of 2", 1, 0.5), ("fold 1 of 2", 2, 0.4), ("fold 2 of 2", 1, 0.6), ("fold 1 of 2", 3, 0.3)]
    figure = charts.loss_curves(points)
    assert [(trace.name, list(trace.x), list(trace.y)) for trace in figure.data] == [
        ("fold 1 of 2", [1, 2, 3], [0.5, 0.4, 0.3]),
        ("fold 2 of 2", [1], [0.6]),
    ]
    assert figure.layout.showlegend


def test_a_long_curve_is_thinned_and_keeps_its_ends() -> None:
    steps = np.linspace(0, 1, 100_000)
    curve = _lines(charts.roc(steps, steps, point=None, area=0.5))[1]
    assert len(curve.x) <= charts.MAX_POINTS
    assert (curve.x[0], curve.x[-1]) == (0.0, 1.0)


@pytest.mark.parametrize(("last", "step"), [(1, 1), (10, 1), (60, 10), (300, 50), (10_000, None)])
def test_epochs_are_ticked_in_whole_steps(last: int, step: int | None) -> None:
    assert charts.loss_curves([("model", 1, 1.0), ("model", last, 0.1)]).layout.xaxis.dtick == step
