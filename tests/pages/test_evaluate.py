from __future__ import annotations

import base64
import json
import math
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from page_seed import HOSTILE, open_page, project_with_images, texts
from streamlit.testing.v1 import AppTest

from pages.components import evaluation, state
from pages.components.suggestions import Targets, suggest
from pages.components.threshold_board import Operating, operating
from ssn_core import intervals
from ssn_core.rules import BY_HAND, FROM_TRAINING, Rule, by_training, chosen_on
from storage import images, labels, predictions, projects, registry, thresholds
from storage.db import Database
from tests.model_seed import add_model

VERDICTS = ["good", "good", "good", "good", "bad", "bad", "good"]
SCORES = [-3.0, -2.0, -1.0, 0.5, 0.2, 4.0, 9.0]
ROLES = ["test"] * 6 + ["train"]
PIXEL = {"p_auroc": 0.98, "ap_loc": 0.31, "aupro": 0.9, "n_images": 6, "n_masks": 2}
# Of a calibration part that differs from the test part: Youden's J is at 1.5 here, and at -0.4 on the test scores.
CALIBRATION = [("good", 1.0), ("good", -4.0), ("bad", 2.0), ("bad", 3.0)]


def _seed(db: Database, verdicts: list[str | None] | None = None, **model: Any) -> registry.Model:
    project = project_with_images(db, verdicts or VERDICTS)
    ids = images.ids(db, project_id=project.id)
    rows = list(zip(ids, SCORES, ROLES, strict=False))
    return add_model(db, project.id, rows, **{"held_out": "test", "threshold": 0.3, **model})


def _seed_calibrated(db: Database) -> registry.Model:
    project = project_with_images(db, [*VERDICTS, *(verdict for verdict, _ in CALIBRATION)])
    ids = images.ids(db, project_id=project.id)
    scores = [*SCORES, *(score for _, score in CALIBRATION)]
    rows = list(zip(ids, scores, [*ROLES, *["calibration"] * len(CALIBRATION)], strict=True))
    return add_model(db, project.id, rows, held_out="test", threshold=0.3)


def _seed_out_of_fold(db: Database) -> registry.Model:
    project = project_with_images(db, VERDICTS[:6])
    ids = images.ids(db, project_id=project.id)
    return add_model(db, project.id, [(i, s, "out_of_fold") for i, s in zip(ids, SCORES, strict=False)], threshold=0.3)


def _board(app: AppTest) -> dict[str, Any]:
    """What the threshold board was given."""
    return next(data for data in _components(app.main) if "suggestions" in data)


def _components(node: Any) -> list[dict[str, Any]]:
    found = [json.loads(node.proto.json)] if getattr(node, "type", "") == "bidi_component" else []
    for child in getattr(node, "children", {}).values():
        found += _components(child)
    return found


def _suggested(app: AppTest) -> dict[str, dict[str, Any]]:
    return _suggested_of(_board(app))


