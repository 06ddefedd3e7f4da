"""Maps on disk: one at a time in memory, the newest one counts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ssn_core.inference import Scored
from ssn_core.map_files import MapFiles, temporary_maps

KEY = "ab" * 32


def test_scores_are_given_and_maps_written_as_they_come(tmp_path: Path) -> None:
    maps = MapFiles(tmp_path / "maps")

    def coming() -> Iterator[Scored]:
        for number in range(3):
            if number:  # the one before is on disk before the next is asked for
                assert maps.read(f"{number - 1:064x}")[0, 0] == number - 1
            yield Scored(f"{number:064x}", float(number), np.full((2, 3), number, np.float32))

    assert maps.keep(coming()) == {f"{number:064x}": float(number) for number in range(3)}
    assert maps.read(f"{2:064x}").shape == (2, 3)


def test_a_map_written_again_replaces_the_one_before(tmp_path: Path) -> None:
    maps = MapFiles(tmp_path)
    for value in (1.0, 2.0):
        maps.write(KEY, np.full((2, 2), value, np.float32))
    np.testing.assert_array_equal(maps.read(KEY), np.full((2, 2), 2, np.float32))
    assert len(list(tmp_path.rglob("*.npy"))) == 1


def test_temporary_maps_are_gone_afterwards() -> None:
    with temporary_maps() as maps:
        maps.write(KEY, np.zeros((2, 2), np.float32))
        assert maps.root.exists()
    assert not maps.root.exists()
    with pytest.raises(FileNotFoundError):
        maps.read(KEY)
