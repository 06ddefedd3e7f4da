"""Rates at the thresholds in force rest on images that did not choose them, or say that they do not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssn_core import crossfit, honest, rules, thresholds
from ssn_core.calibration import Calibration, ScaleCheck, calibrate, check_scale, check_scale_crosswise
from ssn_core.errors import SettingError
from ssn_core.rules import FROM_TRAINING, YOUDEN, Rule, chosen_on, restored, rule_of

TYPED = st.floats(0, 1e9, allow_nan=False) | st.integers(0, 100).map(float)
RULES = st.one_of(
    st.sampled_from([YOUDEN, Rule("f1"), Rule("above")]),
    st.builds(lambda kind, value: Rule(kind, (value,)), st.sampled_from(["escape", "overkill"]), TYPED),
    st.builds(lambda kind, *values: Rule(kind, values), st.sampled_from(["cost", "pair"]), TYPED, TYPED),
    st.builds(lambda *values: Rule("cost_at_share", values), TYPED, TYPED, TYPED),
)


def parts(n: int) -> list[str]:
    return [f"part {number}" for number in range(n)]


def dealt(labels: np.ndarray) -> np.ndarray | None:
    return crossfit.deal_blocks(labels, parts(len(labels)))


def in_force(
    labels: np.ndarray, scores: np.ndarray, *, how: str = FROM_TRAINING, held_out: str = "out_of_fold"
) -> honest.Counted:
    """As counted at the threshold that Youden's J gives on all of them."""
    cut = thresholds.youden(labels, scores)
    found = honest.cuts(labels, scores, dealt(labels), held_out=held_out, threshold=cut, threshold_low=None, how=how)
    return found.count(labels, scores)


@given(RULES, st.sampled_from(list(rules.SCORES)), st.integers(1, 10**6))
def test_a_rule_is_known_again_by_the_words_that_were_saved_with_its_thresholds(rule: Rule, role: str, n: int) -> None:
    how = chosen_on(rule, role)
    assert len(restored(n, restored(n, how))) <= 200  # what the database keeps
    assert rule_of(how) == rule_of(restored(n, how)) == rule_of(restored(n + 1, restored(n, how))) == rule


def test_the_words_of_earlier_versions_are_known_too_and_those_of_people_are_no_rule() -> None:
    assert rule_of("Suggested by the training: Youden's J") == YOUDEN
    assert rule_of("Youden's J, on out-of-fold scores") == YOUDEN
    known = "Version 7 restored: Lowest cost, escape 100 : overkill 1, 0.3 % bad, on calibration scores"
    assert rule_of(known) == Rule("cost_at_share", (100, 1, 0.3))
    for how in (
        rules.BY_HAND,
        "Set before versions were kept",
        "Typed in",
        "",
        "Youden's J, nearly",
        "Escape rate at most 1e999 %",
        "Escape rate at most \N{ARABIC-INDIC DIGIT TWO} %",
    ):
        assert rule_of(how) is None, how


def test_a_rule_with_a_value_out_of_range_is_not_counted_crosswise() -> None:
    labels, scores = np.array([0, 1] * 10, dtype=np.int8), np.arange(20.0)
    assert in_force(labels, scores, how="Escape rate at most 500 %").basis == "same"


def test_a_rule_that_chose_on_these_scores_is_counted_crosswise() -> None:
    """One bad part far below the others: with it the line moves down to it and catches it, without it it escapes."""
    labels = np.array([0] * 20 + [1] * 6, dtype=np.int8)
    scores = np.array([*np.linspace(-5, -3, 20), -1.0, 3, 4, 5, 6, 7])
    found = in_force(labels, scores)
    assert (found.basis, found.rule) == ("crosswise", YOUDEN)
    assert found.as_they_are == thresholds.outcome(labels, scores, thresholds.youden(labels, scores))
    assert (found.as_they_are.escapes, found.outcome.escapes) == (0, 1)
    assert found.outcome == crossfit.crosswise(labels, scores, dealt(labels), YOUDEN.choose)
    assert "a threshold chosen without it" in found.note
    assert found.as_data()["escapes"] == 1


