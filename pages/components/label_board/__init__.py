"""The label board: thumbnails and a one-image view that take verdicts by key and click.

Everything that answers to a key happens in the browser (board.js; its looks: board_view.js and single_view.js).
Streamlit hands over the project once and is not asked again while someone labels. Lists, pictures and verdicts travel
through pages/components/routes.py, limit samples through label_routes.py, leases through people_routes.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import streamlit as st

from pages.components import palette, resources, state
from pages.components.label_queue import queue_data, with_queue
from pages.components.map_viewer import colour_table
from storage import projects, registry

_HERE = Path(__file__).parent
# In this order they are one module: each may use what stands before it.
_SCRIPTS = (
    "keys", "selection", "leases", "lens", "model_map", "limits", "board_list", "board_view", "single_view", "board",
)  # fmt: skip
_component = st.components.v2.component(
    "ssn_label_board",
    html='<div class="ssn-board" tabindex="-1"></div>',
    css="\n".join((_HERE / name).read_text(encoding="utf-8") for name in ("board.css", "single.css")),
    js=with_queue(*(_HERE / f"{name}.js" for name in _SCRIPTS)),
)


def label_board(known: list[projects.Project]) -> None:
    """Mount the board on the chosen project.

    Args:
        known: all projects; the chosen one (state.project_id()) is among them.
    """
    project_id = state.project_id()
    if project_id is None:
        raise ValueError("label_board needs a chosen project")
    chosen = next(project for project in known if project.id == project_id)
    data = {
        "queue": queue_data(known),
        "project": project_id,
        "token": resources.token(project_id),  # the same in every session: pictures stay in the browser's cache
        "palette": palette.as_data(),
        "model": _model(chosen),
        "verdictFirst": chosen.verdict_first,
    }
    _component(key=state.Key.LABEL_BOARD, data=data)


def _model(project: projects.Project) -> dict[str, Any] | None:
    """The model whose map shows while a key is held: the one in use, if any."""
    if project.active_model_id is None:
        return None
    model = registry.get(resources.database(), model_id=project.active_model_id)
    return {"id": model.id, "name": model.name, "table": colour_table()}
