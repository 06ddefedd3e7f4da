from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from page_seed import HOSTILE, add_images, open_page, project_with_images, running, set_job, texts
from streamlit.testing.v1 import AppTest

from pages.components import review_panel, state
from pages.components.text import literal
from storage import images, jobs, labels, map_verdicts, maps, projects, registry, thresholds
from storage.db import Database
from tests.model_seed import add_model

VERDICTS = ["good", "good", "bad", "bad", None, "unsure"]
SCORES = [-2.0, 0.7, 1.5, -0.4, 0.9, 0.1]
ROLES = ["train", "out_of_fold", "out_of_fold", "out_of_fold", "unseen", "calibration"]


@pytest.fixture
def project(db: Database) -> projects.Project:
    return project_with_images(db, VERDICTS)


@pytest.fixture
def model(db: Database, project: projects.Project) -> registry.Model:
    ids = images.ids(db, project_id=project.id)
    return add_model(db, project.id, list(zip(ids, SCORES, ROLES, strict=True)))


def _components(app: AppTest) -> list[dict[str, Any]]:
    """The data of all browser components on the page."""
    found = []
    for element in app.main:
        found += _data_of(element)
    return found


def _data_of(node: Any) -> list[dict[str, Any]]:
    own = []
    proto = getattr(node, "proto", None)
    if getattr(node, "type", "") == "bidi_component":
        own.append(json.loads(proto.json))
    for child in getattr(node, "children", {}).values():
        own += _data_of(child)
    return own


def _strip(app: AppTest) -> dict[str, Any]:
    return next(data for data in _components(app) if "advance" in data)


def _judge(app: AppTest) -> dict[str, Any]:
    """The data of the buttons that say where the map looks."""
    return next(data for data in _components(app) if "keys" in data)


def _viewer(app: AppTest) -> dict[str, Any]:
    return next(data for data in _components(app) if "picture" in data)


def _show(app: AppTest, name: str) -> AppTest:
    return app.segmented_control(key=state.Key.REVIEW_FILTER).set_value(name).run()


def test_without_a_model_the_page_leads_to_training(db: Database, project: projects.Project) -> None:
    assert "There is no model yet" in texts(open_page("review"))


def test_the_most_suspicious_image_comes_first(model: registry.Model) -> None:
    app = open_page("review")
    assert [item["score"] for item in _strip(app)["items"]] == sorted(SCORES, reverse=True)
    assert "Model: ✕ Bad" in texts(app)
    assert "score 1.500 · threshold 0.000" in texts(app)


@pytest.mark.parametrize(
    ("name", "scores"),
    [("misses", [-0.4]), ("false_alarms", [0.7]), ("suspicious", [0.9]), ("bad", [1.5, -0.4]), ("unsure", [0.1])],
)
def test_each_filter_shows_its_images(model: registry.Model, name: str, scores: list[float]) -> None:
    assert [item["score"] for item in _strip(_show(open_page("review"), name))["items"]] == scores


def test_a_miss_is_called_a_miss_and_its_role_is_stated(model: registry.Model) -> None:
    said = texts(_show(open_page("review"), "misses"))
    assert ":orange-badge[Miss]" in said
    assert "Scored by a model trained without this image" in said


def test_a_score_of_an_image_trained_on_is_said_to_flatter(db: Database, model: registry.Model) -> None:
    app = open_page("review")
    app.selectbox(key=state.Key.REVIEW_ORDER).set_value("score_asc").run()
    assert "The model learned from this image: its score flatters." in texts(app)


def test_no_misses_is_good_news(db: Database, project: projects.Project, model: registry.Model) -> None:
    thresholds.save(db, model_id=model.id, threshold=-9.0, how="by hand", inspector="Ada")
    assert review_panel.EMPTY["misses"] in texts(_show(open_page("review"), "misses"))


