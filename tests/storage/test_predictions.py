import hashlib

import numpy as np
import pytest
from sqlalchemy import event

from ssn_core.errors import SsnError
from storage import images, label_advice, labels, predictions, projects, registry, thresholds
from storage.tables import ImageRow


def add_images(db, project_id, verdicts):
    rows = [
        ImageRow(
            project_id=project_id,
            sha256=hashlib.sha256(f"{project_id}-{number}".encode()).hexdigest(),
            name=f"part{number}.png",
            extension=".png",
            width=8,
            height=6,
            n_bytes=1,
            group_key=str(number),
            part="train",
        )
        for number in range(len(verdicts))
    ]
    with db.write() as session:
        session.add_all(rows)
        session.flush()
        ids = [row.id for row in rows]
    events = [
        labels.LabelEvent(f"tab-{project_id}", seq, image_id, verdict, "Ada", "board")
        for seq, (image_id, verdict) in enumerate(zip(ids, verdicts, strict=True), start=1)
        if verdict
    ]
    assert not labels.record(db, project_id=project_id, events=events).rejected
    return ids


def add_model(db, project_id, *, held_out="out_of_fold", threshold=0.5):
    return registry.register(
        db,
        project_id=project_id,
        job_id=None,
        name="M",
        folder="models/1/1",
        recipe="gap-cam",
        backbone="resnet18",
        held_out=held_out,
        threshold=threshold,
        suggested_threshold=threshold,
        scale_low=0.0,
        scale_high=1.0,
        summary={},
    ).id


@pytest.fixture
def project_id(db):
    return projects.create(db, name="Commutators").id


@pytest.fixture
def reviewed(db, project_id):
    """Six images, one of each kind that review tells apart: (ids, model)."""
    ids = add_images(db, project_id, ["good", "good", "bad", "bad", "unsure", None])
    model_id = add_model(db, project_id)
    scores = [0.1, 0.9, 0.5, 0.4, 0.6, 0.7]
    rows = [(image_id, score, "out_of_fold") for image_id, score in zip(ids, scores, strict=True)]
    assert predictions.store(db, model_id=model_id, rows=iter(rows)) == 6
    return ids, model_id


def shown(db, model_id, ids, **question):
    found = predictions.scored(db, model_id=model_id, limit=question.pop("limit", 100), **question)
    return [ids.index(one.image.id) for one in found]


def test_each_filter_shows_its_images_most_suspicious_first(db, reviewed):
    ids, model_id = reviewed
    expected = {
        "all": [1, 5, 4, 2, 3, 0],
        "misses": [3],  # the one at the threshold counts as bad, so it is no miss
        "false_alarms": [1],
        "to_person": [],  # there is one threshold
        "suspicious": [5],
        "bad": [2, 3],
        "good": [1, 0],
        "unsure": [4],
    }
    assert set(expected) == set(predictions.FILTERS)
    for name, order in expected.items():
        assert shown(db, model_id, ids, filter=name) == order, name


def test_the_threshold_given_replaces_the_models_own(db, reviewed):
    ids, model_id = reviewed
    assert shown(db, model_id, ids, filter="misses", threshold=0.55) == [2, 3]
    assert shown(db, model_id, ids, filter="false_alarms", threshold=0.05) == [1, 0]
    thresholds.save(db, model_id=model_id, threshold=0.55, how="by hand", inspector="Ada")
    assert shown(db, model_id, ids, filter="misses") == [2, 3]


def test_between_two_thresholds_neither_a_miss_nor_a_false_alarm_but_work_for_a_person(db, reviewed):
    ids, model_id = reviewed
    thresholds.save(db, model_id=model_id, threshold=0.9, threshold_low=0.5, how="by hand", inspector="Ada")
    expected = {"misses": [3], "false_alarms": [1], "to_person": [5, 4, 2], "bad": [2, 3]}
    for name, order in expected.items():
        assert shown(db, model_id, ids, filter=name) == order, name
        assert shown(db, model_id, ids, filter=name, threshold=0.9, threshold_low=0.5) == order, name
    assert shown(db, model_id, ids, filter="to_person", threshold=0.9, threshold_low=0.9) == []
    assert shown(db, model_id, ids, filter="misses", threshold=0.9) == [
        2,
        3,
    ]  # a threshold given is the only one
    assert shown(db, model_id, ids, filter="to_person", threshold=0.9) == []


