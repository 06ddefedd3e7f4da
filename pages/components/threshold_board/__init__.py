"""One or two thresholds, dragged on the histogram, the ROC or the precision-recall curve; all figures follow at once.

Everything that follows a drag is counted in the browser from the sorted scores (counts.js), which travel once: the data
depends on labels, targets and the saved thresholds, never on where a threshold is being dragged. Python is told when a
threshold is let go.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import streamlit as st
from numpy.typing import NDArray
from scipy import special

from pages.components import state
from pages.components.suggestions import Suggestion, Targets
from ssn_core import honest
from ssn_core.honest import Counted
from storage.thresholds import Version

LEVEL = 0.95  # of every interval on the page
_HERE = Path(__file__).parent
_component = st.components.v2.component(
    "ssn_threshold_board",
    html='<div class="ssn-threshold"></div>',
    css=(_HERE / "board.css").read_text(encoding="utf-8"),
    js="\n".join((_HERE / name).read_text(encoding="utf-8") for name in ("counts.js", "charts.js", "board.js")),
)


@dataclass(frozen=True)
class Area:
    """A figure without a threshold (I-AUROC, AP-det) with its interval, where there is one."""

    value: float
    low: float | None
    high: float | None
    method: str


@dataclass(frozen=True)
class Claims:
    """What images without a single escape prove."""

    most: float | None  # the largest escape rate that none in so many bad images leaves possible
    needed: tuple[tuple[float, int], ...]  # (claimed rate, bad images without an escape that it takes)


@dataclass(frozen=True)
class Chance:
    """How often parts at a score were bad: 1 / (1 + exp(-(slope * score + intercept)))."""

    slope: float
    intercept: float
    n_good: int
    n_bad: int
    reason: str | None = None  # why there is none; n_bad is 0 then


@dataclass(frozen=True)
class Operating:
    """The thresholds that the board shows."""

    high: float  # a score at or above it means bad
    low: float | None  # below it means good; None: one threshold
    rule: str | None  # the suggestion that was taken over; None: set by hand


def threshold_board(
    model_id: int,
    labels: NDArray[np.int8],
    scores: NDArray[np.float64],
    *,
    saved: Version,
    areas: dict[str, Area | None],
    claims: Claims,
    chance: Chance,
    suggestions: Sequence[Suggestion],
    counted: Counted,
    chosen_on: str,
    targets: Targets,
) -> None:
    """Mount the board.

    Args:
        labels: (N,) 0 good, 1 bad; N > 0.
        scores: (N,) finite logits.
        saved: the version in force; the board starts there. It goes to another one that this inspector restores, and
            to one of somebody else unless the threshold was moved here and not saved yet.
        areas: "auroc" and "ap"; None: n/a.
        counted: what the version in force does, counted on images that did not choose it, or why not.
        chosen_on: on which scores the suggestions were chosen, in words.
    """
    good, bad = np.sort(scores[labels == 0]), np.sort(scores[labels == 1])
    data: dict[str, Any] = {
        "model": model_id,
        "good": _packed(good),
        "bad": _packed(bad),
        "z": float(special.ndtri((1 + LEVEL) / 2)),
        "missing": "no bad image held out" if not bad.size else "no good image held out" if not good.size else "",
        "areas": {name: asdict(area) if area else None for name, area in areas.items()},
        "claims": asdict(claims),
        "platt": asdict(chance),
        "suggestions": [suggestion.as_data() for suggestion in suggestions],
        "in_force": {
            "counted": asdict(counted.outcome) if counted.basis == "crosswise" else None,
            "rule": counted.rule.title if counted.rule else None,
            "note": counted.note,
            "flatters": counted.flatters,
        },
        "by_hand": honest.note("by_hand", counted.held_out),
        "chosen_on": chosen_on,
        "targets": targets.as_data(),
        "saved": {
            "version": saved.id,
            "high": saved.threshold,
            "low": saved.threshold_low,
            "mine": bool(saved.inspector) and saved.inspector == state.inspector(),
        },
        "inspector": bool(state.inspector()),
    }
    data["stamp"] = hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]
    # What it tells is state, read in the page's body: nothing is lost when one message overtakes another.
    _component(
        key=state.board_key(model_id),
        data=data,
        on_operating_change=lambda: None,
        on_targets_change=lambda: None,
        on_save_change=lambda: None,
    )


def operating(told: object, saved: Version) -> Operating:
    """What the browser told last, as long as it refers to the version in force; else that version.

    A browser's message is data from outside: what is no pair of finite thresholds in order counts as not told.
    """
    standing = Operating(saved.threshold, saved.threshold_low, None)
    if not isinstance(told, dict) or told.get("version") != saved.id:
        return standing
    high, low, rule = told.get("high"), told.get("low"), told.get("rule")
    if not _finite(high) or not (low is None or (_finite(low) and low <= high)):
        return standing
    return Operating(float(high), None if low is None else float(low), rule if isinstance(rule, str) else None)


def _packed(scores: NDArray[np.float64]) -> str:
    return base64.b64encode(scores.astype("<f8").tobytes()).decode("ascii")


def _finite(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
