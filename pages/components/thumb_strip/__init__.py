"""The bar below the picture in Review: verdict buttons and keys, previous and next, and a strip of thumbnails.

Verdicts go into the browser's label queue (never through a page rerun, which could lose a key); only the choice of
another image is told to the page.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from pages.components import palette, resources
from pages.components.label_queue import with_queue
from pages.components.text import plain

_HERE = Path(__file__).parent
_component = st.components.v2.component(
    "ssn_thumb_strip",
    html='<div class="ssn-strip"></div>',
    css=(_HERE / "strip.css").read_text(encoding="utf-8"),
    js=with_queue(_HERE / "strip.js"),
)


@dataclass(frozen=True)
class Thumb:
    """One image of the strip."""

    image_id: int
    name: str
    score: float | None  # None: hidden, as the map is, until there is a verdict
    label: str | None  # good | bad | unsure | None


def thumb_strip(
    thumbs: Sequence[Thumb],
    *,
    project_id: int,
    model_id: int,
    current: int,
    read_at: float,
    advance: bool,
    on_pick: Callable[[], None],
    key: str,
) -> None:
    """Draw the strip.

    Args:
        current: number of the image on the screen.
        read_at: server time (Unix seconds) at which the labels were read; newer news is never replaced by older.
        advance: go to the next image after a verdict.
        on_pick: called before the page runs with another choice.
    """
    data = {
        "uid": key,
        "project": project_id,
        "model": model_id,
        "token": resources.token(project_id),
        "items": [{"id": t.image_id, "name": plain(t.name), "score": t.score, "label": t.label} for t in thumbs],
        "current": current,
        "now": read_at,
        "advance": advance,
        "palette": palette.as_data(),
    }
    _component(key=key, data=data, on_pick_change=on_pick, on_saved_change=lambda: None)
