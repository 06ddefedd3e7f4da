"""Plotly figures, built from numbers alone: no Streamlit, no database.

Streamlit's own plotly theme sets fonts and background, so every figure also reads well on a dark page; the colours
that carry a meaning (good, bad, threshold) are set here and are the same everywhere in the product.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from pages.components import palette

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ssn_core.metrics import Confusion

LOSS_HEIGHT = 220  # px
WHOLE_STEPS = (1, 2, 5, 10, 20, 50, 100, 200, 500)  # between ticks: epochs are whole
HEIGHT = 330  # px; two rows of figures fit under the tiles at 1366x768
MAX_POINTS = 1500  # a curve over 100,000 images is thinned to so many points before it travels to the browser
THRESHOLD_LINE = {"color": "#7c3aed", "width": 2, "dash": "dash"}  # violet: neither good nor bad
LOSS_COLOURS = ("#0072B2", "#CC79A7", "#009E73", "#E69F00", "#56B4E9", "#D55E00")  # Okabe and Ito


def roc(
    fpr: NDArray[np.float64], tpr: NDArray[np.float64], *, point: tuple[float, float] | None, area: float | None
) -> go.Figure:
    """Receiver operating characteristic with the operating point.

    Args:
        fpr: overkill rates, 0..1, ascending.
        tpr: shares of bad parts caught, 0..1.
        point: (overkill rate, share caught) at the threshold in force, or None.
        area: I-AUROC 0..1 for the title, or None.
    """
    keep = _thin(len(fpr))
    figure = go.Figure()
    figure.add_scatter(
        x=[0, 1], y=[0, 1], mode="lines", line={"color": "#999", "width": 1, "dash": "dot"}, hoverinfo="skip"
    )
    figure.add_scatter(
        x=fpr[keep],
        y=tpr[keep],
        mode="lines",
        line={"color": palette.MODEL, "width": 2.5},
        hovertemplate="Overkill %{x:.1%}<br>Caught %{y:.1%}<extra></extra>",
    )
    _operating_point(figure, point, "Overkill %{x:.1%}<br>Caught %{y:.1%}<extra>threshold</extra>")
    _layout(figure, f"ROC · area {_figure(area)}", "Overkill rate (FPR)", "Bad parts caught (TPR)")
    return _unit_axes(figure)


def precision_recall(
    precision: NDArray[np.float64],
    recall: NDArray[np.float64],
    *,
    point: tuple[float, float] | None,
    area: float | None,
    base_rate: float | None = None,
) -> go.Figure:
    """Precision over recall with the operating point.

    Args:
        precision: share of flagged parts that are bad, 0..1.
        recall: share of bad parts caught, 0..1, ascending.
        point: (recall, precision) at the threshold in force, or None.
        area: AP-det 0..1 for the title, or None.
        base_rate: share of bad parts among the images: what guessing would reach; a dotted line.
    """
    # Average precision sums (R_n - R_(n-1)) P_n: between two points the later one's precision holds, hence "vh".
    recall, precision = np.concatenate([[0.0], recall]), np.concatenate([precision[:1], precision])
    keep = _thin(len(recall))
    figure = go.Figure()
    if base_rate is not None:
        figure.add_scatter(
            x=[0, 1],
            y=[base_rate, base_rate],
            mode="lines",
            line={"color": "#999", "width": 1, "dash": "dot"},
            hovertemplate="Guessing: %{y:.1%}<extra></extra>",
        )
    figure.add_scatter(
        x=recall[keep],
        y=precision[keep],
        mode="lines",
        line={"color": palette.MODEL, "width": 2.5, "shape": "vh"},
        hovertemplate="Caught %{x:.1%}<br>Precision %{y:.1%}<extra></extra>",
    )
    _operating_point(figure, point, "Caught %{x:.1%}<br>Precision %{y:.1%}<extra>threshold</extra>")
    _layout(figure, f"Precision and recall · AP {_figure(area)}", "Bad parts caught (recall)", "Precision")
    return _unit_axes(figure)


def score_histogram(
    good: NDArray[np.float64], bad: NDArray[np.float64], *, threshold: float, bins: int = 40
) -> go.Figure:
    """Scores by class, good above bad, each with its own count axis: 50 bad parts stay visible beside 5,000 good.

    Args:
        good: scores of the images labelled good.
        bad: scores of the images labelled bad.
        threshold: in the scores' unit; at or above it an image counts as bad.
        bins: number of bars over the common range; the range does not move with the threshold.
    """
    both = np.concatenate([good, bad])
    edges = np.histogram_bin_edges(both, bins=bins) if both.size else np.linspace(0.0, 1.0, bins + 1)
    centres, width = (edges[:-1] + edges[1:]) / 2, float(edges[1] - edges[0])
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.07)
    for row, (scores, name, colour) in enumerate([(good, "Good", palette.GOOD), (bad, "Bad", palette.BAD)], start=1):
        figure.add_bar(
            x=centres,
            y=np.histogram(scores, bins=edges)[0],
            width=width * 0.94,
            marker={"color": colour, "line": {"width": 0}},
            name=f"{name} ({len(scores)})",
            hovertemplate="%{y} images at about %{x:.3g}<extra>" + name + "</extra>",
            row=row,
            col=1,
        )
        figure.add_vline(x=threshold, line=THRESHOLD_LINE, row=row, col=1)
        figure.update_yaxes(title=f"{name} images", rangemode="tozero", nticks=4, row=row, col=1)
    _layout(figure, "Scores by label", None, None)
    figure.update_xaxes(title="Score (higher: more suspicious)", row=2, col=1)
    figure.update_xaxes(range=_range_with(edges, threshold))
    return figure


def confusion_matrix(confusion: Confusion) -> go.Figure:
    """Counts of the four outcomes at the threshold, in the factory's words."""
    cells = [  # (column, row, count, of, word, colour)
        (0, 1, confusion.tn, confusion.tn + confusion.fp, "Good, passed", palette.GOOD, 0.22),
        (1, 1, confusion.fp, confusion.tn + confusion.fp, "Overkill", palette.BAD, 0.22),
        (0, 0, confusion.fn, confusion.tp + confusion.fn, "Escape", palette.BAD, 0.45),
        (1, 0, confusion.tp, confusion.tp + confusion.fn, "Bad, caught", palette.GOOD, 0.22),
    ]
    figure = go.Figure()
    for column, row, count, of, word, colour, opacity in cells:
        figure.add_shape(
            type="rect",
            x0=column - 0.48,
            x1=column + 0.48,
            y0=row - 0.47,
            y1=row + 0.47,
            fillcolor=colour,
            opacity=opacity if count else 0.08,
            line={"width": 0},
            layer="below",
        )
        figure.add_annotation(
            x=column,
            y=row,
            text=f"<b style='font-size:24px'>{count}</b><br>{word}<br>of {of}",
            font={"size": 14, "color": palette.INK},
            showarrow=False,
        )
    # An invisible trace gives the axes their range; shapes and annotations alone do not.
    figure.add_scatter(x=[0, 1], y=[0, 1], mode="markers", marker={"opacity": 0}, hoverinfo="skip")
    _layout(figure, "Verdicts at the threshold", None, None)
    figure.update_xaxes(
        tickvals=[0, 1], ticktext=["Model: good", "Model: bad"], range=[-0.5, 1.5], showgrid=False, zeroline=False
    )
    figure.update_yaxes(
        tickvals=[0, 1], ticktext=["Label: bad", "Label: good"], range=[-0.5, 1.5], showgrid=False, zeroline=False
    )
    return figure