def test_between_two_thresholds_an_image_goes_to_a_person_and_is_no_miss(db: Database, model: registry.Model) -> None:
    assert review_panel.EMPTY["to_person"] in texts(_show(open_page("review"), "to_person"))
    thresholds.save(db, model_id=model.id, threshold=0.8, threshold_low=-0.4, how="by hand", inspector="Ada")
    app = _show(open_page("review"), "to_person")
    assert [item["score"] for item in _strip(app)["items"]] == [0.7, 0.1, -0.4]
    assert "Model: ◐ To a person" in texts(app)
    assert "score 0.700 · thresholds −0.400 and 0.800" in texts(app)
    assert "badge[" not in texts(app)  # labelled good, and nobody called it bad
    for name in ("misses", "false_alarms"):
        assert review_panel.EMPTY[name] in texts(_show(app, name))


def test_a_lower_threshold_saved_meanwhile_is_used_at_the_next_look(db: Database, model: registry.Model) -> None:
    app = _show(open_page("review"), "misses")
    assert [item["score"] for item in _strip(app)["items"]] == [-0.4]
    thresholds.save(db, model_id=model.id, threshold=0.0, threshold_low=-1.0, how="by hand", inspector="Ada")
    assert review_panel.EMPTY["misses"] in texts(app.run())


def test_correcting_a_verdict_does_not_move_the_list(
    db: Database, project: projects.Project, model: registry.Model
) -> None:
    app = _show(open_page("review"), "misses")
    missed = _strip(app)["items"][0]["id"]
    event = labels.LabelEvent("tab", 1, missed, "good", "Ada", "review")
    labels.record(db, project_id=project.id, events=[event])
    app.run()
    assert [(item["id"], item["label"]) for item in _strip(app)["items"]] == [(missed, "good")]
    assert "Label: ✓ Good" in texts(app)
    app.button(key="review-refresh").click().run()
    assert review_panel.EMPTY["misses"] in texts(app)


def test_new_images_can_be_scored(db: Database, project: projects.Project, model: registry.Model) -> None:
    app = open_page("review")
    assert "without a score" not in texts(app)
    project_images = images.ids(db, project_id=project.id)
    add_model(db, project.id, [(project_images[0], 1.0, "test")], name="Second")
    app = open_page("review")
    assert "5 images without a score from this model." in texts(app)
    app.button(key="review-score").click().run()
    (job,) = jobs.active(db, kinds=("score",))
    assert job.payload["model_id"] == projects.get(db, project_id=project.id).active_model_id
    assert "Scoring waits for its turn." in texts(app)
    set_job(db, job.id, **running(phase="Scoring images", done=2, total=5))
    assert "**Scoring images**" in texts(open_page("review"))


def test_a_hostile_name_is_shown_letter_by_letter(db: Database) -> None:
    project = projects.create(db, name="P")
    (image,) = add_images(db, project.id, ["bad"], name=HOSTILE)
    add_model(db, project.id, [(image, 1.0, "test")])
    assert literal(HOSTILE) in texts(open_page("review"))


def test_model_filter_and_order_are_remembered_from_page_to_page(db: Database) -> None:
    project = project_with_images(db, ["good", "bad"])
    older, newer = (add_model(db, project.id, [], name=name) for name in ("Older", "Newer"))
    app = open_page("review")
    key = state.model_key(project.id, newer.id)
    app.selectbox(key=key).set_value(older.id).run()
    app.selectbox(key=state.Key.REVIEW_ORDER).set_value("closest").run()
    app.segmented_control(key=state.Key.REVIEW_FILTER).set_value("bad").run()
    app.switch_page("views/evaluate.py").run()
    assert app.selectbox(key=key).value == older.id
    app.switch_page("views/review.py").run()
    assert app.selectbox(key=key).value == older.id
    assert app.selectbox(key=state.Key.REVIEW_ORDER).value == "closest"
    assert app.segmented_control(key=state.Key.REVIEW_FILTER).value == "bad"
    third = add_model(db, project.id, [], name="Third")  # trained since: it comes first again
    app.run()
    assert app.selectbox(key=state.model_key(project.id, third.id)).value == third.id


