from __future__ import annotations

import io
import zipfile
from dataclasses import asdict
from pathlib import Path

import pytest
from page_seed import HOSTILE, open_page, png, running, set_job, texts
from streamlit.testing.v1 import AppTest

from pages.components import import_panel, state
from storage import imports, jobs, projects
from storage.db import Database


@pytest.fixture
def project(db: Database) -> projects.Project:
    return projects.create(db, name="Commutators")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two good images, one bad one, and one file that is no image."""
    for name, data in (("good/a.png", png(1)), ("good/b.png", png(2)), ("bad/c.png", png(3)), ("bad/d.png", b"no")):
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path / "set"


def _named(app: AppTest) -> AppTest:
    return app.text_input(key=state.Key.NAME_INPUT).set_value("Ada").run()


def _look_at(app: AppTest, path: object) -> AppTest:
    app.segmented_control(key=state.Key.DATA_SOURCE).set_value(import_panel.FOLDER).run()
    app.text_input(key=state.Key.DATA_FOLDER).set_value(str(path)).run()
    return app.button(key="data-look-folder").click().run()


def _run_import(db: Database) -> int:
    job = jobs.active(db, kinds=("import",))[0]
    set_job(db, job.id, **running())
    imports.run(db, job_id=job.id, progress=lambda *args: None)
    set_job(db, job.id, status="succeeded")
    return job.id


def test_without_a_project_the_page_leads_to_its_creation(db: Database) -> None:
    assert "There is no project yet." in texts(open_page("data"))


def test_an_empty_project_says_how_to_bring_images(project: projects.Project) -> None:
    assert "This project has no images yet" in texts(open_page("data"))


@pytest.mark.parametrize("path", ["~nobody-of-this-name/x", "x" * 5000, "/no/such/folder"])
def test_a_path_that_leads_nowhere_is_explained(project: projects.Project, path: str) -> None:
    app = _look_at(_named(open_page("data")), path)
    assert not app.exception
    assert "Expected a folder or a" in app.error[0].value.replace("\\", "")


def test_a_folder_is_shown_before_anything_is_imported(db: Database, project: projects.Project, folder: Path) -> None:
    app = _look_at(_named(open_page("data")), folder)
    assert "Found: Folder per class, 4 images, 2 good, 2 bad" in texts(app)
    assert projects.counts(db, project_id=project.id).total == 0
    assert jobs.active(db) == []


def test_a_folder_that_is_not_there_is_an_error_for_people(project: projects.Project) -> None:
    app = _look_at(_named(open_page("data")), "/no/such/folder")
    assert "There is no such folder or file" in app.error[0].value.replace("\\", "")
    assert not app.exception


def test_nothing_is_imported_before_the_inspector_has_a_name(project: projects.Project, folder: Path) -> None:
    app = _look_at(open_page("data"), folder)
    assert app.button(key="data-import").disabled


def test_an_import_ends_in_a_report_that_names_each_rejected_file(
    db: Database, project: projects.Project, folder: Path
) -> None:
    app = _look_at(_named(open_page("data")), folder)
    app.button(key="data-import").click().run()
    assert "Import waits for its turn." in texts(app)
    job_id = _run_import(db)
    app = open_page("data")
    assert {metric.label: metric.value for metric in app.metric} == {
        "Added": "3",
        "Already there": "0",
        "Rejected": "1",
        "Labels taken over": "3",
    }
    assert list(app.dataframe[0].value["File"]) == ["bad/d.png"]
    report = import_panel.report_csv(job_id).decode("utf-8-sig").splitlines()
    assert report[0] == "file,outcome,reason"
    assert len(report) == 5


def test_uploads_and_a_zip_are_taken_by_the_same_uploader(db: Database, project: projects.Project) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("good/a.png", png(1))
        archive.writestr("bad/b.png", png(2))
    app = _named(open_page("data"))
    app.file_uploader[0].upload("parts.zip", stream.getvalue()).run()
    app.button(key="data-look-upload").click().run()
    assert "Found: Folder per class, 2 images, 1 good, 1 bad" in texts(app)
    app.button(key="data-import").click().run()
    _run_import(db)
    assert projects.counts(db, project_id=project.id).total == 2


def test_without_a_name_the_page_says_what_is_missing(db: Database, project: projects.Project, folder: Path) -> None:
    app = _look_at(open_page("data"), folder)
    assert app.button(key="data-import").disabled
    assert "Type your name in the sidebar first" in texts(app)


def test_an_earlier_import_is_told_in_one_line(db: Database, project: projects.Project, folder: Path) -> None:
    for _ in range(2):
        _look_at(_named(open_page("data")), folder).button(key="data-import").click().run()
        job_id = _run_import(db)
        set_job(db, job_id, result=asdict(imports.report(db, job_id=job_id)))
    app = open_page("data")
    earlier = [box.label for box in app.expander if "added" in box.label]
    assert [label.rpartition("· ")[2] for label in earlier] == ["3 added, 0 already there, 1 rejected"]
    assert [metric.value for metric in app.metric] == ["0", "3", "1", "0"]  # of the last one alone


def test_what_was_uploaded_and_discarded_is_deleted(db: Database, project: projects.Project) -> None:
    app = _named(open_page("data"))
    app.file_uploader[0].upload("a.png", png(1)).run()
    app.button(key="data-look-upload").click().run()
    assert len(list((db.data_dir / "staging").iterdir())) == 1
    app.button(key="data-discard").click().run()
    assert list((db.data_dir / "staging").iterdir()) == []
    assert "Found" not in texts(app)


def test_a_running_import_is_live_after_a_reload_and_can_be_cancelled(db: Database, project: projects.Project) -> None:
    job_id = jobs.submit(db, kind="import", project_id=project.id, payload={"source": "/x"})
    set_job(db, job_id, **running(phase="Importing", done=50, total=399, eta_seconds=70.0))
    app = open_page("data")
    assert "**Importing**" in texts(app)
    assert "about 1 min 10 s left in this step" in texts(app)
    app.button(key=f"job-cancel-{job_id}").click().run()
    assert "Cancelling …" in texts(app)
    assert jobs.get(db, job_id=job_id).is_cancelling


def test_hostile_names_are_shown_letter_by_letter(project: projects.Project, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / HOSTILE.replace("/", "")).write_bytes(png(1))
    app = _look_at(_named(open_page("data")), tmp_path / "set")
    assert "For example ``" + HOSTILE.replace("/", "") + "``" in texts(app)
