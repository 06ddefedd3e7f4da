"""Two models in one figure, built from numbers alone: no Streamlit, no database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

from pages.components import palette

if TYPE_CHECKING:
    from numpy.typing import NDArray

HEIGHT = 340  # px
MAX_POINTS = 1500  # of a curve, as in charts.py
# The model compared against is dashed and grey, the other one solid and blue: told apart without colour too.
STYLES = (
    {"color": palette.MUTED, "width": 2.5, "dash": "dash"},
    {"color": palette.MODEL, "width": 2.5},
)
SYMBOLS = ("diamond", "circle")


@dataclass(frozen=True)
class Curve:
    """One model's ROC curve on the shared images."""

    name: str  # "A" or "B": a model's own name may be long, and Plotly would obey marks in it
    fpr: NDArray[np.float64]  # (K,) overkill rates 0..1, ascending
    tpr: NDArray[np.float64]  # (K,) shares of bad parts caught, 0..1
    area: float  # I-AUROC 0..1
    point: tuple[float, float]  # (overkill rate, share caught) at the threshold in force


def roc_pair(first: Curve, second: Curve) -> go.Figure:
    """Both receiver operating characteristics with their operating points, the first one underneath."""
    figure = go.Figure()
    figure.add_scatter(
        x=[0, 1],
        y=[0, 1],
        mode="lines",
        line={"color": "#999", "width": 1, "dash": "dot"},
        hoverinfo="skip",
        showlegend=False,
    )
    for curve, line, symbol in zip((first, second), STYLES, SYMBOLS, strict=True):
        keep = _thin(len(curve.fpr))
        hover = "Overkill %{x:.1%}<br>Caught %{y:.1%}<extra>" + curve.name
        figure.add_scatter(
            x=curve.fpr[keep],
            y=curve.tpr[keep],
            name=f"{curve.name} · area {curve.area:.3f}",
            mode="lines",
            line=line,
            hovertemplate=hover + "</extra>",
        )
        figure.add_scatter(
            x=[curve.point[0]],
            y=[curve.point[1]],
            mode="markers",
            marker={"color": line["color"], "symbol": symbol, "size": 12, "line": {"color": "white", "width": 2}},
            hovertemplate=hover + " at its threshold</extra>",
            cliponaxis=False,
            showlegend=False,
        )
    figure.update_layout(
        title={"text": "ROC on the shared images", "font": {"size": 15}, "x": 0, "xanchor": "left"},
        height=HEIGHT,
        margin={"l": 10, "r": 10, "t": 44, "b": 10},
        legend={"x": 0.98, "y": 0.06, "xanchor": "right", "yanchor": "bottom"},
        uirevision="keep",
    )
    figure.update_xaxes(title="Overkill rate (FPR)")
    figure.update_yaxes(title="Bad parts caught (TPR)")
    for update in (figure.update_xaxes, figure.update_yaxes):
        update(range=[-0.02, 1.02], tickformat=".0%", zeroline=False)
    return figure


def _thin(n: int) -> NDArray[np.intp] | slice:
    """Indices of at most MAX_POINTS of n points, ends included."""
    if n <= MAX_POINTS:
        return slice(None)
    return np.unique(np.linspace(0, n - 1, MAX_POINTS).round().astype(np.intp))
