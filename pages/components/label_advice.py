"""Advice on labelling: is it time to train again, what would more labels bring, are the images compared yet?

What runs for it runs aside, so nothing here asks anybody to wait.
"""

from __future__ import annotations

import plotly.graph_objects as go
import streamlit as st

from pages.components import palette, resources
from pages.components.job_progress import REFRESH
from pages.components.project import go as go_to
from pages.components.text import count, duration, figure, percent, prose
from pages.components.workers import look_after_jobs
from ssn_core.label_gain import LEVEL, WORTHWHILE
from storage import jobs, label_advice, label_queues, projects, registry

_KINDS = ("describe", "gain")
_HEIGHT = 270  # px, with three lines of legend


def draw_advice(project: projects.Project, *, with_link: bool) -> None:
    """The panel; nothing before the project has images.

    Args:
        with_link: to the Train page, where the panel is on another one.
    """
    if not projects.label_counts(resources.database(), project_id=project.id).total:
        return
    active = bool(jobs.active(resources.database(), project_id=project.id, kinds=_KINDS))
    st.fragment(_draw, run_every=REFRESH if active else None)(project, active, with_link)


def _draw(project: projects.Project, was_active: bool, with_link: bool) -> None:
    db = resources.database()
    if was_active:
        look_after_jobs()
    if was_active != bool(jobs.active(db, project_id=project.id, kinds=_KINDS)):
        st.rerun()  # something has begun or ended: the timer is the page's to start or to stop
    with st.container(border=True):
        st.markdown("**What to label next**")
        model = None if project.active_model_id is None else registry.get(db, model_id=project.active_model_id)
        if model is not None:
            _draw_retraining(model, with_link)
            _draw_gain(model)
        else:
            st.caption("Once a model is trained, it is told here whether more labels are likely to help.")
        _draw_comparison(project)


def _draw_retraining(model: registry.Model, with_link: bool) -> None:
    found = label_advice.retraining(resources.database(), model=model)
    said = f"{count(found.n_new, 'new label')} since {prose(model.name)} was trained on {found.n_known:,}"
    if not found.enough:
        st.markdown(f"{said}.")
        return
    st.markdown(f":material/model_training: {said}: **enough to train again.**")
    if with_link:
        go_to("train", "Train again")


def _draw_gain(model: registry.Model) -> None:
    found = label_advice.gain(resources.database(), model=model)
    if found.likely is None:
        if found.job is not None and found.job.is_active:
            st.caption(f"Estimating what more labels would bring{_how_far(found.job)}. You can go on working.")
            return
        st.caption(prose(found.reason or ""))
        if found.can_estimate:
            cut_off = found.job is not None and found.job.can_resume
            _button("Go on with the estimate" if cut_off else "Estimate now", "gain", model.id, model)
        return
    last, chance = found.forecasts[-1], found.chance or 0.0
    now = found.measured[-1]
    words = "likely to help" if found.likely else "unlikely to help much"
    interval = f"{LEVEL:.0%} interval".replace("%", " %")
    rows = "\n".join(
        f"| {said.n - now.n:,} | {figure(said.gain)} | {figure(said.gain_low)}\u00a0to\u00a0{figure(said.gain_high)} |"
        for said in found.forecasts
    )
    st.markdown(
        f"**More labels are {words}.** With {now.n:,} labels bad parts are ranked above good ones with an AP-det of "
        f"{figure(now.figure)}. {'It is likely to rise' if found.likely else 'What more of them would add'}:"
    )
    st.markdown(f"| Labels more | AP-det higher by | {interval} |\n|--:|--:|--:|\n{rows}")
    with st.expander("How this is known"):
        st.plotly_chart(_curve(found), key=f"advice-curve-{model.id}", config={"displayModeBar": False})
        st.caption(
            "The same recipe was trained with a quarter and a half of the labels, drawn twice, and measured as the "
            f"model itself is. Curves of a power law that agree with this give a chance of {percent(chance, 0)} that "
            f"{last.n - now.n:,} more labels of the same mix bring at least {figure(WORTHWHILE)}. New kinds of "
            "defects, and images that are chosen well instead of drawn, are not in it."
        )


