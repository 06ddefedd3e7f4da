"""Second opinions: blind, by others, settled by a third one; and what they say about agreement."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ssn_core.errors import SettingError, SsnError, TooFewLabelsError
from storage import images, labels, opinion_results, opinion_verdicts, projects, second_opinions
from storage.db import Database
from storage.second_opinions import SECOND, THIRD, Case, Round, Said
from storage.study_verdicts import Message, Recorded
from storage.tables import utc_now

AddImages = Callable[..., list[int]]


@pytest.fixture
def labelled(db: Database, project: int, add_images: AddImages) -> list[int]:
    """Eight images; Ada labelled the first six and Bo the last two; odd places are bad."""
    ids = add_images(8)
    said = [
        labels.LabelEvent("seed", n + 1, image, "bad" if n % 2 else "good", "Ada" if n < 6 else "Bo", "board")
        for n, image in enumerate(ids)
    ]
    labels.record(db, project_id=project, events=said)
    return ids


@pytest.fixture
def begun(db: Database, project: int, labelled: list[int]) -> Round:
    return second_opinions.create(db, project_id=project, name=" Night\tshift ", inspector="Ada", n_images=8, seed=1)


def say(db: Database, found: Round, who: str, *said: tuple[int, str], stage: str = SECOND) -> Recorded:
    messages = [Message(1, image, verdict, 1.5) for image, verdict in said]
    return opinion_verdicts.record(
        db, project_id=found.project_id, round_id=found.id, inspector=who, stage=stage, messages=messages
    )


def case_of(db: Database, found: Round, image: int) -> Case:
    return next(case for case in second_opinions.cases(db, round_id=found.id) if case.image_id == image)


def test_nobody_is_served_what_they_labelled_themselves(db: Database, begun: Round, labelled: list[int]) -> None:
    assert (begun.name, begun.n_images) == ("Night shift", 8)
    assert sorted(second_opinions.to_judge(db, found=begun, inspector="Ada")) == labelled[6:]
    assert sorted(second_opinions.to_judge(db, found=begun, inspector="Bo")) == labelled[:6]
    orders = [second_opinions.to_judge(db, found=begun, inspector=who) for who in ("Cem", "Dee")]
    assert sorted(orders[0]) == sorted(orders[1]) == labelled
    assert orders[0] != orders[1]
    refused = say(db, begun, "Ada", (labelled[0], "bad")).refused
    assert "first verdict" in refused[0][1]


def test_what_has_an_opinion_is_served_to_nobody_else_and_is_no_label(
    db: Database, project: int, begun: Round, labelled: list[int]
) -> None:
    before = labels.project_history(db, project_id=project, limit=99)
    assert say(db, begun, "Bo", (labelled[0], "bad"), (labelled[1], "bad")).given == (2,)
    assert second_opinions.to_judge(db, found=begun, inspector="Bo")[:2] == labelled[:2]  # given, in their order
    assert sorted(second_opinions.to_judge(db, found=begun, inspector="Cem")) == labelled[2:]
    assert labels.project_history(db, project_id=project, limit=99) == before
    assert case_of(db, begun, labelled[0]).disputed
    assert not case_of(db, begun, labelled[1]).disputed


def test_a_disagreement_is_settled_by_a_third_verdict_which_becomes_the_label(
    db: Database, begun: Round, labelled: list[int]
) -> None:
    image, agreed = labelled[0], labelled[1]
    say(db, begun, "Bo", (image, "bad"), (agreed, "bad"))
    for who in ("Ada", "Bo"):
        assert second_opinions.to_judge(db, found=begun, inspector=who, stage=THIRD) == []
        assert len(say(db, begun, who, (image, "good"), stage=THIRD).refused) == 1
    assert second_opinions.to_judge(db, found=begun, inspector="Cem", stage=THIRD) == [image]
    assert "Nobody disagrees" in say(db, begun, "Cem", (agreed, "good"), stage=THIRD).refused[0][1]
    assert say(db, begun, "Cem", (image, "bad"), stage=THIRD).refused == ()
    found = images.get(db, image_id=image)
    assert (found.label, found.label_inspector) == ("bad", "Cem")
    [_, event] = labels.history(db, image_id=image)
    assert (event.origin, event.map_seen, event.seconds) == ("opinion", False, 1.5)
    case = case_of(db, begun, image)
    assert case.settled is not None
    assert case.settled.verdict == "bad"
    assert case.disputed
    assert "settled" in say(db, begun, "Dee", (image, "good"), stage=THIRD).refused[0][1]
    assert second_opinions.to_judge(db, found=begun, inspector="Dee", stage=THIRD) == []


def test_the_newest_verdict_can_be_taken_back_and_a_third_one_with_its_label(
    db: Database, begun: Round, labelled: list[int]
) -> None:
    one, two = labelled[0], labelled[1]
    say(db, begun, "Bo", (one, "bad"), (two, "bad"))
    assert "newest" in say(db, begun, "Bo", (one, "undo")).refused[0][1]
    assert say(db, begun, "Bo", (two, "undo")).given == (1,)
    assert say(db, begun, "Bo", (two, "undo")) == Recorded((1,), (), False)  # arrived twice
    say(db, begun, "Cem", (one, "bad"), stage=THIRD)
    assert "settled" in say(db, begun, "Bo", (one, "undo")).refused[0][1]
    assert say(db, begun, "Cem", (one, "undo"), stage=THIRD).given == (0,)
    assert images.get(db, image_id=one).label == "good"
    assert [event.is_undo for event in labels.history(db, image_id=one)] == [False, False, True]
    say(db, begun, "Cem", (one, "bad"), stage=THIRD)
    later = [labels.LabelEvent("later", 1, one, "unsure", "Dee", "single")]
    labels.record(db, project_id=begun.project_id, events=later)
    say(db, begun, "Cem", (one, "undo"), stage=THIRD)
    assert images.get(db, image_id=one).label == "unsure"  # somebody has spoken since: that stands


def test_the_same_message_twice_is_stored_once_and_another_verdict_refused(
    db: Database, begun: Round, labelled: list[int]
) -> None:
    image = labelled[0]
    assert say(db, begun, "Bo", (image, "bad"), (image, "bad")) == Recorded((1,), (), False)
    assert say(db, begun, "Bo", (image, "bad")) == Recorded((1,), (), False)
    assert "already" in say(db, begun, "Bo", (image, "good")).refused[0][1]
    assert len(case_of(db, begun, image).opinions) == 1


def test_two_who_judged_an_image_at_the_same_time_are_both_kept(
    db: Database, begun: Round, labelled: list[int]
) -> None:
    image = labelled[0]
    say(db, begun, "Bo", (image, "good"))
    assert say(db, begun, "Cem", (image, "bad")).refused == ()  # served before Bo was done
    assert case_of(db, begun, image).disputed
    assert second_opinions.to_judge(db, found=begun, inspector="Dee", stage=THIRD) == [image]


@pytest.mark.parametrize(
    ("image", "verdict"), [(10**12, "good"), (None, "good"), ("1", "good"), (True, "good"), (0, "unsure"), (0, ["bad"])]
)
def test_a_hostile_message_is_refused_alone(
    db: Database, begun: Round, labelled: list[int], image: object, verdict: object
) -> None:
    aim = labelled[1] if image == 0 else image
    recorded = say(db, begun, "Bo", (aim, verdict), (labelled[0], "good"))  # type: ignore[arg-type]
    assert [place for place, _ in recorded.refused] == [0]
    assert recorded.given == (1,)


def test_a_closed_round_takes_nothing_and_its_images_can_be_drawn_again(
    db: Database, project: int, begun: Round, labelled: list[int]
) -> None:
    assert second_opinions.count_candidates(db, project_id=project) == 0
    assert second_opinions.close(db, round_id=begun.id).is_closed
    assert say(db, begun, "Bo", (labelled[0], "good")) == Recorded((0,), ((0, "The round was closed meanwhile"),), True)
    assert second_opinions.count_candidates(db, project_id=project) == 8
    assert second_opinions.count_candidates(db, project_id=project, labelled_by="Bo") == 2
    again = second_opinions.create(
        db, project_id=project, name="Bo's", inspector="Ada", n_images=2, labelled_by="Bo", wanted=2, seed=2
    )
    assert {case.first_inspector for case in second_opinions.cases(db, round_id=again.id)} == {"Bo"}
    assert [one.name for one in second_opinions.list_rounds(db, project_id=project)] == ["Bo's", "Night shift"]


def test_what_cannot_be_a_round_is_refused(db: Database, project: int, labelled: list[int]) -> None:
    def create(**more: object) -> Round:
        settings = {"project_id": project, "name": "x", "inspector": "Ada", "n_images": 4, **more}
        return second_opinions.create(db, **settings)  # type: ignore[arg-type]

    for wrong in ({"n_images": 1}, {"n_images": 501}, {"wanted": 0}, {"wanted": 4}, {"name": " "}):
        with pytest.raises(SettingError):
            create(**wrong)
    with pytest.raises(TooFewLabelsError):
        create(n_images=9)
    with pytest.raises(SsnError, match="name"):
        create(inspector="")
    other = projects.create(db, name="Other").id
    found = create()
    with pytest.raises(SsnError, match="no such round"):
        opinion_verdicts.record(db, project_id=other, round_id=found.id, inspector="Bo", stage=SECOND)


def case(image: int, first: tuple[str, str], *opinions: tuple[str, str], wanted: int = 1) -> Case:
    said = tuple(Said(who, verdict, utc_now()) for who, verdict in opinions)
    return Case(image, wanted, first[0], first[1], said, None)


def test_agreement_is_cohens_for_each_pair_and_fleiss_for_all() -> None:
    # The table of Cohen's example with two categories: both good 20, both bad 15, apart 5 and 10.
    verdicts = [("good", "good")] * 20 + [("good", "bad")] * 5 + [("bad", "good")] * 10 + [("bad", "bad")] * 15
    found = [case(n, ("Ada", a), ("Bo", b)) for n, (a, b) in enumerate(verdicts)]
    found.append(case(99, ("Ada", "good")))  # nobody has looked at it yet
    results = opinion_results.summarise(found)
    [pair] = results.pairs
    assert (pair.first, pair.second, pair.same, pair.kappa.n) == ("Ada", "Bo", 35, 50)
    assert pair.kappa.value == pytest.approx(0.4)
    assert pair.kappa.interval is not None
    assert pair.kappa.interval.low < 0.4 < pair.kappa.interval.high
    # Fleiss' with two raters is Scott's pi: shares of good and bad are those of both together, 55 and 45 of 100.
    by_chance = 0.55**2 + 0.45**2
    assert results.kappa is not None
    assert results.kappa.value == pytest.approx((0.7 - by_chance) / (1 - by_chance))
    assert results.agreed is not None
    assert (results.agreed.count, results.agreed.of) == (35, 50)
    assert (results.n_images, results.complete, len(results.disputed), results.unsettled) == (51, 50, 15, 15)
    assert opinion_results.to_settle(found, "Cem") == 15
    assert opinion_results.to_settle(found, "Ada") == opinion_results.to_settle(found, "Bo") == 0


def test_without_a_complete_image_there_are_no_figures() -> None:
    results = opinion_results.summarise([case(1, ("Ada", "good"), ("Bo", "good"), wanted=2)])
    assert (results.complete, results.agreed, results.kappa) == (0, None, None)
    [pair] = results.pairs
    assert (pair.kappa.value, pair.kappa.n) == (None, 1)
    assert pair.kappa.reason
