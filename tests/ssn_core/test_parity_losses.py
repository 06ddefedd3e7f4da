"""Losses, targets, sampling, schedule, Perlin noise and AUPRO against plain formulas in float64."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from ssn_core import metrics
from ssn_core.anomalies import Cells, Truth
from ssn_core.heads import Output
from ssn_core.losses import focal_loss, total_loss, truncated_l1
from ssn_core.marks import any_pixel, dilate, distance_weights, read_marks
from ssn_core.noise import anomaly_mask
from ssn_core.recipes import get_recipe
from ssn_core.sampling import Example, Sampler, planned_epochs, planned_samples


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def naive_focal(logits: list[float], bad: list[bool], gamma: float, weight: list[float]) -> float:
    total = 0.0
    for logit, is_bad, w in zip(logits, bad, weight, strict=True):
        p = sigmoid(logit) if is_bad else 1 - sigmoid(logit)
        total += w * -((1 - p) ** gamma) * math.log(p)
    return total / len(logits)


def naive_l1(cells: list[float], bad: list[bool], margin: float, weight: list[float]) -> float:
    of_good = [w * max(0, m + margin) for m, b, w in zip(cells, bad, weight, strict=True) if not b]
    of_bad = [w * max(0, margin - m) for m, b, w in zip(cells, bad, weight, strict=True) if b]
    return sum(sum(part) / len(part) for part in (of_good, of_bad) if part)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("gamma", [0.0, 4.0])
def test_losses_on_cells_are_the_plain_formulas(share: float, gamma: float) -> None:
    rng = np.random.default_rng(1)
    cells, weight = rng.standard_normal((2, 3, 4)), rng.uniform(0.2, 3, (2, 3, 4))
    bad = rng.random((2, 3, 4)) < share
    given = (torch.tensor(cells), torch.tensor(bad), torch.tensor(weight))
    flat = (cells.ravel().tolist(), bad.ravel().tolist())
    ones, w = [1.0] * 24, weight.ravel().tolist()
    assert truncated_l1(*given[:2], margin=0.5).item() == pytest.approx(naive_l1(*flat, 0.5, ones))
    assert truncated_l1(*given[:2], margin=0.5, weight=given[2]).item() == pytest.approx(naive_l1(*flat, 0.5, w))
    focal = focal_loss(given[0], given[1].double(), gamma=gamma, weight=given[2])
    assert focal.item() == pytest.approx(naive_focal(*flat, gamma, w))


def truth_of(known: list[bool]) -> tuple[Output, Truth]:
    rng = np.random.default_rng(2)
    shape = (len(known), 1, 2, 3)
    cells = Cells(torch.tensor(rng.random(shape) < 0.4), torch.tensor(rng.uniform(1, 3, shape)), torch.tensor(known))
    output = Output(
        torch.tensor(rng.standard_normal(len(known))), torch.tensor(rng.standard_normal((len(known), 2, 3)))
    )
    return output, Truth(torch.tensor([1.0, 0.0, 1.0][: len(known)], dtype=torch.float64), cells)


def test_images_that_nobody_marked_take_no_part_in_the_loss_on_the_map() -> None:
    recipe = get_recipe("mixed")
    output, truth = truth_of([True, True, False])
    cells = output.cam[:2].reshape(-1).tolist()
    bad, weight = (x[:2].reshape(-1).tolist() for x in (truth.cells.bad, truth.cells.weight))
    wanted = (
        naive_focal(output.score.tolist(), [True, False, True], 4.0, [1.0] * 3)
        + naive_focal(cells, bad, 4.0, weight)
        + naive_l1(cells, bad, 0.5, weight)
    )
    assert total_loss(recipe, output, truth).item() == pytest.approx(wanted)
    output, truth = truth_of([False, False, False])
    only_score = naive_focal(output.score.tolist(), [True, False, True], 4.0, [1.0] * 3)
    assert total_loss(recipe, output, truth).item() == pytest.approx(only_score)


def test_simplenet_learns_from_its_map_alone() -> None:
    output, truth = truth_of([True, True])
    cells, bad = output.cam.reshape(-1).tolist(), truth.cells.bad.reshape(-1).tolist()
    wanted = naive_l1(cells, bad, 0.5, truth.cells.weight.reshape(-1).tolist())
    assert total_loss(get_recipe("simplenet"), output, truth).item() == pytest.approx(wanted)


def blobs() -> NDArray[np.bool_]:
    mask = np.zeros((24, 30), dtype=bool)
    mask[3:9, 4:15] = True
    mask[15:20, 20:23] = True
    mask[20, 23] = True  # touches the one above at a corner: the same blob
    return mask


@pytest.mark.parametrize("pixels", [0, 1, 7])
def test_dilation_reaches_so_many_pixels_to_each_side(pixels: int) -> None:
    mask = np.zeros((40, 40), dtype=bool)
    mask[2, 20] = mask[30, 31] = True
    wanted = np.zeros_like(mask)
    for i, j in np.argwhere(mask):
        for y, x in np.ndindex(mask.shape):
            wanted[y, x] |= max(abs(y - i), abs(x - j)) <= pixels
    np.testing.assert_array_equal(dilate(mask, pixels), wanted)


def test_the_distance_transform_weighs_each_blob_by_its_own_depth() -> None:
    mask = blobs()
    good = np.argwhere(~mask)
    distance = np.zeros(mask.shape)
    for i, j in np.argwhere(mask):
        distance[i, j] = math.sqrt(((good - (i, j)) ** 2).sum(1).min())
    wanted = np.ones(mask.shape)
    for region in ((slice(0, 12), slice(0, 18)), (slice(12, 24), slice(18, 30))):
        inside = mask[region]
        deepest = distance[region].max()
        wanted[region] = np.where(inside, 3 * (distance[region] / deepest) ** 2, 1.0)
    np.testing.assert_allclose(distance_weights(mask, weight=3, power=2), wanted)
    np.testing.assert_array_equal(distance_weights(np.ones((3, 4), dtype=bool), weight=3, power=2), 3.0)


@pytest.mark.parametrize("size", [(6, 5), (7, 4), (48, 60), (24, 30)])
def test_a_cell_is_bad_where_any_pixel_that_it_covers_is(size: tuple[int, int]) -> None:
    mask = blobs()
    wanted = np.zeros(size, dtype=bool)
    for i, j in np.ndindex(size):
        rows = slice(i * 24 // size[0], math.ceil((i + 1) * 24 / size[0]))
        columns = slice(j * 30 // size[1], math.ceil((j + 1) * 30 / size[1]))
        wanted[i, j] = mask[rows, columns].any()
    np.testing.assert_array_equal(any_pixel(mask, size), wanted)


def test_a_mask_file_becomes_a_target_on_the_grid(tmp_path: Path) -> None:
    mask = np.zeros((128, 128), dtype=np.uint8)
    mask[64:68, 20:60] = 3  # any value that is not zero marks a defect
    Image.fromarray(mask).save(tmp_path / "m.png")
    Image.fromarray(mask * 0).save(tmp_path / "black.png")
    recipe = get_recipe("supersimplenet-supervised").with_settings({"image_size": (64, 64)})
    found = read_marks(tmp_path / "m.png", recipe, (16, 16))
    assert found is not None
    # At 64 x 64 the defect lies at rows 32-33, columns 10-29; grown by 7 at rows 25-40, columns 3-36.
    assert np.argwhere(found.bad).min(0).tolist() == [6, 0]
    assert np.argwhere(found.bad).max(0).tolist() == [10, 9]
    assert (found.weight[~found.bad] == 1).all()
    assert found.weight.max() == pytest.approx(3.0)
    assert (found.weight > 0).all()
    assert read_marks(tmp_path / "black.png", recipe, (16, 16)) is None
    plain = read_marks(tmp_path / "m.png", recipe.with_settings({"distance_weight": 0, "dilation": 0}), (16, 16))
    assert plain is not None
    assert plain.bad.sum() == 6
    assert (plain.weight == 1).all()


def test_a_balanced_epoch_against_a_naive_count() -> None:
    examples = [Example(str(i), bad=i in (0, 5)) for i in range(9)]
    sampler = Sampler(examples, balanced=True, flip_good=False, seed=3)
    used = dict.fromkeys((1, 2, 3, 4, 6, 7, 8), 0)
    for _ in range(6):
        epoch = sampler.epoch().tolist()
        assert sorted(map(tuple, (s for s in epoch if s[0] in (0, 5)))) == [(i, o) for i in (0, 5) for o in range(4)]
        good = [s[0] for s in epoch if s[0] not in (0, 5)]
        assert len(good) == 8
        for index in good:  # taken while another one waits that was used less: at most by one
            used[index] += 1
        assert max(used.values()) - min(used.values()) <= 1


def test_an_epoch_of_good_images_alone_is_each_of_them_once() -> None:
    sampler = Sampler([Example(str(i), bad=False) for i in range(9)], balanced=False, flip_good=False, seed=3)
    first, second = sampler.epoch(), sampler.epoch()
    assert sorted(first[:, 0].tolist()) == sorted(second[:, 0].tolist()) == list(range(9))
    assert first[:, 0].tolist() != second[:, 0].tolist()
    assert not first[:, 1].any()


def test_planned_lengths() -> None:
    assert planned_epochs(get_recipe("gap-cam"), n_good=100, n_bad=10) == 300
    assert planned_samples(get_recipe("gap-cam"), n_good=100, n_bad=10) == 300 * 80
    assert planned_samples(get_recipe("supersimplenet"), n_good=100, n_bad=10) == 300 * 100
    cam = get_recipe("cam")  # 120 steps of 8: 80 samples are 10 steps
    assert planned_epochs(cam, n_good=100, n_bad=10) == 12


def test_perlin_masks_cover_what_a_plain_field_covers() -> None:
    """Fractions of a slow, textbook Perlin field with the same law of lattices."""
    rng = np.random.default_rng(0)
    size, naive = 32, []
    for _ in range(60):
        ny, nx = 2 ** rng.integers(0, 6, 2)
        angles = rng.uniform(0, 2 * math.pi, (ny + 1, nx + 1))
        field = np.zeros((size, size))
        for i, j in np.ndindex(size, size):
            y, x = i / size * ny, j / size * nx
            corners = {}
            for dy in (0, 1):
                for dx in (0, 1):
                    a = angles[int(y) + dy, int(x) + dx]
                    corners[dy, dx] = math.cos(a) * (y - int(y) - dy) + math.sin(a) * (x - int(x) - dx)
            ty, tx = (6 * t**5 - 15 * t**4 + 10 * t**3 for t in (y - int(y), x - int(x)))
            top = corners[0, 0] + tx * (corners[0, 1] - corners[0, 0])
            bottom = corners[1, 0] + tx * (corners[1, 1] - corners[1, 0])
            field[i, j] = math.sqrt(2) * (top + ty * (bottom - top))
        naive.append(field)
    fields = np.array(naive)
    assert abs(fields.mean()) < 0.05
    for threshold in (0.2, 0.6):
        mask = anomaly_mask(
            4000, (size, size), threshold=threshold, skip=0.0, generator=torch.Generator().manual_seed(0)
        )
        assert mask.float().mean().item() == pytest.approx((fields > threshold).mean(), abs=0.05)


def naive_aupro(maps: list[NDArray[np.float64]], regions: list[list[NDArray[np.bool_]]], limit: float) -> float:
    """Overlap and false positive rate at every threshold, one after the other; the area by trapezoids."""
    good = np.concatenate([m[~np.any(r, axis=0)] if r else m.ravel() for m, r in zip(maps, regions, strict=True)])
    points = [(0.0, 0.0)]
    for threshold in sorted({float(v) for m in maps for v in m.ravel()}, reverse=True):
        overlap = [float((m >= threshold)[region].mean()) for m, r in zip(maps, regions, strict=True) for region in r]
        points.append((float((good >= threshold).mean()), sum(overlap) / len(overlap)))
    area = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if x0 >= limit:
            break
        end = min(x1, limit)
        at_end = y1 if x1 == x0 else y0 + (y1 - y0) * (end - x0) / (x1 - x0)
        area += (end - x0) * (y0 + at_end) / 2
    return area / limit


def test_aupro_on_hand_made_masks() -> None:
    first, second, third = (np.zeros((8, 10), dtype=bool) for _ in range(3))
    first[1:3, 1:4] = True
    second[5:8, 5:10] = True
    third[0, 0] = third[1, 1] = True  # joined at a corner: one region
    rng = np.random.default_rng(4)
    # No two pixels share a score: there the curve would have two corners.
    maps = [number * 1e-3 + rng.permutation(80).reshape(8, 10) / 80 for number in range(3)]
    maps[0][first] += 0.3003
    regions = [[first, second], [third], []]
    masks = [first | second, third, np.zeros((8, 10), dtype=bool)]
    for limit in (0.3, 0.05, 1.0):
        found = metrics.aupro(maps, masks, fpr_limit=limit)
        assert found == pytest.approx(naive_aupro(maps, regions, limit), abs=1e-6)