def test_a_rule_that_would_choose_otherwise_since_labels_were_corrected_says_what() -> None:
    labels, scores = np.array([0] * 10 + [1] * 10, dtype=np.int8), np.arange(-10.0, 10.0)
    assert in_force(labels, scores).would_choose is None
    cut = thresholds.youden(labels, scores)
    corrected = labels.copy()
    corrected[7:10] = 1
    cuts = honest.cuts(
        corrected,
        scores,
        dealt(corrected),
        held_out="out_of_fold",
        threshold=cut,
        threshold_low=None,
        how=FROM_TRAINING,
    )
    found = cuts.count(corrected, scores)
    assert found.would_choose == (-3.5, None)
    assert found.note.endswith("With the labels of today the rule would choose \N{MINUS SIGN}3.500.")


def test_thresholds_set_by_hand_are_counted_as_they_are_and_say_that_this_flatters() -> None:
    labels, scores = np.array([0, 1] * 10, dtype=np.int8), np.arange(20.0)
    for held_out, way_out in (("out_of_fold", "a fixed test split"), ("test", "chosen on calibration images")):
        found = in_force(labels, scores, how=rules.BY_HAND, held_out=held_out)
        assert (found.basis, found.rule) == ("by_hand", None)
        assert found.outcome == found.as_they_are
        assert "Slightly optimistic" in found.note
        assert way_out in found.note
        assert "fresh batch" in found.note


def test_test_images_are_counted_at_the_threshold_itself_which_they_did_not_choose() -> None:
    labels, scores = np.array([0, 1] * 10, dtype=np.int8), np.arange(20.0)
    found = in_force(labels, scores, held_out="test")
    assert (found.basis, found.outcome) == ("separate", found.as_they_are)


@pytest.mark.parametrize("labels", [[], [0, 0, 0], [1, 0, 0, 0]])
def test_too_few_parts_are_counted_as_they_are_and_say_so(labels: list[int]) -> None:
    bad, scores = np.array(labels, dtype=np.int8), np.arange(float(len(labels)))
    cuts = honest.cuts(
        bad, scores, dealt(bad), held_out="out_of_fold", threshold=1.0, threshold_low=0.5, how=FROM_TRAINING
    )
    found = cuts.count(bad, scores)
    assert found.basis == "same"
    assert found.outcome == thresholds.outcome(bad, scores, 1.0, 0.5)
    assert "too few parts" in found.note


def test_a_part_of_the_images_is_counted_at_the_thresholds_chosen_on_all_of_them() -> None:
    rng = np.random.default_rng(2)
    labels = (rng.random(80) < 0.4).astype(np.int8)
    scores = rng.normal(size=80) + labels
    cuts = honest.cuts(
        labels, scores, dealt(labels), held_out="out_of_fold", threshold=0.0, threshold_low=None, how=FROM_TRAINING
    )
    some = np.arange(0, 80, 3)
    found = cuts.count(labels[some], scores[some], some)
    assert found.outcome.escapes == int(np.sum((labels[some] == 1) & (scores[some] < cuts.high[some])))
    assert found.as_they_are == thresholds.outcome(labels[some], scores[some], 0.0)


def test_crosswise_rates_are_those_of_new_parts_and_plain_ones_are_too_good() -> None:
    """500 models of 24 good and 12 bad parts each; what the rule then does to new parts is known exactly."""
    rng = np.random.default_rng(0)
    labels = np.array([0] * 24 + [1] * 12, dtype=np.int8)
    fresh = np.array([0] * 2000 + [1] * 2000, dtype=np.int8)
    fresh_scores = rng.normal(size=4000) + 1.5 * fresh
    plain, cross, new = [], [], []
    for _ in range(500):
        scores = rng.normal(size=36) + 1.5 * labels
        found = in_force(labels, scores)
        on_new = thresholds.outcome(fresh, fresh_scores, thresholds.youden(labels, scores))
        for kept, one in ((plain, found.as_they_are), (cross, found.outcome), (new, on_new)):
            kept.append(((one.escape_rate or 0) + (one.overkill_rate or 0)) / 2)
    standard_error = float(np.std(np.subtract(cross, new)) / np.sqrt(500))
    assert abs(np.mean(cross) - np.mean(new)) < 0.01 + 2 * standard_error
    assert np.mean(new) - np.mean(plain) > 0.04