def _draw_comparison(project: projects.Project) -> None:
    """Whether the images have been compared, which the order "most informative" and stacks of look-alikes need."""
    db = resources.database()
    job = next(iter(jobs.list_jobs(db, project_id=project.id, kinds=("describe",), limit=1)), None)
    if job is not None and job.is_active:
        st.caption(f"Comparing images, to find the most informative ones and look-alikes{_how_far(job)}.")
    elif not label_queues.is_built(db, project_id=project.id):
        failed = job is not None and job.status == "failed"
        st.caption(
            f"Comparing the images failed. {prose(job.error or '')}"
            if job is not None and failed
            else "The images have not been compared yet: the most informative ones and look-alikes are not known."
        )
        _button("Compare images now", "describe", project.id, None)
    else:
        _draw_waiting(project)


def _draw_waiting(project: projects.Project) -> None:
    """How many images wait for a label, and the way to them."""
    if n_waiting := projects.label_counts(resources.database(), project_id=project.id).unlabelled:
        st.caption(
            f"{count(n_waiting, 'image')} without a label. In the order *Most informative first*, the Label page "
            "begins with those that a model learns most from."
        )
        go_to("label", "Label the next ones")
    else:
        st.caption("Every image has a label.")


def _button(words: str, kind: str, number: int, model: registry.Model | None) -> None:
    st.button(words, key=f"advice-{kind}-{number}", on_click=_start, args=(kind, number, model))


def _start(kind: str, number: int, model: registry.Model | None) -> None:
    db = resources.database()
    if kind == "gain" and model is not None:
        label_advice.estimate(db, model=model)
    else:
        label_advice.prepare(db, project_id=number)
    look_after_jobs()


def _how_far(job: jobs.Job) -> str:
    if job.status != "running" or not job.total:
        return ""
    what = "networks" if job.phase == label_advice.LEARNING else "images"  # which are read before any is trained
    left = "" if job.eta_seconds is None else f", about {duration(job.eta_seconds)} left"
    return f": {job.done:,} of {job.total:,} {what}{left}"


def _curve(found: label_advice.Gain) -> go.Figure:
    """Figures measured with fewer labels, and what more of them are likely to give."""
    measured, forecasts, now = found.measured, found.forecasts, found.measured[-1]
    drawn = go.Figure()
    ahead = [now.n, *(forecast.n for forecast in forecasts)]
    ends = [[now.figure, *values] for values in ([f.low for f in forecasts], [f.high for f in forecasts])]
    drawn.add_scatter(
        x=[*ahead, *reversed(ahead)], y=[*ends[1], *reversed(ends[0])], fill="toself", mode="lines",
        hoverinfo="skip", line={"width": 0}, fillcolor="rgba(31, 95, 139, 0.18)",
        name=f"{LEVEL:.0%} interval".replace("%", " %"),
    )  # fmt: skip
    drawn.add_scatter(
        x=ahead, y=[now.figure, *(forecast.figure for forecast in forecasts)], mode="lines", name="likely",
        line={"color": palette.MODEL, "dash": "dash"}, hovertemplate="%{x} labels: %{y:.3f}<extra>likely</extra>",
    )  # fmt: skip
    drawn.add_scatter(
        x=[point.n for point in measured], y=[point.figure for point in measured], mode="markers", name="measured",
        marker={"color": palette.INK, "size": 8}, hovertemplate="%{x} labels: %{y:.3f}<extra>measured</extra>",
    )  # fmt: skip
    drawn.update_layout(
        height=_HEIGHT,
        margin={"l": 10, "r": 10, "t": 10, "b": 10},
        # It grows upwards: in a narrow column it takes a line for each name, and must not cover what was measured.
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
    )
    drawn.update_xaxes(title="Labels", rangemode="tozero")
    drawn.update_yaxes(title="AP-det")
    return drawn
