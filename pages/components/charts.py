"""The loss curves of a training as a Plotly figure, built from numbers alone: no Streamlit, no database.

Streamlit's own plotly theme sets fonts and background, so that the figure also reads well on a dark page.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

if TYPE_CHECKING:
    from numpy.typing import NDArray

LOSS_HEIGHT = 220  # px
WHOLE_STEPS = (1, 2, 5, 10, 20, 50, 100, 200, 500)  # between ticks: epochs are whole
MAX_POINTS = 1500  # a longer curve is thinned to so many points before it travels to the browser
DASHES = ("solid", "dash", "dashdot", "longdashdot")  # of the image's sizes, its own first
LOSS_COLOURS = ("#0072B2", "#CC79A7", "#009E73", "#E69F00", "#56B4E9", "#D55E00")  # Okabe and Ito


def loss_curves(points: Iterable[tuple[str, int, float]], *, height: int = LOSS_HEIGHT) -> go.Figure:
    """Training loss by step, one line a series, by their names: which comes first may change from hour to hour.

    Of several image sizes the smaller ones are drawn in dashes, and named where the pointer is.

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
    for name, (steps, values) in sorted(series.items()):
        keep = _thin(len(steps))
        size = _smaller(name)
        figure.add_scatter(
            x=np.asarray(steps)[keep],
            y=np.asarray(values)[keep],
            name=name,
            mode="lines+markers" if len(steps) < 3 else "lines",
            line={"color": _colour(name), "width": 2, "dash": "dot" if name.endswith("trial") else DASHES[size]},
            showlegend=size == 0,
            cliponaxis=False,  # the first point lies on the upper edge
            hovertemplate="Epoch %{x}: %{y:.4g}<extra>" + name + "</extra>",
        )
    figure.update_layout(
        title={"text": "Loss", "font": {"size": 15}, "x": 0, "xanchor": "left"},
        height=height,
        margin={"l": 10, "r": 10, "t": 44, "b": 10},
        showlegend=len(series) > 1,
        legend={"orientation": "h", "y": 1.18, "x": 0.12},
        uirevision="keep",  # a zoom survives the next figure with other numbers
    )
    figure.update_yaxes(rangemode="tozero")
    last = max((max(steps) for steps, _ in series.values()), default=1)
    figure.update_xaxes(title="Epoch", dtick=next((step for step in WHOLE_STEPS if last / step <= 10), None))
    return figure


def _colour(name: str) -> str:
    """Of a fold its own, of its trial the same, whichever other lines there are yet; the model's is the first."""
    number = re.search(r"(?i)fold (\d+)", name)
    return LOSS_COLOURS[int(number[1]) % len(LOSS_COLOURS) if number else 0]


def _smaller(name: str) -> int:
    """How many of the image's sizes are larger than the one that this line is of, as far as there are dashes."""
    number = re.search(r", size (\d+) of \d+$", name)
    return min(int(number[1]), len(DASHES)) - 1 if number else 0


def _thin(n: int) -> NDArray[np.intp] | slice:
    """Indices of at most MAX_POINTS of n points, ends included."""
    if n <= MAX_POINTS:
        return slice(None)
    return np.unique(np.linspace(0, n - 1, MAX_POINTS).round().astype(np.intp))
