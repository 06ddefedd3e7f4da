"""Evaluate: how good the model is on images it has never seen."""

from __future__ import annotations

import streamlit as st

from pages.components.evaluation import draw_evaluation, origin_title
from pages.components.project import need_model, need_project

project = need_project()
model = need_model(project, title="Evaluate")
st.caption(f"Held-out images only · {origin_title(model)} · current labels")
draw_evaluation(model.id)
