"""Inspecting new images on a model: drop them, watch, read verdicts, see where the model looked."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st
from PIL import Image

from pages.components import palette, resources, state
from pages.components.errors import show_errors
from pages.components.job_progress import job_panel, start
from pages.components.map_viewer import MapPicture, data_url, map_viewer
from pages.components.text import NOT_AVAILABLE, count, csv_bytes, figure, literal, moment, plain, prose
from ssn_core import rendering
from storage import archives, jobs, maps, projects, registry

THUMBNAIL_EDGE = 96  # px
VIEW_HEIGHT = 520  # px; the largest picture that still fits below the table at 1366x768
MAX_ROWS = 100  # in the table with pictures; the CSV holds all
MAX_VIEW_EDGE = 2048  # px of the longer side of the large picture


@dataclass(frozen=True)
class Row:
    """One inspected file. `score` and `verdict` are None where `error` says why it could not be read.

    The verdict is "good", "bad" or "check": between two thresholds a person decides.
    """

    name: str
    score: float | None
    verdict: str | None
    sha256: str | None
    error: str | None


def draw_drop(project: projects.Project, model: registry.Model) -> None:
    """Choose files and send them to the model."""
    left, right = st.columns([5, 1], vertical_alignment="bottom")
    uploads = left.file_uploader(
        "Drop new images here, or a zip of images", accept_multiple_files=True, key=state.upload_key("inspect")
    )
    busy = bool(jobs.active(resources.database(), project_id=project.id, kinds=("inspect",)))
    if right.button(
        f"Inspect {count(len(uploads), 'file')}" if uploads else "Inspect",
        width="stretch",
        type="primary",
        disabled=not uploads or busy,
        help="An inspection is running." if busy else None,
        key="inspect-start",
    ):
        with show_errors(), st.spinner("Sending …"):
            staging = archives.stage_uploads(
                resources.database().data_dir, [(upload.name, upload) for upload in uploads]
            )
            payload = {"model_id": model.id, "staging": str(staging), "inspector": state.inspector()}
            job_id = start("inspect", payload, project_id=project.id)
            state.show_inspection(project.id, job_id)
            state.clear_upload("inspect")
            st.rerun()


def draw_results(project: projects.Project) -> None:
    """The newest inspection; earlier ones can be chosen."""
    db = resources.database()
    listed = jobs.list_jobs(db, project_id=project.id, kinds=("inspect",), limit=20)
    if not listed:
        st.caption("Results appear here: verdict, score and where the model looked, for each image.")
        return
    by_id = {job.id: job for job in listed}
    job_id = listed[0].id
    if len(listed) > 1:
        job_id = st.selectbox(
            "Inspection",
            list(by_id),
            format_func=lambda key: f"Inspection {key} · {moment(by_id[key].created_at)}",
            key=state.inspect_job_key(project.id),
            persist_state="session",
            label_visibility="collapsed",
        )
    for job in listed:
        if job.is_active and job.id != job_id:  # an earlier one is looked at while this one runs
            job_panel(job.id)
    job_panel(job_id, on_success=_results)


def rows_of(result: dict[str, Any] | None) -> list[Row]:
    """The rows of a job's result: bad first, highest score first, unreadable files last."""
    rows = [
        Row(entry["name"], entry.get("score"), entry.get("verdict"), entry.get("sha256"), entry.get("error"))
        for entry in (result or {}).get("rows", [])
    ]
    return sorted(rows, key=lambda row: (row.score is None, -(row.score or 0.0), row.name))


def results_csv(rows: Sequence[Row], model: registry.Model, low: float | None, high: float) -> bytes:
    """All rows as a CSV file that no spreadsheet takes for formulas, with the thresholds they were judged by."""
    return csv_bytes(
        ["image", "verdict", "score", "threshold", "threshold_low", "model", "sha256", "error"],
        ([row.name, row.verdict, row.score, high, low, model.name, row.sha256, row.error] for row in rows),
    )


def _results(job: jobs.Job) -> None:
    model = registry.get(resources.database(), model_id=int(job.payload["model_id"]))
    rows = rows_of(job.result)
    low, high = thresholds_of(job, model)
    said = Counter(row.verdict for row in rows)
    shown = ["bad", "check", "good"] if low is not None or said["check"] else ["bad", "good"]
    tiles = st.columns([*[1] * (len(shown) + 1), 6 - len(shown)], vertical_alignment="center")
    for tile, verdict in zip(tiles, shown, strict=False):
        style = palette.style_of(verdict)
        tile.metric(f"{style.sign} {style.word}", f"{said[verdict]:,}", help=_meaning(verdict, low))
    tiles[-2].metric("Not readable", f"{said[None]:,}")
    with tiles[-1], st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="right"):
        st.caption(f"Model {prose(model.name)} · {thresholds_in_words(low, high)}", width="content")
        st.download_button(
            "Download CSV",
            data=lambda: results_csv(rows, model, low, high),
            file_name=f"inspection-{job.id}.csv",
            mime="text/csv",
            on_click="ignore",
            icon=":material/download:",
            key=f"inspect-csv-{job.id}",
        )
    folder = resources.database().data_dir / "jobs" / str(job.id) / "inspect"
    table, picture = st.columns([3, 2], gap="medium")
    with table:
        chosen = _table(job.id, rows, folder, model)
    with picture:
        if chosen is not None:
            _picture(chosen, folder, model)


def thresholds_of(job: jobs.Job, model: registry.Model) -> tuple[float | None, float]:
    """(lower or None, upper) threshold in force when the job ran; of a job that is not done, the model's."""
    if job.result is None or "threshold" not in job.result:
        return model.threshold_low, model.threshold
    return job.result.get("threshold_low"), job.result["threshold"]


