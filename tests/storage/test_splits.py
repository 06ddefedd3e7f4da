"""Splits: pinned for ever, and in the promised proportions."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import pytest

from storage.splits import fold_of, group_part, part_for

PINNED = {  # key: (part, part where the import says train, fold of five)
    "kos01": ("train", "train", 1),
    "kos02": ("train", "train", 1),
    "kos50": ("train", "train", 3),
    "": ("train", "train", 3),
    "Zähler 7": ("train", "calibration", 3),
    "0000000000000000000000000000000000000000000000000000000000000000": ("test", "train", 4),
    "group 1": ("train", "train", 1),
}


def test_the_parts_of_known_groups_never_change() -> None:
    found = {key: (group_part(key), part_for(key, "train"), fold_of(key, 5)) for key in PINNED}
    assert found == PINNED


def test_parts_keep_their_proportions() -> None:
    keys = [f"group {number}" for number in range(20_000)]
    parts = Counter(group_part(key) for key in keys)
    assert parts["train"] / len(keys) == pytest.approx(0.6, abs=0.015)
    assert parts["calibration"] / len(keys) == pytest.approx(0.2, abs=0.015)
    given = Counter(part_for(key, "train") for key in keys)
    assert set(given) == {"train", "calibration"}
    assert given["train"] / len(keys) == pytest.approx(0.75, abs=0.015)


def test_folds_are_even_and_independent_of_the_parts() -> None:
    keys = [f"group {number}" for number in range(20_000)]
    folds = Counter((group_part(key) == "train", fold_of(key, 4)) for key in keys)
    for (is_train, fold), n in folds.items():
        assert 0 <= fold < 4
        assert n / len(keys) == pytest.approx((0.6 if is_train else 0.4) / 4, abs=0.01)


def test_a_test_set_that_came_with_the_images_stays_the_test_set() -> None:
    assert {part_for(f"group {number}", "test") for number in range(100)} == {"test"}
    assert {part_for(f"group {n}", None) == group_part(f"group {n}") for n in range(100)} == {True}
    assert {part_for(f"group {n}", "train") == part_for(f"group {n}", "calibration") for n in range(100)} == {True}


def test_splits_do_not_depend_on_the_process() -> None:
    code = "from storage.splits import *; print([group_part(str(n)) for n in range(30)])"
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": s}
        ).stdout
        for s in ("1", "2")
    }
    assert outputs == {f"{[group_part(str(n)) for n in range(30)]}\n"}


def test_one_fold_is_no_cross_validation() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        fold_of("a", 1)
