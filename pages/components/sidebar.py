"""The sidebar: which project, who is looking, and how far the labelling has come."""

from __future__ import annotations

import streamlit as st

from pages.components import state
from pages.components.browser import browser_link
from pages.components.resources import database
from storage import projects


def show() -> None:
    """Draw the sidebar and make sure that the chosen project exists."""
    known = projects.list_projects(database())
    _settle_project(known)
    with st.sidebar:
        if known:
            _project_selector(known)
        _inspector()
        browser_link(known)


def _settle_project(known: list[projects.Project]) -> None:
    ids = {project.id for project in known}
    if state.project_id() not in ids:
        remembered = state.remembered_project()
        state.set_project(remembered if remembered in ids else max(ids, default=None))


def _project_selector(known: list[projects.Project]) -> None:
    names = {project.id: project.name for project in known}
    # The state is the truth: a page may have chosen another project since the selector was drawn.
    st.session_state[state.Key.PROJECT_SELECT] = state.project_id()
    st.selectbox(
        "Project",
        options=list(names),
        format_func=lambda project_id: names.get(project_id, ""),
        key=state.Key.PROJECT_SELECT,
        on_change=lambda: state.set_project(st.session_state[state.Key.PROJECT_SELECT]),
    )


def _inspector() -> None:
    st.session_state[state.Key.NAME_INPUT] = state.inspector()
    st.text_input(
        "Inspector",
        key=state.Key.NAME_INPUT,
        placeholder="Your name",
        max_chars=state.MAX_NAME,
        on_change=lambda: state.set_inspector(st.session_state[state.Key.NAME_INPUT]),
        help="Each verdict is kept under this name. This browser remembers it.",
    )
