"""The guided tour of a demo project: five steps that say what to do now, read from the database as the checklist is."""

from __future__ import annotations

import streamlit as st

from pages.components import resources, state
from pages.components.errors import show_errors
from pages.components.project import missing_labels
from pages.components.steps import Step
from pages.components.text import count, prose
from pages.components.workers import look_after_jobs
from storage import demo, jobs, labels, projects, registry

DOZEN = 12


def draw_offer() -> None:
    """What a new installation offers beside the first project of one's own."""
    with st.container(border=True, width=520):
        st.subheader("Try it with a demo", anchor=False)
        st.markdown(
            f"{demo.N_IMAGES} generated photographs of brushed metal, fabric, concrete and wood. A quarter has a small "
            "defect, and half has no label yet: that part is yours. Nothing is precomputed."
        )
        st.markdown(
            "1. **Look** at the images\n"
            "2. **Label** a dozen\n"
            "3. **Train**, about a minute\n"
            "4. **Review** where the model looks\n"
            "5. **Evaluate** how far to trust it"
        )
        st.button("Try it with a demo", key="home-demo", icon=":material/explore:", on_click=_start)


def steps(project: projects.Project, job: jobs.Job) -> list[Step]:
    """The steps of the tour with their state.

    Args:
        job: the one that fills the project with surfaces.
    """
    db = resources.database()
    counts = projects.label_counts(db, project_id=project.id)
    by_whom = labels.count_by_inspector(db, project_id=project.id)
    own = sum(n for inspector, n in by_whom.items() if inspector != demo.LABELLED_BY)
    trained = bool(registry.list_models(db, project_id=project.id))
    training = jobs.active(db, project_id=project.id, kinds=("train",))
    ready = job.status == "succeeded"
    missing = missing_labels(counts) if ready else "the images come first"
    return [
        Step("data", "Get the images", _images(job, counts), ready),
        Step(
            "label",
            "Look at them, and label a dozen",
            f"G is good, B is bad; the defects are small. {min(own, DOZEN)} of {DOZEN} labelled.",
            own >= DOZEN,
        ),
        Step("train", "Train", _training(trained, bool(training), missing), trained),
        Step(
            "review",
            "Review where the model looks",
            "Escapes and overkill, with a map over each image." if trained else "After the training.",
            False,
        ),
        Step(
            "evaluate",
            "Evaluate how far to trust it",
            "Escapes, overkill and ROC on images it did not learn from." if trained else "After the training.",
            False,
        ),
    ]


def _images(job: jobs.Job, counts: projects.LabelCounts) -> str:
    if job.status == "succeeded":
        return f"{count(counts.total, 'photograph')} of four materials, {counts.unlabelled:,} without a label."
    if job.status == "queued":
        return "A worker is starting …"
    if job.status == "running":
        return f"{prose(job.phase)}, {job.done:,} of {job.total:,} …" if job.total else f"{prose(job.phase)} …"
    return "Not complete: see Data."


def _training(trained: bool, running: bool, missing: str | None) -> str:
    if running:
        return "Training is running."
    if trained:
        return "Done. More labels and another training make it better."
    return f"Needs labels: {missing}." if missing else "One button; takes about a minute."


def _start() -> None:
    with show_errors():
        made = demo.create(resources.database())
        state.set_project(made.project.id)
        look_after_jobs()
