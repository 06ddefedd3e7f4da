"""Studies of agreement: the parts, the blind orders, verdicts exactly once, and who may see results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

import pytest

from ssn_core.errors import SettingError, SsnError, TooFewLabelsError
from storage import images, labels, projects, studies, study_verdicts, thresholds
from storage.db import Database
from storage.labels import LabelEvent
from storage.study_parts import Candidate, choose, distance, order
from storage.study_verdicts import UNDO, Message
from tests.model_seed import add_model

AddImages = Callable[..., list[int]]


def label(db: Database, project: int, verdicts: dict[int, str]) -> None:
    events = [LabelEvent(f"seed {verdicts}"[:60], i, i, verdict, "Ada", "board") for i, verdict in verdicts.items()]
    assert labels.record(db, project_id=project, events=events).stored == len(verdicts)


@pytest.fixture
def parts(db: Database, project: int, add_images: AddImages) -> list[int]:
    """Twelve images: even places good, odd ones bad."""
    ids = add_images(12)
    label(db, project, {image: "bad" if place % 2 else "good" for place, image in enumerate(ids)})
    return ids


def create(db: Database, project: int, **more: Any) -> studies.Study:
    given = {"name": "First", "inspector": "Ada", "n_parts": 6, "seed": 7, **more}
    return studies.create(db, project_id=project, **given)


def say(db: Database, study: studies.Study, who: str, *messages: Message) -> study_verdicts.Recorded:
    return study_verdicts.record(db, project_id=study.project_id, study_id=study.id, inspector=who, messages=messages)


def say_all(db: Database, study: studies.Study, who: str, trial: int, verdict: str = "good") -> None:
    images_in_order = studies.orders(db, study=study, inspector=who)[trial - 1]
    assert say(db, study, who, *(Message(trial, image, verdict) for image in images_in_order)).refused == ()


def stored(db: Database, study: studies.Study) -> list[tuple[str, int, int, str]]:
    found = study_verdicts.all_verdicts(db, study_id=study.id)
    return [(one.inspector, one.trial, one.image_id, one.verdict) for one in found]


# ---- which parts ----------------------------------------------------------------------------------------------------


def pool(scores: Sequence[float | None], bad: Sequence[int] = ()) -> list[Candidate]:
    return [
        Candidate(place, f"item {place}", "bad" if place in bad else "good", score, None, abs(score or 0.0))
        for place, score in enumerate(scores)
    ]


def test_borderline_parts_are_those_with_scores_closest_to_the_threshold() -> None:
    scores = [-9.0, 0.3, -0.2, 8.0, -7.0, 0.1, 5.0, 6.0, -5.0, 4.0]
    chosen = choose(pool(scores, bad=(3, 6, 7, 9)), n=8, borderline=0.4, seed=1)
    assert sorted(part.image_id for part in chosen if part.borderline) == [1, 2, 5]
    rest = [part.reference for part in chosen if not part.borderline]
    assert (rest.count("bad"), rest.count("good")) == (2, 3)


def test_images_that_the_model_has_seen_are_never_borderline_and_come_last() -> None:
    seen = [None] * 20
    chosen = choose(pool([3.5, -3.0, 4.0, -4.0, 2.0, -2.0, *seen], bad=(0, 1, 6, 7)), n=6, borderline=0.5, seed=3)
    assert sorted(part.image_id for part in chosen) == [0, 1, 2, 3, 4, 5]
    wider = choose(pool([3.0, -3.0, *seen], bad=(0, 2)), n=6, borderline=0.5, seed=3)
    assert sorted(part.image_id for part in wider if part.borderline) == [0, 1]
    assert len(wider) == 6


def test_an_item_gives_a_second_part_only_where_no_other_item_is_left() -> None:
    twins = [Candidate(i, f"item {i // 2}", "bad" if i % 4 > 1 else "good", 1.0, "bad", float(i)) for i in range(16)]
    six = choose(twins, n=6, borderline=0.5, seed=2)
    assert len({part.image_id // 2 for part in six}) == 6
    assert sorted(part.image_id for part in six if part.borderline) == [0, 2, 4]
    assert len(choose(twins, n=12, borderline=0.5, seed=2)) == 12


def test_without_scores_half_of_the_parts_are_bad_as_far_as_there_are_any() -> None:
    for n_bad, expected in ((10, 5), (3, 3), (18, 8)):
        chosen = choose(pool([None] * 20, bad=range(n_bad)), n=10, borderline=0.4, seed=1)
        assert not any(part.borderline for part in chosen)
        assert sum(part.reference == "bad" for part in chosen) == max(expected, 10 - (20 - n_bad))


def test_the_same_seed_draws_the_same_parts_and_another_one_others() -> None:
    candidates = pool([None] * 40, bad=range(20))
    first = choose(candidates, n=10, borderline=0.4, seed=1)
    assert choose(reversed(candidates), n=10, borderline=0.4, seed=1) == first
    assert choose(candidates, n=10, borderline=0.4, seed=2) != first


def test_a_score_between_two_thresholds_is_borderline_itself() -> None:
    assert [distance(s, 2.0, -1.0) for s in (-3.0, -1.0, 0.0, 2.0, 2.5)] == [2.0, 0.0, 0.0, 0.0, 0.5]
    assert [distance(s, 2.0, None) for s in (1.0, 2.0, 3.0)] == [1.0, 0.0, 1.0]


def test_a_study_keeps_reference_and_verdict_of_its_moment(db: Database, project: int, parts: list[int]) -> None:
    add_model(db, project, [(image, place - 5.5, "test") for place, image in enumerate(parts)], held_out="test")
    study = create(db, project)
    before = studies.parts(db, study_id=study.id)
    model_id = study.model_id
    assert model_id is not None
    assert {part.image_id: part.model_verdict for part in before} == {
        image: "bad" if parts.index(image) > 5 else "good" for image in (part.image_id for part in before)
    }
    assert sorted(part.image_id for part in before if part.borderline) == parts[5:7]
    label(db, project, dict.fromkeys(parts, "unsure"))
    thresholds.save(db, model_id=model_id, threshold=99.0, how="by hand", inspector="Ada")
    assert studies.parts(db, study_id=study.id) == before
    assert (study.n_parts, study.n_borderline, study.trials, study.limits) == (6, 2, 2, studies.Limits())


def test_to_a_person_counts_as_bad(db: Database, project: int, parts: list[int]) -> None:
    model = add_model(db, project, [(image, 0.0, "test") for image in parts], held_out="test")
    thresholds.save(db, model_id=model.id, threshold=1.0, threshold_low=-1.0, how="by hand", inspector="Ada")
    study = create(db, project)
    assert {part.model_verdict for part in studies.parts(db, study_id=study.id)} == {"bad"}


def test_only_scores_of_images_that_the_model_had_not_seen_count(db: Database, project: int, parts: list[int]) -> None:
    roles = ["test", "test", "test", "test", "train", "calibration", *["train"] * 6]
    add_model(db, project, [(i, 0.1, role) for i, role in zip(parts, roles, strict=True)], held_out="test")
    chosen = studies.parts(db, study_id=create(db, project, borderline=0.5, n_parts=8).id)
    assert {part.image_id for part in chosen if part.model_verdict} == set(parts[:4])
    assert {part.image_id for part in chosen if part.borderline} == set(parts[:4])


def test_without_a_model_the_parts_are_drawn_at_random(db: Database, project: int, parts: list[int]) -> None:
    study = create(db, project)
    chosen = studies.parts(db, study_id=study.id)
    assert (study.model_id, study.n_borderline, len(chosen)) == (None, 0, 6)
    assert {part.model_verdict for part in chosen} == {None}


def test_images_without_good_or_bad_are_never_parts(db: Database, project: int, add_images: AddImages) -> None:
    ids = add_images(9)
    label(db, project, {ids[0]: "unsure", ids[1]: "bad", ids[2]: "bad", **dict.fromkeys(ids[3:8], "good")})
    chosen = studies.parts(db, study_id=create(db, project, n_parts=7).id)
    assert {part.image_id for part in chosen} == set(ids[1:8])


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"n_parts": 13}, TooFewLabelsError),
        ({"n_parts": 5}, SettingError),
        ({"n_parts": 201}, SettingError),
        ({"borderline": 0.2}, SettingError),
        ({"borderline": float("nan")}, SettingError),
        ({"trials": 0}, SettingError),
        ({"name": " \n"}, SettingError),
        ({"limits": studies.Limits(miss_rate=1.5)}, SettingError),
        ({"inspector": ""}, SsnError),
    ],
)
def test_a_study_that_cannot_be_is_refused_and_leaves_nothing(
    db: Database, project: int, parts: list[int], changes: dict[str, Any], error: type[SsnError]
) -> None:
    with pytest.raises(error):
        create(db, project, **changes)
    assert studies.list_studies(db, project_id=project) == []


def test_with_one_kind_of_label_only_the_error_says_which_is_missing(
    db: Database, project: int, add_images: AddImages
) -> None:
    label(db, project, dict.fromkeys(add_images(8), "good"))
    with pytest.raises(TooFewLabelsError, match="no image is labelled bad"):
        create(db, project)


# ---- orders ---------------------------------------------------------------------------------------------------------


def test_an_order_can_be_repeated_and_differs_by_inspector_trial_and_seed() -> None:
    ids = list(range(30))
    first = order(ids, seed=1, inspector="Ada", trial=1)
    assert sorted(first) == ids
    assert first == order(reversed(ids), seed=1, inspector="Ada", trial=1)
    others = [
        order(ids, seed=1, inspector="Ada", trial=2),
        order(ids, seed=1, inspector="Bo", trial=1),
        order(ids, seed=2, inspector="Ada", trial=1),
        ids,
    ]
    assert all(first != other for other in others)


def test_an_order_stays_the_same_in_all_versions_of_the_program() -> None:
    assert order(range(8), seed=1, inspector="Ada", trial=1) == [5, 4, 2, 0, 6, 7, 3, 1]


# ---- verdicts -------------------------------------------------------------------------------------------------------


@pytest.fixture
def study(db: Database, project: int, parts: list[int]) -> studies.Study:
    return create(db, project)


def test_a_verdict_is_stored_once_and_is_no_label(db: Database, study: studies.Study) -> None:
    image = studies.orders(db, study=study, inspector="Ada")[0][0]
    before = len(labels.history(db, image_id=image))
    for _ in range(2):
        assert say(db, study, " Ada ", Message(1, image, "bad", 1.5)).given == (1, 0)
    assert stored(db, study) == [("Ada", 1, image, "bad")]
    assert study_verdicts.all_verdicts(db, study_id=study.id)[0].seconds == 1.5
    assert len(labels.history(db, image_id=image)) == before


def test_a_different_second_verdict_is_refused(db: Database, study: studies.Study) -> None:
    image = studies.orders(db, study=study, inspector="Ada")[0][0]
    say(db, study, "Ada", Message(1, image, "bad"))
    done = say(db, study, "Ada", Message(1, image, "good"))
    assert done.refused == ((0, "This part has a verdict already in this trial"),)
    assert stored(db, study) == [("Ada", 1, image, "bad")]


def test_parts_are_judged_in_their_order_and_trials_one_after_the_other(db: Database, study: studies.Study) -> None:
    first, second = studies.orders(db, study=study, inspector="Ada")
    assert say(db, study, "Ada", Message(1, first[1], "good")).refused
    assert say(db, study, "Ada", Message(2, second[0], "good")).refused
    assert stored(db, study) == []
    say_all(db, study, "Ada", 1)
    assert say(db, study, "Ada", Message(2, second[0], "good")).given == (6, 1)


def test_the_newest_verdict_can_be_taken_back_and_given_anew(db: Database, study: studies.Study) -> None:
    first, second, *_ = studies.orders(db, study=study, inspector="Ada")[0]
    say(db, study, "Ada", Message(1, first, "good"), Message(1, second, "good"))
    assert say(db, study, "Ada", Message(1, first, UNDO)).refused == ((0, "Only the newest verdict can be taken back"),)
    for _ in range(2):  # an undo that arrives twice takes nothing else back
        assert say(db, study, "Ada", Message(1, second, UNDO)) == study_verdicts.Recorded((1, 0), (), False)
    assert say(db, study, "Ada", Message(1, second, "bad")).refused == ()
    assert stored(db, study) == [("Ada", 1, first, "good"), ("Ada", 1, second, "bad")]


def test_the_last_verdict_of_a_trial_can_be_taken_back_until_the_next_trial_begins(
    db: Database, study: studies.Study
) -> None:
    orders = studies.orders(db, study=study, inspector="Ada")
    say_all(db, study, "Ada", 1)
    assert say(db, study, "Ada", Message(1, orders[0][-1], UNDO)).given == (5, 0)
    say(db, study, "Ada", Message(1, orders[0][-1], "bad"), Message(2, orders[1][0], "good"))
    assert say(db, study, "Ada", Message(1, orders[0][-1], UNDO)).refused


def test_after_the_last_trial_nothing_can_be_taken_back(db: Database, study: studies.Study) -> None:
    for trial in (1, 2):
        say_all(db, study, "Ada", trial)
    last = studies.orders(db, study=study, inspector="Ada")[1][-1]
    ((_, reason),) = say(db, study, "Ada", Message(2, last, UNDO)).refused
    assert "results may have been seen" in reason
    assert len(stored(db, study)) == 12


def test_a_whole_outbox_sent_again_changes_nothing(db: Database, study: studies.Study) -> None:
    first, second, third, *_ = studies.orders(db, study=study, inspector="Ada")[0]
    outbox = [
        Message(1, first, "good"), Message(1, second, "good"), Message(1, second, UNDO), Message(1, second, "bad"),
        Message(1, third, "bad"),
    ]  # fmt: skip
    for _ in range(3):
        assert say(db, study, "Ada", *outbox).refused == ()
    assert stored(db, study) == [("Ada", 1, first, "good"), ("Ada", 1, second, "bad"), ("Ada", 1, third, "bad")]


def test_an_outbox_that_ends_in_a_correction_can_be_sent_again(db: Database, study: studies.Study) -> None:
    first = studies.orders(db, study=study, inspector="Ada")[0][0]
    outbox = [Message(1, first, "good"), Message(1, first, UNDO), Message(1, first, "bad")]
    for _ in range(3):
        assert say(db, study, "Ada", *outbox).refused == ()
        assert stored(db, study) == [("Ada", 1, first, "bad")]


@pytest.mark.parametrize(
    "changes",
    [
        {"trial": 0}, {"trial": 3}, {"trial": True}, {"trial": "1"}, {"image_id": None}, {"image_id": 2**70},
        {"image_id": []}, {"verdict": "unsure"}, {"verdict": ["good"]}, {"verdict": None},
    ],
)  # fmt: skip
def test_a_message_that_is_no_verdict_is_refused_alone(
    db: Database, study: studies.Study, changes: dict[str, Any]
) -> None:
    first, second, *_ = studies.orders(db, study=study, inspector="Ada")[0]
    odd = Message(**{**asdict(Message(1, second, "good")), **changes})
    done = say(db, study, "Ada", Message(1, first, "good"), odd, Message(1, second, "bad"))
    assert [place for place, _reason in done.refused] == [1]
    assert done.given == (2, 0)


@pytest.mark.parametrize("who", ["", "  ", None, 7, "x" * 101, "half \ud83d"])
def test_a_name_that_cannot_be_stored_is_refused(db: Database, study: studies.Study, who: Any) -> None:
    with pytest.raises(SsnError):
        say(db, study, who)


def test_a_senseless_time_does_not_cost_the_verdict(db: Database, study: studies.Study) -> None:
    image = studies.orders(db, study=study, inspector="Ada")[0][0]
    assert say(db, study, "Ada", Message(1, image, "good", float("nan"))).given == (1, 0)
    assert study_verdicts.all_verdicts(db, study_id=study.id)[0].seconds is None


def test_a_study_of_another_project_takes_no_verdict(db: Database, study: studies.Study) -> None:
    other = projects.create(db, name="Other").id
    image = studies.orders(db, study=study, inspector="Ada")[0][0]
    with pytest.raises(SsnError, match="no such study"):
        study_verdicts.record(
            db, project_id=other, study_id=study.id, inspector="Ada", messages=[Message(1, image, "good")]
        )
    assert stored(db, study) == []


def test_the_same_key_posted_many_times_at_once_is_stored_once(db: Database, study: studies.Study) -> None:
    first = studies.orders(db, study=study, inspector="Ada")[0]
    messages = [Message(1, image, "good") for image in first]
    with ThreadPoolExecutor(4) as threads:
        done = list(threads.map(lambda _: say(db, study, "Ada", *messages), range(4)))
    assert {(one.given, one.refused) for one in done} == {((6, 0), ())}
    assert len(stored(db, study)) == 6


# ---- progress, closing, blindness -----------------------------------------------------------------------------------


def test_results_wait_until_all_who_have_begun_are_done(db: Database, study: studies.Study) -> None:
    def look(who: str) -> tuple[str, bool]:
        begun = studies.progress(db, study=study)
        return studies.state_of(study, begun), studies.may_see_results(study, begun, who)

    assert look("Ada") == ("new", False)
    say_all(db, study, "Ada", 1)
    assert look("Ada") == ("running", False)
    say_all(db, study, "Ada", 2)
    assert (look("Ada"), look("Bo")) == (("finished", True), ("finished", False))
    say_all(db, study, "Bo", 1)
    assert look("Ada") == ("running", False)
    ada, bo = studies.progress(db, study=study)
    assert (ada.inspector, ada.given, ada.finished, ada.complete_trials) == ("Ada", (6, 6), True, 2)
    assert (bo.inspector, bo.given, bo.finished, bo.complete_trials) == ("Bo", (6, 0), False, 1)


def test_a_closed_study_takes_no_verdict_and_shows_its_results_to_all(db: Database, study: studies.Study) -> None:
    first, second, *_ = studies.orders(db, study=study, inspector="Ada")[0]
    say(db, study, "Ada", Message(1, first, "good"))
    closed = studies.close(db, study_id=study.id)
    assert closed.closed_at == studies.close(db, study_id=study.id).closed_at
    done = say(db, study, "Ada", Message(1, first, "good"), Message(1, first, UNDO), Message(1, second, "bad"))
    assert done.closed
    assert {reason for _place, reason in done.refused} == {"The study was closed meanwhile"}
    assert stored(db, study) == [("Ada", 1, first, "good")]
    begun = studies.progress(db, study=closed)
    assert (studies.state_of(closed, begun), studies.may_see_results(closed, begun, "Anybody")) == ("closed", True)


def test_studies_are_listed_newest_first_and_by_project(db: Database, project: int, study: studies.Study) -> None:
    second = create(db, project, name=" Second \n study ")
    assert [(one.id, one.name) for one in studies.list_studies(db, project_id=project)] == [
        (second.id, "Second study"),
        (study.id, "First"),
    ]
    assert studies.list_studies(db, project_id=projects.create(db, name="Other").id) == []
    assert studies.get(db, study_id=study.id) == study
    with pytest.raises(SsnError, match="no such study"):
        studies.get(db, study_id=999)


def test_a_study_of_all_images_holds_each_once(db: Database, project: int, parts: list[int]) -> None:
    study = create(db, project, n_parts=12)
    assert [part.image_id for part in studies.parts(db, study_id=study.id)] == images.ids(db, project_id=project)
