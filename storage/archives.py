"""What people upload, brought safely into a folder of its own: loose files, or archives that nobody vouches for."""

from __future__ import annotations

import errno
import json
import lzma
import re
import shutil
import stat
import time
import uuid
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterable
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from ssn_core.errors import LayoutError
from storage.files import write_atomically

MAX_ENTRIES = 1_000_000
MAX_TOTAL_BYTES = 50 * 10**9
MAX_RATIO, RATIO_FROM_BYTES = 200, 100 * 10**6  # black masks compress 1000 : 1, so small entries may
RESERVE_BYTES = 10**9  # of the disk, left free for the database and for the copies that the import makes
KEEP_STAGING_DAYS = 7.0
_CHUNK = 1 << 20
_REJECTED = ".rejected.json"  # hidden: a scan passes over it
_DRIVE = re.compile(r"[A-Za-z]:")

Rejected = list[tuple[str, str]]  # name, reason


def extract_zip(
    source: Path | BinaryIO, target: Path, *, progress: Callable[[int, int], None] | None = None
) -> Rejected:
    """Extract an archive into a folder, leaving out what is unsafe or broken.

    Left out, with the reason: absolute names and names with "..", links and devices, encrypted entries, entries that
    would grow more than 200-fold beyond 100 MB, damaged ones, and second files of a name.

    Args:
        target: made if need be; nobody else may write there meanwhile.
        progress: called with (entries done, entries in all).

    Returns:
        (name, reason) of what was left out.

    Raises:
        LayoutError: not a zip, more than a million entries, more than 50 GB, or not enough room on the disk.
    """
    target.mkdir(parents=True, exist_ok=True)
    rejected: Rejected = []
    try:
        with zipfile.ZipFile(source) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            _check_size(entries, target)
            for number, entry in enumerate(entries, start=1):
                name = _entry_name(entry)
                if not _is_clutter(name):
                    reason = _unsafe(entry, name) or _extract(archive, entry, target, name)
                    if reason is not None:
                        rejected.append((printable(name), reason))
                if progress is not None:
                    progress(number, len(entries))
    except (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, ValueError) as error:
        raise LayoutError(
            "This file is not a readable zip archive", expected="a complete .zip file", action="Make it again"
        ) from error
    return rejected


def stage_uploads(data_dir: Path, uploads: Iterable[tuple[str, BinaryIO]]) -> Path:
    """Put uploaded files into a new staging folder, keeping the folders in their names, and extract zips.

    One zip is extracted into the folder itself; of several, each into a folder of its name, so that good.zip and
    bad.zip become good/ and bad/. Of two uploads of one name, the second is renamed. What had to be left out is
    remembered for the import's report (`rejected_in`).

    Returns:
        The folder, data_dir/staging/<uuid>.

    Raises:
        LayoutError: as `extract_zip`; nothing is left behind.
    """
    staging = staging_path(data_dir)
    staging.mkdir(parents=True)
    given = list(uploads)
    zips = [name for name, _ in given if name.lower().endswith(".zip")]
    rejected: Rejected = []
    try:
        for name, stream in given:
            if _is_clutter(name):
                continue
            if name.lower().endswith(".zip"):
                target = staging if len(zips) == 1 else _free(staging / (_safe_path(Path(name).stem) or "archive"))
                rejected += extract_zip(stream, target)
                continue
            safe = _safe_path(name)
            if safe is None:
                rejected.append((printable(name), "The name is not usable as a file name"))
                continue
            path = _free(staging / safe)
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                shutil.copyfileobj(stream, file, _CHUNK)
        if rejected:
            write_atomically(staging / _REJECTED, json.dumps(rejected).encode())
    except OSError as error:
        shutil.rmtree(staging, ignore_errors=True)
        raise LayoutError(
            f"The uploads could not be stored ({error.strerror})", action="Make room on the disk, then upload again"
        ) from error
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return staging


def staging_path(data_dir: Path) -> Path:
    """The path of a new staging folder, which is not there yet: data_dir/staging/<uuid>."""
    return data_dir / "staging" / uuid.uuid4().hex


def rejected_in(folder: Path) -> Rejected:
    """(name, reason) of what was left out when this folder was staged; empty for any other folder."""
    try:
        return [(name, reason) for name, reason in json.loads((folder / _REJECTED).read_bytes())]
    except (FileNotFoundError, NotADirectoryError):
        return []


def is_staging(data_dir: Path, folder: Path) -> bool:
    """Whether this is a staging folder, whether or not it is there: only such folders may be deleted."""
    return folder.resolve().parent == (data_dir / "staging").resolve() and not folder.is_symlink()


def discard(data_dir: Path, folder: Path) -> None:
    """Delete a staging folder; a folder that is gone already is fine.

    Raises:
        ValueError: not a staging folder.
    """
    if not is_staging(data_dir, folder):
        raise ValueError(f"not a staging folder: {folder}")
    shutil.rmtree(folder, ignore_errors=True)


