"""What to do next in a project: a checklist read from the database, so it is never out of date."""

from __future__ import annotations

import streamlit as st

from pages.components import resources, tour
from pages.components.job_progress import REFRESH, job_panel
from pages.components.project import missing_labels
from pages.components.steps import Step, draw_steps
from pages.components.text import count, prose
from pages.components.workers import look_after_jobs
from storage import demo, jobs, projects, registry


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
            "Correct labels, find escapes and overkill; Evaluate says how far to trust it."
            if models
            else "After the first training.",
            False,
        ),
    ]


def draw_checklist(project: projects.Project) -> None:
    """What to do next; in a demo project the tour, live while its images are being made."""
    job = demo.job_of(resources.database(), project_id=project.id)
    if job is None:
        draw_steps(steps(project))
        return
    st.fragment(_tour, run_every=REFRESH if job.is_active else None)(project, job.is_active)
    if job.can_resume:  # it failed or was stopped: the reason, and the button to try again
        job_panel(job.id)


def _tour(project: projects.Project, was_active: bool) -> None:
    if was_active:
        look_after_jobs()
    job = demo.job_of(resources.database(), project_id=project.id)
    if job is None or (was_active and not job.is_active):
        st.rerun()
    draw_steps(tour.steps(project, job))
