from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from page_seed import HOSTILE, open_page, png, project_with_images, running, set_job, texts

from pages.components import inspection, state
from storage import jobs, projects, registry, thresholds
from storage.db import Database
from storage.tables import utc_now
from tests.model_seed import add_model


@pytest.fixture
def project(db: Database) -> projects.Project:
    return project_with_images(db, ["good", "bad"])


@pytest.fixture
def model(db: Database, project: projects.Project) -> registry.Model:
    return add_model(db, project.id, [])


def _done(db: Database, project: projects.Project, model: registry.Model, rows: list[dict[str, object]]) -> jobs.Job:
    job_id = jobs.submit(db, kind="inspect", project_id=project.id, payload={"model_id": model.id, "staging": "/x"})
    folder = jobs.folder(db, job_id=job_id) / "inspect"
    folder.mkdir(parents=True)
    for row in rows:
        if row["sha256"]:
            (folder / f"{row['sha256']}.png").write_bytes(png(1))
            np.save(folder / f"{row['sha256']}.npy", np.ones((3, 2), np.float32))
    now = utc_now()
    result = {"rows": rows, "threshold": 0.0, "model_id": model.id}
    return set_job(db, job_id, status="succeeded", result=result, started_at=now, finished_at=now)


def _row(name: str, score: float | None, error: str | None = None) -> dict[str, object]:
    verdict = None if score is None else "bad" if score >= 0 else "good"
    return {"name": name, "score": score, "verdict": verdict, "sha256": None if error else "ab" * 32, "error": error}


ROWS = [_row("a.png", -1.0), _row(HOSTILE, 2.0), _row("c.png", None, "This file is empty")]


def test_without_a_model_the_page_leads_to_training(project: projects.Project) -> None:
    assert "There is no model yet" in texts(open_page("inspect"))


def test_before_the_first_inspection_the_page_says_what_will_come(model: registry.Model) -> None:
    app = open_page("inspect")
    assert "Results appear here" in texts(app)
    assert app.button(key="inspect-start").disabled


def test_dropped_files_become_a_job_with_their_folder(db: Database, model: registry.Model) -> None:
    app = open_page("inspect")
    app.file_uploader[0].upload("new.png", png(7)).run()
    app.button(key="inspect-start").click().run()
    (job,) = jobs.active(db, kinds=("inspect",))
    assert job.payload["model_id"] == model.id
    assert [path.name for path in Path(job.payload["staging"]).iterdir()] == ["new.png"]
    assert "Inspection waits for its turn." in texts(app)
    assert not app.file_uploader[0].value


def test_a_new_inspection_is_shown_whichever_was_looked_at_before(
    db: Database, project: projects.Project, model: registry.Model
) -> None:
    old = [_done(db, project, model, ROWS).id for _ in range(2)]
    app = open_page("inspect")
    app.selectbox(key=state.inspect_job_key(project.id)).set_value(old[0]).run()
    app.file_uploader[0].upload("new.png", png(7)).run()
    app.button(key="inspect-start").click().run()
    (job,) = jobs.active(db, kinds=("inspect",))
    assert app.selectbox(key=state.inspect_job_key(project.id)).value == job.id
    assert "Inspection waits for its turn." in texts(app)
    assert not app.metric  # of another inspection
    app.selectbox(key=state.inspect_job_key(project.id)).set_value(old[0]).run()
    assert app.metric[0].value == "1"
    assert "Inspection waits for its turn." in texts(app)


def test_progress_is_live_and_a_failure_says_why(
    db: Database, project: projects.Project, model: registry.Model
) -> None:
    job_id = jobs.submit(db, kind="inspect", project_id=project.id, payload={"model_id": model.id, "staging": "/x"})
    set_job(db, job_id, **running(phase="Scoring images", done=1, total=4))
    assert "**Scoring images**" in texts(open_page("inspect"))
    set_job(db, job_id, status="failed", error="The model folder is damaged.")
    assert "The model folder is damaged" in open_page("inspect").error[0].value.replace("\\", "")


