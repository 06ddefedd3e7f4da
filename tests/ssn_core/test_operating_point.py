"""Operating points: the three verdicts, and a file that is believed only when it is exactly one."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssn_core.errors import ModelFolderError, SettingError
from ssn_core.operating_point import (
    FILE_NAME,
    MAX_HOW,
    MAX_INSPECTOR,
    OperatingPoint,
    check_thresholds,
    read,
    to_json,
    verdict,
    verdicts,
)

POINT = OperatingPoint(1.5, -0.25, "Escape rate at most 2 %", "Ada", datetime(2026, 11, 24, 9, 30, tzinfo=UTC), 12)


def entry(**changes: Any) -> str:
    return json.dumps({**json.loads(to_json(POINT)), **changes})


@pytest.mark.parametrize(
    ("low", "expected"),
    [(None, ["good", "good", "good", "bad", "bad"]), (0.0, ["good", "check", "check", "bad", "bad"])],
)
def test_a_score_at_a_threshold_belongs_to_what_lies_above(low: float | None, expected: list[str]) -> None:
    point = OperatingPoint(2.0, low)
    scores = (-1e-9, 0.0, 1.999, 2.0, float("inf"))
    assert [point.verdict(score) for score in scores] == expected
    assert verdicts(np.array(scores), 2.0, low).tolist() == expected


def test_two_equal_thresholds_leave_nothing_to_a_person() -> None:
    assert [verdict(score, 1.0, 1.0) for score in (0.99, 1.0)] == ["good", "bad"]


def test_a_score_that_is_no_number_does_not_pass_as_good() -> None:
    with pytest.raises(ValueError, match="no verdict"):
        verdict(float("nan"), 1.0)
    with pytest.raises(ValueError, match="not a number"):
        verdicts(np.array([0.0, float("nan")]), 1.0)


def test_thresholds_that_judge_nothing_are_refused() -> None:
    check_thresholds(1.0)
    check_thresholds(1.0, 1.0)
    for high, low in ((float("nan"), None), (float("inf"), None), (1.0, float("nan")), (1.0, 1.5)):
        with pytest.raises(SettingError, match="threshold"):
            check_thresholds(high, low)


@pytest.mark.parametrize(
    "point", [POINT, OperatingPoint(0.1 + 0.2), OperatingPoint(-1e308, -1.7e308, "Größe ≥ 2", "Åsa")]
)
def test_an_operating_point_comes_back_bit_for_bit(point: OperatingPoint, tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(to_json(point))
    assert read(tmp_path) == point


def test_a_folder_without_the_file_has_none(tmp_path: Path) -> None:
    assert read(tmp_path) is None


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "no JSON"),
        ("[" * 10_000, "no JSON"),
        (entry().encode("utf-16"), "no JSON"),
        ("9" * 10_000, "no JSON"),
        (" " * 20_000 + entry(), "more than"),
        ("[]", "no object"),
        ("null", "no object"),
        (entry(schema_version=2), "schema_version 1"),
        (entry(more=1), "other entries"),
        (entry(**{"x" * 9_000: 1}), "other entries"),
        ('{"schema_version": 1, "threshold": 1.0}', "other entries"),
        (entry(threshold="1.5"), "threshold is '1.5'"),
        (entry(threshold=True), "threshold is True"),
        (entry(threshold=None), "threshold is None"),
        (entry(threshold=float("nan")), "threshold is nan"),
        (entry(threshold=float("inf")), "threshold is inf"),
        (entry().replace("1.5", "1e999"), "threshold is inf"),
        (entry().replace("1.5", "9" * 400), "too large"),
        (entry(threshold=[1.5]), "threshold is"),
        (entry(threshold_low=float("-inf")), "threshold_low is -inf"),
        (entry(threshold_low=1.6), "above the upper one"),
        (entry(how=7), "how is no line"),
        (entry(how="x" * 201), "how is no line"),
        (entry(how="\x1b]0;owned\x07"), "how is no line"),
        (entry(inspector="Ada\u202eadA"), "inspector is no line"),
        (entry(saved_at="yesterday"), "(?i)isoformat"),
        (entry(saved_at="2026-11-24T09:30:00"), "time zone"),
        (entry(saved_at=5), "time zone"),
        (entry(version=-1), "version is -1"),
        (entry(version=1.5), "version is 1.5"),
        (entry(version=True), "version is True"),
    ],
)
def test_anything_else_is_refused_and_why(content: str | bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ModelFolderError, match=reason) as caught:
        read(tmp_path)
    assert FILE_NAME in str(caught.value)
    assert len(str(caught.value)) < 500 + len(str(tmp_path))
    assert str(caught.value).isprintable()


def test_what_is_not_a_file_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).mkdir()
    with pytest.raises(ModelFolderError, match="not a file"):
        read(tmp_path)
    if hasattr(os, "mkfifo"):
        (tmp_path / FILE_NAME).rmdir()
        os.mkfifo(tmp_path / FILE_NAME)
        with pytest.raises(ModelFolderError, match="not a file"):
            read(tmp_path)


def test_the_largest_file_we_write_is_read(tmp_path: Path) -> None:
    longest = OperatingPoint(1.0, how="\U0001f50d" * MAX_HOW, inspector="Å" * MAX_INSPECTOR)
    (tmp_path / FILE_NAME).write_bytes(to_json(longest))
    assert read(tmp_path) == longest
