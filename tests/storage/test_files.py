"""The file store: by content, whole or not at all, and never outside its folder."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from storage import files


def everything_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_an_image_is_found_under_the_hash_of_its_bytes(tmp_path: Path) -> None:
    stored = files.put_image(tmp_path, data=b"bytes", extension=".png")
    assert stored.sha256 == hashlib.sha256(b"bytes").hexdigest() == files.hash_file(stored.path)
    assert stored.path == files.image_path(tmp_path, sha256=stored.sha256, extension=".png")
    assert everything_in(tmp_path) == [f"files/{stored.sha256[:2]}/{stored.sha256}.png"]
    assert stored.n_bytes == 5


def test_storing_the_same_bytes_again_writes_nothing(tmp_path: Path) -> None:
    first = files.put_image(tmp_path, data=b"bytes", extension=".png")
    before = first.path.stat()
    files.put_image(tmp_path, data=b"bytes", extension=".png")
    assert first.path.stat().st_ino == before.st_ino
    assert first.path.stat().st_mtime_ns == before.st_mtime_ns


def test_a_file_cut_short_by_hand_is_mended(tmp_path: Path) -> None:
    stored = files.put_mask(tmp_path, png=b"a whole mask")
    stored.path.write_bytes(b"a wh")
    files.put_mask(tmp_path, png=b"a whole mask")
    assert stored.path.read_bytes() == b"a whole mask"


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "folder" / "file.bin"
    files.write_atomically(target, b"old")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        files.write_atomically(target, b"new")
    assert target.read_bytes() == b"old"
    assert everything_in(tmp_path) == ["folder/file.bin"]


def test_many_writers_of_one_file_leave_one_whole_file(tmp_path: Path) -> None:
    data = os.urandom(1 << 18)
    with ThreadPoolExecutor(8) as pool:
        stored = set(pool.map(lambda _: files.put_image(tmp_path, data=data, extension=".bmp"), range(16)))
    assert len(stored) == 1
    assert len(everything_in(tmp_path)) == 1
    assert stored.pop().path.read_bytes() == data


@pytest.mark.parametrize(
    ("sha256", "extension"),
    [
        ("../../etc/passwd", ".png"),
        ("A" * 64, ".png"),
        ("a" * 63, ".png"),
        ("a" * 64, "/../x"),
        ("a" * 64, "png"),
        ("a" * 64, ""),
    ],
)
def test_nothing_but_a_hash_and_an_extension_becomes_a_path(tmp_path: Path, sha256: str, extension: str) -> None:
    with pytest.raises(ValueError, match="not a"):
        files.image_path(tmp_path, sha256=sha256, extension=extension)
