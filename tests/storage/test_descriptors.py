"""Descriptors on the disk: what is kept, and what damage costs."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from ssn_core.outliers import Usual
from storage import descriptors
from storage.db import Database


def sha(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def some(*numbers: int, length: int = 6) -> list[descriptors.Described]:
    return [(sha(number), np.full(length, number, dtype=np.float16), number / 2) for number in numbers]


def test_what_was_added_in_parts_is_read_as_one(tmp_path: Path) -> None:
    descriptors.add(tmp_path, some(1, 2))
    descriptors.add(tmp_path, some(3))
    names, values, outliers = descriptors.read(tmp_path)
    assert names == [sha(1), sha(2), sha(3)]
    assert outliers.tolist() == [0.5, 1.0, 1.5]
    assert values[:, 0].tolist() == [1, 2, 3]
    assert values.dtype == np.float16


def test_nothing_described_is_no_error(tmp_path: Path) -> None:
    names, values, outliers = descriptors.read(tmp_path / "none")
    assert names == []
    assert values.shape == (0, 0)
    assert outliers.shape == (0,)


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY", b"hello"])
def test_a_damaged_file_costs_its_own_images_alone(tmp_path: Path, damage: bytes) -> None:
    descriptors.add(tmp_path, some(1, 2))
    descriptors.add(tmp_path, some(3))
    (tmp_path / "00000001.npy").write_bytes(damage)
    assert descriptors.read(tmp_path)[0] == [sha(3)]
    descriptors.add(tmp_path, some(1, 2))
    assert sorted(descriptors.read(tmp_path)[0]) == sorted([sha(1), sha(2), sha(3)])


def test_a_file_of_something_else_is_left_out(tmp_path: Path) -> None:
    descriptors.add(tmp_path, some(1))
    np.save(tmp_path / "00000002.npy", np.zeros((4, 4)))
    assert descriptors.read(tmp_path)[0] == [sha(1)]


def test_other_set_ups_are_forgotten(db: Database) -> None:
    old, new = (descriptors.folder(db, project_id=1, setup=name) for name in ("resnet18-aa", "resnet18-bb"))
    descriptors.add(old, some(1))
    descriptors.add(new, some(2))
    descriptors.forget_others(new)
    assert not old.exists()
    assert descriptors.read(new)[0] == [sha(2)]


def test_a_set_up_cannot_lead_out_of_the_folder(db: Database) -> None:
    with pytest.raises(ValueError, match="not a name"):
        descriptors.folder(db, project_id=1, setup="../x")


def test_what_is_usual_is_kept_with_what_was_described_with_it(tmp_path: Path) -> None:
    where = tmp_path / "setup"
    assert descriptors.read_usual(where) is None
    first = Usual(np.arange(4, dtype=np.float32), np.eye(4, 2, dtype=np.float32))
    second = Usual(np.ones(3, dtype=np.float32), np.eye(3, dtype=np.float32))
    descriptors.keep_usual(where, (first, second))
    descriptors.add(where, some(1))
    found = descriptors.read_usual(where)
    assert found is not None
    for one, known in zip(found, (first, second), strict=True):
        assert np.array_equal(one.mean, known.mean)
        assert np.array_equal(one.whitening, known.whitening)
    assert descriptors.read(where).names == [sha(1)]


EMPTY_ZIP = b"PK\x05\x06" + bytes(18)


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04", b"hello", EMPTY_ZIP])
def test_without_what_is_usual_scores_mean_nothing_and_go(tmp_path: Path, damage: bytes) -> None:
    where = tmp_path / "setup"
    descriptors.keep_usual(where, [Usual(np.zeros(4, np.float32), np.eye(4, 2, dtype=np.float32))])
    descriptors.add(where, some(1))
    (where / "usual.npz").write_bytes(damage)
    assert descriptors.read_usual(where) is None
    assert descriptors.read(where).names == []
