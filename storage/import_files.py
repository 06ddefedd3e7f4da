"""One file of an import: read, checked, and copied into the store. Safe to call from several threads."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ssn_core import imaging
from ssn_core.errors import ImageError, SsnError
from ssn_core.sources import SourceItem
from storage import files, thumbnails


@dataclass(frozen=True)
class Prepared:
    """What became of one file before the database heard of it: a rejection, or an image in the store."""

    rejection: str = ""  # for people; empty: the image is stored
    extension: str = ""
    width: int = 0  # pixels, upright
    height: int = 0
    n_bytes: int = 0
    mask_sha256: str | None = None
    note: str = ""  # for the report


def prepare(data_dir: Path, item: SourceItem, sha256: str | None) -> Prepared:
    """Check one image and store it with its mask and its thumbnail.

    Args:
        sha256: of the file as it was a moment ago; None if it could not be read then.

    Raises:
        SsnError: the store cannot be written (which is no fault of the file).
    """
    try:
        data = _read(item)
        picture = imaging.decode(data)
        if hashlib.sha256(data).hexdigest() != sha256:
            raise ImageError("The file changed while it was being read", action="Import it again")
    except ImageError as error:
        return Prepared(rejection=str(error))
    with _storing(data_dir):
        stored = files.put_image(data_dir, data=data, extension=picture.extension)
        thumbnails.save_thumbnail(data_dir, sha256=stored.sha256, rgb=picture.rgb)
    mask_sha256, doubt = prepare_mask(data_dir, item, size=(picture.height, picture.width))
    return Prepared(
        extension=picture.extension,
        width=picture.width,
        height=picture.height,
        n_bytes=stored.n_bytes,
        mask_sha256=mask_sha256,
        note="; ".join(filter(None, (*picture.notes, doubt))),
    )


def prepare_mask(data_dir: Path, item: SourceItem, *, size: tuple[int, int]) -> tuple[str | None, str]:
    """Check and store the mask of an image of `size` (height, width): its SHA-256 or None, and a doubt for people.

    A mask that cannot be used is no reason to refuse the image. An empty one is not kept: it says no more than the
    label "good".
    """
    if item.mask is None:
        return None, ""
    try:
        mask = imaging.decode_mask(item.mask, size=size)
    except ImageError as error:
        return None, f"mask not used: {error}"
    if not mask.any():
        return None, "mask not used: it is all black" if item.label == "bad" else ""
    stream = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * np.uint8(255)).save(stream, "PNG")
    with _storing(data_dir):
        return files.put_mask(data_dir, png=stream.getvalue()).sha256, ""


def _read(item: SourceItem) -> bytes:
    path = item.path
    try:
        usual = path.is_file() and 0 < path.stat().st_size <= imaging.MAX_BYTES
        data = path.read_bytes() if usual else None
    except OSError as error:
        raise ImageError(f"The file cannot be read ({error.strerror})") from error
    if data is None:
        imaging.decode(path, name=item.name)  # says what is wrong with it
        raise ImageError("The file changed while it was being read", action="Import it again")
    return data


@contextmanager
def _storing(data_dir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SsnError(
            f"The data folder cannot be written ({error.strerror})",
            value=str(data_dir),
            action="Make room or mend its permissions, then resume the import: what is done stays done",
        ) from error
