"""The curves and the histogram of a report, as SVG that is part of the page.

Coordinates are rounded to a tenth of a unit, and points that would fall on the one before (or on the straight line
through their neighbours) are left out: a curve of 100,000 scores is a few kilobytes and looks the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssn_core.metrics import pr_curve, roc_curve
from ssn_core.report.html import Content, Html, tag

Floats = NDArray[np.float64]
GOOD, BAD = "#0b6fa4", "#c8500a"  # as on the pages (pages/components/palette.py)
N_BINS = 48

_SIDE, _LEFT, _TOP, _BOTTOM, _RIGHT = 240.0, 46.0, 10.0, 40.0, 12.0  # of a curve's plot and its margins
_LINE = 14.0  # from one line of words to the next
_WIDE, _PANEL, _GAP = 560.0, 84.0, 26.0  # of the histogram


@dataclass(frozen=True)
class Mark:
    """A point on a curve, in 0..1 each."""

    x: float
    y: float
    words: str


def roc(labels: NDArray[np.int8], scores: Floats, marks: Sequence[Mark]) -> Html:
    """The ROC curve: caught bad parts against rejected good parts. Both classes must be there."""
    curve = roc_curve(labels, scores)
    return _square(
        curve.fpr,
        curve.tpr,
        marks,
        title="ROC curve",
        across="good parts rejected (overkill rate, FPR)",
        up="bad parts caught (TPR)",
        diagonal=True,
    )


def precision_recall(labels: NDArray[np.int8], scores: Floats, marks: Sequence[Mark]) -> Html:
    """The precision-recall curve, in the steps that average precision is the area of. Both classes must be there."""
    curve = pr_curve(labels, scores)
    # From each recall to the next the precision is that of the next: first up or down, then across.
    recall = np.concatenate(([0.0], np.repeat(curve.recall, 2)[:-1]))
    precision = np.repeat(curve.precision, 2)
    return _square(
        recall,
        precision,
        marks,
        title="Precision-recall curve",
        across="bad parts caught (recall)",
        up="bad among the rejected (precision)",
        diagonal=False,
    )


def histogram(labels: NDArray[np.int8], scores: Floats, *, threshold: float, threshold_low: float | None) -> Html:
    """The scores of good and of bad parts, one above the other on the same axis, with the thresholds."""
    cuts = [threshold] if threshold_low is None else [threshold_low, threshold]
    everything = np.concatenate((scores, cuts))
    low, high = float(everything.min()), float(everything.max())
    room = 0.03 * (high - low) or 1.0
    low, high = low - room, high + room
    edges = np.linspace(low, high, N_BINS + 1)

    def across(value: float) -> float:
        return _LEFT + _WIDE * (value - low) / (high - low)

    parts: list[Content] = []
    for number, (name, bad, colour) in enumerate((("good", 0, GOOD), ("bad", 1, BAD))):
        counts = np.histogram(scores[labels == bad], bins=edges)[0]
        foot = _TOP + 12 + _PANEL + number * (_PANEL + _GAP)
        parts += _bars(counts, foot, colour)
        parts.append(_label(_LEFT + 3, foot - _PANEL - 4, f"{name} parts: {int(counts.sum()):,}", class_=name))
        most = int(counts.max())
        if most:
            parts.append(_label(_LEFT - 5, foot - _PANEL + 8, f"{most:,}", anchor="end"))
        parts.append(_label(_LEFT - 5, foot, "0", anchor="end"))
        parts.append(_line(_LEFT, foot, _LEFT + _WIDE, foot, "axis"))
    bottom = _TOP + 12 + 2 * _PANEL + _GAP
    for cut in cuts:
        parts.append(_line(across(cut), _TOP + 10, across(cut), bottom + 4, "cut"))
    for tick in _ticks(low, high):
        parts.append(_line(across(tick), bottom, across(tick), bottom + 4, "axis"))
        parts.append(_label(across(tick), bottom + 16, f"{tick:g}".replace("-", "\N{MINUS SIGN}"), anchor="middle"))
    parts.append(_label(_LEFT + _WIDE / 2, bottom + 32, "score (logit)", anchor="middle"))
    return _svg(_LEFT + _WIDE + _RIGHT, bottom + 38, "Histogram of the scores of good and bad parts", parts)


def scale(table: NDArray[np.uint8]) -> Html:
    """The colour table, uint8 (256, 4) RGBA, as a bar on mid-grey, as on a photo."""
    stops = [
        tag(
            "stop",
            offset=f"{place / 255:.3f}",
            stop_color=_hex(table[place]),
            stop_opacity=f"{table[place][3] / 255:.3f}",
        )
        for place in range(0, 256, 15)
    ]
    return _svg(
        200,
        14,
        "Colour scale",
        [
            tag("defs", tag("linearGradient", stops, id="scale")),
            tag("rect", x=0, y=0, width=200, height=14, fill="#8d949c"),
            tag("rect", x=0, y=0, width=200, height=14, fill="url(#scale)"),
        ],
    )


def thinned(x: Floats, y: Floats) -> list[tuple[str, str]]:
    """The points of a line, rounded for print, without those that change nothing."""
    kept: list[tuple[float, float]] = []
    for point in zip(np.round(x, 1).tolist(), np.round(y, 1).tolist(), strict=True):
        if kept and point == kept[-1]:
            continue
        if len(kept) > 1 and any(kept[-2][axis] == kept[-1][axis] == point[axis] for axis in (0, 1)):
            kept.pop()
        kept.append(point)
    return [(_coordinate(a), _coordinate(b)) for a, b in kept]


def _square(x: Floats, y: Floats, marks: Sequence[Mark], *, title: str, across: str, up: str, diagonal: bool) -> Html:
    right, bottom = _LEFT + _SIDE, _TOP + _SIDE
    parts: list[Content] = []
    for tick in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
        parts.append(_line(_LEFT + _SIDE * tick, _TOP, _LEFT + _SIDE * tick, bottom, "grid"))
        parts.append(_line(_LEFT, bottom - _SIDE * tick, right, bottom - _SIDE * tick, "grid"))
        parts.append(_label(_LEFT + _SIDE * tick, bottom + 14, f"{tick:.1f}", anchor="middle"))
        parts.append(_label(_LEFT - 7, bottom - _SIDE * tick + 3.5, f"{tick:.1f}", anchor="end"))
    if diagonal:
        parts.append(_line(_LEFT, bottom, right, _TOP, "chance"))
    points = thinned(_LEFT + _SIDE * x, bottom - _SIDE * y)
    parts.append(tag("polyline", points=" ".join(f"{a},{b}" for a, b in points), class_="curve"))
    parts += _marks(marks, right, bottom)
    parts.append(_label(_LEFT + _SIDE / 2, bottom + 31, across, anchor="middle"))
    middle = _TOP + _SIDE / 2
    parts.append(_label(12, middle, up, anchor="middle", transform=f"rotate(-90 12 {_coordinate(middle)})"))
    return _svg(right + _RIGHT, bottom + _BOTTOM, title, parts)


def _marks(marks: Sequence[Mark], right: float, bottom: float) -> Iterable[Html]:
    """Circles on the curve with their words below them; words that would lie on others go below those."""
    taken: list[float] = []
    for mark in sorted(marks, key=lambda mark: -mark.y):  # from the top down
        x, y = _LEFT + _SIDE * mark.x, bottom - _SIDE * mark.y
        place = min(max(y + 15, _TOP + 16), bottom - 8)
        if taken and place < taken[-1] + _LINE:
            place = taken[-1] + _LINE
        taken.append(place)
        yield tag("circle", cx=_coordinate(x), cy=_coordinate(y), r=4, class_="mark")
        left = x > right - 110  # there is no room for the words on the right
        yield _label(x + (-8 if left else 8), place, mark.words, anchor="end" if left else "start")


def _bars(counts: NDArray[np.int64], foot: float, colour: str) -> Iterable[Html]:
    width, most = _WIDE / counts.size, int(counts.max())
    for place, n in enumerate(counts.tolist()):
        if n:
            height = max(2.0, _PANEL * math.sqrt(n / most))  # square root: single images can be seen
            yield tag(
                "rect",
                x=_coordinate(_LEFT + place * width + 0.5),
                y=_coordinate(foot - height),
                width=_coordinate(width - 1),
                height=_coordinate(height),
                fill=colour,
            )


def _ticks(low: float, high: float) -> list[float]:
    """Four to ten round numbers between the ends."""
    rough = (high - low) / 6
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((power * factor for factor in (1, 2, 5) if power * factor >= rough), 10 * power)
    first = math.ceil(low / step)
    return [round(step * number, 12) for number in range(first, math.floor(high / step) + 1)]


def _svg(width: float, height: float, title: str, parts: Iterable[Content]) -> Html:
    return tag(
        "svg",
        tag("title", title),
        parts,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {_coordinate(width)} {_coordinate(height)}",
        role="img",
    )


def _line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Html:
    ends = zip(("x1", "y1", "x2", "y2"), (x1, y1, x2, y2), strict=True)
    return tag("line", class_=class_, **{name: _coordinate(value) for name, value in ends})


def _label(
    x: float,
    y: float,
    words: str,
    *,
    anchor: str | None = None,
    class_: str | None = None,
    transform: str | None = None,
) -> Html:
    return tag(
        "text", words, x=_coordinate(x), y=_coordinate(y), text_anchor=anchor, class_=class_, transform=transform
    )


def _coordinate(value: float) -> str:
    shown = f"{value:.1f}".removesuffix(".0")
    return "0" if shown == "-0" else shown


def _hex(rgba: NDArray[np.uint8]) -> str:
    return "#" + "".join(f"{int(channel):02x}" for channel in rgba[:3])