def _suggested_of(board: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {suggestion["id"]: suggestion for suggestion in board["suggestions"]}


def _tell(app: AppTest, model: registry.Model, **told: Any) -> AppTest:
    """As if the browser had sent this."""
    app.session_state[state.Key.INSPECTOR] = "Ada"
    app.session_state[state.board_key(model.id)] = told
    return app.run()


def _tiles(app: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in app.metric}


def test_without_a_model_the_page_leads_to_training(db: Database) -> None:
    projects.create(db, name="P")
    assert "There is no model yet" in texts(open_page("evaluate"))


def test_the_board_gets_the_held_out_scores_alone_sorted_and_exact(db: Database) -> None:
    _seed(db)
    app = open_page("evaluate")
    board = _board(app)
    good, bad = (np.frombuffer(base64.b64decode(board[name]), "<f8").tolist() for name in ("good", "bad"))
    assert (good, bad) == ([-3.0, -2.0, -1.0, 0.5], [0.2, 4.0])
    assert "On 4 good and 2 bad images that the model never saw · fixed test split" in texts(app)
    assert (board["saved"]["high"], board["saved"]["low"]) == (0.3, None)
    assert board["z"] == pytest.approx(1.959964, abs=1e-6)


def test_areas_come_with_their_intervals_and_say_how_they_were_found(db: Database) -> None:
    _seed(db)
    areas = _board(open_page("evaluate"))["areas"]
    assert areas["auroc"]["value"] == pytest.approx(0.875)
    assert areas["ap"]["value"] == pytest.approx(5 / 6)
    for name, compute in (("auroc", intervals.auroc_interval), ("ap", intervals.ap_interval)):
        expected = compute([0, 0, 0, 0, 1, 1], SCORES[:6])
        assert expected is not None
        assert (areas[name]["low"], areas[name]["high"]) == pytest.approx((expected.low, expected.high))
        assert areas[name]["method"] == expected.method


def test_the_board_knows_what_no_escape_would_prove(db: Database) -> None:
    _seed(db)
    claims = _board(open_page("evaluate"))["claims"]
    assert claims["most"] == pytest.approx(1 - 0.05**0.5)
    assert claims["needed"] == [[0.05, 59], [0.01, 299], [0.001, 2995]]


def test_with_a_fixed_split_thresholds_are_chosen_on_calibration_scores_never_on_the_test_images(db: Database) -> None:
    _seed_calibrated(db)
    app = open_page("evaluate")
    assert _suggested(app)["youden"]["high"] == pytest.approx(1.5)
    assert _board(app)["chosen_on"] == "Chosen on calibration images (2 good, 2 bad); counted on the test images"
    assert (_board(app)["platt"]["n_good"], _board(app)["platt"]["n_bad"]) == (2, 2)


def test_out_of_fold_thresholds_are_chosen_on_the_same_scores_and_counted_crosswise(db: Database) -> None:
    _seed_out_of_fold(db)
    app = open_page("evaluate")
    assert _suggested(app)["youden"]["high"] == pytest.approx(-0.4)
    said = "Chosen on out-of-fold scores (4 good, 2 bad); counted on parts that had no say"
    assert _board(app)["chosen_on"] == said
    counted = _suggested(app)["youden"]["counted"]
    assert (counted["n_good"], counted["n_bad"]) == (4, 2)
    assert "the honest figure" in texts(app)


def test_the_board_gets_the_honest_figure_of_the_rule_in_force(db: Database) -> None:
    _seed_out_of_fold(db)
    board = _board(open_page("evaluate"))
    in_force = board["in_force"]
    assert in_force["counted"] == _suggested_of(board)["youden"]["counted"]
    assert in_force["rule"] == "Youden's J"
    assert in_force["note"].startswith("Each part is counted at a threshold chosen without it.")
    assert "the rule would choose \N{MINUS SIGN}0.400" in in_force["note"]  # 0.3 is in force
    assert not in_force["flatters"]
    assert "placed by hand, with these same scores in view" in board["by_hand"]


def test_a_threshold_placed_by_hand_has_no_honest_figure_and_says_why(db: Database) -> None:
    model = _seed_out_of_fold(db)
    thresholds.save(db, model_id=model.id, threshold=0.25, how=BY_HAND, inspector="Ada")
    in_force = _board(open_page("evaluate"))["in_force"]
    assert (in_force["counted"], in_force["rule"], in_force["flatters"]) == (None, None, True)
    assert "fixed test split or judge a fresh batch of parts" in in_force["note"]


def test_a_rule_with_targets_that_were_typed_in_earlier_is_still_counted_crosswise(db: Database) -> None:
    model = _seed_out_of_fold(db)
    how = chosen_on(Rule("escape", (50.0,)), "out_of_fold")
    thresholds.save(db, model_id=model.id, threshold=2.25, how=how, inspector="Ada")
    in_force = _board(open_page("evaluate"))["in_force"]
    assert in_force["rule"] == "Escape rate at most 50 %"
    assert in_force["counted"] is not None


def test_with_a_fixed_split_the_figures_are_those_of_the_test_images_unless_the_threshold_was_placed_by_hand(
    db: Database,
) -> None:
    model = _seed_calibrated(db)
    board = _board(open_page("evaluate"))
    assert board["in_force"]["note"] == "The threshold was chosen on calibration images, never on these."
    assert (board["in_force"]["counted"], board["in_force"]["flatters"]) == (None, False)
    assert "these same test images" in board["by_hand"]
    thresholds.save(db, model_id=model.id, threshold=0.25, how=BY_HAND, inspector="Ada")
    assert _board(open_page("evaluate"))["in_force"]["flatters"]


def test_without_calibration_scores_there_is_no_suggestion_and_a_reason(db: Database) -> None:
    _seed(db)
    app = open_page("evaluate")
    assert all(suggestion["high"] is None and suggestion["reason"] for suggestion in _suggested(app).values())
    assert _board(app)["platt"]["n_bad"] == 0
    assert "n/a" in _board(app)["platt"]["reason"]


def test_typed_targets_change_the_suggestions_and_stay(db: Database) -> None:
    model = _seed_out_of_fold(db)
    app = open_page("evaluate")
    before = _suggested(app)
    typed = {"escape": 50, "overkill": 0, "escape_cost": 1, "overkill_cost": 1000, "bad_share": None}
    after = _suggested(_tell(app, model, targets=typed))
    assert before["escape"]["high"] == pytest.approx(-0.4)
    assert after["escape"]["high"] == pytest.approx(2.25)
    assert after["escape"]["rule"] == "Escape rate at most 50 %"
    assert after["cost"]["high"] == pytest.approx(2.25)
    app.switch_page("views/review.py").run()
    app.switch_page("views/evaluate.py").run()
    assert _board(app)["targets"] == typed


@pytest.mark.parametrize("typed", ["x", None, [1], {"escape": "2"}, {"escape": float("nan")}, {"escape": True}])
def test_targets_that_are_no_numbers_keep_the_defaults(typed: object) -> None:
    assert Targets.of(typed) == Targets()


def test_targets_out_of_range_are_brought_into_it_and_a_cookie_is_read_as_far_as_it_goes() -> None:
    assert Targets.of({"escape": -3, "overkill": 1e9, "escape_cost": 1e99}) == Targets(0.0, 100.0, 1e9)
    assert Targets.of_cookie("1_2.5_50_1_0.3") == Targets(1.0, 2.5, 50.0, 1.0, 0.3)
    assert Targets.of_cookie("1__abc_") == Targets(escape=1.0)


def test_every_rule_that_needs_both_classes_says_so_and_the_others_work_on_one() -> None:
    found = {
        s.id: s
        for s in suggest(np.zeros(3, np.int8), np.array([1.0, 2.0, 3.0]), Targets(), out_of_fold=False, blocks=None)
    }
    assert {name for name, one in found.items() if one.high is None} == {"youden", "f1", "escape", "cost", "pair"}
    assert found["above"].high is not None
    assert found["above"].high > 3.0
    assert all(one.reason for one in found.values() if one.high is None)


def test_saving_keeps_the_thresholds_with_who_and_how(db: Database) -> None:
    model = _seed_out_of_fold(db)
    app = open_page("evaluate")
    taken = _suggested(app)["youden"]["high"]
    _tell(app, model, save={"turn": "a", "high": taken, "low": None, "rule": "youden"})
    newest = thresholds.history(db, model_id=model.id)[0]
    assert (newest.threshold, newest.threshold_low, newest.inspector) == (taken, None, "Ada")
    assert newest.how == "Youden's J, on out-of-fold scores"
    assert registry.get(db, model_id=model.id).threshold == taken
    assert _board(app)["saved"]["version"] == newest.id
    app.run()  # the same request, told again at every run, is not saved again
    assert len(thresholds.history(db, model_id=model.id)) == 2


def test_thresholds_set_by_hand_say_so_even_when_the_browser_claims_a_rule(db: Database) -> None:
    model = _seed_out_of_fold(db)
    app = open_page("evaluate")
    _tell(app, model, save={"turn": "a", "high": 0.25, "low": -1.5, "rule": "youden"})
    newest = thresholds.history(db, model_id=model.id)[0]
    assert (newest.threshold, newest.threshold_low, newest.how) == (0.25, -1.5, "By hand")
    assert "−1.500 / 0.250" in texts(app).replace("\\", "")


@pytest.mark.parametrize(
    "asked", [{"high": "x"}, {"high": None}, {"high": 1.0, "low": 2.0}, {"high": float("inf")}, {"high": True}, {}]
)
def test_what_is_no_pair_of_thresholds_is_not_saved(db: Database, asked: dict[str, Any]) -> None:
    model = _seed_out_of_fold(db)
    app = _tell(open_page("evaluate"), model, save={"turn": "a", **asked})
    assert not app.exception
    assert len(thresholds.history(db, model_id=model.id)) == 1


def test_without_a_name_nothing_is_saved(db: Database) -> None:
    model = _seed_out_of_fold(db)
    app = open_page("evaluate")
    app.session_state[state.board_key(model.id)] = {"save": {"turn": "a", "high": 1.0, "low": None}}
    app.run()
    assert len(thresholds.history(db, model_id=model.id)) == 1
    assert _board(app)["inspector"] is False


def test_an_earlier_version_can_be_restored(db: Database) -> None:
    model = _seed_out_of_fold(db)
    first = thresholds.save(db, model_id=model.id, threshold=1.0, threshold_low=-1.0, how="By hand", inspector=HOSTILE)
    thresholds.save(db, model_id=model.id, threshold=2.0, how="By hand", inspector="Bob")
    app = _tell(open_page("evaluate"), model)
    assert _board(app)["saved"]["high"] == 2.0
    app.button(key=f"evaluate-restore-{first.id}").click().run()
    newest = thresholds.history(db, model_id=model.id)[0]
    assert (newest.threshold, newest.threshold_low, newest.inspector) == (1.0, -1.0, "Ada")
    assert _board(app)["saved"] == {"version": newest.id, "high": 1.0, "low": -1.0, "mine": True}
    assert HOSTILE not in texts(app)  # each of its signs is escaped


def test_the_images_follow_the_thresholds_that_were_let_go(db: Database) -> None:
    model = _seed(db)
    app = open_page("evaluate")
    assert list(app.dataframe[0].value["Verdict"]) == ["bad", "bad", "good", "good", "good", "good"]
    _tell(app, model, operating={"version": _board(app)["saved"]["version"], "high": 1.0, "low": 0.2, "rule": None})
    assert list(app.dataframe[0].value["Verdict"]) == ["bad", "to a person", "to a person", "good", "good", "good"]


SAVED = thresholds.Version(7, 3, 1, 0.5, None, "By hand", "Ada", datetime(2026, 3, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    "told",
    [
        None,
        "x",
        {"version": 6, "high": 1.0, "low": None},
        {"version": 7, "high": math.nan, "low": None},
        {"version": 7},
    ],
)
def test_what_refers_to_another_version_or_to_nothing_leaves_the_saved_threshold(told: object) -> None:
    assert operating(told, SAVED) == Operating(0.5, None, None)


def test_pixel_figures_are_not_available_without_masks(db: Database) -> None:
    _seed(db)
    assert "**n/a: no masks.**" in texts(open_page("evaluate"))


def test_pixel_figures_name_images_and_masks(db: Database) -> None:
    _seed(db, summary={"pixel": {**PIXEL, "aupro": None}})
    app = open_page("evaluate")
    tiles = _tiles(app)
    assert (tiles["P-AUROC"], tiles["AP-loc"], tiles["AUPRO"]) == ("0.980", "0.310", "n/a")
    assert texts(app).count("on 6 images, 2 masks") == 3


@pytest.mark.parametrize("only", ["good", "bad"])
def test_with_one_class_only_the_other_figures_are_not_available(db: Database, only: str) -> None:
    _seed(db, [only] * 6)
    app = open_page("evaluate")
    other = {"good": "bad", "bad": "good"}[only]
    assert f"There is no {other} image among the held-out ones" in app.warning[0].value
    board = _board(app)
    assert board["areas"] == {"auroc": None, "ap": None}
    assert board["missing"] == f"no {other} image held out"
    assert (board["claims"]["most"] is None) == (other == "bad")


def test_the_page_says_that_rules_are_counted_crosswise_only_where_they_are(db: Database) -> None:
    project = project_with_images(db, ["good"] * 5 + ["bad"])
    ids = images.ids(db, project_id=project.id)
    add_model(db, project.id, [(i, s, "out_of_fold") for i, s in zip(ids, SCORES, strict=False)], how=FROM_TRAINING)
    app = open_page("evaluate")
    assert evaluation.ORIGINS["out_of_fold"] in texts(app)  # one bad part cannot be left out
    assert "crosswise" not in texts(app)
    assert _board(app)["chosen_on"].startswith("Chosen and counted on the same")


def test_where_rules_are_counted_crosswise_the_page_says_how(db: Database) -> None:
    _seed_out_of_fold(db)
    assert evaluation.CROSSWISE in texts(open_page("evaluate"))


def test_with_good_parts_alone_overkill_is_counted_on_parts_that_had_no_say(db: Database) -> None:
    project = project_with_images(db, ["good"] * 6)
    ids = images.ids(db, project_id=project.id)
    rows = [(i, s, "out_of_fold") for i, s in zip(ids, SCORES, strict=False)]
    add_model(db, project.id, rows, threshold=float(np.nextafter(max(SCORES[:6]), 9)), how=by_training(0))
    app = open_page("evaluate")
    board = _board(app)
    assert board["in_force"]["counted"]["overkill"] > 0  # the highest one is above all others
    assert board["chosen_on"] == "Chosen on out-of-fold scores (6 good, 0 bad); counted on parts that had no say"


def test_without_labels_on_held_out_images_nothing_is_claimed(db: Database) -> None:
    _seed(db, [None] * 6)
    app = open_page("evaluate")
    assert "nothing can be measured yet" in texts(app)
    assert not app.metric
    assert not [data for data in _components(app.main) if "suggestions" in data]


@pytest.mark.parametrize("verdicts", [["good", "bad"], ["good"], ["bad"]])
def test_equal_scores_and_single_images_can_be_drawn(db: Database, verdicts: list[str]) -> None:
    project = project_with_images(db, list(verdicts))
    rows = [(i, 1.0, "out_of_fold") for i in images.ids(db, project_id=project.id)]
    add_model(db, project.id, rows, threshold=1.0)
    area = _board(open_page("evaluate"))["areas"]["auroc"]
    assert area is None if len(verdicts) == 1 else area["value"] == 0.5


def test_figures_follow_while_a_training_still_stores_its_scores(db: Database) -> None:
    project = project_with_images(db, VERDICTS[:6])
    rows = [(i, s, "test") for i, s in zip(images.ids(db, project_id=project.id), SCORES, strict=False)]
    model = add_model(db, project.id, rows[:5], held_out="test", threshold=0.3)
    app = open_page("evaluate")
    assert "On 4 good and 1 bad images" in texts(app)
    predictions.store(db, model_id=model.id, rows=rows[5:])
    assert "On 4 good and 2 bad images" in texts(app.run())


def test_a_correction_of_a_label_changes_the_figures_at_once(db: Database) -> None:
    model = _seed(db)
    app = open_page("evaluate")
    highest = images.ids(db, project_id=model.project_id)[5]
    labels.record(
        db,
        project_id=model.project_id,
        events=[labels.LabelEvent("tab", 1, highest, "unsure", "Ada", "review")],
    )
    app.run()
    assert "On 4 good and 1 bad images" in texts(app)


def test_scores_are_read_once_for_all_pages_until_a_label_changes(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With tens of thousands of labels each page would otherwise read them for itself, at every run."""
    model = _seed_out_of_fold(db)
    reads: list[int] = []
    read = predictions.with_role

    def counted(*args: Any, **kwargs: Any) -> predictions.HeldOut:
        reads.append(kwargs["model_id"])
        return read(*args, **kwargs)

    monkeypatch.setattr(predictions, "with_role", counted)
    app = open_page("evaluate")
    app.run()
    open_page("models")
    open_page("tradeoffs")
    assert reads == [model.id]
    image = images.ids(db, project_id=model.project_id)[0]
    events = [labels.LabelEvent("tab", 1, image, "unsure", "Ada", "review")]
    labels.record(db, project_id=model.project_id, events=events)
    app.run()
    assert reads == [model.id, model.id]


def test_a_nan_score_is_an_error_for_people_and_not_a_crash(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    model = _seed(db)
    found = predictions.held_out(db, model_id=model.id)
    found.scores[0] = float("nan")
    monkeypatch.setattr(predictions, "with_role", lambda *args, **kwargs: found)
    app = open_page("evaluate")
    assert app.error


def test_the_table_names_each_outcome_and_keeps_names_as_they_are(db: Database) -> None:
    model = _seed(db)
    held_out = predictions.held_out(db, model_id=model.id)
    frame = evaluation.held_out_frame(held_out, 0.3)
    assert list(frame["Outcome"]) == ["caught", "overkill", "escape", "passed", "passed", "passed"]
    doubtful = evaluation.held_out_frame(held_out, 0.3, -1.0, rows=4)
    assert list(doubtful["Outcome"]) == ["caught", "overkill", "to a person", "to a person"]
    named = replace(held_out, names=(HOSTILE, *held_out.names[1:]))
    assert HOSTILE in set(evaluation.held_out_frame(named, 0.3)["Image"])
