from __future__ import annotations

from page_seed import HOSTILE, add_model, open_page, project_with_images, texts
from streamlit.testing.v1 import AppTest

from pages.components.text import prose
from ssn_core.recipes import MIN_BAD, MIN_GOOD
from storage import jobs, projects
from storage.db import Database


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