def test_the_viewer_is_told_where_the_cells_are_and_what_a_score_means(model: registry.Model) -> None:
    data = _viewer(open_page("review"))
    assert data["picture"]["cells"].startswith(f"/ssn/cells/{model.id}/{data['picture']['id']}?t=")
    assert data["thresholds"] == {
        "high": 0.0,
        "low": None,
        "words": {"good": "✓ Good", "bad": "✕ Bad", "check": "◐ To a person"},
    }


def test_map_verdicts_give_a_hit_rate_with_its_interval_on_held_out_bad_images_alone(
    db: Database, project: projects.Project, model: registry.Model
) -> None:
    said = texts(open_page("review"))
    assert "**On the defect: n/a**" in said
    assert "0 of 2 held-out bad images judged" in said
    ids = images.ids(db, project_id=project.id)
    verdicts = [  # the third and the fourth are bad and held out; the fifth has no label
        map_verdicts.MapVerdict("tab", seq, model.id, ids[place], verdict, "Ada")
        for seq, (place, verdict) in enumerate([(2, "on_defect"), (3, "elsewhere"), (4, "on_defect")], start=1)
    ]
    map_verdicts.record(db, project_id=project.id, events=verdicts)
    app = open_page("review")
    assert "**On the defect: 1 of 2, 50 %**" in texts(app)
    assert "95 %: 9 to 91 % · 2 of 2 held-out bad images judged" in texts(app)
    told = {item["id"]: (item["label"], item["verdict"]) for item in _judge(app)["items"]}
    assert told[ids[2]] == ("bad", "on_defect")
    assert told[ids[0]] == ("good", None)
    assert {item["id"] for item in _judge(app)["items"] if item["counts"]} == set(ids[1:4])  # out-of-fold
    back = map_verdicts.MapVerdict("tab", 4, model.id, ids[3], "unsure", "Ada")
    map_verdicts.record(db, project_id=project.id, events=[back])
    assert "**On the defect: 1 of 1, 100 %**" in texts(app.run())
    assert "2 of 2 held-out bad images judged, 1 not sure" in texts(app)


def test_without_a_held_out_bad_image_the_hit_rate_says_why_there_is_none(db: Database) -> None:
    project = project_with_images(db, ["good", "bad"])
    first, second = images.ids(db, project_id=project.id)
    add_model(db, project.id, [(first, 0.0, "out_of_fold"), (second, 1.0, "train")])
    said = texts(open_page("review"))
    assert "**On the defect: n/a**" in said
    assert "no held-out image is labelled bad" in said


def test_the_keys_of_maps_collide_with_no_other_key_of_the_page(model: registry.Model) -> None:
    keys = [entry["key"] for entry in _judge(open_page("review"))["keys"]]
    assert len(set(keys)) == 3
    taken = set("gbuz") | set("hmk") | set("cr")  # verdicts and undo, the viewer, and Streamlit's own
    assert not taken & set(keys)


def test_small_defects_are_listed_with_the_reason(db: Database) -> None:
    project = project_with_images(db, ["good", "good", "bad"])
    ids = images.ids(db, project_id=project.id)
    scores = [-1.0, -1.0, 2.0]
    settings = {"image_size": [64, 96], "map_sigma": 4.0, "pooling_fraction": 0.1}
    rows = [(image, score, "out_of_fold") for image, score in zip(ids, scores, strict=True)]
    model = add_model(db, project.id, rows, settings=settings)
    for image_id, peak in zip(ids, (0.0, 4.0, 4.0), strict=True):
        cells = np.zeros((10, 10), dtype=np.float32)
        cells[3, 3] = peak
        maps.save(db, model_id=model.id, sha256=images.get(db, image_id=image_id).sha256, cam=cells)
    app = _show(open_page("review"), "small_defects")
    assert [item["id"] for item in _strip(app)["items"]] == [ids[1]]  # -1.0 + 4.0 - 0.4 reaches 0
    assert "Alarm: the highest cell alone would reject." in texts(app)


