"""What to do next in a project: a checklist read from the database, so it is never out of date."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from pages.components import resources
from pages.components.project import go, missing_labels
from pages.components.text import count, prose
from storage import jobs, projects, registry


@dataclass(frozen=True)
class Step:
    """One line of the checklist."""

    view: str
    title: str
    state: str  # what is there already, or what is missing
    done: bool


def steps(project: projects.Project) -> list[Step]:
    """The four steps of a project with their state."""
    db = resources.database()
    counts = projects.counts(db, project_id=project.id)
    models = registry.list_models(db, project_id=project.id)
    missing = missing_labels(counts)
    training = jobs.active(db, project_id=project.id, kinds=("train",))
    active = next((model for model in models if model.id == project.active_model_id), None)
    if training:
        trained = "Training is running."
    elif active is not None:
        trained = f"{prose(active.name)} is active, {count(len(models), 'model')} in all."
    else:
        trained = "Takes minutes; you can go on labelling meanwhile." if missing is None else "Needs labels first."
    return [
        Step(
            "data",
            "Bring images",
            f"{count(counts.total, 'image')}, {counts.with_mask:,} with a defect mask."
            if counts.total
            else "A folder, several files or one zip.",
            counts.total > 0,
        ),
        Step(
            "label",
            "Label",
            f"{counts.good:,} good, {counts.bad:,} bad, {counts.unsure:,} unsure, {counts.unlabelled:,} unlabelled."
            + (f" To train, {missing}." if missing and counts.total else ""),
            missing is None,
        ),
        Step("train", "Train", trained, bool(models)),
        Step(
            "review",
            "Review what the model sees",
            "Correct labels, find escapes and false alarms; Evaluate says how far to trust it."
            if models
            else "After the first training.",
            False,
        ),
    ]


def draw_checklist(project: projects.Project) -> None:
    """The steps, the first open one marked as next."""
    lines = steps(project)
    following = next((line for line in lines if not line.done), None)
    for number, line in enumerate(lines, start=1):
        is_next = line is following
        with st.container(border=True, horizontal=True, vertical_alignment="center"):
            st.markdown(":blue[:material/check_circle:]" if line.done else f"**{number}**", width=28)
            with st.container(gap=None, width="stretch"):
                st.markdown(f"**{line.title}** :blue-badge[Next]" if is_next else f"**{line.title}**")
                st.caption(line.state)
            with st.container(width=110):
                go(line.view, line.view.capitalize())
