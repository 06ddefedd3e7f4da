"""The label board: thumbnails and a one-image view that take verdicts by key and click.

Everything that answers to a key happens in the browser (board.js; its looks: board_view.js). Streamlit hands over the
project once and is not asked again while someone labels. Lists, pictures and verdicts travel through
pages/components/routes.py.
"""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from pages.components import palette, resources, state
from pages.components.label_queue import queue_data, with_queue
from storage import projects

_HERE = Path(__file__).parent
_component = st.components.v2.component(
    "ssn_label_board",
    html='<div class="ssn-board" tabindex="-1"></div>',
    css=(_HERE / "board.css").read_text(encoding="utf-8"),
    js=with_queue(_HERE / "board_view.js", _HERE / "board.js"),
)


def label_board(known: list[projects.Project]) -> None:
    """Mount the board on the chosen project.

    Args:
        known: all projects; the chosen one (state.project_id()) is among them.
    """
    project_id = state.project_id()
    if project_id is None:
        raise ValueError("label_board needs a chosen project")
    data = {
        "queue": queue_data(known),
        "project": project_id,
        "token": resources.token(project_id),  # the same in every session: pictures stay in the browser's cache
        "palette": palette.as_data(),
    }
    _component(key=state.Key.LABEL_BOARD, data=data)
