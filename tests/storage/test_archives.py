"""Uploads and archives: nothing leaves the folder, nothing explodes, and what is left out is named."""

from __future__ import annotations

import io
import os
import shutil
import stat
import struct
import time
import zipfile
from collections import namedtuple
from pathlib import Path

import pytest

from ssn_core.errors import LayoutError
from storage import archives


def zip_of(entries: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> io.BytesIO:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    stream.seek(0)
    return stream


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_archive_is_extracted_with_its_folders(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    source = zip_of({"good/a.png": b"a", "bad/deep/b.png": b"b", "__MACOSX/good/._a.png": b"x", "Thumbs.db": b"x"})
    rejected = archives.extract_zip(source, tmp_path / "out", progress=lambda *state: told.append(state))
    assert rejected == []
    assert files_in(tmp_path / "out") == {"good/a.png": b"a", "bad/deep/b.png": b"b"}
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize(
    "name",
    [
        "../evil.png",
        "a/../../evil.png",
        "/evil.png",
        "C:/evil.png",
        "..\\evil.png",
        "C:\\evil.png",
        "bell\a.png",
        "x" * 256,
    ],
)
def test_a_name_that_could_leave_the_folder_is_left_out(tmp_path: Path, name: str) -> None:
    target = tmp_path / "inner" / "out"
    rejected = archives.extract_zip(zip_of({name: b"evil", "fine.png": b"fine"}), target)
    assert files_in(tmp_path) == {"inner/out/fine.png": b"fine"}
    assert len(rejected) == 1
    assert rejected[0][0].isprintable()


def test_names_with_backslashes_are_folders(tmp_path: Path) -> None:
    assert archives.extract_zip(zip_of({"good\\a.png": b"a"}), tmp_path) == []
    assert files_in(tmp_path) == {"good/a.png": b"a"}


def test_links_and_devices_are_left_out(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, kind in (("link.png", stat.S_IFLNK), ("device.png", stat.S_IFCHR), ("plain.png", stat.S_IFREG)):
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (kind | 0o777) << 16
            archive.writestr(entry, b"/etc/passwd")
    assert dict(archives.extract_zip(stream, tmp_path)) == {
        "link.png": "A symbolic link; links are not followed",
        "device.png": "Not a regular file",
    }
    assert list(files_in(tmp_path)) == ["plain.png"]


def test_an_entry_that_explodes_is_left_out_and_black_masks_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "RATIO_FROM_BYTES", 1_000_000)
    source = zip_of({"bomb.png": bytes(2_000_000), "mask.bmp": bytes(900_000), "noise.png": os.urandom(2_000_000)})
    rejected = archives.extract_zip(source, tmp_path)
    assert [name for name, _ in rejected] == ["bomb.png"]
    assert "200-fold" in rejected[0][1]
    assert set(files_in(tmp_path)) == {"mask.bmp", "noise.png"}


def test_an_entry_larger_than_it_declares_is_not_written_beyond_that(tmp_path: Path) -> None:
    data = bytearray(zip_of({"liar.png": bytes(100_000), "fine.png": b"fine"}).getvalue())
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<I", data, data.index(signature) + offset, 10)
    rejected = archives.extract_zip(io.BytesIO(bytes(data)), tmp_path)
    assert rejected == [("liar.png", "Damaged in the archive")]
    assert files_in(tmp_path) == {"fine.png": b"fine"}


def test_encrypted_and_damaged_entries_are_left_out_one_by_one(tmp_path: Path) -> None:
    data = bytearray(zip_of({"secret.png": b"s", "broken.png": b"payload!", "fine.png": b"f"}, 0).getvalue())
    data[data.index(b"PK\x01\x02") + 8] |= 1  # the first entry's "encrypted" flag
    data[data.index(b"payload!")] ^= 0xFF
    rejected = dict(archives.extract_zip(io.BytesIO(bytes(data)), tmp_path))
    assert "password" in rejected["secret.png"]
    assert rejected["broken.png"] == "Damaged in the archive"
    assert files_in(tmp_path) == {"fine.png": b"f"}


def test_the_second_file_of_a_name_is_reported_and_the_first_kept(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.png", b"first")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a.png", b"second")
        archive.writestr("a.png/b.png", b"below a file")
    assert [name for name, _ in archives.extract_zip(stream, tmp_path)] == ["a.png", "a.png/b.png"]
    assert files_in(tmp_path) == {"a.png": b"first"}


@pytest.mark.parametrize("data", [b"", b"not a zip at all", zip_of({"a.png": b"a" * 500}).getvalue()[:-30]])
def test_what_is_no_archive_is_an_error_for_people(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(LayoutError, match="not a readable zip archive"):
        archives.extract_zip(io.BytesIO(data), tmp_path)


def test_too_many_too_large_and_too_little_room_are_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = zip_of({f"{number}.png": bytes(1000) for number in range(10)})
    with monkeypatch.context() as patch:
        patch.setattr(archives, "MAX_ENTRIES", 9)
        with pytest.raises(LayoutError, match="too many files: 10"):
            archives.extract_zip(source, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(archives, "MAX_TOTAL_BYTES", 9_999)
        with pytest.raises(LayoutError, match="Expected at most"):
            archives.extract_zip(source, tmp_path)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 10, archives.RESERVE_BYTES + 9_999))
    with pytest.raises(LayoutError, match="Make room on the disk"):
        archives.extract_zip(source, tmp_path)
    assert files_in(tmp_path) == {}


def test_loose_uploads_keep_their_folders_and_never_overwrite_each_other(tmp_path: Path) -> None:
    uploads = [("good/a.png", b"1"), ("a.png", b"2"), ("a.png", b"3"), ("../../b.png", b"4"), ("c\\d.png", b"5")]
    folder = archives.stage_uploads(tmp_path, [(name, io.BytesIO(data)) for name, data in uploads])
    assert folder.parent == tmp_path / "staging"
    found = files_in(folder)
    assert found.pop(".rejected.json")
    assert found == {"good/a.png": b"1", "a.png": b"2", "a (2).png": b"3", "c/d.png": b"5"}
    assert [name for name, _ in archives.rejected_in(folder)] == ["../../b.png"]


def test_one_zip_is_extracted_in_place_and_several_into_folders_of_their_names(tmp_path: Path) -> None:
    table = ("labels.csv", io.BytesIO(b"image,label\n"))
    one = archives.stage_uploads(tmp_path, [("set.zip", zip_of({"a.png": b"a"})), table])
    assert set(files_in(one)) == {"a.png", "labels.csv"}
    two = archives.stage_uploads(
        tmp_path, [("good.zip", zip_of({"a.png": b"a"})), ("bad.ZIP", zip_of({"a.png": b"b", "/x.png": b"x"}))]
    )
    assert archives.rejected_in(two) == [("/x.png", "An absolute path")]
    assert {name: data for name, data in files_in(two).items() if name.endswith(".png")} == {
        "good/a.png": b"a",
        "bad/a.png": b"b",
    }
    assert archives.rejected_in(one) == []


def test_a_failed_upload_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(LayoutError):
        archives.stage_uploads(tmp_path, [("a.png", io.BytesIO(b"a")), ("set.zip", io.BytesIO(b"no zip"))])
    assert list((tmp_path / "staging").iterdir()) == []


def test_only_old_staging_folders_that_nobody_needs_are_swept(tmp_path: Path) -> None:
    fresh, old, needed = (archives.stage_uploads(tmp_path, [("a.png", io.BytesIO(b"a"))]) for _ in range(3))
    for folder in (old, needed):
        os.utime(folder, (time.time() - 8 * 86_400,) * 2)
    assert archives.sweep(tmp_path, keep=[needed]) == 1
    assert (fresh.exists(), old.exists(), needed.exists()) == (True, False, True)
    assert archives.sweep(tmp_path / "nowhere") == 0


def test_nothing_but_a_staging_folder_can_be_discarded(tmp_path: Path) -> None:
    folder = archives.stage_uploads(tmp_path, [("a.png", io.BytesIO(b"a"))])
    for wrong in (tmp_path, tmp_path / "staging", folder / "..", tmp_path / "files"):
        with pytest.raises(ValueError, match="not a staging folder"):
            archives.discard(tmp_path, wrong)
    archives.discard(tmp_path, folder)
    archives.discard(tmp_path, folder)
    assert not folder.exists()
