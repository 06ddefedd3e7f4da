"""The Agreement page: what it says and allows in each state of a study."""

from __future__ import annotations

import html

import pytest
from page_seed import HOSTILE, SHELL, add_images, project_with_images, texts
from streamlit.testing.v1 import AppTest

from pages.components import state
from storage import images, projects, studies, study_verdicts
from storage.db import Database
from storage.study_verdicts import Message
from storage.tables import ModelRow
from tests.model_seed import add_model

SIX = ["good", "bad"] * 3


def seed(db: Database, **more: int) -> studies.Study:
    project = project_with_images(db, SIX)
    return studies.create(db, project_id=project.id, name="First look", inspector="Ada", n_parts=6, seed=1, **more)


def judge(db: Database, study: studies.Study, who: str, *, wrong: int = 0, n: int | None = None) -> None:
    """All trials as the reference says, but for the first `wrong` bad parts; or `n` verdicts alone."""
    truth = {part.image_id: part.reference for part in studies.parts(db, study_id=study.id)}
    missed = [image for image, reference in truth.items() if reference == "bad"][:wrong]
    orders = studies.orders(db, study=study, inspector=who)
    messages = [
        Message(trial, image, "good" if image in missed else truth[image])
        for trial, order in enumerate(orders, start=1)
        for image in order
    ]
    done = study_verdicts.record(
        db, project_id=study.project_id, study_id=study.id, inspector=who, messages=messages[:n]
    )
    assert done.refused == ()


def open_as(who: str = "Ada") -> AppTest:
    app = AppTest.from_file(str(SHELL), default_timeout=30)
    app.session_state[state.Key.INSPECTOR] = who
    app.run()
    app.switch_page("views/agreement.py").run()
    assert not app.exception, app.exception
    return app


def drawn(app: AppTest) -> str:
    """All HTML that the page draws itself."""
    return "\n".join(element.proto.body for element in app.get("html"))


def buttons(app: AppTest) -> list[str]:
    return [button.label for button in app.main.button]


# ---- setting up -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verdicts", [[], ["good"] * 9, ["good", "bad"], [None] * 9])
def test_without_enough_labels_the_page_leads_to_labelling(db: Database, verdicts: list[str | None]) -> None:
    project = projects.create(db, name="P")
    if verdicts:
        add_images(db, project.id, verdicts)
    app = open_as()
    assert "at least 6 images labelled good or bad" in texts(app)
    assert not app.number_input


def test_without_a_name_the_page_asks_for_it_first(db: Database) -> None:
    project_with_images(db, SIX)
    assert "Who is looking?" in texts(open_as(""))


def test_the_usual_values_are_there_and_without_a_model_the_page_says_how_parts_are_drawn(db: Database) -> None:
    project_with_images(db, ["good"] * 30 + ["bad"] * 10)
    app = open_as()
    values = {field.label: field.value for field in app.number_input}
    assert values == {
        "Parts": 30, "Trials": 2, "Effectiveness, at least": 90.0, "Miss rate, at most": 2.0,
        "False-alarm rate, at most": 5.0,
    }  # fmt: skip
    assert "There is no model yet: the parts are drawn at random" in texts(app)
    assert app.slider[0].disabled


def test_a_study_is_set_up_as_typed(db: Database) -> None:
    project = project_with_images(db, SIX * 4)
    add_model(db, project.id, [(image, 1.0, "out_of_fold") for image in images.ids(db, project_id=project.id)])
    app = open_as("Bo")
    app.main.text_input[0].set_value("Night shift")
    app.number_input[0].set_value(10)
    app.slider[0].set_value(50)
    next(field for field in app.number_input if field.label == "Trials").set_value(3)
    next(field for field in app.number_input if field.label.startswith("Miss")).set_value(1.5)
    next(button for button in app.main.button if button.label == "Set up the study").click().run()
    (study,) = studies.list_studies(db, project_id=project.id)
    assert (study.name, study.n_parts, study.n_borderline, study.trials) == ("Night shift", 10, 5, 3)
    assert (study.limits, study.created_by) == (studies.Limits(miss_rate=0.015), "Bo")
    assert not app.exception
    assert "Start" in buttons(app)


