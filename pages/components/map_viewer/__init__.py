"""A photo with its anomaly map: coloured in the browser, so that no slider step asks the server.

The map arrives as a grey PNG on the model's one fixed scale; the colour table comes from ssn_core.rendering, the same
that exported overlays use. Colours are smoothed for the eye; beside them come the map's own cells, which are exact:
the viewer tells each cell's share of the score, and the score without those under a rectangle (evidence.js).
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import streamlit as st

from pages.components import palette, resources
from ssn_core import rendering
from storage import images, registry

_HERE = Path(__file__).parent
_component = st.components.v2.component(
    "ssn_map_viewer",
    html='<div class="ssn-viewer"></div>',
    css=(_HERE / "viewer.css").read_text(encoding="utf-8"),
    js="\n".join((_HERE / name).read_text(encoding="utf-8") for name in ("evidence.js", "viewer.js")),
)


@dataclass(frozen=True)
class MapPicture:
    """What the viewer shows. Each address is a route of ours or a data URL."""

    name: str
    width: int  # pixels of the photo
    height: int
    image: str
    map: str | None  # grey PNG of any size: 0 = low end of the scale, 255 = high end; None: no map
    mask: str | None = None  # PNG, any value but 0 = defect; None: no mask
    image_id: int | None = None  # of a stored image: the strip below can then turn to it at once
    cells: str | None = None  # the map's own cells (/ssn/cells); None: the viewer says nothing of them
    note: str | None = None  # said over the photo, where there is no map to show


def stored_picture(image: images.Image, model: registry.Model, *, withheld: str | None = None) -> MapPicture:
    """An image of the project with its map under a model; `withheld`: why the photo is shown alone."""
    token = resources.token(image.project_id)
    asked = f"{model.id}/{image.id}"
    return MapPicture(
        name=image.name,
        width=image.width,
        height=image.height,
        image=f"/ssn/image/{image.id}?t={token}",
        map=f"/ssn/map/{asked}.png?t={token}" if withheld is None else None,
        mask=f"/ssn/mask/{image.id}.png?t={token}" if image.has_mask and withheld is None else None,
        image_id=image.id,
        cells=f"/ssn/cells/{asked}?t={token}" if withheld is None else None,
        note=withheld,
    )


def data_url(data: bytes, media_type: str = "image/png") -> str:
    """A file's bytes as an address, for pictures that are not stored."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode('ascii')}"


def map_viewer(
    picture: MapPicture,
    *,
    low: float,
    high: float,
    key: str,
    room: int = 0,
    ahead: Sequence[MapPicture] = (),
    thresholds: tuple[float, float | None] | None = None,
) -> None:
    """Show a photo with its map, sliders for opacity and threshold, and the outline of its mask.

    Args:
        picture: what to show.
        low, high: the model's fixed colour scale, in the map's units; they label the legend.
        key: of the component; the same key keeps the viewer in place while pictures change.
        room: px to leave free below, for what the page shows there.
        ahead: pictures that will probably be shown next; the browser fetches them now.
        thresholds: the upper and the lower one (None: there is one alone); needed for pictures with `cells`.
    """
    data = {
        "picture": _as_data(picture),
        "ahead": [_as_data(later) for later in ahead],
        "scale": {"low": low, "high": high},
        "table": colour_table(),
        "room": room,
        "thresholds": None if thresholds is None else {"high": thresholds[0], "low": thresholds[1], "words": _words()},
    }
    _component(key=key, data=data)


def _as_data(picture: MapPicture) -> dict[str, Any]:
    return {
        "id": picture.image_id,
        "name": picture.name,
        "w": picture.width,
        "h": picture.height,
        "image": picture.image,
        "map": picture.map,
        "mask": picture.mask,
        "cells": picture.cells,
        "note": picture.note,
    }


def _words() -> dict[str, str]:
    styles = {verdict: palette.style_of(verdict) for verdict in ("good", "bad", "check")}
    return {verdict: f"{style.sign} {style.word}" for verdict, style in styles.items()}


@lru_cache(maxsize=1)
def colour_table() -> str:
    """256 RGBA colours as base64 of 1024 bytes."""
    return base64.b64encode(rendering.colour_table().tobytes()).decode("ascii")
