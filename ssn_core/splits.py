"""Which part of the data an image belongs to: decided once, by its group, and the same for ever.

A group is everything that shows the same item (or the same bytes). Its key is hashed, so that a group never lies on
both sides of a split, retraining never leaks, and two models are compared on the same held-out images.
Nothing here may change: a changed hash would move images between parts of existing projects.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection

TRAIN, CALIBRATION, TEST = "train", "calibration", "test"
PARTS = (TRAIN, CALIBRATION, TEST)


def _fraction(purpose: str, group_key: str) -> float:
    """A number in [0, 1) that depends on nothing but its arguments: the first 48 bits of their SHA-256."""
    digest = hashlib.sha256(f"{purpose}:{group_key}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def group_part(group_key: str) -> str:
    """The part of a group whose import said nothing: 60 % train, 20 % calibration, 20 % test."""
    fraction = _fraction("part", group_key)
    if fraction < 0.6:
        return TRAIN
    return CALIBRATION if fraction < 0.8 else TEST


def part_for(group_key: str, imported_split: str | None) -> str:
    """The part of a group, keeping the test set that the import came with.

    Args:
        group_key: the group's key.
        imported_split: "train", "calibration", "test" or None (not said).

    Returns:
        "test" where the import says so. What an import calls "train" or "calibration" is divided anew, 75 % train and
        25 % calibration: data sets seldom bring a calibration set, and thresholds need one.
    """
    if imported_split is None:
        return group_part(group_key)
    if imported_split == TEST:
        return TEST
    return TRAIN if _fraction("calibration", group_key) < 0.75 else CALIBRATION


def part_of_group(group_key: str, said: Collection[str | None]) -> str:
    """The part of a whole group, from the splits that the import gives its images.

    "test" where any of them says so: a group on both sides of an imported split would leak. Else as :func:`part_for`.
    """
    if TEST in said:
        return TEST
    return part_for(group_key, min((split for split in said if split is not None), default=None))
