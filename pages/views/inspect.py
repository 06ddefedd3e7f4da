"""Inspect: drop new images on a model and get verdicts."""

from __future__ import annotations

import streamlit as st

from pages.components.errors import show_errors
from pages.components.inspection import draw_drop, draw_results
from pages.components.project import need_model, need_project

project = need_project()
model = need_model(project, title="Inspect")
st.caption("New images get a verdict from the model. They are not added to the project.")
with show_errors():
    draw_drop(project, model)
with show_errors():
    draw_results(project)