# ---- the colour scale ------------------------------------------------------------------------------------------------


def test_good_parts_that_stay_dark_are_counted_at_scales_they_had_no_say_in() -> None:
    bad = np.array([False] * 10 + [True] * 5)
    peaks = np.array([*range(10), *range(20, 25)], dtype=np.float64)
    groups = parts(15)
    block = crossfit.deal_blocks(bad.astype(np.int8), groups)
    assert block is not None
    dark = 0
    for i in range(10):
        others = [peaks[j] for j in range(10) if block[j] != block[i]]
        dark += bool(peaks[i] <= np.percentile(others, 95))
    found = calibrate(bad.tolist(), peaks.tolist(), peaks.tolist(), source="out_of_fold", groups=groups)
    assert found.scale_check == ScaleCheck(dark, 10, "crosswise")
    assert dark < 10


def test_the_check_of_the_scale_is_unbiased_where_counting_on_the_same_maps_is_not() -> None:
    rng = np.random.default_rng(1)
    bad = np.array([False] * 20 + [True] * 10)
    cross: list[float] = []
    same: list[float] = []
    new: list[float] = []
    for _ in range(400):
        peaks = np.abs(rng.normal(size=30)) + 3 * bad
        found = check_scale_crosswise(bad, peaks, parts(30))
        assert found is not None
        low = calibrate(bad.tolist(), peaks.tolist(), peaks.tolist(), source="out_of_fold").scale_low
        cross.append(found.dark / 20)
        same.append(np.mean(peaks[~bad] <= low))
        new.append(np.mean(np.abs(rng.normal(size=500)) <= low))
    assert np.mean(same) - np.mean(new) > 0.01
    assert abs(np.mean(cross) - np.mean(new)) < abs(np.mean(same) - np.mean(new))
    assert abs(np.mean(cross) - np.mean(new)) < 0.015


def test_test_images_check_the_scale_as_it_is_and_too_few_parts_check_nothing() -> None:
    assert check_scale([0.1, 0.5, 0.6], low=0.5) == ScaleCheck(2, 3, "test")
    assert check_scale_crosswise(np.array([False, True]), np.array([0.0, 1.0]), ["a", "b"]) is None
    assert calibrate([False, True], [0.0, 1.0], [0.0, 1.0], source="calibration").scale_check is None


def test_the_picture_scale_is_the_same_whether_or_not_it_is_checked() -> None:
    bad, peaks = [False] * 9 + [True] * 4, [*np.linspace(0, 1, 9), 2.0, 3.0, 4.0, 5.0]
    unchecked = calibrate(bad, peaks, peaks, source="out_of_fold")
    checked = calibrate(bad, peaks, peaks, source="out_of_fold", groups=parts(13))
    assert (checked.scale_low, checked.scale_high) == (unchecked.scale_low, unchecked.scale_high)


CARD: dict[str, Any] = {
    "threshold": 0.0,
    "scale_low": 0.0,
    "scale_high": 1.0,
    "source": "out_of_fold",
    "n_good": 5,
    "n_bad": 3,
}


def test_a_calibration_of_before_the_check_loads_and_one_with_it_comes_back() -> None:
    assert Calibration.of_card(CARD) == Calibration(**CARD)
    check = {"dark": 4, "n_good": 5, "checked": "crosswise"}
    assert Calibration.of_card({**CARD, "scale_check": check}).scale_check == ScaleCheck(4, 5, "crosswise")


@pytest.mark.parametrize(
    "check",
    [
        [],
        {"dark": 6, "n_good": 5, "checked": "crosswise"},
        {"dark": True, "n_good": 5, "checked": "test"},
        {"dark": 1, "n_good": 5, "checked": "by eye"},
        {"dark": 1, "n_good": 5},
    ],
)
def test_what_is_no_check_of_the_scale_is_refused(check: object) -> None:
    with pytest.raises(SettingError):
        Calibration.of_card({**CARD, "scale_check": check})