def test_closest_means_to_the_nearer_one_of_two_thresholds(db, reviewed):
    ids, model_id = reviewed
    assert shown(db, model_id, ids, order="closest", threshold=0.78, threshold_low=0.41) == [3, 5, 2, 1, 4, 0]


def test_images_can_be_ordered_by_score_either_way_or_by_nearness_to_the_threshold(db, reviewed):
    ids, model_id = reviewed
    assert shown(db, model_id, ids, order="score_asc") == [0, 3, 2, 4, 5, 1]
    assert shown(db, model_id, ids, order="closest", threshold=0.58) == [4, 2, 5, 3, 1, 0]
    with pytest.raises(ValueError, match="filter"):
        shown(db, model_id, ids, filter="ugly")


@pytest.mark.parametrize("low", [None, 0.0, 0.1])
@pytest.mark.parametrize("filter_name", ["all", "to_person"])
@pytest.mark.parametrize("order", predictions.ORDERS)
def test_pages_follow_each_other_without_gap_or_repetition_even_among_equal_scores(
    db, project_id, order, filter_name, low
):
    ids = add_images(db, project_id, ["good"] * 23)
    model_id = add_model(db, project_id)
    rows = [(image_id, (number % 5) / 10, "test") for number, image_id in enumerate(ids)]
    predictions.store(db, model_id=model_id, rows=rows)
    question = {"filter": filter_name, "order": order, "threshold": 0.3, "threshold_low": low}
    whole = predictions.scored(db, model_id=model_id, limit=100, **question)
    pages, after = [], None
    while page := predictions.scored(db, model_id=model_id, limit=4, after=after, **question):
        pages += page
        after = (page[-1].score, page[-1].image.id)
    between = sum((0.3 if low is None else low) <= score < 0.3 for _, score, _ in rows)
    assert len(whole) == (23 if filter_name == "all" else between)
    assert pages == whole


def test_a_corrected_verdict_is_seen_at_once(db, project_id, reviewed):
    ids, model_id = reviewed
    corrected = labels.LabelEvent("review", 1, ids[3], "good", "Grace", "review")
    labels.record(db, project_id=project_id, events=[corrected])
    assert shown(db, model_id, ids, filter="misses") == []
    [first] = predictions.scored(db, model_id=model_id, filter="good", order="closest", limit=1)
    assert (first.image.id, first.image.label_inspector, first.score, first.role) == (
        ids[3],
        "Grace",
        0.4,
        "out_of_fold",
    )


def test_models_do_not_see_each_others_scores(db, project_id, reviewed):
    ids, model_id = reviewed
    other = add_model(db, project_id)
    predictions.store(db, model_id=other, rows=[(ids[0], 5.0, "train")])
    assert shown(db, other, ids) == [0]
    assert shown(db, model_id, ids)[-1] == 0


def test_a_score_stored_again_replaces_the_old_one(db, reviewed):
    ids, model_id = reviewed
    rows = [(ids[0], 7.0, "unseen"), (ids[0], 8.0, "test")]
    assert predictions.store(db, model_id=model_id, rows=rows) == 1
    [top] = predictions.scored(db, model_id=model_id, limit=1)
    assert (top.image.id, top.score, top.role) == (ids[0], 8.0, "test")


def test_a_score_that_is_not_finite_and_an_unknown_role_are_refused(db, reviewed):
    ids, model_id = reviewed
    with pytest.raises(SsnError, match=f"image {ids[0]} is not finite: nan"):
        predictions.store(db, model_id=model_id, rows=[(ids[0], float("nan"), "test")])
    with pytest.raises(ValueError, match="guess"):
        predictions.store(db, model_id=model_id, rows=[(ids[0], 0.0, "guess")])
    assert predictions.store(db, model_id=model_id, rows=[]) == 0


def test_many_scores_are_stored_in_batches(db, project_id):
    ids = add_images(db, project_id, [None] * 2300)
    model_id = add_model(db, project_id)
    assert predictions.store(db, model_id=model_id, rows=((one, float(one), "unseen") for one in ids)) == 2300
    assert predictions.count_unscored(db, model_id=model_id) == 0


