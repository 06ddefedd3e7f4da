"""The Trade-offs page above its regret list: measure the models, see them on one chart, read all figures."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from pages.components import resources, state
from pages.components.errors import show_errors
from pages.components.evaluation import areas
from pages.components.held_out import held_out_scores
from pages.components.job_progress import job_panel
from pages.components.text import NOT_AVAILABLE, count, csv_bytes, plain, prose
from pages.components.tradeoff_board import tradeoff_board
from pages.components.tradeoff_points import Point, on_chart
from pages.components.workers import look_after_jobs
from ssn_core.benchmark_row import COLUMNS
from storage import benchmarks, jobs, projects, registry

TIMES = {"score": "Without decoding", "file": "With decoding"}
NOT_MEASURED = "not measured yet"


def draw_head() -> None:
    """Title, and which time is shown."""
    left, right = st.columns([1, 1], vertical_alignment="center")
    left.title("Trade-offs", anchor=False)
    state.tradeoff_time()  # its first value
    with right, st.container(horizontal=True, horizontal_alignment="right"):
        st.segmented_control(
            "Time",
            list(TIMES),
            format_func=TIMES.__getitem__,
            required=True,
            key=state.Key.TRADEOFF_TIME,
            persist_state="session",
            label_visibility="collapsed",
            help="From pixels to a score, or from the image's file to a score.",
        )


def measured_points(project: projects.Project, models: Sequence[registry.Model]) -> list[Point]:
    """One point a model, oldest first, with the newest measurement and the honest figures of today."""
    db = resources.database()
    measured = benchmarks.results(db, project_id=project.id)
    points = []
    for number, model in enumerate(sorted(models, key=lambda one: one.id), start=1):
        held_out = held_out_scores(db, model)
        area = areas(held_out.labels, held_out.scores)["auroc"]
        row = measured[model.id].row if model.id in measured else None
        reasons = []
        if row is None:
            reasons.append(NOT_MEASURED)
        if area is None:
            lacking = "good or bad" if not held_out.n_good + held_out.n_bad else "bad" if held_out.n_good else "good"
            reasons.append(f"no I-AUROC: no {lacking} image held out")
        points.append(
            Point(
                number=number,
                model_id=model.id,
                name=model.name,
                active=model.id == project.active_model_id,
                row=row,
                auroc=None if area is None else area.value,
                low=None if area is None else area.low,
                high=None if area is None else area.high,
                n_good=held_out.n_good,
                n_bad=held_out.n_bad,
                missing="; ".join(reasons),
            )
        )
    return points


def draw_measuring(project: projects.Project, models: Sequence[registry.Model], points: Sequence[Point]) -> None:
    """The benchmark as a job: running, or the buttons that start one."""
    newest = jobs.list_jobs(resources.database(), project_id=project.id, kinds=(benchmarks.KIND,), limit=1)
    job = newest[0] if newest else None
    if job is not None and (job.is_active or job.status != "succeeded"):
        job_panel(job.id)
        if job.is_active:
            return
    elif job is not None:
        for reason in (job.result or {}).get("left_out", []):
            st.warning(prose(reason), icon=":material/warning:")
    todo = [point.model_id for point in points if point.row is None]
    everything = [model.id for model in models]
    with st.container(horizontal=True, vertical_alignment="center"):
        if todo:
            _button(project, f"Measure {count(len(todo), 'model')}", todo, primary=True)
        if len(todo) < len(everything):
            _button(project, "Measure all again", everything, primary=False)
        st.caption(_since(points))


def _button(project: projects.Project, words: str, model_ids: list[int], *, primary: bool) -> None:
    clicked = st.button(
        words,
        key=f"tradeoffs-measure-{'new' if primary else 'all'}",
        type="primary" if primary else "secondary",
        help="Each model beside the published way of computing, in one run: latency, throughput, memory. A job; it "
        "takes about a minute a model, and nothing else should compute meanwhile.",
    )
    if clicked:
        with show_errors():
            benchmarks.submit(resources.database(), project_id=project.id, model_ids=model_ids)
            look_after_jobs()
            st.rerun()


def _since(points: Sequence[Point]) -> str:
    rows = [point.row for point in points if point.row is not None]
    if not rows:
        return "No model is measured yet: about a minute a model, as a job in the background."
    devices = sorted({f"{row.machine}, {count(row.threads, 'thread')}" for row in rows})
    words = f"Measured on {prose(devices[0])}; {', '.join(sorted({row.measured_at[:10] for row in rows}))}."
    if len(devices) > 1:
        return f"Measured on different machines ({prose('; '.join(devices))}): measure all again before comparing."
    return words


def draw_points(project: projects.Project, points: Sequence[Point]) -> None:
    """The chart, or what is missing for one."""
    time = state.tradeoff_time()
    if not on_chart(points, time):
        reasons = {f"{point.number}. {plain(point.name)}: {point.missing}" for point in points}
        st.info(
            "Nothing to draw yet. A model is drawn when it is measured and has an I-AUROC. "
            + " · ".join(prose(reason) for reason in sorted(reasons)),
            icon=":material/info:",
        )
        return
    tradeoff_board(points, time, key=state.tradeoff_board_key(project.id))


def draw_table(points: Sequence[Point]) -> None:
    """All figures in a table, and everything that was measured as CSV."""
    st.subheader("All models", anchor=False)
    # A long name is cut, and shown whole by a click: it would push the last columns out of a small screen.
    widths = {
        "No.": st.column_config.NumberColumn(width=45),
        "Model": st.column_config.TextColumn(width=140),
        "I-AUROC (95 %)": st.column_config.TextColumn(width=155),  # the interval whole
    }
    st.dataframe(table(points), hide_index=True, column_config=widths, key="tradeoffs-table")
    if reasons := why_not_available(points):
        st.caption(reasons)
    rows = [point.row for point in points if point.row is not None]
    if not rows:
        return
    st.caption(
        "Medians of one run; “decoded”: from the file to the score. “Published”: the published way of computing, "
        "written plainly, with the same weights. Memory: the process's peak less what Python and torch took before the "
        "model was loaded (on a GPU: what torch allocated there). Multiply-adds: of convolutions and matrix products. "
        "The I-AUROC of two models is comparable where both held out the same images: compare them on the Models page."
    )
    st.download_button(
        "Download CSV",
        data=lambda: csv_bytes(COLUMNS, [[getattr(row, name) for name in COLUMNS] for row in rows]),
        file_name="benchmark.csv",
        mime="text/csv",
        on_click="ignore",
        icon=":material/download:",
        key="tradeoffs-csv",
    )


def table(points: Sequence[Point]) -> pd.DataFrame:
    """One line a model, in words; the reasons for each "n/a" stand below it (:func:`why_not_available`)."""
    lines = []
    for point in points:
        interval = "" if point.low is None else f" ({point.low:.3f}–{point.high:.3f})"
        lines.append(
            {
                "No.": point.number,
                "Model": plain(point.name) + (" · active" if point.active else ""),
                "I-AUROC (95 %)": NOT_AVAILABLE if point.auroc is None else f"{point.auroc:.3f}{interval}",
                **_measured(point),
            }
        )
    return pd.DataFrame(lines)


def why_not_available(points: Sequence[Point]) -> str:
    """Why something is n/a, by the models' numbers; "" where nothing is. Too wide for a column on a small screen."""
    numbers: dict[str, list[str]] = {}
    for point in points:
        if point.missing:
            numbers.setdefault(point.missing, []).append(str(point.number))
    told = " · ".join(f"No. {', '.join(models)}: {reason}" for reason, models in numbers.items())
    return told and f"{NOT_AVAILABLE}: {told}."


def _measured(point: Point) -> dict[str, str]:
    titles = (
        "ms (p95)",
        "decoded (p95)",
        "published, ms",
        "images/s (batch)",
        "MiB",
        "M params",
        "G mult-adds",
    )
    row = point.row
    if row is None:
        return dict.fromkeys(titles, NOT_AVAILABLE)
    cells = (
        f"{row.p50_ms:.1f} ({row.p95_ms:.1f})",
        f"{row.decoded_p50_ms:.1f} ({row.decoded_p95_ms:.1f})",
        f"{row.reference_p50_ms:.1f} (×{row.ratio:.1f})",
        f"{row.images_per_s:,.0f} ({row.best_batch})",
        f"{point.memory:,.0f}",
        f"{row.parameters / 1e6:.2f}",
        f"{row.multiply_adds / 1e9:.2f}",
    )
    return dict(zip(titles, cells, strict=True))
