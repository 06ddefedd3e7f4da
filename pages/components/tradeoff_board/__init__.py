"""The chart of trade-offs, drawn by Plotly, with two lines over it that a person drags: time budget and least I-AUROC.

The lines are elements of our own over Plotly's picture, not Plotly shapes: a shape of Plotly's can be tilted and moved
off its axis, is no slider for the keyboard, and `st.plotly_chart` does not report it. Python is told nothing: what
follows from the lines is said in the browser, which also remembers them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from pages.components.plotly_route import address
from pages.components.text import plain
from pages.components.tradeoff_chart import BUDGET_MS, HEIGHT, figure
from pages.components.tradeoff_points import ACCEPTABLE, Point, on_chart

_HERE = Path(__file__).parent
_component = st.components.v2.component(
    "ssn_tradeoff_board",
    html='<div class="ssn-tradeoffs"></div>',
    css=(_HERE / "board.css").read_text(encoding="utf-8"),
    js="\n".join((_HERE / name).read_text(encoding="utf-8") for name in ("lines.js", "board.js")),
    isolate_styles=False,  # Plotly's style rules are the document's
)


def tradeoff_board(points: Sequence[Point], time: str, *, key: str) -> None:
    """Mount the chart.

    Args:
        points: those without latency or I-AUROC are left out; at least one has both.
        time: "score" or "file".
    """
    drawn: dict[str, Any] = json.loads(str(figure(points, time).to_json()))
    data = {
        "uid": key,
        "script": address(),
        "figure": {"data": drawn["data"], "layout": drawn["layout"]},
        "height": HEIGHT,
        "start": {"budget": BUDGET_MS, "least": ACCEPTABLE},
        "models": [
            {
                "number": point.number,
                "name": plain(point.name),
                "ms": point.latency(time),
                "auroc": point.auroc,
                "low": point.low,
            }
            for point in on_chart(points, time)
        ],
    }
    _component(key=key, data=data)
