from __future__ import annotations

from pathlib import Path

import pytest
import streamlit as st
from page_seed import HOSTILE, add_images, open_page, project_with_images, running, set_job, texts

from pages.components import state, train_panel
from ssn_core.errors import SettingError
from ssn_core.recipes import MIN_BAD, MIN_GOOD, RECIPES
from storage import jobs, projects
from storage.db import Database
from tests.model_seed import add_model

ENOUGH = ["good"] * 12 + ["bad"] * 10


@pytest.fixture
def project(db: Database) -> projects.Project:
    return project_with_images(db, ENOUGH)


def _train_job(db: Database, project: projects.Project, **values: object) -> int:
    job_id = jobs.submit(db, kind="train", project_id=project.id, payload={"recipe": "cam", "name": "First"})
    set_job(db, job_id, **values)
    return job_id


def test_without_images_training_is_disabled_and_leads_to_the_data(db: Database) -> None:
    projects.create(db, name="Empty")
    app = open_page("train")
    assert app.button(key="train-start").disabled
    assert f"{MIN_GOOD} good and {MIN_BAD} bad labels are missing" in app.warning[0].value


def test_with_no_bad_image_the_page_says_how_many_are_missing(db: Database) -> None:
    project_with_images(db, ["good"] * 30)
    app = open_page("train")
    assert app.button(key="train-start").disabled
    assert f"{MIN_BAD} bad labels are missing" in app.warning[0].value
    assert "good labels" not in app.warning[0].value


def test_where_there_are_good_images_alone_the_way_on_is_named(db: Database) -> None:
    project_with_images(db, ["good"] * 30)
    assert "choose a recipe that learns from good images only" in open_page("train").warning[0].value


def test_where_even_good_images_are_missing_no_other_recipe_is_offered(db: Database) -> None:
    project_with_images(db, ["good"] * (MIN_GOOD - 1))
    assert "choose a recipe" not in open_page("train").warning[0].value


def test_one_missing_label_is_singular(db: Database) -> None:
    project_with_images(db, ["good"] * 30 + ["bad"] * (MIN_BAD - 1))
    assert "1 bad label is missing" in open_page("train").warning[0].value


def test_the_image_size_follows_the_project(db: Database, project: projects.Project) -> None:
    other = projects.create(db, name="Tall", image_height=704, image_width=256)
    add_images(db, other.id, ["good"] * 8 + ["bad"] * 8)
    app = open_page("train")
    for chosen, size in ((project.id, [64, 64]), (other.id, [704, 256]), (project.id, [64, 64])):
        app.selectbox(key=state.Key.PROJECT_SELECT).set_value(chosen).run()
        assert [app.number_input(key=key).value for key in state.train_size_keys(chosen)] == size
    app.selectbox(key=state.Key.PROJECT_SELECT).set_value(other.id).run()
    app.button(key="train-start").click().run()
    assert jobs.active(db, kinds=("train",))[0].payload["image_size"] == [704, 256]


def test_the_browser_is_told_the_recipe_again_when_its_words_change(db: Database, project: projects.Project) -> None:
    other = projects.create(db, name="Only good")
    add_images(db, other.id, ["good"] * 8)
    app = open_page("train")
    app.selectbox(key=state.Key.PROJECT_SELECT).set_value(project.id).run()
    assert not app.run().selectbox(key=state.Key.TRAIN_RECIPE).proto.set_value
    for chosen, said in ((other.id, train_panel.NOT_YET), (project.id, "")):
        app.selectbox(key=state.Key.PROJECT_SELECT).set_value(chosen).run()
        recipe = app.selectbox(key=state.Key.TRAIN_RECIPE)
        assert recipe.value == "cam"
        assert recipe.proto.set_value
        assert recipe.proto.raw_value == RECIPES["cam"].title + said


def test_train_queues_a_job_with_the_settings_of_the_form(db: Database, project: projects.Project) -> None:
    app = open_page("train")
    app.number_input(key="train-epochs").set_value(7).run()
    app.number_input(key=state.train_size_keys(project.id)[0]).set_value(128).run()
    app.text_input(key=state.Key.TRAIN_NAME).set_value(" Trial ").run()
    app.button(key="train-start").click().run()
    payload = jobs.active(db, kinds=("train",))[0].payload
    assert payload == {
        "recipe": "cam",
        "backbone": "resnet18",
        "scales": 1,
        "epochs": 7,
        "early_stop": None,
        "seed": 0,
        "pooling_fraction": None,
        "adaptor": None,
        "noise": None,
        "beta": None,
        "image_size": [128, 64],
        "name": "Trial",
        "inspector": "",
    }
    assert app.button(key="train-start").disabled
    assert "Training waits for its turn." in texts(app)


