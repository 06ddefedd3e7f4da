"""Data: bring images into the project and see what became of every file."""

from __future__ import annotations

import streamlit as st

from pages.components import resources
from pages.components.errors import show_errors
from pages.components.import_panel import LAYOUTS_HELP, draw_imports, draw_source
from pages.components.project import go, label_counts, need_project
from storage import projects

project = need_project()
st.title("Data", anchor=False)
counts = projects.counts(resources.database(), project_id=project.id)
if counts.total:
    st.caption(f"{label_counts(counts)}, {counts.with_mask:,} with a defect mask, {counts.groups:,} groups.")
else:
    st.caption("This project has no images yet. Bring some in: a folder, several files, or one zip.")

with show_errors():
    draw_source(project)
with st.expander("Which layouts are recognised?"):
    st.markdown(LAYOUTS_HELP)
with show_errors():
    draw_imports(project)
if counts.unlabelled:
    go("label", "Label these images")
