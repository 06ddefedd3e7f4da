from __future__ import annotations

import json
from typing import Any

import pytest
from page_seed import HOSTILE, add_model, open_page, project_with_images, texts
from streamlit.testing.v1 import AppTest

from pages.components import evaluation, state
from storage import images, labels, predictions, projects, registry
from storage.db import Database

VERDICTS = ["good", "good", "good", "good", "bad", "bad", "good"]
SCORES = [-3.0, -2.0, -1.0, 0.5, 0.2, 4.0, 9.0]
ROLES = ["test"] * 6 + ["train"]
PIXEL = {"p_auroc": 0.98, "ap_loc": 0.31, "aupro": 0.9, "n_images": 6, "n_masks": 2}


def _seed(db: Database, verdicts: list[str | None] | None = None, **model: Any) -> registry.Model:
    project = project_with_images(db, verdicts or VERDICTS)
    ids = images.ids(db, project_id=project.id)
    rows = list(zip(ids, SCORES, ROLES, strict=False))
    return add_model(db, project.id, rows, **{"held_out": "test", "threshold": 0.3, **model})


def _tiles(app: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in app.metric}


def _figure(app: AppTest, key: str) -> dict[str, Any]:
    return next(json.loads(c.proto.spec) for c in app.get("plotly_chart") if key in c.proto.id)


def test_without_a_model_the_page_leads_to_training(db: Database) -> None:
    projects.create(db, name="P")
    assert "There is no model yet" in texts(open_page("evaluate"))


def test_the_figures_rest_on_held_out_images_only_and_say_on_how_many(db: Database) -> None:
    _seed(db)
    app = open_page("evaluate")
    assert _tiles(app) == {"Escape rate": "50.0 %", "Overkill rate": "25.0 %", "I-AUROC": "0.875", "AP-det": "0.833"}
    said = texts(app)
    assert "1 of 2 bad images passed" in said
    assert "1 of 4 good images rejected" in said
    assert said.count("on 4 good and 2 bad images") == 3


def test_the_threshold_moves_tiles_and_figures_together(db: Database) -> None:
    model = _seed(db)
    app = open_page("evaluate")
    app.slider(key=state.threshold_key(model.id)).set_value(0.0).run()
    threshold = app.slider(key=state.threshold_key(model.id)).value
    assert _tiles(app)["Escape rate"] == "0.0 %"
    lines = [shape["x0"] for shape in _figure(app, "evaluate-histogram")["layout"]["shapes"]]
    assert lines == [threshold, threshold]
    roc, pr = (_figure(app, key)["data"][-1] for key in ("evaluate-roc", "evaluate-pr"))
    assert (roc["x"], roc["y"]) == ([0.25], [1.0])
    assert (pr["x"], pr["y"]) == ([1.0], [2 / 3])
    confusion = str(_figure(app, "evaluate-confusion")["layout"]["annotations"])
    assert ">0</b><br>Escape<br>of 2" in confusion


def test_youdens_suggestion_sets_the_slider_and_saving_keeps_it_with_the_model(db: Database) -> None:
    model = _seed(db)
    app = open_page("evaluate")
    assert app.button(key="evaluate-save").disabled
    app.button(key="evaluate-youden").click().run()
    suggested = app.slider(key=state.threshold_key(model.id)).value
    assert suggested == pytest.approx(-0.4)
    app.button(key="evaluate-save").click().run()
    assert registry.get(db, model_id=model.id).threshold == pytest.approx(-0.4)
    assert app.button(key="evaluate-save").disabled


def test_a_threshold_beyond_the_scores_that_are_left_is_brought_back(db: Database) -> None:
    model = _seed(db)
    app = open_page("evaluate")
    app.slider(key=state.threshold_key(model.id)).set_value(4.0).run()
    highest = images.ids(db, project_id=model.project_id)[5]
    event = labels.LabelEvent("tab", 1, highest, "unsure", "Ada", "review")
    labels.record(db, project_id=model.project_id, events=[event])
    app.run()
    assert not app.exception
    assert app.slider(key=state.threshold_key(model.id)).value < 1.0


def test_pixel_figures_are_not_available_without_masks(db: Database) -> None:
    _seed(db)
    assert "**n/a: no masks.**" in texts(open_page("evaluate"))


def test_pixel_figures_name_images_and_masks(db: Database) -> None:
    _seed(db, pixel={**PIXEL, "aupro": None})
    app = open_page("evaluate")
    tiles = _tiles(app)
    assert (tiles["P-AUROC"], tiles["AP-loc"], tiles["AUPRO"]) == ("0.980", "0.310", "n/a")
    assert texts(app).count("on 6 images, 2 masks") == 3


@pytest.mark.parametrize(("held_out", "words"), [("test", "fixed test split"), ("out_of_fold", "slightly optimistic")])
def test_the_page_says_how_the_scores_came_about(db: Database, held_out: str, words: str) -> None:
    model = _seed(db, held_out=held_out)
    ids = images.ids(db, project_id=model.project_id)
    predictions.store(db, model_id=model.id, rows=[(i, s, held_out) for i, s in zip(ids, SCORES, strict=True)])
    assert words in texts(open_page("evaluate"))


def test_with_one_class_only_the_other_figures_are_not_available(db: Database) -> None:
    _seed(db, ["good"] * 6)
    app = open_page("evaluate")
    assert "There is no bad image among the held-out ones" in app.warning[0].value
    assert _tiles(app) == {"Escape rate": "n/a", "Overkill rate": "33.3 %", "I-AUROC": "n/a", "AP-det": "n/a"}
    assert app.button(key="evaluate-youden").disabled


def test_without_labels_on_held_out_images_nothing_is_claimed(db: Database) -> None:
    _seed(db, [None] * 6)
    app = open_page("evaluate")
    assert "nothing can be measured yet" in texts(app)
    assert not app.metric


def test_equal_scores_can_be_drawn(db: Database) -> None:
    project = project_with_images(db, ["good", "bad"])
    rows = [(i, 1.0, "test") for i in images.ids(db, project_id=project.id)]
    add_model(db, project.id, rows, held_out="test", threshold=1.0)
    assert _tiles(open_page("evaluate"))["I-AUROC"] == "0.500"


def test_a_nan_score_is_an_error_for_people_and_not_a_crash(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    model = _seed(db)
    found = predictions.held_out(db, model_id=model.id)
    found.scores[0] = float("nan")
    monkeypatch.setattr(predictions, "held_out", lambda *args, **kwargs: found)
    app = open_page("evaluate")
    assert app.error


def test_the_table_names_each_outcome_and_keeps_names_as_they_are(db: Database) -> None:
    model = _seed(db)
    held_out = predictions.held_out(db, model_id=model.id)
    frame = evaluation.held_out_frame(held_out, 0.3)
    assert list(frame["Outcome"]) == ["caught", "overkill", "escape", "passed", "passed", "passed"]
    named = held_out.__class__(**{**held_out.__dict__, "names": (HOSTILE, *held_out.names[1:])})
    assert HOSTILE in set(evaluation.held_out_frame(named, 0.3)["Image"])
