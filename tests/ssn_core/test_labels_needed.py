"""The benchmark of the labelling queue: what it counts."""

from __future__ import annotations

import pytest

from benchmarks.labels_needed import first_ones, labels_needed, table
from ssn_core.dataset import LabelledImage


def pool(verdicts: str) -> list[LabelledImage]:
    return [LabelledImage(f"{n:03d}", "x", verdict == "b", f"g{n}") for n, verdict in enumerate(verdicts)]


def test_labels_are_counted_where_the_curve_first_reaches_the_target() -> None:
    curve = [(20, 0.5), (40, 0.9), (60, 1.0), (80, 0.8)]
    assert labels_needed(curve, 0.95) == 50
    assert labels_needed(curve, 0.5) == 20
    assert labels_needed(curve[:2], 0.95) is None


def test_the_first_images_hold_enough_of_both_labels_to_train_on() -> None:
    images = pool("gggggggbgbgbgb")
    assert first_ones(images, range(14), 4) == list(range(12))
    assert first_ones(images, range(14), 13) == list(range(13))
    with pytest.raises(SystemExit, match="too few"):
        first_ones(pool("ggggggbb"), range(8), 4)


def test_an_order_that_never_gets_there_counts_with_the_whole_pool_and_says_so() -> None:
    curves = {"random": [[20, 0.5], [40, 0.6]], "queue": [[20, 0.5], [40, 0.95]]}
    lines = [{"seed": 0, "order": order, "curve": curve, "pool": 200} for order, curve in curves.items()]
    printed = table(lines, 0.95)
    assert "| 0 | not with 200 | 40 | 0.20 |" in printed
    assert "| median |  |  | 0.20 |" in printed
    assert "not measured" in table(lines[:1], 0.95)
