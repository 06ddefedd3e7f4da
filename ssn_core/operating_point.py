"""The operating point of a model: from which score on a part is bad, and which parts a person looks at.

A model folder carries it as `operating_point.json`; without that file the training's threshold is in force. Reading is
strict: whatever is not exactly an operating point is refused, and why. No torch here: pages and storage use it too.
"""

from __future__ import annotations

import json
import math
import stat
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ssn_core.errors import ModelFolderError, SettingError
from ssn_core.rules import FROM_TRAINING

Verdict = Literal["good", "check", "bad"]
FILE_NAME = "operating_point.json"
SCHEMA_VERSION = 1
MAX_HOW, MAX_INSPECTOR = 200, 100  # characters, as the database keeps
_MAX_BYTES = 16_384  # ours are below 2,000 bytes
_KEYS = {"schema_version", "threshold", "threshold_low", "how", "inspector", "saved_at", "version"}
_ACTION = "Save the thresholds again on the Evaluate page, or delete the file: the training's threshold is then used"


@dataclass(frozen=True)
class OperatingPoint:
    """One or two thresholds, and where they come from."""

    threshold: float  # logit; a score at or above it means bad
    threshold_low: float | None = None  # scores from here up to `threshold` go to a person; None: everything is decided
    how: str = FROM_TRAINING  # in words; ssn_core.rules writes and reads them
    inspector: str = ""  # who saved it; "" for the training itself
    saved_at: datetime | None = None  # aware; None for the training itself
    version: int = 0  # which of the model's versions, from 1, where they are kept in a database; 0 for none

    def verdict(self, score: float) -> Verdict:
        """See :func:`verdict`."""
        return verdict(score, self.threshold, self.threshold_low)


def verdict(score: float, threshold: float, threshold_low: float | None = None) -> Verdict:
    """What a score means: "bad" from `threshold` on, "good" below `threshold_low` (or below `threshold` where there is
    none), "check" between them: a person decides.

    Raises:
        ValueError: the score is NaN: it would otherwise pass as good.
    """
    if math.isnan(score):
        raise ValueError("A score that is not a number has no verdict")
    if score >= threshold:
        return "bad"
    return "check" if threshold_low is not None and score >= threshold_low else "good"


def verdicts(scores: NDArray[np.float64], threshold: float, threshold_low: float | None = None) -> NDArray[np.str_]:
    """:func:`verdict` of each of (N,) scores.

    Raises:
        ValueError: a score is NaN.
    """
    if np.isnan(scores).any():
        raise ValueError("A score that is not a number has no verdict")
    low = threshold if threshold_low is None else threshold_low
    return np.select([scores >= threshold, scores >= low], ["bad", "check"], "good")


def check_thresholds(threshold: float, threshold_low: float | None = None) -> None:
    """Refuse thresholds that no part can be judged by.

    Raises:
        SettingError: one is not finite, or the lower one lies above the other.
    """
    for name, value in (("threshold", threshold), ("lower threshold", threshold_low)):
        if value is not None and not math.isfinite(value):
            raise SettingError(f"The {name} is not usable", value=value, expected="a finite number")
    if threshold_low is not None and threshold_low > threshold:
        raise SettingError(
            "The lower threshold lies above the upper one", value=threshold_low, expected=f"at most {threshold:g}"
        )


def to_json(point: OperatingPoint) -> bytes:
    """The content of `operating_point.json`; :func:`read` gives exactly this point back."""
    entry = {
        "schema_version": SCHEMA_VERSION,
        "threshold": point.threshold,
        "threshold_low": point.threshold_low,
        "how": point.how,
        "inspector": point.inspector,
        "saved_at": None if point.saved_at is None else point.saved_at.isoformat(),
        "version": point.version,
    }
    return (json.dumps(entry, indent=1, allow_nan=False) + "\n").encode()


def read(folder: Path) -> OperatingPoint | None:
    """The operating point that a model folder carries, or None where it has no such file.

    Raises:
        ModelFolderError: the file cannot be read, is too large, damaged or of another version, or what it holds is no
            operating point: thresholds not finite or in the wrong order, unknown entries, control characters.
    """
    path = folder / FILE_NAME
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for
            raise _refused(path, "not a file")
        with path.open("rb") as stream:
            data = stream.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _refused(path, error.strerror or str(error)) from error
    if len(data) > _MAX_BYTES:
        raise _refused(path, f"more than {_MAX_BYTES:,} bytes")
    try:
        entry = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise _refused(path, "no JSON in UTF-8") from error
    if not isinstance(entry, dict) or entry.get("schema_version") != SCHEMA_VERSION:
        raise _refused(path, f"no object of schema_version {SCHEMA_VERSION}")
    if set(entry) != _KEYS:
        raise _refused(path, f"other entries than expected: {sorted(set(entry) ^ _KEYS)!r:.100}")
    try:
        point = OperatingPoint(
            threshold=_number(entry, "threshold"),
            threshold_low=None if entry["threshold_low"] is None else _number(entry, "threshold_low"),
            how=_words(entry, "how", MAX_HOW),
            inspector=_words(entry, "inspector", MAX_INSPECTOR),
            saved_at=_moment(entry),
            version=_version(entry),
        )
        check_thresholds(point.threshold, point.threshold_low)
    except (ValueError, OverflowError, SettingError) as error:
        raise _refused(path, str(error)) from error
    return point


def _refused(path: Path, reason: str) -> ModelFolderError:
    return ModelFolderError(f"{FILE_NAME} cannot be used ({reason.rstrip('.')})", value=str(path), action=_ACTION)


def _number(entry: dict[str, Any], key: str) -> float:
    value = entry[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{key} is {value!r:.40}, not a finite number")
    return float(value)


def _words(entry: dict[str, Any], key: str, longest: int) -> str:
    value = entry[key]
    if not isinstance(value, str) or len(value) > longest or not value.isprintable():
        raise ValueError(f"{key} is no line of at most {longest} printable characters")
    return value


def _moment(entry: dict[str, Any]) -> datetime | None:
    value = entry["saved_at"]
    if value is None:
        return None
    moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    if moment is None or moment.tzinfo is None:
        raise ValueError(f"saved_at is {value!r:.40}, not a moment with its time zone")
    return moment


def _version(entry: dict[str, Any]) -> int:
    value = entry["version"]
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"version is {value!r:.40}, not a whole number")
    return value
