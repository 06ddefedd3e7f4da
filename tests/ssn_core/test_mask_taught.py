"""The classifier that masks teach: which cells it is told about, and that it learns what they have in common."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from benchmarks import mask_taught
from ssn_core.dataset import LabelledImage

SIZE = (64, 64)


class Taps:
    """Layer2, layer3 and layer1 of made-up images: noise, and in one channel of layer1 what is bad."""

    image_size = SIZE

    def __init__(self, marks: dict[str, np.ndarray]) -> None:
        self.marks = marks

    def read(self, keys: Sequence[str]) -> tuple[Tensor, Tensor, Tensor]:
        (key,) = keys
        noise = torch.Generator().manual_seed(int(key, 16))
        fine = torch.randn(1, 3, 16, 16, generator=noise)
        fine[0, 1] += 6 * torch.from_numpy(self.marks[key].reshape(16, 4, 16, 4).mean((1, 3)))
        return torch.randn(1, 4, 8, 8, generator=noise), torch.randn(1, 2, 4, 4, generator=noise), fine


@pytest.fixture
def project(tmp_path: Path) -> tuple[list[LabelledImage], Taps]:
    """Two folds of 12 images, every third with a square defect of 16 pixels somewhere."""
    rng = np.random.default_rng(5)
    images, marks = [], {}
    for number in range(24):
        bad = number % 3 == 0
        marked = np.zeros(SIZE, dtype=bool)
        if bad:
            top, left = 4 * rng.integers(0, 12, 2)
            marked[top : top + 16, left : left + 16] = True
        key, mask = f"{number:02x}", tmp_path / f"{number}.png"
        Image.fromarray(marked).save(mask)
        marks[key] = marked
        path = str(tmp_path / f"part{number}" / "side.png")
        images.append(LabelledImage(key, path, bad, key, fold=str(number % 2), mask=mask if bad else None))
    return images, Taps(marks)


def test_cells_of_layer1_come_first_and_the_others_are_enlarged(project) -> None:
    images, taps = project
    coarse, coarser, fine = taps.read([images[0].key])
    cells = mask_taught.cells_of(images[0], taps)
    assert cells.shape == (256, 3 + 4 + 2)
    torch.testing.assert_close(cells[:, :3].T.reshape(3, 16, 16), fine[0])
    for tap, columns in ((coarse, slice(3, 7)), (coarser, slice(7, 9))):
        wanted = torch.nn.functional.interpolate(tap, (16, 16), mode="bilinear", align_corners=False)
        torch.testing.assert_close(cells[:, columns].T.reshape(-1, 16, 16), wanted[0])


def test_cells_near_a_mask_count_as_neither(project) -> None:
    images, taps = project
    inside, near = (found.reshape(16, 16) for found in mask_taught.places(images[0], taps))
    assert inside.sum() == 16
    assert not (inside & ~near).any()
    row, column = (int(axis[0]) for axis in torch.nonzero(inside, as_tuple=True))
    away = [(r, c) for r in range(16) for c in range(16) if abs(r - row) > 7 or abs(c - column) > 7]
    assert not any(near[place] for place in away)
    assert near.sum() > 16
    good = mask_taught.places(images[1], taps)
    assert not good[0].any()
    assert not good[1].any()


def test_a_bad_image_without_a_mask_is_named(project) -> None:
    _, taps = project
    with pytest.raises(SystemExit, match=r"kos1/Part3\.jpg is bad and has no mask"):
        mask_taught.places(LabelledImage("00", "kos1/Part3.jpg", True, "a"), taps)


def test_what_masks_have_in_common_is_found_in_the_fold_that_was_left_out(project, monkeypatch, capsys) -> None:
    images, taps = project
    monkeypatch.setattr(mask_taught, "STEPS", 100)
    rows = mask_taught.measure(images, "1", taps, seed=0)
    assert [row["share"] for row in rows] == list(mask_taught.SHARES)
    assert rows[-1]["ap_det"] == 1.0
    assert rows[-1]["bad_below_a_good_one"] == rows[-1]["good_above_a_bad_one"] == []
    blind = Taps({key: np.zeros(SIZE, dtype=bool) for key in taps.marks})  # nothing to see where the masks are
    missed = mask_taught.measure(images, "1", blind, seed=0)[-1]
    assert missed["ap_det"] < 0.9
    assert missed["bad_below_a_good_one"][0].startswith("part")
    assert len(capsys.readouterr().out.splitlines()) == 2 * len(mask_taught.SHARES)
