"""A job as people see it: phase, progress, loss, time left, device, and the buttons that apply.

Everything shown comes from the database, so a reload, a second tab or a restart of the app shows the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st

from pages.components import charts, resources, state
from pages.components.errors import show_errors
from pages.components.text import duration, moment, prose
from pages.components.workers import look_after_jobs
from ssn_core.errors import SsnError
from storage import jobs

REFRESH = "1s"  # while a job is active; the worker itself writes about four times a second
STATUS_WORDS = {
    "queued": "Waiting",
    "running": "Running",
    "succeeded": "Done",
    "failed": "Failed",
    "cancelled": "Cancelled",
    "interrupted": "Interrupted",
}
KIND_WORDS = {
    "import": "Import",
    "demo": "Demo",
    "train": "Training",
    "score": "Scoring",
    "inspect": "Inspection",
    "benchmark": "Benchmark",
    "report": "Report",
    "describe": "Comparing images",
    "gain": "Estimate of what more labels bring",
    "thumbnails": "Making pictures",
}


def start(kind: str, payload: dict[str, Any], *, project_id: int) -> int:
    """Put a job into the queue, wake a worker and return the job's id."""
    job_id = jobs.submit(resources.database(), kind=kind, project_id=project_id, payload=payload)
    look_after_jobs()
    return job_id


def status_word(job: jobs.Job) -> str:
    """The status in one word; a job is 'Cancelled' only once its process is gone."""
    if job.is_cancelling:
        return "Cancelling …"
    return STATUS_WORDS.get(job.status, job.status)


def took(job: jobs.Job) -> float | None:
    """Seconds from the job's start to its end; None while that is not known."""
    if job.started_at is None or job.finished_at is None:
        return None
    return (job.finished_at - job.started_at).total_seconds()


def job_panel(job_id: int, *, on_success: Callable[[jobs.Job], None] | None = None, loss: bool = False) -> None:
    """Draw one job, live while it is active.

    The timer exists only while the job is active: when it ends, the whole page runs once more without one, and when a
    click takes it up again, once more with one.

    Args:
        on_success: draws what follows a job that succeeded.
        loss: leave room for the loss curve from the start, so that nothing jumps when its first point comes.
    """
    active = jobs.get(resources.database(), job_id=job_id).is_active
    st.fragment(_panel, run_every=REFRESH if active else None)(job_id, active, on_success, loss)


def _panel(job_id: int, was_active: bool, on_success: Callable[[jobs.Job], None] | None, loss: bool) -> None:
    if was_active:
        look_after_jobs()
    job = jobs.get(resources.database(), job_id=job_id)
    if was_active != job.is_active:  # it ended, or goes on again: the timer is the page's to stop or to start
        st.rerun()
    with st.container(border=job.is_active):
        if job.is_active:
            _active(job)
        else:
            _ended(job)
        if loss and (job.is_active or job.status != "succeeded"):
            _loss(job)
    with show_errors():
        if (refusal := state.take_job_refusal(job_id)) is not None:
            raise refusal
    if job.status == "succeeded" and on_success is not None:
        on_success(job)


def _active(job: jobs.Job) -> None:
    words, button = st.columns([5, 1], vertical_alignment="center")
    if job.is_cancelling:
        words.markdown(f"**Cancelling …** {KIND_WORDS.get(job.kind, job.kind)} stops after the step it is in.")
    elif job.status == "queued":
        words.markdown(f"**{KIND_WORDS.get(job.kind, job.kind)} waits for its turn.**{_who_is_ahead(job)}")
    else:
        step, rest = facts(job)
        words.markdown(" · ".join([f"**{prose(job.phase)}**", *step]) + "  \n" + (" · ".join(rest) or "&nbsp;"))
    button.button(
        "Cancel",
        key=f"job-cancel-{job.id}",
        on_click=_cancel,
        args=(job.id,),
        disabled=job.is_cancelling,
        width="stretch",
    )
    st.progress(job.fraction or 0.0, text=f"{job.done:,} of {job.total:,}" if job.total else "Preparing …")


def facts(job: jobs.Job) -> tuple[list[str], list[str]]:
    """What is known of a running job, as two lines that do not wrap: (network, epoch, loss), (time left, device)."""
    metrics = job.metrics or {}
    step, rest = [], []
    training = job.phase.startswith("Training")
    if training:  # the last network, epoch and loss are kept while later phases run
        if metrics.get("network"):
            step.append(prose(metrics["network"]))
        if metrics.get("epoch") is not None:
            of = f" of {metrics['epochs']}" if metrics.get("epochs") else ""
            planned = metrics.get("planned") or 0
            shorter = f" ({planned} planned)" if planned > metrics.get("epochs", planned) else ""
            step.append(f"epoch {metrics['epoch']}{of}{shorter}")
        if metrics.get("loss") is not None:
            step.append(f"loss {metrics['loss']:.4g}")
    if job.eta_seconds is not None:
        rest.append(f"about {duration(job.eta_seconds)} left{'' if training else ' in this step'}")
    if metrics.get("device"):
        rest.append(f"on {prose(metrics['device'])}")
    return step, rest


def _ended(job: jobs.Job) -> None:
    word = KIND_WORDS.get(job.kind, job.kind)
    if job.status == "succeeded":
        st.markdown(
            f":blue[:material/check_circle:] **{word} done** in {duration(took(job))}, {moment(job.finished_at)}."
        )
    elif job.status == "failed":
        st.error(f"**{word} failed.** {prose(job.error or 'No reason was recorded.')}", icon=":material/error:")
        log = jobs.log_tail(resources.database(), job_id=job.id)
        if log.strip():
            with st.expander("Log"):
                st.code(log, language=None, height=240)
    elif job.status == "cancelled":
        st.info(f"**{word} was cancelled.** Its process is gone and its memory is free.", icon=":material/stop_circle:")
    else:
        st.warning(
            f"**{word} was interrupted.** Its process ended before the work was done.", icon=":material/warning:"
        )
    if job.can_resume:
        st.button(
            "Try again" if job.status == "failed" else "Resume",
            key=f"job-resume-{job.id}",
            type="primary",
            on_click=_resume,
            args=(job.id,),
            help="Goes on from the last checkpoint where there is one.",
        )


def _loss(job: jobs.Job) -> None:
    points = jobs.points(resources.database(), job_id=job.id)
    if points:
        st.plotly_chart(charts.loss_curves(points), key=f"job-loss-{job.id}", config={"displayModeBar": False})
    elif job.is_active:
        with st.container(height=charts.LOSS_HEIGHT, border=False, vertical_alignment="center"):
            st.caption("The loss curve appears with the first epoch.", text_alignment="center")


def _who_is_ahead(job: jobs.Job) -> str:
    busy = [other for other in jobs.active(resources.database()) if other.id != job.id]
    running = [other for other in busy if other.status == "running" and other.id < job.id]
    if not running:
        return " A worker is starting."
    return f" {KIND_WORDS.get(running[0].kind, running[0].kind)} comes first."


# In a fragment a callback may not show an error: it would take the place of the first element of the page.


def _cancel(job_id: int) -> None:
    try:
        jobs.request_cancel(resources.database(), job_id=job_id)
    except SsnError as error:
        state.set_job_refusal(job_id, error)


def _resume(job_id: int) -> None:
    try:
        jobs.resume(resources.database(), job_id=job_id)
        look_after_jobs()
    except SsnError as error:
        state.set_job_refusal(job_id, error)