def test_results_are_counted_and_the_most_suspicious_stands_first(
    db: Database, project: projects.Project, model: registry.Model
) -> None:
    _done(db, project, model, ROWS)
    app = open_page("inspect")
    found = {metric.label: metric.value for metric in app.metric}
    assert found == {"✕ Bad": "1", "✓ Good": "1", "Not readable": "1"}
    assert "threshold 0.000" in texts(app)
    table = app.dataframe[0].value
    assert list(table["Image"]) == [HOSTILE, "a.png", "c.png"]
    assert list(table["Verdict"]) == ["✕ Bad", "✓ Good", "n/a"]
    assert list(table["Note"]) == ["", "", "This file is empty"]
    assert table["Picture"][0].startswith("data:image/png;base64,")


def test_between_two_thresholds_a_part_goes_to_a_person(
    db: Database, project: projects.Project, model: registry.Model
) -> None:
    job = _done(db, project, model, [*ROWS, {**_row("between.png", 0.5), "verdict": "check"}])
    set_job(db, job.id, result={**(job.result or {}), "threshold": 1.5, "threshold_low": -0.5})
    app = open_page("inspect")
    found = {metric.label: metric.value for metric in app.metric}
    assert found == {"✕ Bad": "1", "◐ To a person": "1", "✓ Good": "1", "Not readable": "1"}
    assert list(app.dataframe[0].value["Verdict"]) == ["✕ Bad", "◐ To a person", "✓ Good", "n/a"]
    assert "thresholds −0.500 and 1.500" in texts(app)


def test_with_two_thresholds_nothing_between_them_is_said_to_be_none(
    db: Database, project: projects.Project, model: registry.Model
) -> None:
    job = _done(db, project, model, ROWS)
    set_job(db, job.id, result={**(job.result or {}), "threshold": 1.5, "threshold_low": -0.5})
    assert {metric.label: metric.value for metric in open_page("inspect").metric}["◐ To a person"] == "0"


def test_thresholds_moved_since_do_not_change_what_was_said(
    db: Database, project: projects.Project, model: registry.Model
) -> None:
    job = _done(db, project, model, ROWS)
    thresholds.save(db, model_id=model.id, threshold=9.0, threshold_low=-9.0, how="By hand", inspector="Ada")
    app = open_page("inspect")
    assert "threshold 0.000" in texts(app)
    assert "To a person" not in {metric.label for metric in app.metric}
    assert inspection.thresholds_of(job, registry.get(db, model_id=model.id)) == (None, 0.0)


def test_the_csv_holds_every_row_and_no_formula(db: Database, project: projects.Project, model: registry.Model) -> None:
    job = _done(db, project, model, [*ROWS, _row("=cmd|' /C calc'!A0", -3.0)])
    rows_found = inspection.rows_of(job.result)
    data = inspection.results_csv(rows_found, model, -0.5, 1.5)
    rows = list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"))))
    assert [row["image"] for row in rows] == [HOSTILE, "a.png", "'=cmd|' /C calc'!A0", "c.png"]
    assert [row["score"] for row in rows] == ["2.0", "-1.0", "-3.0", ""]
    assert {(row["threshold_low"], row["threshold"]) for row in rows} == {("-0.5", "1.5")}
    alone = inspection.results_csv(rows_found, model, None, 1.5).decode("utf-8-sig")
    assert {row["threshold_low"] for row in csv.DictReader(io.StringIO(alone))} == {""}


def test_a_picture_that_is_gone_is_said_to_be_gone(
    db: Database, project: projects.Project, model: registry.Model
) -> None:
    job = _done(db, project, model, [_row("b.png", 2.0)])
    for path in (jobs.folder(db, job_id=job.id) / "inspect").iterdir():
        path.unlink()
    assert "no longer there" in texts(open_page("inspect"))


def test_an_overlay_leaves_the_picture_alone_where_the_map_is_dark(tmp_path: Path, model: registry.Model) -> None:
    (tmp_path / "x.png").write_bytes(png(3))
    np.save(tmp_path / "x.npy", np.full((3, 2), -5.0, np.float32))
    inspection.overlay_png.clear()
    plain = inspection.overlay_png(tmp_path, "x", 0.0, 64, model)
    assert inspection.overlay_png(tmp_path, "x", 0.6, 64, model) == plain
    np.save(tmp_path / "x.npy", np.full((3, 2), 5.0, np.float32))
    inspection.overlay_png.clear()
    assert inspection.overlay_png(tmp_path, "x", 0.6, 64, model) != plain
