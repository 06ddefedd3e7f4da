"""Reports on a model: what it is for, write one, and the earlier ones to download or delete."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

import streamlit as st

from pages.components import resources, state
from pages.components.errors import show_errors
from pages.components.job_progress import job_panel, start
from pages.components.text import count, moment, prose
from ssn_core.errors import SsnError
from storage import jobs, registry, reports

SHOWN_REPORTS = 10
WHAT = (
    "One HTML file with data, method, figures with intervals, thresholds, curves, maps and limits. It opens in any "
    "browser without a network, and prints to PDF from there. While a report is kept, its model cannot be deleted."
)
PURPOSE_EXAMPLE = "Finds cracks in the plastic of commutators, before assembly. Replaces the second visual check."


def report_button(model: registry.Model) -> None:
    """A button that opens the reports on a model over the page."""
    st.button(
        "Report",
        key=f"model-report-{model.id}",
        on_click=state.open_report,
        args=(model.id,),
        width="stretch",
        help="Write a report on this model, or download an earlier one.",
    )
    if state.report_open() == model.id:
        _dialog(model.id)


def _close() -> None:
    state.open_report(None)


@st.dialog("Reports on a model", width="large", on_dismiss=_close)
def _dialog(model_id: int) -> None:
    with show_errors():
        model = registry.get(resources.database(), model_id=model_id)
        st.markdown(f"**{prose(model.name)}**")
        written = _write_what_was_asked(model)
        job = _job(model)
        if job is not None and job.is_active:
            job_panel(job.id)
        else:
            if job is not None and job.status != "succeeded":
                job_panel(job.id)
            _form(model)
        if (doomed := state.take_report_deletion()) is not None:
            with show_errors():
                reports.delete(resources.database(), report_id=doomed)
        _earlier(model, written)


def _form(model: registry.Model) -> None:
    st.text_area(
        "What the model is for (optional)",
        value=reports.purpose(model),
        max_chars=reports.MAX_PURPOSE,
        height=90,
        placeholder=PURPOSE_EXAMPLE,
        key=state.report_purpose_key(model.id),
        help="The report begins with it. It is kept with the model.",
    )
    words, button = st.columns([4, 1], vertical_alignment="center")
    words.caption(WHAT)
    # In the callback: the text field that is left by the click sends its value with the same message.
    button.button(
        "Write report",
        key=f"report-write-{model.id}",
        type="primary",
        on_click=state.ask_report,
        args=(model.id,),
        width="stretch",
    )


def _write_what_was_asked(model: registry.Model) -> int | None:
    """Write the report that was asked for, or put a job for it into the queue; the number of the one just written."""
    if not state.report_asked(model.id):
        return None
    db, inspector = resources.database(), state.inspector()
    quick = reports.is_quick(db, model=model)
    with st.spinner("Writing the report …"):
        purpose = state.take_report_purpose()  # from here on nothing cuts this run off before the report is written
        if purpose is None:
            return None
        reports.set_purpose(db, model_id=model.id, text=purpose)
        if not quick:
            start("report", {"model_id": model.id, "inspector": inspector}, project_id=model.project_id)
            return None
        return reports.write(db, model_id=model.id, inspector=inspector).id


def _job(model: registry.Model) -> jobs.Job | None:
    """The newest job that writes (or wrote, or could not write) a report on this model."""
    found = jobs.list_jobs(resources.database(), project_id=model.project_id, kinds=("report",))
    return next((job for job in found if job.payload.get("model_id") == model.id), None)


def _earlier(model: registry.Model, written: int | None) -> None:
    found = reports.list_reports(resources.database(), model_id=model.id)
    if not found:
        st.caption("No report on this model is kept.")
        return
    if written is not None:
        st.success("The report is written. Download it below.", icon=":material/check_circle:")
    st.markdown(f"**{count(len(found), 'report')}**, newest first")
    for report in found[:SHOWN_REPORTS]:
        _row(model, report, new=report.id == written)
    if len(found) > SHOWN_REPORTS:
        with st.expander(f"{count(len(found) - SHOWN_REPORTS, 'older report')}"):
            for report in found[SHOWN_REPORTS:]:
                _row(model, report, new=False)


def _row(model: registry.Model, report: reports.Report, *, new: bool) -> None:
    db = resources.database()
    words, download, delete = st.columns([5, 2, 2], vertical_alignment="center")
    by = f" by {prose(report.inspector)}" if report.inspector else ""
    words.markdown(f"{moment(report.created_at)}{by}")
    size, problem = _state_of(report)
    if problem is not None:
        words.caption(f":red[{prose(problem)}]")
    else:
        download.download_button(
            f"Download ({size / 1e6:.1f} MB)",
            data=lambda: reports.read(db, report_id=report.id),
            file_name=f"{_file_name(model.name)}-{report.created_at.astimezone():%Y%m%d-%H%M}.html",
            mime="text/html",
            on_click="ignore",
            type="primary" if new else "secondary",
            width="stretch",
            key=f"report-download-{report.id}",
        )
    with delete.popover("Delete", width="stretch", key=f"report-menu-{report.id}"):
        st.markdown("The file is deleted for ever; another one can be written at any time.")
        st.button(
            "Delete for ever", key=f"report-delete-{report.id}", on_click=state.ask_report_deletion, args=(report.id,)
        )


def _state_of(report: reports.Report) -> tuple[int, str | None]:
    """The size of a report's file, and why it cannot be downloaded, if so."""
    try:
        found = (resources.database().data_dir / report.path).stat()
    except OSError:
        return 0, "The report's file is gone. Put it back from a backup, or delete this entry."
    return found.st_size, _problem(resources.database().data_dir, report.id, report.sha256, found.st_mtime_ns)


@lru_cache(maxsize=500)  # a file that did not change since is not read again
def _problem(_data_dir: Path, report_id: int, _sha256: str, _changed_at: int) -> str | None:
    try:
        reports.read(resources.database(), report_id=report_id)
    except SsnError as error:
        return str(error)
    return None


def _file_name(name: str) -> str:
    """A model's name as part of a file name: letters, digits and hyphens."""
    return "report-" + (re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[:60] or "model")
