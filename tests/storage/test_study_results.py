"""The figures of a study: by hand-made verdicts, with what is missing said and never counted as zero."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ssn_core.agreement import Share
from ssn_core.rates import Interval, rate_interval
from storage import labels, studies, study_results, study_verdicts
from storage.db import Database
from storage.labels import LabelEvent
from storage.study_results import standing
from storage.study_verdicts import Message
from tests.model_seed import add_model

AddImages = Callable[..., list[int]]


@pytest.fixture
def ids(db: Database, project: int, add_images: AddImages) -> list[int]:
    """Six good images, then four bad ones."""
    made = add_images(10)
    events = [
        LabelEvent("seed", place + 1, image, "good" if place < 6 else "bad", "Ada", "board")
        for place, image in enumerate(made)
    ]
    labels.record(db, project_id=project, events=events)
    return made


def set_up(db: Database, project: int, **more: int) -> studies.Study:
    return studies.create(db, project_id=project, name="First", inspector="Ada", n_parts=10, seed=5, **more)


def judge(db: Database, study: studies.Study, who: str, trial: int, bad: set[int]) -> None:
    """One whole trial in which exactly these images are called bad."""
    order = studies.orders(db, study=study, inspector=who)[trial - 1]
    messages = [Message(trial, image, "bad" if image in bad else "good", 2.0) for image in order]
    done = study_verdicts.record(db, project_id=study.project_id, study_id=study.id, inspector=who, messages=messages)
    assert done.refused == ()


def counted(share: Share | None) -> tuple[int, int] | None:
    return None if share is None else (share.count, share.of)


def test_each_inspectors_figures_are_counted_from_complete_trials(db: Database, project: int, ids: list[int]) -> None:
    study = set_up(db, project)
    truth = set(ids[6:])
    judge(db, study, "Ada", 1, truth)
    judge(db, study, "Ada", 2, truth)
    judge(db, study, "Bo", 1, truth | {ids[0]})  # a false alarm
    judge(db, study, "Bo", 2, truth - {ids[6], ids[7]})  # two misses
    judge(db, study, "Cem", 1, truth - {ids[9]})  # the second trial is still to come
    found = study_results.results(db, study=study)
    ada, bo, cem = (rater.figures for rater in found.raters)
    assert [rater.name for rater in found.raters] == ["Ada", "Bo", "Cem"]
    assert (counted(ada.versus_reference), counted(ada.miss), counted(ada.false_alarm)) == ((10, 10), (0, 8), (0, 12))
    assert (counted(bo.versus_reference), counted(bo.miss), counted(bo.false_alarm)) == ((7, 10), (2, 8), (1, 12))
    assert (counted(bo.within), counted(cem.within), cem.n_trials) == ((7, 10), None, 1)
    assert (counted(found.between), counted(found.all_right)) == ((6, 10), (6, 10))
    assert [part.image_id for part in found.disputed] == [ids[0], ids[6], ids[7], ids[9]]
    assert {(pair.first.name, pair.second.name) for pair in found.pairs} == {
        ("Ada", "Bo"), ("Ada", "Cem"), ("Bo", "Cem"),
    }  # fmt: skip
    assert found.pairs[0].kappa.value == pytest.approx((0.9 - 0.5) / 0.5)  # by hand: 9 of 10, by chance 0.4*0.5+0.6*0.5


def test_the_part_with_most_dissent_comes_first(db: Database, project: int, ids: list[int]) -> None:
    study = set_up(db, project, trials=1)
    judge(db, study, "Ada", 1, set(ids[6:]) - {ids[8]} | {ids[0]})
    judge(db, study, "Bo", 1, set(ids[6:]) - {ids[8]})
    assert [part.image_id for part in study_results.results(db, study=study).disputed] == [ids[8], ids[0]]


def test_the_model_is_a_rater_on_the_parts_it_had_not_seen(db: Database, project: int, ids: list[int]) -> None:
    roles = ["test"] * 3 + ["train"] * 3 + ["test"] * 3 + ["train"]
    scores = [-1.0, -1.0, 1.0, -1.0, -1.0, -1.0, 1.0, 1.0, -1.0, -1.0]
    add_model(db, project, zip(ids, scores, roles, strict=True), name="First model", held_out="test")
    study = set_up(db, project)
    judge(db, study, "Ada", 1, set(ids[6:]))
    found = study_results.results(db, study=study)
    (model,) = (rater for rater in found.raters if rater.is_model)
    assert (model.name, model.figures.n_parts, model.figures.n_trials) == ("First model", 6, 1)
    assert (counted(model.figures.miss), counted(model.figures.false_alarm)) == ((1, 3), (1, 3))
    assert model.figures.within is None
    assert [rater.name for rater in found.inspectors] == ["Ada"]
    assert (found.between, found.between_kappa, found.pairs[0].kappa.n) == (None, None, 6)
    assert found.disputed == ()  # where the model alone differs, no inspector disputes the part


def test_without_a_complete_trial_nobody_is_counted(db: Database, project: int, ids: list[int]) -> None:
    study = set_up(db, project)
    first = studies.orders(db, study=study, inspector="Ada")[0][0]
    study_verdicts.record(
        db, project_id=project, study_id=study.id, inspector="Ada", messages=[Message(1, first, "good")]
    )
    found = study_results.results(db, study=studies.close(db, study_id=study.id))
    assert (found.raters, found.between, found.all_right, found.pairs, found.disputed) == ((), None, None, (), ())
    assert [one.inspector for one in found.left_out] == ["Ada"]


def test_results_stay_when_labels_change(db: Database, project: int, ids: list[int]) -> None:
    study = set_up(db, project)
    judge(db, study, "Ada", 1, set(ids[6:]))
    before = study_results.results(db, study=study).raters[0].figures
    labels.record(db, project_id=project, events=[LabelEvent("later", 1, ids[0], "bad", "Ada", "board")])
    assert study_results.results(db, study=study).raters[0].figures == before


@pytest.mark.parametrize(
    ("interval", "limit", "at_least", "expected"),
    [
        ((0.92, 0.99), 0.90, True, "meets"),
        ((0.70, 0.85), 0.90, True, "fails"),
        ((0.80, 0.95), 0.90, True, "open"),
        ((0.90, 0.95), 0.90, True, "open"),
        ((0.00, 0.01), 0.02, False, "meets"),
        ((0.05, 0.20), 0.02, False, "fails"),
        ((0.00, 0.12), 0.02, False, "open"),
    ],
)
def test_a_limit_inside_the_interval_leaves_it_open(
    interval: tuple[float, float], limit: float, at_least: bool, expected: str
) -> None:
    assert standing(Share(1, 2, Interval(*interval, "made up")), limit, at_least=at_least) == expected


def test_no_event_in_few_parts_does_not_prove_a_low_rate() -> None:
    assert standing(Share(0, 15, rate_interval(0, 15)), 0.02, at_least=False) == "open"
    assert standing(Share(0, 400, rate_interval(0, 400)), 0.02, at_least=False) == "meets"
    assert standing(Share(0, 0, None), 0.02, at_least=False) is None
    assert standing(None, 0.02, at_least=False) is None


def test_the_export_holds_every_verdict_and_the_models(db: Database, project: int, ids: list[int]) -> None:
    add_model(db, project, [(image, 1.0, "test") for image in ids[:3]], held_out="test")
    study = set_up(db, project)
    judge(db, study, "Ada", 1, {ids[0]})
    first = studies.orders(db, study=study, inspector="Bo")[0][0]
    study_verdicts.record(
        db, project_id=project, study_id=study.id, inspector="Bo", messages=[Message(1, first, "bad", 0.5)]
    )
    header, rows = study_results.export(db, study=study)
    table = [dict(zip(header, row, strict=True)) for row in rows]
    assert [row["kind"] for row in table] == ["inspector"] * 11 + ["model"] * 3
    assert [row["place"] for row in table[:10]] == list(range(1, 11))
    bo = table[10]
    assert (bo["rater"], bo["trial"], bo["place"], bo["verdict"], bo["seconds"]) == ("Bo", 1, 1, "bad", 0.5)
    assert {row["verdict"] for row in table[11:]} == {"bad"}
    assert {row["reference"] for row in table} == {"good", "bad"}
    assert {len(str(row["sha256"])) for row in table} == {64}
