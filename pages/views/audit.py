"""Audit: who said what and when, second opinions, and labels as files."""

from __future__ import annotations

import streamlit as st

from pages.components import audit_panel, label_files_panel, second_opinion, state
from pages.components.errors import show_errors
from pages.components.inspector import require_inspector
from pages.components.project import need_project

VIEWS = {"log": "Log", "opinions": "Second opinions", "files": "Label files"}

project = need_project()
with show_errors():
    judged = second_opinion.being_judged(project)
    if judged is not None:
        second_opinion.judge(judged, require_inspector())
    else:
        left, right = st.columns([1, 1], vertical_alignment="center")
        left.title("Audit", anchor=False)
        with right, st.container(horizontal=True, horizontal_alignment="right"):
            view = st.segmented_control(
                "Show", list(VIEWS), format_func=VIEWS.__getitem__, default="log", required=True,
                key=state.Key.AUDIT_VIEW, persist_state="session", label_visibility="collapsed",
            )  # fmt: skip
        if view == "opinions":
            second_opinion.draw(project)
        elif view == "files":
            label_files_panel.draw(project)
        else:
            audit_panel.draw(project)