def test_with_two_thresholds_the_page_says_that_to_a_person_counts_as_bad(db: Database) -> None:
    project = project_with_images(db, SIX)
    ids = images.ids(db, project_id=project.id)
    model = add_model(db, project.id, [(image, 1.0, "out_of_fold") for image in ids], name=HOSTILE)
    assert "Its threshold: 0.000" in texts(open_as())
    with db.write() as session:  # as if they had been saved; no folder is there to copy them to
        session.get_one(ModelRow, model.id).threshold_low = -1.0
    assert "“To a person” counts as bad" in texts(open_as())


def test_a_model_that_has_seen_every_image_does_not_judge_along(db: Database) -> None:
    project = project_with_images(db, SIX)
    add_model(db, project.id, [(image, 1.0, "train") for image in images.ids(db, project_id=project.id)])
    assert "has seen every labelled image" in texts(open_as())


# ---- states ---------------------------------------------------------------------------------------------------------


def test_a_new_study_can_be_started_and_shows_no_result(db: Database) -> None:
    seed(db)
    app = open_as()
    assert "Judge 6 parts, 2 times" in texts(app)
    assert "Nobody has begun" in texts(app)
    assert "Start" in buttons(app)
    assert "Results" not in texts(app)


def test_who_is_still_judging_sees_the_place_and_no_result(db: Database) -> None:
    study = seed(db)
    judge(db, study, "Bo")
    judge(db, study, "Ada", n=2)
    app = open_as("Ada")
    assert "You are at part 3 of 6, trial 1 of 2" in texts(app)
    assert "Go on" in buttons(app)
    assert "Results appear after your own last trial" in texts(app)
    assert "Effectiveness" not in drawn(app)
    assert "2 of 12" in drawn(app)


def test_between_two_trials_the_page_advises_a_pause(db: Database) -> None:
    judge(db, seed(db), "Ada", n=6)
    app = open_as()
    assert "Trial 1 of 2 is done" in texts(app)
    assert "Pause before the next trial" in texts(app)
    assert "Start trial 2" in buttons(app)


def test_who_is_done_waits_for_those_who_have_begun(db: Database) -> None:
    study = seed(db)
    judge(db, study, "Ada")
    judge(db, study, "Bo", n=5)
    app = open_as("Ada")
    assert "Still judging: Bo (5 of 12)" in texts(app)
    assert "Effectiveness" not in drawn(app)
    assert not {"Start", "Go on"} & set(buttons(app))


def test_somebody_who_has_not_judged_sees_no_results_of_a_finished_study(db: Database) -> None:
    judge(db, seed(db), "Ada")
    app = open_as("Bo")
    assert "Effectiveness" not in drawn(app)
    assert "Start" in buttons(app)


def test_closing_shows_the_results_to_all_and_ends_the_judging(db: Database) -> None:
    study = seed(db)
    judge(db, study, "Ada", n=7)
    app = open_as("Bo")
    assert app.main.selectbox[0].options[0].startswith("First look · running")
    app.button(key="study-close").click().run()
    assert app.main.selectbox[0].options == ["First look · closed, 0 of 1 inspector done"]
    assert studies.get(db, study_id=study.id).is_closed
    assert "closed 20" in texts(app)
    assert "Effectiveness" in drawn(app)
    assert not {"Start", "Go on"} & set(buttons(app))


def test_a_study_closed_without_a_complete_trial_says_so(db: Database) -> None:
    study = seed(db)
    judge(db, study, "Ada", n=3)
    studies.close(db, study_id=study.id)
    said = texts(open_as())
    assert "Nobody completed a trial" in said
    assert "Ada (3 verdicts)" in said


def test_several_studies_are_listed_with_their_state_and_each_can_be_looked_at(db: Database) -> None:
    first = seed(db)
    judge(db, first, "Ada")
    studies.create(db, project_id=first.project_id, name=HOSTILE, inspector="Ada", n_parts=6)
    app = open_as()
    select = app.main.selectbox[0]
    assert [option.split(" · ")[-1] for option in select.options] == ["not begun", "finished, 1 of 1 inspector done"]
    select.set_value(first.id).run()
    assert "Effectiveness" in drawn(app)


def test_studies_that_look_the_same_can_be_told_apart(db: Database) -> None:
    first = seed(db)
    studies.create(db, project_id=first.project_id, name="First look", inspector="Ada", n_parts=6, trials=3)
    app = open_as()
    select = app.main.selectbox[0]
    assert len(set(select.options)) == 2
    select.set_value(first.id).run()
    assert "Judge 6 parts, 2 times" in texts(app)