def loss_curves(points: Iterable[tuple[str, int, float]], *, height: int = LOSS_HEIGHT) -> go.Figure:
    """Training loss by step, one line a series, in the order in which the series first appear.

    Args:
        points: (series, step, loss) as the worker wrote them.
        height: px.
    """
    series: dict[str, tuple[list[int], list[float]]] = {}
    for name, step, value in points:
        steps, values = series.setdefault(name, ([], []))
        steps.append(step)
        values.append(value)
    figure = go.Figure()
    for index, (name, (steps, values)) in enumerate(series.items()):
        keep = _thin(len(steps))
        figure.add_scatter(
            x=np.asarray(steps)[keep],
            y=np.asarray(values)[keep],
            name=name,
            mode="lines+markers" if len(steps) < 3 else "lines",
            line={"color": LOSS_COLOURS[index % len(LOSS_COLOURS)], "width": 2},
            hovertemplate="Epoch %{x}: %{y:.4g}<extra>" + name + "</extra>",
        )
    _layout(figure, "Loss", "Epoch", None)
    figure.update_layout(height=height, showlegend=len(series) > 1, legend={"orientation": "h", "y": 1.18, "x": 0.12})
    figure.update_yaxes(rangemode="tozero")
    last = max((max(steps) for steps, _ in series.values()), default=1)
    figure.update_xaxes(dtick=next((step for step in WHOLE_STEPS if last / step <= 10), None))
    return figure


def _operating_point(figure: go.Figure, point: tuple[float, float] | None, hover: str) -> None:
    if point is None:
        return
    figure.add_scatter(
        x=[point[0]],
        y=[point[1]],
        mode="markers",
        marker={"color": THRESHOLD_LINE["color"], "size": 13, "line": {"color": "white", "width": 2}},
        hovertemplate=hover,
        cliponaxis=False,
    )


def _layout(figure: go.Figure, title: str, x_title: str | None, y_title: str | None) -> None:
    figure.update_layout(
        title={"text": title, "font": {"size": 15}, "x": 0, "xanchor": "left"},
        height=HEIGHT,
        margin={"l": 10, "r": 10, "t": 44, "b": 10},
        showlegend=False,
        uirevision="keep",  # a zoom survives the next figure with other numbers
    )
    if x_title:
        figure.update_xaxes(title=x_title)
    if y_title:
        figure.update_yaxes(title=y_title)


def _unit_axes(figure: go.Figure) -> go.Figure:
    for update in (figure.update_xaxes, figure.update_yaxes):
        update(range=[-0.02, 1.02], tickformat=".0%", zeroline=False)
    return figure


def _figure(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"


def _thin(n: int) -> NDArray[np.intp] | slice:
    """Indices of at most MAX_POINTS of n points, ends included."""
    if n <= MAX_POINTS:
        return slice(None)
    return np.unique(np.linspace(0, n - 1, MAX_POINTS).round().astype(np.intp))


def _range_with(edges: Sequence[float] | NDArray[np.float64], threshold: float) -> list[float]:
    low, high = min(float(edges[0]), threshold), max(float(edges[-1]), threshold)
    pad = 0.03 * (high - low or 1.0)
    return [low - pad, high + pad]
