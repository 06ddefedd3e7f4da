"""Label: look at images one after the other and say good, bad or unsure."""

from __future__ import annotations

import streamlit as st

from pages.components.inspector import require_inspector
from pages.components.label_board import label_board
from pages.components.project import go, need_project
from pages.components.resources import database
from storage import projects

project = need_project()
if not projects.label_counts(database(), project_id=project.id).total:
    st.title("Label", anchor=False)
    st.info("This project has no images yet.", icon=":material/info:")
    go("data")
    st.stop()
require_inspector()
label_board(projects.list_projects(database()))