def test_several_image_scales_are_offered_where_there_is_a_local_head(db: Database, project: projects.Project) -> None:
    app = open_page("train")
    app.selectbox(key=state.Key.TRAIN_SCALES).set_value(3).run()
    app.selectbox(key=state.Key.TRAIN_RECIPE).set_value("gap-cam").run()
    assert not [field for field in app.selectbox if field.key == state.Key.TRAIN_SCALES]
    app.button(key="train-start").click().run()
    job = jobs.active(db, kinds=("train",))[0]
    assert (job.payload["recipe"], job.payload["scales"]) == ("gap-cam", None)
    jobs.request_cancel(db, job_id=job.id)
    app.selectbox(key=state.Key.TRAIN_RECIPE).set_value("cam").run()
    assert app.selectbox(key=state.Key.TRAIN_SCALES).value == 3  # what was chosen is remembered
    app.button(key="train-start").click().run()
    assert jobs.active(db, kinds=("train",))[0].payload["scales"] == 3


def test_adaptor_and_noise_are_offered_and_beta_with_learned_noise_alone(
    db: Database, project: projects.Project
) -> None:
    app = open_page("train")
    assert not [field for field in app.number_input if field.key == state.Key.TRAIN_BETA]
    app.selectbox(key=state.Key.TRAIN_RECIPE).set_value("supersimplenet").run()
    assert "none" not in app.selectbox(key=state.Key.TRAIN_NOISE).options  # good images alone would teach nothing
    app.selectbox(key=state.Key.TRAIN_NOISE).set_value("learned").run()
    app.selectbox(key=state.Key.TRAIN_ADAPTOR).set_value("conv").run()
    app.number_input(key=state.Key.TRAIN_BETA).set_value(0.1).run()
    app.button(key="train-start").click().run()
    payload = jobs.active(db, kinds=("train",))[0].payload
    chosen = {key: payload[key] for key in ("recipe", "adaptor", "noise", "beta")}
    assert chosen == {"recipe": "supersimplenet", "adaptor": "conv", "noise": "learned", "beta": 0.1}


def test_recipes_that_lack_something_say_so_and_cannot_be_started(db: Database, project: projects.Project) -> None:
    app = open_page("train")
    titles = dict(zip(RECIPES, app.selectbox(key=state.Key.TRAIN_RECIPE).options, strict=True))
    lacking = [name for name, title in titles.items() if title.endswith(train_panel.NOT_YET)]
    assert lacking == ["supersimplenet-supervised", "mixed"]  # no image of the project has a mask
    app.selectbox(key=state.Key.TRAIN_RECIPE).set_value("mixed").run()
    assert app.button(key="train-start").disabled
    assert "no bad image has one" in app.warning[0].value
    app.selectbox(key=state.Key.TRAIN_RECIPE).set_value("cam").run()
    assert not app.button(key="train-start").disabled
    assert not app.warning


def test_good_images_alone_are_enough_for_an_unsupervised_recipe(db: Database) -> None:
    project_with_images(db, ["good"] * 12)
    app = open_page("train")
    assert app.button(key="train-start").disabled
    app.selectbox(key=state.Key.TRAIN_RECIPE).set_value("simplenet").run()
    assert not app.button(key="train-start").disabled
    assert "no bad image to measure with" in texts(app)
    assert "the figures will be n/a" in app.info[0].value
    assert app.number_input(key=state.Key.TRAIN_POOLING).disabled is False


