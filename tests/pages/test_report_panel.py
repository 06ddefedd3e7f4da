"""The reports on a model: opened from its card, written, kept and deleted."""

from __future__ import annotations

import pytest
from streamlit.testing.v1 import AppTest

from pages.components import palette, state
from ssn_core.report import drawing
from storage import jobs, projects, registry, reports
from storage.db import Database
from tests.model_seed import add_model
from tests.pages.page_seed import HOSTILE, add_images, open_page, texts


@pytest.fixture
def model(db: Database) -> registry.Model:
    """A model of a project with three good and two bad images, without maps and without a folder."""
    project = projects.create(db, name="Commutators", image_height=64, image_width=64)
    ids = add_images(db, project.id, ["good"] * 3 + ["bad"] * 2)
    scores = [(image, score, "out_of_fold") for image, score in zip(ids, (-2, -1, 0.5, -0.5, 3), strict=True)]
    return add_model(db, project.id, scores, name=HOSTILE)


def opened(model: registry.Model) -> AppTest:
    app = open_page("models")
    app.button(f"model-report-{model.id}").click().run()
    assert not app.exception, app.exception
    return app


def written(app: AppTest, model: registry.Model, purpose: str = "") -> AppTest:
    app.text_area(state.report_purpose_key(model.id)).set_value(purpose)
    app.button(f"report-write-{model.id}").click().run()
    assert not app.exception, app.exception
    return app


def test_the_button_opens_the_reports_of_its_model(model: registry.Model) -> None:
    app = opened(model)
    assert "No report on this model is kept." in texts(app)
    assert app.text_area(state.report_purpose_key(model.id)).value == ""


def test_a_report_is_written_at_once_with_its_purpose(db: Database, model: registry.Model) -> None:
    app = written(opened(model), model, "Finds cracks.\nBefore assembly.")
    assert "The report is written" in texts(app)
    assert "**1 report**" in texts(app)
    (report,) = reports.list_reports(db, model_id=model.id)
    page = reports.read(db, report_id=report.id).decode()
    assert "<p>Finds cracks.</p>" in page
    assert "<b>y</b>" not in page
    again = opened(model)
    assert again.text_area(state.report_purpose_key(model.id)).value == "Finds cracks.\nBefore assembly."
    assert "The report is written" not in texts(again)
    assert jobs.list_jobs(db, project_id=model.project_id) == []


def test_a_click_writes_one_report(db: Database, model: registry.Model) -> None:
    app = written(opened(model), model)
    app.run()
    app.run()
    assert len(reports.list_reports(db, model_id=model.id)) == 1


def test_a_report_that_takes_long_is_left_to_a_job(
    db: Database, model: registry.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "QUICK_IMAGES", 4)
    app = written(opened(model), model, "Finds cracks.")
    (job,) = jobs.list_jobs(db, project_id=model.project_id)
    assert (job.kind, job.payload["model_id"]) == ("report", model.id)
    assert "Report waits for its turn" in texts(app)
    assert reports.list_reports(db, model_id=model.id) == []
    assert reports.purpose(registry.get(db, model_id=model.id)) == "Finds cracks."
    assert f"report-write-{model.id}" not in [button.key for button in app.button]


def test_a_report_is_deleted_after_a_second_click(db: Database, model: registry.Model) -> None:
    report = reports.write(db, model_id=model.id, inspector="Ada")
    app = opened(model)
    assert "by Ada" in texts(app)
    app.button(f"report-delete-{report.id}").click().run()
    assert not app.exception, app.exception
    assert reports.list_reports(db, model_id=model.id) == []
    assert "No report on this model is kept." in texts(app)


def test_a_report_whose_file_was_changed_is_not_offered(db: Database, model: registry.Model) -> None:
    kept, changed, gone = (reports.write(db, model_id=model.id, inspector="Ada") for _ in range(3))
    (db.data_dir / changed.path).write_bytes(b"something else")
    (db.data_dir / gone.path).unlink()
    app = opened(model)
    assert [button.key for button in app.get("download_button")] == [f"report-download-{kept.id}"]
    assert "was changed after it was written" in texts(app)
    assert "file is gone" in texts(app)


def test_older_reports_are_folded_away(db: Database, model: registry.Model) -> None:
    for _ in range(12):
        reports.write(db, model_id=model.id, inspector="Ada")
    app = opened(model)
    assert "**12 reports**" in texts(app)
    assert [expander.label for expander in app.expander] == ["2 older reports"]


def test_a_report_uses_the_colours_of_the_pages() -> None:
    assert (drawing.GOOD, drawing.BAD) == (palette.GOOD, palette.BAD)
