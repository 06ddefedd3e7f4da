"""Train: choose a recipe, press one button, watch it run."""

from __future__ import annotations

import streamlit as st

from pages.components import resources, state
from pages.components.errors import show_errors
from pages.components.label_advice import draw_advice
from pages.components.project import need_project
from pages.components.train_panel import draw_form, draw_labels, draw_models, draw_past, draw_run, press
from storage import jobs, projects, registry

project = need_project()
db = resources.database()
st.title("Train", anchor=False)

left, right = st.columns([2, 3], gap="large")
with left:
    counts = projects.counts(db, project_id=project.id)
    above = st.container()
    recipe = draw_form(project, counts)
    with above:  # what there is to learn from depends on the recipe, which is chosen below
        blocked = draw_labels(counts, recipe)
    busy = bool(jobs.active(db, project_id=project.id, kinds=("train",)))
    st.button(
        "Train",
        type="primary",
        width="stretch",
        disabled=blocked is not None or busy,
        help=blocked or ("A training is running; wait for it or cancel it." if busy else None),
        on_click=press,
        args=(project,),
        key="train-start",
    )
    with show_errors():
        if (refusal := state.take_train_refusal()) is not None:
            raise refusal
with right:
    runs = jobs.list_jobs(db, project_id=project.id, kinds=("train",), limit=50)
    with show_errors():
        draw_run(runs)
    with show_errors():
        draw_advice(project, with_link=False)

models = registry.list_models(db, project_id=project.id, include_archived=True)
if offered := [model for model in models if model.archived_at is None]:
    st.subheader("Models", anchor=False)
    draw_models(project, offered)
draw_past(runs, models)  # the figures of a run stay when its model is archived
