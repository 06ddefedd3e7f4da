"""Three buttons and keys beside the picture in Review: is the map on the defect, elsewhere, or can nobody tell?

Verdicts on maps go through the browser's label queue as labels do, so none is lost and none counts twice; Z in the bar
below the picture takes back the newest of both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from pages.components.label_queue import with_queue
from pages.components.text import plain

KEYS = {  # key -> (verdict, words, what it means)
    "d": ("on_defect", "On the defect", "The map's strongest place is on the defect."),
    "e": (
        "elsewhere",
        "Elsewhere",
        "The map's strongest place is somewhere else than the defect.",
    ),
    "n": ("unsure", "Not sure", "Nobody can tell; counted apart, not in the hit rate."),
}

_HERE = Path(__file__).parent
_component = st.components.v2.component(
    "ssn_map_verdict",
    html='<div class="ssn-map-verdict"></div>',
    css=(_HERE / "verdict.css").read_text(encoding="utf-8"),
    js=with_queue(_HERE / "verdict.js"),
)


@dataclass(frozen=True)
class Judged:
    """One image of the worklist, with what was said of its map."""

    image_id: int
    name: str
    label: str | None  # good | bad | unsure | None
    verdict: str | None  # on_defect | elsewhere | unsure | None
    counts: bool  # held out: its verdict makes the hit rate


def map_verdict(
    judged: Sequence[Judged], *, project_id: int, model_id: int, current: int, read_at: float, key: str
) -> None:
    """Draw the buttons; they work for an image that is labelled bad.

    Args:
        judged: the images that the list below the picture goes through.
        current: number of the image on the screen.
        read_at: server time (Unix seconds) at which labels and verdicts were read.
    """
    data = {
        "uid": key,
        "project": project_id,
        "model": model_id,
        "items": [
            {"id": j.image_id, "name": plain(j.name), "label": j.label, "verdict": j.verdict, "counts": j.counts}
            for j in judged
        ],
        "current": current,
        "now": read_at,
        "keys": [{"key": key, "verdict": v, "words": words, "help": more} for key, (v, words, more) in KEYS.items()],
    }
    _component(key=key, data=data, on_saved_change=lambda: None)
