"""The trials of the local head: what is called the recipe's is the recipe's, and true masks become maps rightly."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from benchmarks.local_head_trials import BOUNDS, VARIANTS, Bound, Variant, context_of, mean_with_cam, true_map, weighted
from ssn_core.local_evidence import LocalHead, LocalSettings
from ssn_core.recipes import get_recipe

SIZE = (64, 48)


@pytest.fixture
def head() -> LocalHead:
    torch.manual_seed(3)
    made = LocalHead(4, width=5, pooling_fraction=0.01)
    made.level.fill_(0.3)
    made.spread.fill_(0.7)
    return made.eval()


def mask() -> np.ndarray:
    """A thick region, and a line one pixel wide."""
    marked = np.zeros(SIZE, dtype=bool)
    marked[8:28, 8:28] = True
    marked[48, 4:40] = True
    return marked


def test_the_variant_without_a_change_is_the_recipe() -> None:
    recipe, variant = get_recipe("cam"), VARIANTS["the recipe"]
    assert variant == Variant()
    assert variant.settings == LocalSettings()
    assert (variant.width, variant.q, variant.sigma) == (recipe.local_width, recipe.pooling_fraction, recipe.map_sigma)


def test_no_two_names_mean_the_same() -> None:
    assert not VARIANTS.keys() & BOUNDS.keys()
    assert len({(v.map_of, dataclasses.replace(v, map_of=weighted(1))) for v in VARIANTS.values()}) == len(VARIANTS)
    assert len(set(BOUNDS.values())) == len(BOUNDS)


def test_variants_of_the_map_come_back_to_the_recipes(head: LocalHead) -> None:
    cam, place = torch.randn(1, 4, 4), torch.randn(1, 16, 16)
    with torch.no_grad():
        own = head.agree(cam, place).cam
        torch.testing.assert_close(weighted(1.0)(head, cam, place), own)
        torch.testing.assert_close(mean_with_cam(0.0)(head, cam, place), own)
        torch.testing.assert_close(mean_with_cam(1.0)(head, cam, place), context_of(head, cam, place))
        assert not torch.allclose(weighted(0.5)(head, cam, place), own)


def test_a_true_map_is_the_marked_share_of_its_cells(head: LocalHead) -> None:
    cells = true_map(mask(), Bound(smooth=False), head)
    np.testing.assert_array_equal(cells, mask().reshape(16, 4, 12, 4).mean((1, 3)).astype(np.float32))
    smooth = true_map(mask(), Bound(), head)
    assert smooth.shape == cells.shape
    assert 0 < smooth[2, 1] < cells.max()  # beside the region, where nothing is marked
    assert true_map(mask(), Bound(stride=8), head).shape == (8, 6)


def test_a_shrunk_mask_keeps_every_region_and_a_grown_one_covers_more(head: LocalHead) -> None:
    plain, shrunk, grown = (true_map(mask(), Bound(smooth=False, grow=grow), head).sum() for grow in (0, -4, 8))
    assert shrunk < plain < grown
    line = true_map(mask(), Bound(smooth=False, grow=-4), head)[12]
    np.testing.assert_array_equal(line, true_map(mask(), Bound(smooth=False), head)[12])
    nothing = true_map(np.zeros(SIZE, dtype=bool), Bound(grow=-4), head)
    assert not nothing.any()
