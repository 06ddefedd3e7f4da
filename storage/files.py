"""The file store: images and masks by the SHA-256 of their bytes, written whole or not at all."""

from __future__ import annotations

import hashlib
import os
import re
import uuid
from dataclasses import dataclass
from pathlib import Path

_SHA256 = re.compile(r"[0-9a-f]{64}")
_EXTENSION = re.compile(r"\.[a-z0-9]{1,7}")
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Stored:
    """One file of the store."""

    sha256: str
    path: Path
    n_bytes: int


def image_path(data_dir: Path, *, sha256: str, extension: str) -> Path:
    """Where the image with this content is (or would be); raises ValueError as `by_content` does."""
    return by_content(data_dir / "files", sha256, extension)


def mask_path(data_dir: Path, *, sha256: str) -> Path:
    """Where the mask with this content is: a PNG, 0 = good, 255 = defect, of the image's upright size."""
    return by_content(data_dir / "masks", sha256, ".png")


def by_content(root: Path, sha256: str, extension: str) -> Path:
    """The place below `root` of the file that belongs to this content: root/ab/abcd...<extension>.

    Raises:
        ValueError: not a SHA-256 in hexadecimal, or not an extension: nothing else may become part of a path.
    """
    if not _SHA256.fullmatch(sha256):
        raise ValueError(f"not a SHA-256: {sha256!r}")
    if not _EXTENSION.fullmatch(extension):
        raise ValueError(f"not a file name extension: {extension!r}")
    return root / sha256[:2] / f"{sha256}{extension}"


def put_image(data_dir: Path, *, data: bytes, extension: str) -> Stored:
    """Store an image's bytes as they are. Storing the same bytes twice writes once."""
    sha256 = hashlib.sha256(data).hexdigest()
    path = image_path(data_dir, sha256=sha256, extension=extension)
    return _put(path, data, sha256)


def put_mask(data_dir: Path, *, png: bytes) -> Stored:
    """Store a mask's PNG file."""
    sha256 = hashlib.sha256(png).hexdigest()
    return _put(mask_path(data_dir, sha256=sha256), png, sha256)


def hash_file(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal, read piece by piece."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_atomically(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write a file so that it is there whole or not at all.

    The bytes go to a file beside it that is then renamed into place; the folder is made if need be.

    Args:
        durable: the bytes are on the disk before the name is, so that a power cut cannot leave an empty file. Not
            needed for what can be computed again.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.parent / f".{path.name}.{uuid.uuid4().hex}.tmp"
    try:
        with beside.open("xb") as stream:
            stream.write(data)
            if durable:
                stream.flush()
                os.fsync(stream.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _put(path: Path, data: bytes, sha256: str) -> Stored:
    try:
        there = path.stat().st_size == len(data)
    except FileNotFoundError:
        there = False
    if not there:
        write_atomically(path, data)
    return Stored(sha256=sha256, path=path, n_bytes=len(data))