def test_a_click_counts_even_when_its_run_is_cut_off_before_the_button(
    db: Database, project: projects.Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = open_page("train")
    with monkeypatch.context() as patched:
        patched.setattr(train_panel, "draw_labels", lambda *_counts: st.stop())
        app.number_input(key="train-epochs").set_value(9)
        app.button(key="train-start").click().run()
        (job,) = jobs.active(db, kinds=("train",))
        assert job.payload["epochs"] == 9  # as typed, though no run of the page has seen it
    assert "Training waits for its turn." in texts(app.run())
    assert app.button(key="train-start").disabled


def test_a_second_click_before_the_button_is_grey_starts_nothing(db: Database, project: projects.Project) -> None:
    for _ in range(2):
        train_panel.press(project)
    assert len(jobs.active(db, kinds=("train",))) == 1


def test_a_setting_that_is_refused_is_said_below_the_button_and_once(
    db: Database, project: projects.Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = open_page("train")

    def refuse(*_args: object, **_more: object) -> None:
        raise SettingError("The image size is not usable", value=HOSTILE)

    with monkeypatch.context() as patched:
        patched.setattr(train_panel, "start", refuse)
        app.button(key="train-start").click().run()
    assert "The image size is not usable" in app.error[0].value
    assert "**x**" not in app.error[0].value
    assert not jobs.active(db, kinds=("train",))
    assert not app.run().error
    app.button(key="train-start").click().run()
    assert len(jobs.active(db, kinds=("train",))) == 1


def test_progress_is_read_from_the_database_alone(db: Database, project: projects.Project) -> None:
    metrics = {"epoch": 12, "epochs": 120, "loss": 0.01234, "network": "Fold 1 of 3", "device": "NVIDIA H100"}
    job_id = _train_job(
        db, project, **running(phase="Training", done=12, total=480, metrics=metrics, eta_seconds=200.0)
    )
    jobs.add_points(db, job_id=job_id, attempt=1, series="fold 1 of 3", points=[(1, 0.5), (2, 0.4)])
    said = texts(open_page("train"))
    for words in ("Fold 1 of 3 · epoch 12 of 120 · loss 0.01234", "about 3 min 20 s left ·", "on NVIDIA H100"):
        assert words in said


def test_cancelling_is_not_cancelled_until_the_process_is_gone(db: Database, project: projects.Project) -> None:
    job_id = _train_job(db, project, **running(phase="Training: model", done=1, total=10))
    app = open_page("train")
    app.button(key=f"job-cancel-{job_id}").click().run()
    assert "Cancelling …" in texts(app)
    assert "was cancelled" not in texts(app)
    set_job(db, job_id, status="cancelled")
    assert "Training was cancelled." in texts(open_page("train"))


def test_an_interrupted_run_can_be_resumed(db: Database, project: projects.Project) -> None:
    job_id = _train_job(db, project, status="interrupted", attempt=1)
    app = open_page("train")
    assert "Training was interrupted." in texts(app)
    app.button(key=f"job-resume-{job_id}").click().run()
    assert jobs.get(db, job_id=job_id).status == "queued"
    assert "Training waits for its turn." in texts(app)


def test_a_run_that_cannot_be_resumed_says_so_in_its_own_place(db: Database, project: projects.Project) -> None:
    job_id = _train_job(db, project, status="interrupted", attempt=1)
    app = open_page("train")
    set_job(db, job_id, **running(phase="Training", done=1, total=10))  # resumed in another tab meanwhile
    app.button(key=f"job-resume-{job_id}").click().run()
    assert len(app.error) == 1
    # A callback's own message would stand first on the page, in the place of what a fragment does not draw again.
    assert not any(element is app.error[0] for element in app.main.children.values())
    assert not app.run().error


def test_a_failed_run_says_why(db: Database, project: projects.Project) -> None:
    _train_job(db, project, status="failed", error=f"Weights are missing in {HOSTILE}.")
    app = open_page("train")
    assert "Weights are missing in" in app.error[0].value.replace("\\", "")
    assert "**x**" not in app.error[0].value


def test_past_runs_show_status_device_and_held_out_figures(db: Database, project: projects.Project) -> None:
    job_id = _train_job(db, project, status="succeeded", metrics={"device": "CPU"})
    add_model(db, project.id, [], job_id=job_id)
    _train_job(db, project, status="failed", error="No memory")
    table = open_page("train").dataframe[0].value
    assert list(table["Status"]) == ["Failed", "Done"]
    assert list(table["Held-out AP-det"]) == ["n/a", "0.800"]
    assert list(table["Device"]) == ["–", "CPU"]


def test_the_page_names_the_active_model_and_leads_to_all(db: Database, project: projects.Project) -> None:
    add_model(db, project.id, [], name="First")
    second = add_model(db, project.id, [], name=f"Second {HOSTILE}")
    assert projects.get(db, project_id=project.id).active_model_id == second.id
    said = texts(open_page("train"))
    assert "**Second" in said
    assert "2 models in all" in said
    assert HOSTILE not in said


def test_the_page_says_which_weights_a_training_would_use(
    db: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    project_with_images(db, ["good", "bad"])
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert "the bundled backbone is used" in texts(open_page("train"))
    cached = tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"")
    app = open_page("train")
    assert "With ImageNet weights" in texts(app)
    app.selectbox(key=state.Key.TRAIN_BACKBONE).set_value("wide_resnet50_2").run()
    assert "cannot be trained" in texts(app)


def test_ending_early_is_offered_and_asked_for_only_when_it_is_chosen(db: Database, project: projects.Project) -> None:
    app = open_page("train")
    app.checkbox(key=state.Key.TRAIN_EARLY).check().run()
    app.button(key="train-start").click().run()
    assert jobs.active(db, kinds=("train",))[0].payload["early_stop"] is True


def test_a_training_that_ended_early_says_so_while_it_runs_and_afterwards(
    db: Database, project: projects.Project
) -> None:
    running = {"network": "Fold 1 of 3", "epoch": 12, "epochs": 96, "planned": 300, "loss": 0.1}
    job_id = _train_job(db, project, status="running", phase="Training", done=1, total=9, metrics=running)
    assert "epoch 12 of 96 (300 planned)" in texts(open_page("train"))
    set_job(db, job_id, metrics={**running, "network": "Fold 1 of 3, trial", "epochs": 300, "planned": 0})
    assert "planned" not in texts(open_page("train"))
    set_job(db, job_id, status="succeeded")
    trial = {"epochs": 96, "planned": 300, "checks": [[15, 0.9, 0.2]]}
    length = {"epochs": 96, "planned": 300, "trials": [trial]}
    add_model(db, project.id, job_id=job_id, summary={"length": length})
    app = open_page("train")
    assert "Ended early, after 96 of 300 epochs" in texts(app)
    assert list(app.dataframe[0].value["Epochs"]) == ["96 of 300"]
