"""Latency against I-AUROC as a Plotly figure, built from numbers alone: no Streamlit, no database.

The two lines that a person drags are not part of the figure: they lie over it (tradeoff_board).
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

import plotly.graph_objects as go

from pages.components import palette
from pages.components.text import NOT_AVAILABLE, count, plain
from pages.components.tradeoff_points import ACCEPTABLE, Point, front, on_chart
from ssn_core.published import PUBLISHED_SPEED

HEIGHT = 430  # px
BUDGET_MS = 10.0  # where the lines are until somebody moves them, as ACCEPTABLE
LARGEST, SMALLEST = 46.0, 22.0  # px, diameters of bubbles; a number has to fit in
NAME = 40  # characters of a model's name on the chart
FAINT = "#8a95a1"
TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)  # ms
TIMES = {"score": "without decoding", "file": "file to score, decoding included"}


def figure(points: Sequence[Point], time: str) -> go.Figure:
    """The chart.

    Args:
        points: those without latency or I-AUROC are left out.
        time: "score" or "file".
    """
    shown = on_chart(points, time)
    drawn = go.Figure()
    _published(drawn)
    _front(drawn, points, time)
    _own(drawn, shown, time)
    x, y = ranges(shown, time)
    drawn.update_layout(
        height=HEIGHT,
        margin={"l": 58, "r": 16, "t": 40, "b": 50},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "inherit", "size": 13, "color": palette.INK},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "itemdoubleclick": False},
        hoverlabel={"align": "left", "bgcolor": "white", "font": {"size": 13}},
        hovermode="closest",
        dragmode="zoom",
        uirevision="keep",
    )
    grid = {"gridcolor": "#e6eaee", "zeroline": False, "linecolor": palette.LINE, "ticks": "outside"}
    drawn.update_xaxes(
        type="log",
        range=[math.log10(end) for end in x],
        tickvals=TICKS,
        ticktext=[f"{tick:,g}" for tick in TICKS],
        title={"text": f"Milliseconds an image, {TIMES[time]} (median, log scale)", "font": {"size": 13}},
        **grid,
    )
    drawn.update_yaxes(
        range=list(y), tickformat=".3~f", title={"text": "I-AUROC on images not seen", "font": {"size": 13}}, **grid
    )
    return drawn


def ranges(shown: Sequence[Point], time: str) -> tuple[tuple[float, float], tuple[float, float]]:
    """What the chart shows at first: (ms), (I-AUROC). The published figures do not stretch it downwards."""
    times = [BUDGET_MS, *(one.latency_ms for one in PUBLISHED_SPEED if one.latency_ms is not None)]
    times += [found for point in shown if (found := point.latency(time)) is not None]
    lowest = min([ACCEPTABLE, *(point.auroc for point in shown if point.auroc is not None)])
    room = 1 - lowest
    return (min(times) / 1.6, max(times) * 1.6), (lowest - 0.35 * room, 1 + 0.12 * room)  # no tick above 1


def _own(drawn: go.Figure, shown: Sequence[Point], time: str) -> None:
    memories = [point.memory or 0.0 for point in shown]
    # Area, not diameter, stands for memory; the smallest still holds its number.
    scale = LARGEST**2 / max([*memories, 1.0])
    drawn.add_scatter(
        x=[point.latency(time) for point in shown],
        y=[point.auroc for point in shown],
        error_y={
            "type": "data",
            "symmetric": False,
            "array": [max((point.high or point.auroc or 0.0) - (point.auroc or 0.0), 0.0) for point in shown],
            "arrayminus": [max((point.auroc or 0.0) - (point.low or point.auroc or 0.0), 0.0) for point in shown],
            "color": "rgba(31,95,139,0.45)",
            "thickness": 1.5,
            "width": 5,
        },
        name="Models of this project (size: memory; bar: 95 % interval)",
        mode="markers+text",
        text=[f"<b>{point.number}</b>" for point in shown],
        textposition="middle center",
        textfont={"color": "white", "size": 13},
        marker={
            "size": [max(SMALLEST, math.sqrt(scale * memory)) for memory in memories],
            "color": palette.MODEL,
            "opacity": 0.88,
            "line": {"color": [palette.INK if point.active else "white" for point in shown], "width": 2},
        },
        customdata=[_hover(point) for point in shown],
        hovertemplate="%{customdata}<extra></extra>",
        cliponaxis=False,
    )


def _front(drawn: go.Figure, points: Sequence[Point], time: str) -> None:
    best = front(points, time)
    drawn.add_scatter(
        x=[point.latency(time) for point in best],
        y=[point.auroc for point in best],
        name="Pareto front",
        mode="lines",
        line={"color": palette.MODEL, "width": 2, "dash": "dot", "shape": "hv"},
        hoverinfo="skip",
    )


def _published(drawn: go.Figure) -> None:
    spots = [(one, data, share) for one in PUBLISHED_SPEED if one.latency_ms for data, share in one.i_auroc]
    drawn.add_scatter(
        x=[one.latency_ms for one, _, _ in spots],
        y=[share / 100 for _, _, share in spots],
        name="Published (P100, V100S; MVTec: other data, other machine)",
        mode="markers",
        marker={"symbol": "diamond-open", "size": 11, "color": FAINT, "line": {"width": 1.5}},
        opacity=0.75,
        customdata=[
            "<br>".join(
                [
                    f"<b>Published: {one.method}, {one.backbone}</b>",
                    f"{one.latency_ms:g} ms, {one.images_per_s or 0:g} images/s on {one.device}",
                    f"I-AUROC {share:g} % on {data}",
                    *([f"{one.gpu_mb:g} MB on the GPU"] if one.gpu_mb else []),
                    *([f"{one.parameters:g} M parameters"] if one.parameters else []),
                    *([f"{one.gflop:g} GFLOP"] if one.gflop else []),
                    one.source,
                ]
            )
            for one, data, share in spots
        ],
        hovertemplate="%{customdata}<extra></extra>",
    )


def _hover(point: Point) -> str:
    row = point.row
    if row is None or point.auroc is None:  # not on the chart
        return ""
    interval = "no interval" if point.low is None else f"95 %: {point.low:.3f} to {point.high:.3f}"
    gpu = NOT_AVAILABLE + " (no GPU)" if row.gpu_memory_mib is None else f"{row.gpu_memory_mib:,.0f} MiB"
    lines = [
        f"<b>{point.number}. {shown_name(point.name)}</b>{' · active' if point.active else ''}",
        f"{row.recipe}, {row.backbone} ({row.weights} weights), {row.image_size} px",
        f"I-AUROC {point.auroc:.4f} ({interval}; {point.n_good:,} good, {point.n_bad:,} bad)",
        f"One image: {row.p50_ms:.1f} ms, p95 {row.p95_ms:.1f}; with decoding {row.decoded_p50_ms:.1f}, "
        f"p95 {row.decoded_p95_ms:.1f}",
        f"Published way, same run: {row.reference_p50_ms:.1f} ms, {row.ratio:.1f} times as long "
        f"(with decoding {row.decoded_ratio:.1f})",
        f"Throughput: {row.images_per_s:,.1f} images/s, batches of {row.best_batch} "
        f"(published way {row.reference_images_per_s:,.1f})",
        f"Memory: {row.peak_memory_mib:,.0f} MiB process peak, {row.model_memory_mib:,.0f} of it the model; GPU {gpu}",
        f"{row.parameters / 1e6:.2f} M parameters, {row.multiply_adds / 1e9:.2f} G multiply-adds "
        f"(published way {row.reference_multiply_adds / 1e9:.2f})",
        f"Computed {row.computation}; scores within {row.error:.1g} of plain",
        f"{html.escape(row.machine)}, {count(row.threads, 'thread')}, torch {row.torch}, {row.measured_at[:10]}",
    ]
    return "<br>".join(lines)


def shown_name(name: str) -> str:
    """A model's name for Plotly, which obeys some HTML: shortened, and every sign shown as it is."""
    text = plain(name)
    return html.escape(text if len(text) <= NAME else text[: NAME - 1] + "…")