def sweep(data_dir: Path, *, keep: Collection[Path] = (), older_than_days: float = KEEP_STAGING_DAYS) -> int:
    """Delete staging folders that nobody came back for, except those in `keep`; returns how many."""
    root = data_dir / "staging"
    if not root.is_dir():
        return 0
    kept = {path.resolve() for path in keep}
    limit = time.time() - older_than_days * 86_400
    old = [path for path in root.iterdir() if path.resolve() not in kept and path.lstat().st_mtime < limit]
    for folder in old:
        shutil.rmtree(folder, ignore_errors=True)
    return len(old)


def printable(name: str) -> str:
    """A name from outside that every database and page can take."""
    text = name.encode("utf-8", "replace").decode()
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)[:1000]


def _check_size(entries: list[zipfile.ZipInfo], target: Path) -> None:
    total = sum(entry.file_size for entry in entries)
    if len(entries) > MAX_ENTRIES:
        raise LayoutError("The archive holds too many files", value=len(entries), expected=f"at most {MAX_ENTRIES:,}")
    if total > MAX_TOTAL_BYTES:
        raise LayoutError(
            f"The archive would take {total / 10**9:,.0f} GB on the disk",
            expected=f"at most {MAX_TOTAL_BYTES / 10**9:,.0f} GB",
            action="Import it in parts, or as a folder on the server",
        )
    free = shutil.disk_usage(target).free - RESERVE_BYTES
    if total > free:
        raise LayoutError(
            f"The archive would take {total / 10**9:,.1f} GB, and the disk has {max(0, free) / 10**9:,.1f} GB to spare",
            action="Make room on the disk of the data folder",
        )


def _entry_name(entry: zipfile.ZipInfo) -> str:
    name = entry.filename
    if not entry.flag_bits & 0x800:  # not marked as UTF-8; most programs write UTF-8 all the same
        try:
            name = name.encode("cp437").decode("utf-8")
        except UnicodeError:
            name = entry.filename
    return name.replace("\\", "/")  # Windows programs write backslashes


def _is_clutter(name: str) -> bool:
    return "__MACOSX" in name.split("/") or name.rsplit("/", 1)[-1] in (".DS_Store", "Thumbs.db", _REJECTED)


def _unsafe(entry: zipfile.ZipInfo, name: str) -> str | None:
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind == stat.S_IFLNK:
        return "A symbolic link; links are not followed"
    if kind not in (0, stat.S_IFREG):
        return "Not a regular file"
    if name.startswith("/") or _DRIVE.match(name):
        return "An absolute path"
    if _safe_path(name) is None:
        return "The name is not usable as a file name"
    if entry.flag_bits & 0x1:
        return "Encrypted; make the archive without a password"
    if entry.file_size > RATIO_FROM_BYTES and entry.file_size > MAX_RATIO * max(1, entry.compress_size):
        return f"Grows more than {MAX_RATIO}-fold, as only archives made to do harm do"
    return None


def _safe_path(name: str) -> str | None:
    """The name as a relative path that stays below its folder, or None."""
    parts = [part for part in PurePosixPath(name.replace("\\", "/").lstrip("/")).parts if part != "."]
    for part in parts:
        if part == ".." or not part.strip() or not part.isprintable() or len(part.encode("utf-8", "replace")) > 200:
            return None
    path = "/".join(parts)
    return path if parts and not _DRIVE.match(path) and len(path) <= 1000 and len(parts) <= 64 else None


def _extract(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path, name: str) -> str | None:
    """Write one entry; the reason if it cannot be."""
    path = target / (_safe_path(name) or "")
    opened = False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(entry) as packed, path.open("xb") as file:
            opened = True
            left = entry.file_size  # what was checked; never write more, whatever the entry unpacks to
            while piece := packed.read(min(_CHUNK, left + 1)):
                left -= len(piece)
                if left < 0:
                    raise zipfile.BadZipFile("larger than declared")
                file.write(piece)
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        return "Another entry of the archive has this name"
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError):
        reason = "Damaged in the archive"
    except (NotImplementedError, RuntimeError):
        reason = "Packed in a way that cannot be read here"
    except OSError as error:
        if opened:
            path.unlink(missing_ok=True)
        if error.errno is None:  # from a decompressor, not from the file system
            return "Damaged in the archive"
        if error.errno in (errno.ENAMETOOLONG, errno.EINVAL):
            return "The name is not usable as a file name"
        raise LayoutError(
            f"The archive could not be extracted ({error.strerror})", action="Make room on the disk, then try again"
        ) from error
    else:
        return None
    if opened:
        path.unlink(missing_ok=True)
    return reason


def _free(path: Path) -> Path:
    """This path, or one with a number behind its stem where it is taken."""
    number = 2
    candidate = path
    while candidate.exists():
        candidate = path.with_name(f"{path.stem} ({number}){path.suffix}")
        number += 1
    return candidate
