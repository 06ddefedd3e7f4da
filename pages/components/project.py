"""What most pages need first: the chosen project, its models, and links to the other pages."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from pages.components import resources, state
from pages.components.text import count, plain
from ssn_core.recipes import MIN_BAD, MIN_GOOD
from storage import projects, registry

VIEWS = Path(__file__).resolve().parents[1] / "views"
PAGES = {  # view -> (what a link to it says when the caller says nothing, icon as in the navigation)
    "home": ("Home", ":material/home:"),
    "data": ("Bring images", ":material/upload:"),
    "label": ("Label images", ":material/label:"),
    "train": ("Train", ":material/model_training:"),
    "review": ("Review", ":material/visibility:"),
    "evaluate": ("Evaluate", ":material/monitoring:"),
    "models": ("Models", ":material/account_tree:"),
    "tradeoffs": ("Trade-offs", ":material/speed:"),
    "agreement": ("Agreement", ":material/how_to_reg:"),
    "audit": ("Audit", ":material/history:"),
    "inspect": ("Inspect new images", ":material/center_focus_strong:"),
}


def go(view: str, label: str | None = None) -> None:
    """A link to another page of the app."""
    words, icon = PAGES[view]
    st.page_link(VIEWS / f"{view}.py", label=label or words, icon=icon)


def need_project() -> projects.Project:
    """The chosen project; without one, says how to get one and ends the page."""
    project_id = state.project_id()
    known = {project.id: project for project in projects.list_projects(resources.database())}
    if project_id not in known:
        st.info("There is no project yet." if not known else "No project is chosen.", icon=":material/info:")
        go("home", "Create a project" if not known else "Choose a project")
        st.stop()
    return known[project_id]


def need_model(project: projects.Project, *, title: str) -> registry.Model:
    """The page's title and beside it the choice of a model, the active one first.

    Without any model, says how to get one and ends the page.
    """
    left, right = st.columns([1, 1], vertical_alignment="center")
    left.title(title, anchor=False)
    models = models_or_stop(project)
    with right:
        return choose_model(project, models)


def models_or_stop(project: projects.Project) -> list[registry.Model]:
    """The project's models; without any, says how to get one and ends the page."""
    models = registry.list_models(resources.database(), project_id=project.id)
    if not models:
        st.info("There is no model yet: this page shows what a trained model sees.", icon=":material/model_training:")
        go("train", "Train the first model")
        st.stop()
    return models


def choose_model(project: projects.Project, models: list[registry.Model]) -> registry.Model:
    """A select box of these models, the active one first; the choice holds on all pages."""
    ordered = sorted(models, key=lambda model: (model.id != project.active_model_id, -model.id))
    by_id = {model.id: model for model in ordered}
    chosen = st.selectbox(
        "Model",
        list(by_id),
        format_func=lambda model_id: model_title(by_id[model_id], active=model_id == project.active_model_id),
        key=state.model_key(project.id, project.active_model_id),
        persist_state="session",
        label_visibility="collapsed",
    )
    return by_id[chosen]


def model_title(model: registry.Model, *, active: bool) -> str:
    """A model in one line of a select box."""
    return f"{plain(model.name)} · {model.recipe} · {model.backbone}{' · active' if active else ''}"


def missing_labels(counts: projects.Counts) -> str | None:
    """What is still missing before training can start, or None."""
    missing = []
    if counts.good < MIN_GOOD:
        missing.append(f"{MIN_GOOD - counts.good} good")
    if counts.bad < MIN_BAD:
        missing.append(f"{MIN_BAD - counts.bad} bad")
    if not missing:
        return None
    n = max(MIN_GOOD - counts.good, 0) + max(MIN_BAD - counts.bad, 0)
    return f"{' and '.join(missing)} {'label is' if n == 1 else 'labels are'} missing"


def label_counts(counts: projects.Counts) -> str:
    """Label counts in one line."""
    return (
        f"{count(counts.total, 'image')}: {counts.good:,} good, {counts.bad:,} bad, {counts.unsure:,} unsure, "
        f"{counts.unlabelled:,} unlabelled"
    )
