"""The advice on labelling: what the panel says, and which buttons it offers."""

from __future__ import annotations

import pytest
from page_seed import open_page, project_with_images, running, set_job, texts

from pages.components import label_advice as panel
from storage import descriptors, images, jobs, label_advice, label_queues, labels, projects, registry
from storage.db import Database
from tests.model_seed import add_model


@pytest.fixture
def project(db: Database) -> projects.Project:
    return project_with_images(db, ["good"] * 12 + ["bad"] * 8 + [None] * 12)


def trained(db: Database, project: projects.Project) -> registry.Model:
    scores = [(number, float(number > 12), "out_of_fold") for number in range(1, 21)]
    return add_model(db, project.id, scores, name="**First**")


def estimated(db: Database, model: registry.Model, result: dict[str, object]) -> None:
    job_id = jobs.submit(db, kind="gain", project_id=model.project_id, payload={"model_id": model.id})
    set_job(db, job_id, status="succeeded", result={"model_id": model.id, **result})


def test_without_images_there_is_no_advice(db: Database) -> None:
    project_with_images(db, [])
    assert "What to label next" not in texts(open_page())


def test_images_can_be_compared_before_any_model(db: Database, project: projects.Project) -> None:
    app = open_page()
    assert "have not been compared yet" in texts(app)
    app.button(f"advice-describe-{project.id}").click().run()
    assert [job.kind for job in jobs.active(db, project_id=project.id)] == ["describe"]
    assert "Comparing images" in texts(app)
    assert not [button for button in app.button if button.key == f"advice-describe-{project.id}"]


def test_once_they_are_compared_the_panel_leads_to_what_waits(db: Database, project: projects.Project) -> None:
    nothing = descriptors.folder(db, project_id=project.id, setup="made-up")
    label_queues.build(db, project_id=project.id, described=nothing)
    app = open_page()
    said = texts(app)
    assert "compared" not in said
    assert "Once a model is trained" in said
    assert "Label the next ones" in [link.proto.label for link in app.get("page_link")]
    assert "12 images without a label" in said
    waiting = images.ids(db, project_id=project.id, labels=("none",))
    events = [labels.LabelEvent("all", seq, image, "good", "Ada", "board") for seq, image in enumerate(waiting, 1)]
    labels.record(db, project_id=project.id, events=events)
    assert "Every image has a label" in texts(open_page())


def test_new_labels_are_counted_and_enough_of_them_offer_another_training(
    db: Database, project: projects.Project
) -> None:
    trained(db, project)
    said = texts(open_page())
    assert "0 new labels" in said
    assert "enough to train again" not in said
    events = [labels.LabelEvent("tab-new", seq, 20 + seq, "bad", "Ada", "board") for seq in range(1, 11)]
    labels.record(db, project_id=project.id, events=events)
    said = texts(open_page())
    assert "10 new labels" in said
    assert "enough to train again" in said


def test_what_more_labels_bring_is_told_with_its_interval(db: Database, project: projects.Project) -> None:
    model = trained(db, project)
    estimated(db, model, {"measured": [[50, 0.6], [50, 0.62], [100, 0.75], [100, 0.74], [200, 0.84]]})
    for page in (None, "train"):
        app = open_page(page)
        said = texts(app)
        assert "likely to help" in said
        assert "0.840" in said
        assert "| 100 | 0.0" in said
        assert "80 % interval" in said


def test_the_legend_of_the_curve_grows_away_from_what_was_measured(db: Database, project: projects.Project) -> None:
    model = trained(db, project)
    estimated(db, model, {"measured": [[15, 0.863], [15, 0.868], [30, 0.925], [30, 0.882], [60, 0.945]]})
    drawn = panel._curve(label_advice.gain(db, model=model))
    (measured,) = [trace for trace in drawn.data if trace.name == "measured"]
    assert list(measured.x) == [15, 15, 30, 30, 60]
    # In the column of the Train page it takes three lines; hung from its top it lay over the last points.
    assert drawn.layout.legend.yanchor == "bottom"
    assert drawn.layout.legend.y >= 1


def test_a_curve_that_is_flat_says_that_more_labels_hardly_help(db: Database, project: projects.Project) -> None:
    estimated(db, trained(db, project), {"measured": [[50, 1.0], [50, 1.0], [100, 1.0], [100, 1.0], [200, 1.0]]})
    assert "unlikely to help much" in texts(open_page())


@pytest.mark.parametrize(
    ("result", "said", "button"),
    [
        ({"reason": "There are too few labels to tell"}, "too few labels", False),
        ({"measured": [["x", None]]}, "cannot be read", True),
        ({}, "cannot be read", True),
    ],
)
def test_an_estimate_that_says_nothing_says_why(
    db: Database, project: projects.Project, result: dict[str, object], said: str, button: bool
) -> None:
    model = trained(db, project)
    estimated(db, model, result)
    app = open_page()
    assert said in texts(app)
    assert any(one.key == f"advice-gain-{model.id}" for one in app.button) is button


def test_an_estimate_can_be_asked_for_and_shows_how_far_it_is(db: Database, project: projects.Project) -> None:
    model = trained(db, project)
    app = open_page()
    app.button(f"advice-gain-{model.id}").click().run()
    (job,) = jobs.active(db, project_id=project.id, kinds=("gain",))
    set_job(db, job.id, **running(done=30, total=60, phase="Reading images"))
    assert "Estimating what more labels would bring: 30 of 60 images. You" in texts(open_page())
    set_job(db, job.id, **running(done=3, total=12, phase=label_advice.LEARNING, eta_seconds=540.0))
    assert "3 of 12 networks, about 9 min 00 s left. You" in texts(open_page())


def test_an_estimate_that_was_cut_off_says_so_and_offers_to_go_on(db: Database, project: projects.Project) -> None:
    model = trained(db, project)
    job_id = jobs.submit(db, kind="gain", project_id=project.id, payload={"model_id": model.id})
    set_job(db, job_id, status="interrupted", error="The worker process ended before the job was done.")
    app = open_page()
    assert "The worker process ended" in texts(app)
    button = app.button(f"advice-gain-{model.id}")
    assert button.label == "Go on with the estimate"
    button.click().run()
    (job,) = jobs.active(db, project_id=project.id, kinds=("gain",))
    assert job.id == job_id


def test_a_hostile_name_is_shown_and_not_obeyed(db: Database, project: projects.Project) -> None:
    trained(db, project)
    assert "**First**" not in texts(open_page()).replace("**enough to train again.**", "")
