from __future__ import annotations

import functools

import pytest
from page_seed import HOSTILE, add_images, open_page, project_with_images, texts
from sqlalchemy import update
from streamlit.testing.v1 import AppTest

from pages.components.text import prose
from ssn_core.recipes import MIN_BAD, MIN_GOOD
from storage import demo, jobs, labels, projects
from storage.db import Database
from storage.tables import JobRow
from tests.model_seed import add_model


def _press(app: AppTest, label: str) -> AppTest:
    return next(button for button in app.button if button.label == label).click().run()


def test_a_new_installation_asks_for_the_first_project(db: Database) -> None:
    app = open_page()
    assert "Create the first project" in texts(app)
    assert next(b for b in app.button if b.label == "Create project").disabled


def test_a_created_project_is_chosen_and_its_first_step_is_to_bring_images(db: Database) -> None:
    app = open_page()
    app.text_input(key="home-name").set_value("Commutators").run()
    app.radio(key="home-preset").set_value("704 × 256 – tall, narrow parts").run()
    _press(app, "Create project")
    made = projects.list_projects(db)[0]
    assert (made.name, made.image_height, made.image_width) == ("Commutators", 704, 256)
    assert "Next in Commutators" in texts(app)
    assert "A folder, several files or one zip." in texts(app)


def test_another_size_can_be_typed(db: Database) -> None:
    app = open_page()
    app.text_input(key="home-name").set_value("P").run()
    app.radio(key="home-preset").set_value("Other").run()
    app.number_input(key="home-height").set_value(320).run()
    _press(app, "Create project")
    assert (projects.list_projects(db)[0].image_height, projects.list_projects(db)[0].image_width) == (320, 256)


def test_a_taken_name_is_refused_with_the_reason(db: Database) -> None:
    projects.create(db, name="Commutators")
    app = open_page()
    app.text_input(key="home-name").set_value("commutators").run()
    _press(app, "Create project")
    assert len(projects.list_projects(db)) == 1
    assert app.error


def test_the_checklist_says_how_many_labels_are_missing(db: Database) -> None:
    project_with_images(db, ["good", "good", None])
    said = texts(open_page())
    assert "2 good, 0 bad, 0 unsure, 1 unlabelled" in said
    assert f"{MIN_GOOD - 2} good and {MIN_BAD} bad labels are missing" in said


def test_the_checklist_names_the_active_model_and_a_running_training(db: Database) -> None:
    project = project_with_images(db, ["good"] * 5 + ["bad"] * 2)
    add_model(db, project.id, [], name="Monday")
    assert "Monday is active, 1 model in all" in texts(open_page())
    jobs.submit(db, kind="train", project_id=project.id, payload={})
    assert "Training is running." in texts(open_page())


def test_a_project_name_is_shown_letter_by_letter(db: Database) -> None:
    projects.create(db, name=HOSTILE)
    assert f"Next in {prose(HOSTILE)}" in texts(open_page())


def test_another_project_can_be_opened(db: Database) -> None:
    for name in ("First", "Second"):
        projects.create(db, name=name)
    app = open_page()
    before = "First" if "Next in First" in texts(app) else "Second"
    _press(app, "Choose")  # only the project that is not chosen has this button
    assert f"Next in {before}" not in texts(app)
    _press(app, "Choose")
    assert f"Next in {before}" in texts(app)


def _set_job(db: Database, job_id: int, **values: object) -> None:
    with db.write() as session:
        session.execute(update(JobRow).where(JobRow.id == job_id).values(**values))


def _label(db: Database, project_id: int, image_ids: list[int], inspector: str) -> None:
    say = functools.partial(labels.LabelEvent, f"tour-{inspector}")
    events = [say(seq, image_id, "good", inspector, "board") for seq, image_id in enumerate(image_ids, start=1)]
    labels.record(db, project_id=project_id, events=events)


def test_one_click_makes_a_demo_project_and_starts_the_tour(db: Database) -> None:
    app = _press(open_page(), "Try it with a demo")
    assert [project.name for project in projects.list_projects(db)] == ["Demo"]
    assert [job.kind for job in jobs.active(db)] == ["demo"]
    said = texts(app)
    assert "Next in Demo" in said
    assert "A worker is starting" in said
    assert "0 of 12 labelled" in said
    assert not [button for button in app.button if button.label == "Try it with a demo"]


def test_the_demo_is_offered_only_where_there_is_no_project(db: Database) -> None:
    assert "Try it with a demo" in texts(open_page())
    projects.create(db, name="Commutators")
    assert "Try it with a demo" not in texts(open_page())


def test_the_tour_says_how_far_the_demo_images_are(db: Database) -> None:
    made = demo.create(db)
    _set_job(db, made.job_id, status="running", phase="Making surfaces", done=120, total=300)
    said = texts(open_page())
    assert "**Get the images** :blue-badge[Next]" in said
    assert "Making surfaces, 120 of 300" in said
    assert "Needs labels: the images come first." in said


def test_the_tour_counts_what_the_inspector_labelled_and_not_what_came_along(db: Database) -> None:
    made = demo.create(db)
    _set_job(db, made.job_id, status="succeeded")
    ids = add_images(db, made.project.id, [None] * 30)
    _label(db, made.project.id, ids[12:], demo.LABELLED_BY)
    _label(db, made.project.id, ids[:5], "Ada")
    said = texts(open_page())
    assert "30 photographs of four materials, 7 without a label" in said
    assert "**Look at them, and label a dozen** :blue-badge[Next]" in said
    assert "5 of 12 labelled" in said


def test_after_a_dozen_labels_and_a_training_the_tour_goes_on(db: Database) -> None:
    made = demo.create(db)
    _set_job(db, made.job_id, status="succeeded")
    add_images(db, made.project.id, ["good"] * 10 + ["bad"] * 3)
    assert "**Train** :blue-badge[Next]" in texts(open_page())
    jobs.submit(db, kind="train", project_id=made.project.id, payload={})
    assert "Training is running." in texts(open_page())
    add_model(db, made.project.id, [], name="First")
    assert "**Review where the model looks** :blue-badge[Next]" in texts(open_page())


@pytest.mark.parametrize("status", ["failed", "cancelled", "interrupted"])
def test_a_demo_that_did_not_come_to_its_end_can_be_tried_again(db: Database, status: str) -> None:
    made = demo.create(db)
    _set_job(db, made.job_id, status=status, error="The disk is full.")
    app = open_page()
    assert "Not complete" in texts(app)
    _press(app, "Try again" if status == "failed" else "Resume")
    assert jobs.get(db, job_id=made.job_id).status == "queued"
