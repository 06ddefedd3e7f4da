"""Splits: pinned for ever, and in the promised proportions."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import pytest

from ssn_core.splits import group_part, part_for

PINNED = {  # key: (part, part where the import says train)
    "kos01": ("train", "train"),
    "kos02": ("train", "train"),
    "kos50": ("train", "train"),
    "": ("train", "train"),
    "Zähler 7": ("train", "calibration"),
    "0000000000000000000000000000000000000000000000000000000000000000": ("test", "train"),
    "group 1": ("train", "train"),
}


def test_the_parts_of_known_groups_never_change() -> None:
    found = {key: (group_part(key), part_for(key, "train")) for key in PINNED}
    assert found == PINNED


def test_parts_keep_their_proportions() -> None:
    keys = [f"group {number}" for number in range(20_000)]
    parts = Counter(group_part(key) for key in keys)
    assert parts["train"] / len(keys) == pytest.approx(0.6, abs=0.015)
    assert parts["calibration"] / len(keys) == pytest.approx(0.2, abs=0.015)
    given = Counter(part_for(key, "train") for key in keys)
    assert set(given) == {"train", "calibration"}
    assert given["train"] / len(keys) == pytest.approx(0.75, abs=0.015)


def test_a_test_set_that_came_with_the_images_stays_the_test_set() -> None:
    assert {part_for(f"group {number}", "test") for number in range(100)} == {"test"}
    assert {part_for(f"group {n}", None) == group_part(f"group {n}") for n in range(100)} == {True}
    assert {part_for(f"group {n}", "train") == part_for(f"group {n}", "calibration") for n in range(100)} == {True}


def test_splits_do_not_depend_on_the_process() -> None:
    code = "from ssn_core.splits import *; print([group_part(str(n)) for n in range(30)])"
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": s}
        ).stdout
        for s in ("1", "2")
    }
    assert outputs == {f"{[group_part(str(n)) for n in range(30)]}\n"}
