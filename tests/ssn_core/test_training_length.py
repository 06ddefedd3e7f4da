"""Early stop: on what the length of a training is found, that nothing else has a say in it, and how it is told."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from ssn_core import pipeline, training_length
from ssn_core.checkpoint import load_model, save_model
from ssn_core.course import Course
from ssn_core.crossval import assign_folds, cross_validate
from ssn_core.dataset import LabelledImage, deal_folds, examples
from ssn_core.features import TapCache
from ssn_core.pipeline import Trained, fit, train_model
from ssn_core.recipes import Recipe, get_recipe, recorded
from ssn_core.reporting import Silent
from ssn_core.settling import Check, Length, as_data, balanced_cross_entropy, best_of, has_settled, in_words, is_due
from ssn_core.training import Trainer
from ssn_core.training_length import find_length, halves, samples_ahead, shared_length

CPU = torch.device("cpu")

# One network after the other, as most of these tests watch them.
pytestmark = pytest.mark.usefixtures("one_thread")
SMALL = {"image_size": (64, 64), "batch_size": 16, "head_width": 16, "map_width": 16, "feature_scale": 1}


def quick(name: str = "cam", **more: object) -> Recipe:
    return get_recipe(name).with_settings({**SMALL, "epochs": 3, "early_stop": True, **more})


@pytest.fixture
def few_suffice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_length, "MIN_WATCHED", 2)


@pytest.fixture
def rising_until(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Lets the AP-det of a trial rise for so many checks and then fall."""
    until = {"checks": 2}

    class Falling:
        def __init__(self) -> None:
            self.asked = 0

        def ap(self, *_given: object) -> float:
            self.asked += 1
            return 0.5 + 0.01 * (self.asked if self.asked <= until["checks"] else -self.asked)

    class EachTrial(Trainer):
        def __init__(self, *given: object) -> None:
            monkeypatch.setattr(training_length, "metrics", Falling())
            super().__init__(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(training_length, "Trainer", EachTrial)
    return until


def checks(*found: tuple[float, float]) -> list[Check]:
    return [Check(number, *one) for number, one in enumerate(found, start=1)]


@pytest.mark.parametrize(
    ("found", "settled"),
    [
        ([], False),
        ([(0.9, 1.0)] * 4, False),  # too short to tell
        ([(0.9, 1.0)] * 5, True),
        ([(0.9, 1.0), (0.8, 0.1), (0.8, 0.1), (0.8, 0.1), (0.9, 0.9)], False),  # as good, and a lower loss
        ([(0.9, 1.0), (0.8, 0.1), (0.8, 0.1), (0.8, 0.1), (0.9, 1.1)], True),
        ([(0.5, 1.0), (0.6, 1.0), (0.5, 1.0), (0.5, 1.0), (0.5, 1.0)], False),
        ([(1.0, 0.5), (1.0, 0.4), (1.0, 0.3), (1.0, 0.2), (1.0, 0.1)], False),  # perfect, and still surer
    ],
)
def test_a_training_has_settled_after_four_checks_without_a_better_one(
    found: list[tuple[float, float]], settled: bool
) -> None:
    assert has_settled(checks(*found)) is settled


def test_the_best_check_has_the_highest_ap_then_the_lowest_loss_then_comes_first() -> None:
    found = checks((0.8, 0.1), (0.9, 0.5), (0.9, 0.4), (0.9, 0.4))
    assert best_of(found).epoch == 3


def test_both_classes_weigh_the_same_in_the_cross_entropy() -> None:
    # ln(1 + e^-2) for the bad one, ln 2 for each of three good ones
    assert balanced_cross_entropy([True, False, False, False], [2.0, 0.0, 0.0, 0.0]) == pytest.approx(0.4100376)
    assert balanced_cross_entropy([True, False], [float("inf"), float("nan")]) == float("inf")


@pytest.mark.parametrize("epochs", [*range(1, 60), 300])
def test_every_trial_is_checked_and_not_before_a_quarter_of_its_length(epochs: int) -> None:
    due = [epoch for epoch in range(1, epochs + 1) if is_due(epoch, epochs)]
    assert due
    assert due[0] >= epochs / 4


def test_halves_keep_groups_together_and_hold_both_classes(labelled: list[LabelledImage], few_suffice: None) -> None:
    found = halves(quick(), labelled)
    assert found is not None
    learned, watched = found
    assert sorted(i.key for i in (*learned, *watched)) == sorted(i.key for i in labelled)
    assert not {i.group for i in learned} & {i.group for i in watched}
    assert all({i.bad for i in half} == {False, True} for half in found)


def test_there_is_no_trial_without_enough_images_or_where_none_is_asked_for(labelled: list[LabelledImage]) -> None:
    assert halves(quick(), labelled) is None  # 9 bad ones leave 4 to measure on
    more = [*labelled, *(dataclasses.replace(i, key=f"{i.key}b", group=f"{i.group}b") for i in labelled)]
    assert halves(quick(), more) is not None
    assert halves(quick(early_stop=False), more) is None
    assert halves(quick("supersimplenet"), [i for i in more if not i.bad]) is None
    assert halves(quick("supersimplenet-supervised"), [dataclasses.replace(i, mask=None) for i in more]) is None


@pytest.mark.parametrize(("until", "epochs"), [(1, 13), (2, 15), (4, 20), (12, 40), (16, 40)])
def test_a_training_takes_the_share_of_its_epochs_that_the_trial_needed_at_high_learning_rates(
    labelled: list[LabelledImage],
    caches: dict[str, TapCache],
    few_suffice: None,
    rising_until: dict[str, int],
    until: int,
    epochs: int,
) -> None:
    rising_until["checks"] = until
    recipe = quick(
        "simplenet", epochs=40
    )  # checked every 2 epochs from 10 on; the high rates last for 0.8 of a training
    course = Course(Silent(), samples_ahead(recipe, labelled), CPU)
    length = find_length(recipe, labelled, caches["zeros"], course, device=CPU, name="Model", state_file=None)
    assert (length.epochs, length.planned, length.trial_planned) == (epochs, 40, 40)
    assert len(length.checks) == min(until + 4, 16)
    # What the trial did not need and what the training will not need is not ahead any more.
    n_good = sum(not i.bad for i in labelled)
    assert course.total - course.done == epochs * n_good


def test_the_length_is_found_on_training_images_alone(
    labelled: list[LabelledImage], caches: dict[str, TapCache], few_suffice: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither learned from nor looked at: no image of a left-out fold, or of a group that it shares."""
    touched: list[set[str]] = []
    score = training_length.score_cached

    class Watched(Trainer):
        def __init__(self, recipe: Recipe, given: list[object], *more: object) -> None:
            touched.append({example.key for example in given})  # type: ignore[attr-defined]
            super().__init__(recipe, given, *more)  # type: ignore[arg-type]

    def watch_score(net: object, taps: TapCache, keys: list[str], **more: object) -> object:
        assert not touched[-1] & set(keys) or keys == looked[-1]
        looked.append(keys)
        touched[-1] |= set(keys)
        return score(net, taps, keys, **more)  # type: ignore[arg-type]

    looked: list[list[str]] = []
    monkeypatch.setattr(training_length, "Trainer", Watched)
    monkeypatch.setattr(training_length, "score_cached", watch_score)
    trained = train_model(quick(), labelled, caches["replicate"], device=CPU, reporter=Silent())
    folds, group_of = deal_folds(labelled, pipeline.N_FOLDS), {i.key: i.group for i in labelled}
    assert len(touched) == 3  # one trial a fold; the model itself takes their median
    for fold, keys in enumerate(touched):
        assert keys == {i.key for i in labelled if folds[i.key] != fold}
        assert not {group_of[key] for key in keys} & {i.group for i in labelled if folds[i.key] == fold}
    assert [t["network"] for t in trained.model.figures["length"]["trials"]] == [f"Fold {n} of 3" for n in (1, 2, 3)]


def test_with_fixed_parts_calibration_and_test_images_have_no_say_in_the_length(
    labelled: list[LabelledImage], caches: dict[str, TapCache], few_suffice: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "MIN_TEST_PER_CLASS", 1)
    monkeypatch.setattr(pipeline, "MIN_CALIBRATION_PER_CLASS", 1)
    parts = ["test", "calibration", *["train"] * 7]
    images = [dataclasses.replace(i, part=parts[int(i.group[4:])]) for i in labelled]
    turned = [dataclasses.replace(i, bad=not i.bad) if i.part != "train" else i for i in images]
    first, second = (
        train_model(quick(), given, caches["replicate"], device=CPU, reporter=Silent()) for given in (images, turned)
    )
    assert first.held_out == "test"
    length = first.model.figures["length"]
    (trial,) = length["trials"]
    assert (trial["n_good"], trial["n_bad"]) == (6, 3)  # of the seven groups that are trained on
    assert length["epochs"] == trial["epochs"]
    assert second.model.figures["length"] == length


class Bar:
    """Keeps what a page would show."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []
        self.said: list[dict[str, object]] = []

    def progress(self, phase: str, done: int, total: int, **metrics: str | float) -> None:
        if phase == "Training":
            self.seen.append((done, total))
            self.said.append(metrics)

    def point(self, series: str, step: int, value: float) -> None:
        """Curves are not looked at."""


def test_progress_never_goes_back_when_trainings_turn_out_shorter(
    labelled: list[LabelledImage], caches: dict[str, TapCache], few_suffice: None, rising_until: dict[str, int]
) -> None:
    bar = Bar()
    trained = train_model(quick(epochs=20), labelled, caches["replicate"], device=CPU, reporter=bar)
    assert trained.model.figures["length"]["epochs"] == 8  # 6 of 20 at the high rates
    done, total = zip(*bar.seen, strict=True)
    assert list(done) == sorted(done)
    assert list(total) == sorted(total, reverse=True)
    assert total[-1] < total[0]
    assert done[-1] == total[-1]
    assert [said["network"] for said in bar.said if said["planned"]][-1] == "Fold 3 of 3"
    assert {(said["epochs"], said["planned"]) for said in bar.said if said["network"] == "Fold 1 of 3"} == {(8, 20)}


def test_trials_side_by_side_find_what_they_find_one_after_the_other(
    labelled: list[LabelledImage], caches: dict[str, TapCache], few_suffice: None
) -> None:
    given = {"images": labelled, "taps": caches["replicate"], "device": CPU}
    alone = train_model(quick(epochs=20), **given, reporter=Silent())  # type: ignore[arg-type]
    torch.set_num_threads(2)  # back to one when the test ends
    bar = Bar()
    beside = train_model(quick(epochs=20), **given, reporter=bar)  # type: ignore[arg-type]
    done, total = zip(*bar.seen, strict=True)
    assert list(done) == sorted(done)
    assert list(total) == sorted(total, reverse=True)
    assert done[-1] == total[-1]
    assert "2 networks at a time" in {said["network"] for said in bar.said}
    assert beside.predictions == alone.predictions  # of the folds' networks, with a thread each both times
    assert beside.model.figures["length"] == alone.model.figures["length"]


class PowerCutError(Exception):
    pass


class Cut(Bar):
    """Cuts the power at a step."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after

    def progress(self, phase: str, done: int, total: int, **metrics: str | float) -> None:
        super().progress(phase, done, total, **metrics)
        if len(self.seen) == self.after:
            raise PowerCutError


def weights_of(trained: Trained) -> list[torch.Tensor]:
    return list(trained.model.net.state_dict().values())


@pytest.mark.parametrize("name", ["cam", "supersimplenet"])
def test_a_training_that_was_cut_off_again_and_again_ends_as_one_that_was_not(
    name: str, labelled: list[LabelledImage], caches: dict[str, TapCache], few_suffice: None, tmp_path: Path
) -> None:
    recipe = quick(name, epochs=6)
    given = {"images": labelled, "taps": caches[recipe.padding], "device": CPU}
    bar = Bar()
    whole = train_model(recipe, **given, reporter=bar)  # type: ignore[arg-type]
    assert whole.model.figures["length"]["trials"][0]["checks"]
    cuts, n = 0, max(5, len(bar.seen) // 5)  # in trials, and in the trainings that follow them
    while True:
        cut = Cut(n)
        try:
            again = train_model(recipe, **given, reporter=cut, state_folder=tmp_path)  # type: ignore[arg-type]
            break
        except PowerCutError:
            cuts += 1
    assert cuts > 2
    assert again.predictions == whole.predictions
    assert json.dumps(again.model.figures["length"]) == json.dumps(whole.model.figures["length"])
    assert all(map(torch.equal, weights_of(again), weights_of(whole)))


def test_a_training_without_a_trial_is_what_it_was_before(
    labelled: list[LabelledImage], caches: dict[str, TapCache]
) -> None:
    """Too few images for a trial: the same network as without the setting, and the reason is kept."""
    trained = train_model(quick(), labelled, caches["replicate"], device=CPU, reporter=Silent())
    plain = train_model(quick(early_stop=False), labelled, caches["replicate"], device=CPU, reporter=Silent())
    assert all(map(torch.equal, weights_of(trained), weights_of(plain)))
    assert trained.predictions == plain.predictions
    assert plain.model.figures["length"] is None
    assert "too few labelled images" in in_words(trained.model.figures["length"])


def test_the_shorter_training_is_the_one_that_was_planned_so_long(
    labelled: list[LabelledImage], caches: dict[str, TapCache], few_suffice: None, rising_until: dict[str, int]
) -> None:
    told: list[Length] = []
    recipe = quick("gap-cam", epochs=20)
    given = {"images": labelled, "taps": caches["zeros"], "device": CPU, "reporter": Silent(), "name": "Model"}
    found = fit(recipe, **given, on_length=told.append)  # type: ignore[arg-type]
    assert told[0].epochs == 8
    planned = fit(quick("gap-cam", epochs=8, early_stop=False), **given)  # type: ignore[arg-type]
    assert all(map(torch.equal, found.state_dict().values(), planned.state_dict().values()))


def test_the_local_head_has_no_part_in_a_trial(
    labelled: list[LabelledImage], caches: dict[str, TapCache], few_suffice: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would judge by a head that has not learned yet; the rest learns the same without it."""
    recipes: list[Recipe] = []

    class Kept(Trainer):
        def __init__(self, recipe: Recipe, *more: object) -> None:
            recipes.append(recipe)
            super().__init__(recipe, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(training_length, "Trainer", Kept)
    recipe = quick("cam")
    fit(recipe, labelled, caches["replicate"], device=CPU, reporter=Silent(), name="Model")
    (trial,) = recipes
    assert (trial.local_width, trial.pooling_fraction) == (0, recipe.cam_fraction)
    learned = examples(halves(recipe, labelled)[0], recipe)  # type: ignore[index]
    with_head = Trainer(recipe.with_settings({"early_stop": False}), learned, caches["replicate"], CPU).run()
    without = Trainer(trial, learned, caches["replicate"], CPU).run()
    for key, value in without.state_dict().items():
        if key != "head.bias":  # set anew for the local head
            torch.testing.assert_close(value, with_head.state_dict()[key], rtol=0, atol=0)


def test_the_model_takes_the_median_share_of_the_folds() -> None:
    images = [LabelledImage(f"{n:064x}", "x.png", n < 4, str(n)) for n in range(12)]
    recipe = quick(epochs=300)
    lengths = [Length("Fold", epochs, 300) for epochs in (96, 300, 15)]
    assert shared_length(recipe, images, lengths) == 96
    assert shared_length(recipe, images, lengths[:2]) == 198


def test_cross_validation_says_how_long_each_network_was_trained(
    labelled: list[LabelledImage], caches: dict[str, TapCache], few_suffice: None, rising_until: dict[str, int]
) -> None:
    folds = assign_folds(labelled, from_data=True)
    given = {"images": labelled, "taps": caches["zeros"], "folds": folds, "device": CPU, "reporter": Silent()}
    report = cross_validate(quick("simplenet", epochs=20), **given)  # type: ignore[arg-type]
    assert [(f["length"]["epochs"], f["length"]["planned"]) for f in report["folds"]] == [(8, 20)] * 3
    assert report["settings"]["early_stop"] is True
    plain = cross_validate(quick("simplenet", epochs=1, early_stop=False), **given)  # type: ignore[arg-type]
    assert [fold["length"] for fold in plain["folds"]] == [None] * 3


def test_a_model_keeps_the_length_and_one_of_before_still_loads(
    labelled: list[LabelledImage], caches: dict[str, TapCache], few_suffice: None, tmp_path: Path
) -> None:
    trained = train_model(quick(), labelled, caches["replicate"], device=CPU, reporter=Silent())
    save_model(trained.model, tmp_path / "m")
    loaded, _ = load_model(tmp_path / "m")
    assert loaded.recipe.early_stop
    assert in_words(loaded.figures["length"]) == in_words(trained.model.figures["length"])
    card = json.loads((tmp_path / "m" / "model.json").read_text())
    del card["settings"]["early_stop"], card["figures"]["length"]
    card["settings"]["settle_epochs"] = 0
    (tmp_path / "m" / "model.json").write_text(json.dumps(card))
    before, _ = load_model(tmp_path / "m")
    assert before.recipe == recorded("cam", {**card["settings"]})
    assert not before.recipe.early_stop


def test_the_length_is_said_in_words() -> None:
    trial = Length("Model", 96, 300, n_good=9, n_bad=5, trial_planned=300, checks=tuple(checks((0.9, 0.1))))
    early = in_words(as_data(96, 300, [trial]))
    assert "after 96 of 300 epochs" in early
    assert "networks that were measured" not in early
    folds = [trial, dataclasses.replace(trial, epochs=80), dataclasses.replace(trial, epochs=300)]
    assert "took 96 of 300, 80 of 300, 300 of 300 epochs" in in_words(as_data(96, 300, folds))
    assert "went on improving" in in_words(as_data(300, 300, [dataclasses.replace(trial, epochs=300)]))
    assert "too few" in in_words(as_data(300, 300, [Length("Model", 300, 300)]))
    # As it comes back from a file.
    assert in_words(json.loads(json.dumps(as_data(96, 300, [trial])))) == early
