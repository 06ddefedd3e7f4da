"""Models: where each one comes from, which one is active, and whether another one is better."""

from __future__ import annotations

import streamlit as st

from pages.components import state
from pages.components.compare import draw_compare
from pages.components.errors import show_errors
from pages.components.models_list import draw_list
from pages.components.project import go, need_project
from pages.components.resources import database
from storage import registry

VIEWS = {"list": "All models", "compare": "Compare two"}

project = need_project()
left, right = st.columns([1, 1], vertical_alignment="center")
left.title("Models", anchor=False)
if not registry.list_models(database(), project_id=project.id, include_archived=True):
    st.info("There is no model yet. Each training adds one to this list.", icon=":material/model_training:")
    go("train", "Train the first model")
    st.stop()
state.settle_models_view()
with right, st.container(horizontal=True, horizontal_alignment="right"):
    st.segmented_control(
        "Show",
        list(VIEWS),
        format_func=VIEWS.__getitem__,
        required=True,
        key=state.Key.MODELS_VIEW,
        persist_state="session",
        label_visibility="collapsed",
    )
with show_errors():
    if state.models_view() == "compare":
        draw_compare(project)
    else:
        draw_list(project)