def test_another_study_can_be_set_up_beside_the_first(db: Database) -> None:
    study = seed(db)
    app = open_as()
    app.button(key="study-new").click().run()
    assert app.main.text_input[0].value == "Study 2"
    next(button for button in app.main.button if button.label == "Set up the study").click().run()
    newest, _first = studies.list_studies(db, project_id=study.project_id)
    assert newest.name == "Study 2"
    assert app.main.selectbox[0].value == newest.id


# ---- results --------------------------------------------------------------------------------------------------------


def test_results_hold_each_rater_against_the_limits_in_words_and_signs(db: Database) -> None:
    study = seed(db)
    judge(db, study, "Ada")
    judge(db, study, "Bo", wrong=3)
    app = open_as("Ada")
    said = html.unescape(drawn(app))
    assert "✕ does not meet" in said
    assert "? too few to tell" in said
    assert "6 of 6 verdicts" in said  # Bo's misses: three bad parts, twice
    assert "3 of 6 parts" in said  # on which all agree
    assert "3 parts of 6 on which an inspector differs" in texts(app)
    assert f"Seed {study.seed}" in texts(app)


def test_the_models_missing_second_trial_has_a_reason(db: Database) -> None:
    project = project_with_images(db, SIX)
    add_model(db, project.id, [(image, 1.0, "out_of_fold") for image in images.ids(db, project_id=project.id)])
    study = studies.create(db, project_id=project.id, name="With model", inspector="Ada", n_parts=6, seed=1)
    judge(db, study, "Ada")
    app = open_as("Ada")
    assert "n/a<small>a model always says the same of the same image</small>" in drawn(app)
    assert "“to a person” counts as bad" in texts(app)
    assert "its line is slightly optimistic" in texts(app)


def test_one_inspector_alone_cannot_agree_with_another(db: Database) -> None:
    judge(db, seed(db), "Ada")
    app = open_as("Ada")
    assert "it takes two inspectors" in texts(app)
    assert "every inspector said the same as the reference" in texts(app)


def test_hostile_names_are_shown_letter_by_letter(db: Database) -> None:
    project = projects.create(db, name="P")
    add_images(db, project.id, SIX, name="<img src=x onerror=alert(1)>{}.png")
    study = studies.create(db, project_id=project.id, name=HOSTILE, inspector="Ada", n_parts=6)
    judge(db, study, "Ada", wrong=2)
    judge(db, study, "<b>Bo</b>")
    said = drawn(open_as("Ada"))
    assert "<b>Bo</b>" not in said.replace("<b>&lt;b&gt;Bo&lt;/b&gt;</b>", "")
    assert "&lt;img src=x" in said
    assert "<img src=x" not in said


def test_the_download_holds_every_verdict(db: Database) -> None:
    judge(db, seed(db), "Ada")
    app = open_as("Ada")
    assert [element.proto.label for element in app.get("download_button")] == ["Download CSV"]


# ---- judging --------------------------------------------------------------------------------------------------------


def test_the_board_gets_numbers_and_nothing_else_of_the_parts(db: Database) -> None:
    study = seed(db)
    app = open_as("Ada")
    app.button(key="study-begin").click().run()
    assert app.query_params["study"] in ([str(study.id)], str(study.id))
    board = next(c for c in app.get("bidi_component") if "study_board" in c.proto.component_name)
    data = str(board.proto)
    assert "part-" not in data
    assert "reference" not in data
    assert "First look" not in data
    assert not app.main.title
    assert not app.main.selectbox


@pytest.mark.parametrize("value", ["x", "-1", "99", "1e3", "²", "1" * 30])
def test_an_address_that_names_no_study_opens_the_list(db: Database, value: str) -> None:
    seed(db)
    app = open_as()
    app.query_params["study"] = value
    app.run()
    assert not app.exception
    assert app.main.title[0].value == "Agreement"


def test_a_closed_study_is_not_opened_for_judging(db: Database) -> None:
    study = seed(db)
    judge(db, study, "Ada")
    studies.close(db, study_id=study.id)
    app = open_as()
    app.query_params["study"] = str(study.id)
    app.run()
    assert app.main.title[0].value == "Agreement"