def _meaning(verdict: str, low: float | None) -> str:
    if verdict == "check":
        return (
            "A score between the two thresholds: the model does not decide, a person looks at these parts. "
            "“check” in the CSV."
        )
    upper, lower = ("threshold", "threshold") if low is None else ("upper threshold", "lower threshold")
    return f"A score at or above the {upper}." if verdict == "bad" else f"A score below the {lower}."


def thresholds_in_words(low: float | None, high: float) -> str:
    """One threshold or two, in a line."""
    return f"threshold {figure(high)}" if low is None else f"thresholds {figure(low)} and {figure(high)}"


def _table(job_id: int, rows: list[Row], folder: Path, model: registry.Model) -> Row | None:
    shown = rows[:MAX_ROWS]
    frame = pd.DataFrame(
        {
            "Picture": [_thumbnail_url(row, folder, model) for row in shown],
            "Verdict": [_verdict(row) for row in shown],
            "Score": [row.score for row in shown],
            "Image": [plain(row.name) for row in shown],
            "Note": [plain(row.error or "") for row in shown],
        }
    )
    event = st.dataframe(
        frame.style.apply(lambda _column: [_look(row) for row in shown], subset=["Verdict"]),
        hide_index=True,
        row_height=64,
        height=VIEW_HEIGHT,
        column_config={
            "Picture": st.column_config.ImageColumn(width=80),
            "Verdict": st.column_config.TextColumn(width="small"),
            "Score": st.column_config.NumberColumn(format="%.3f", width="small"),
        },
        on_select="rerun",
        selection_mode="single-row",
        key=state.inspect_table_key(job_id),
    )
    if len(rows) > MAX_ROWS:
        st.caption(f"The {MAX_ROWS} most suspicious are shown; the CSV holds all {len(rows):,}.")
    chosen = event["selection"]["rows"]
    return shown[chosen[0]] if chosen and chosen[0] < len(shown) else shown[0] if shown else None


def _verdict(row: Row) -> str:
    if row.verdict is None:
        return NOT_AVAILABLE
    style = palette.style_of(row.verdict)
    return f"{style.sign} {style.word}"


def _look(row: Row) -> str:
    return f"color: {palette.style_of(row.verdict).colour}; font-weight: 600" if row.verdict else ""


def _picture(row: Row, folder: Path, model: registry.Model) -> None:
    if row.error or row.sha256 is None or row.score is None:
        st.markdown(literal(row.name))
        st.warning(prose(row.error or "This file could not be inspected."), icon=":material/warning:")
        return
    picture = viewer_picture(folder, row.sha256, row.name, model)
    if picture is None:
        st.caption("The picture of this inspection is no longer there.")
        return
    st.markdown(f"**{_verdict(row)}** · score {figure(row.score)} · {literal(row.name)}")
    map_viewer(picture, low=model.scale_low, high=model.scale_high, key=state.Key.INSPECT_VIEWER)


@st.cache_data(max_entries=50, show_spinner=False)
def viewer_picture(folder: Path, sha256: str, name: str, _model: registry.Model) -> MapPicture | None:
    """An inspected image and its map for the map viewer; None if it is gone.

    Args:
        folder: where the job left `<sha256>.png` and `<sha256>.npy`.
        _model: the job's model; not part of the cache's key, for the folder stands for it.
    """
    image, map_path = _photo(folder, sha256), folder / f"{sha256}.npy"
    if image is None:
        return None
    width, height = image.size
    stream = io.BytesIO()
    if max(image.size) > MAX_VIEW_EDGE:  # it travels to the browser in one piece, inside the page
        image.thumbnail((MAX_VIEW_EDGE, MAX_VIEW_EDGE))
    image.save(stream, "PNG")
    grey = None
    if map_path.exists():
        shown = maps.as_shown(np.load(map_path, allow_pickle=False), _model)
        steps = rendering.quantise(shown, low=_model.scale_low, high=_model.scale_high)
        grey = data_url(rendering.png_bytes(steps))
    return MapPicture(name=plain(name), width=width, height=height, image=data_url(stream.getvalue()), map=grey)


def _photo(folder: Path, sha256: str) -> Image.Image | None:
    """The upright picture that the job left; None if it is gone."""
    path = folder / f"{sha256}.png"
    if not path.exists():
        return None
    with Image.open(path, formats=["PNG"]) as opened:
        return opened.convert("RGB")


def _thumbnail_url(row: Row, folder: Path, model: registry.Model) -> str | None:
    if row.sha256 is None or row.error:
        return None
    picture = overlay_png(folder, row.sha256, 0.5, THUMBNAIL_EDGE, model)
    return None if picture is None else data_url(picture)


@st.cache_data(max_entries=1000, show_spinner=False)
def overlay_png(folder: Path, sha256: str, opacity: float, edge: int, _model: registry.Model) -> bytes | None:
    """An inspected image with its heat-map as PNG, at most `edge` pixels high and twice as wide; None if it is gone.

    Args:
        folder: where the job left `<sha256>.png` and `<sha256>.npy`.
        opacity: 0 (image alone) to 1.
        _model: the job's model; not part of the cache's key, for the folder stands for it.
    """
    image, map_path = _photo(folder, sha256), folder / f"{sha256}.npy"
    if image is None:
        return None
    image.thumbnail((2 * edge, edge))
    rgb = np.asarray(image)
    if map_path.exists() and opacity > 0:
        shown = maps.as_shown(np.load(map_path, allow_pickle=False), _model)
        rgb = rendering.overlay(rgb, shown, low=_model.scale_low, high=_model.scale_high, opacity=opacity)
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "PNG")
    return buffer.getvalue()