def test_no_small_defect_is_good_news_but_no_answer_is_none(db: Database, model: registry.Model) -> None:
    app = _show(open_page("review"), "small_defects")
    assert "does not say how many cells make its score" in texts(app)
    assert review_panel.EMPTY["small_defects"] not in texts(app)
    settings = {"image_size": [64, 96], "map_sigma": 4.0, "pooling_fraction": 0.1}
    ids = images.ids(db, project_id=model.project_id)
    add_model(db, model.project_id, [(ids[0], 1.0, "unseen"), (ids[1], -1.0, "unseen")], name="Two", settings=settings)
    app = open_page("review").run()
    app = _show(app, "small_defects")
    assert review_panel.EMPTY["small_defects"] in texts(app)
    assert "1 image without a map" in app.toast[0].value


@pytest.mark.parametrize(
    ("fraction", "said", "never", "alarm"),
    [
        (None, "score comes from a second head", "Drag over the picture", "n/a. A second head makes"),
        (0.0, "score is the map's highest cell", "second head", "the score is the highest cell itself"),
        (1.0, "score is the mean of all cells", "second head", "reject nearly every part"),
        (0.001, "score is the mean of its highest cells", "second head", None),
    ],
)
def test_what_a_map_proves_is_said_as_the_models_recipe_has_it(
    db: Database, project: projects.Project, fraction: float | None, said: str, never: str, alarm: str | None
) -> None:
    settings = {"image_size": [64, 96], "map_sigma": 4.0, "pooling_fraction": fraction}
    ids = images.ids(db, project_id=project.id)
    add_model(db, project.id, list(zip(ids, SCORES, ROLES, strict=True)), settings=settings)
    app = open_page("review")
    helped = next(one.help for one in app.markdown if one.value.startswith("**Model:"))
    assert said in helped
    assert never not in helped
    app = _show(app, "small_defects")
    assert not app.error
    shown = [info.value.replace("This model's", "the") for info in app.info]
    assert any(alarm in text for text in shown) if alarm else review_panel.EMPTY["small_defects"] in shown


def test_a_threshold_just_above_the_highest_good_score_does_not_read_as_if_the_part_were_bad(
    db: Database, project: projects.Project
) -> None:
    ids = images.ids(db, project_id=project.id)
    model = add_model(db, project.id, [(ids[0], 1.5, "out_of_fold")], threshold=np.nextafter(1.5, 2))
    assert review_panel.score_line(model, 1.5) == "score 1.500, just below threshold 1.500"
    assert review_panel.score_line(model, 1.4) == "score 1.400 · threshold 1.500"
    assert review_panel.score_line(model, 1.6) == "score 1.600 · threshold 1.500"
    thresholds.save(db, model_id=model.id, threshold=2.0, threshold_low=-1.0, how="by hand", inspector="Ada")
    model = registry.get(db, model_id=model.id)
    assert review_panel.score_line(model, 1.5) == "score 1.500 · thresholds −1.000 and 2.000"


def test_verdicts_before_the_model_hide_map_score_and_model_until_there_is_one(
    db: Database, project: projects.Project, model: registry.Model
) -> None:
    projects.set_verdict_first(db, project_id=project.id, value=True)
    app = _show(open_page("review"), "suspicious")
    picture = _viewer(app)["picture"]
    assert (picture["map"], picture["mask"], picture["cells"]) == (None, None, None)
    assert "after your verdict" in picture["note"]
    strip = _strip(app)
    assert ([item["score"] for item in strip["items"]], strip["advance"]) == ([None], False)
    assert "Model: hidden" in texts(app)
    assert "score 0.900" not in texts(app)
    unlabelled = strip["items"][0]["id"]
    said = [labels.LabelEvent("tab", 1, unlabelled, "bad", "Ada", "review", map_seen=False)]
    labels.record(db, project_id=project.id, events=said)
    app.run()
    assert _viewer(app)["picture"]["map"].startswith(f"/ssn/map/{model.id}/{unlabelled}.png")
    assert _strip(app)["items"][0]["score"] == 0.9
    assert "Model: ✕ Bad" in texts(app)