def test_images_without_a_score_of_this_model_are_found(db, project_id, reviewed):
    ids, model_id = reviewed
    add_images(db, projects.create(db, name="Screws").id, ["good"])
    assert predictions.missing(db, model_id=model_id, limit=9) == []
    second = add_model(db, project_id)
    predictions.store(db, model_id=second, rows=[(ids[0], 0.0, "train")])
    found = predictions.missing(db, model_id=second, limit=3)
    found += predictions.missing(db, model_id=second, after_id=found[-1].id, limit=3)
    assert found == images.get_many(db, image_ids=ids[1:])
    assert predictions.count_unscored(db, model_id=second) == 5


@pytest.mark.parametrize("kind", ["test", "out_of_fold"])
def test_held_out_figures_rest_on_honest_scores_and_labels_of_today_alone(db, project_id, kind):
    ids = add_images(db, project_id, ["good", "bad", "unsure", None, "bad", "good", "good"])
    model_id = add_model(db, project_id, held_out=kind)
    other = {"test": "out_of_fold", "out_of_fold": "test"}[kind]
    roles = [kind, kind, kind, kind, "train", other, "unseen"]
    rows = [(one, float(number), role) for number, (one, role) in enumerate(zip(ids, roles, strict=True))]
    predictions.store(db, model_id=model_id, rows=rows)
    found = predictions.held_out(db, model_id=model_id)
    assert found.image_ids == (ids[0], ids[1])
    assert found.names == ("part0.png", "part1.png")
    assert found.labels.tolist() == [0, 1]
    assert found.labels.dtype == np.int8
    assert found.scores.tolist() == [0.0, 1.0]
    assert (found.n_good, found.n_bad, found.kind) == (1, 1, kind)
    labels.record(db, project_id=project_id, events=[labels.LabelEvent("review", 1, ids[0], "bad", "Ada", "review")])
    assert predictions.held_out(db, model_id=model_id).labels.tolist() == [1, 1]


def test_a_model_without_held_out_images_has_empty_figures(db, project_id):
    found = predictions.held_out(db, model_id=add_model(db, project_id))
    assert (found.n_good, found.n_bad, found.scores.size, found.labels.size) == (0, 0, 0, 0)
    with pytest.raises(SsnError, match="77"):
        predictions.held_out(db, model_id=77)


def plans(db, ask):
    """How SQLite goes about each question of a call, in words."""
    if db.engine.dialect.name != "sqlite":
        pytest.skip("PostgreSQL chooses its plan by what the tables hold, and here they hold nearly nothing")
    asked = []

    def note(_connection, _cursor, statement, parameters, _context, _many):
        if statement.startswith("SELECT"):
            asked.append((statement, parameters))

    event.listen(db.engine, "before_cursor_execute", note)
    try:
        ask()
    finally:
        event.remove(db.engine, "before_cursor_execute", note)
    with db.engine.connect() as connection:
        return [
            "\n".join(row[-1] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters))
            for statement, parameters in asked
        ]


def test_the_few_held_out_scores_are_found_without_looking_at_all_others(db, reviewed):
    _, model_id = reviewed
    [plan] = plans(db, lambda: predictions.with_role(db, model_id=model_id, role="out_of_fold"))
    assert (
        "predictions USING COVERING INDEX ix_predictions_model_id_role_image_id_score (model_id=? AND role=?)" in plan
    )
    model = registry.get(db, model_id=model_id)
    found = plans(db, lambda: label_advice.retraining(db, model=model))
    assert any("ix_predictions_model_id_role_image_id_score (model_id=? AND role=?)" in plan for plan in found)


@pytest.mark.parametrize("order", predictions.ORDERS)
def test_a_page_of_scores_is_chosen_before_any_image_is_read(db, reviewed, order):
    _, model_id = reviewed
    ask = {"order": order, "threshold": 0.5, "limit": 2}
    [plan] = plans(db, lambda: predictions.scored(db, model_id=model_id, **ask))
    chosen = plan.index("predictions USING COVERING INDEX ix_predictions_model_id_score_image_id (model_id=?)")
    assert chosen < plan.index("images USING")
