"""Moved to ssn_core.splits."""

from ssn_core.splits import CALIBRATION, PARTS, TEST, TRAIN, group_part, part_for  # noqa: F401
