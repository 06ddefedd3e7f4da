"""Image files to pixels: every file is taken as hostile, and every rejection says why.

Three promises:

* Nothing but :class:`ssn_core.errors.ImageError` leaves this module, whatever the bytes are.
* The size is checked from the header, before one pixel is decoded.
* The same file always gives the same pixels. No step looks at an image's own brightest or darkest value, because a
  per-image stretch would make the same defect look different from one part to the next.

Colour profiles are not applied: a frozen backbone wants the camera's numbers, and the same ones every time.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, ImageFile

from ssn_core.errors import ImageError
from ssn_core.image_files import EXTENSIONS, MAX_BYTES, MAX_PIXELS, read_image

__all__ = ["MAX_BYTES", "MAX_PIXELS", "Picture", "decode", "decode_mask", "load_rgb"]

_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TIFF_BITS, _TIFF_PHOTOMETRIC = 258, 262
_WHITE_IS_ZERO = 0


@dataclass(frozen=True, eq=False)
class Picture:
    """A decoded image.

    Attributes:
        rgb: the pixels, mode ``RGB``, 8 bits a channel, upright, without metadata.
        format: Pillow's name of the file's format, such as ``"PNG"``; found from the content, not from the name.
        extension: the usual extension of that format, such as ``".png"``.
        width, height: in pixels, after the EXIF orientation was applied.
        notes: what was done to get from the file to ``rgb`` beyond plain decoding, for people.
    """

    rgb: Image.Image
    format: str
    extension: str
    width: int
    height: int
    notes: tuple[str, ...]


def decode(data: bytes | Path, *, name: str | None = None) -> Picture:
    """Decode an image file.

    16-bit grey is scaled by the fixed factor 255/65535; transparent parts are laid onto black; CMYK, LAB, YCbCr,
    palette and 1-bit images become RGB; the EXIF orientation is applied. Of an MPO file the first picture is taken.

    Args:
        data: the file's content, or the path of a regular file.
        name: the file's name in error messages; by default the path's last part.

    Raises:
        ImageError: unreadable, empty, truncated, not an image, of a format that is not accepted, animated or of
            several pages, of 32-bit or signed values, or larger than MAX_PIXELS or MAX_BYTES.
    """
    label = _label(data, name)

    def convert(image: ImageFile.ImageFile) -> Picture:
        notes: list[str] = []
        file_format = image.format or ""
        if file_format == "MPO":
            notes.append("first picture of an MPO file")
        facts = _load(image)
        rgb = _to_rgb(image, label, notes, deep=facts.deep)
        if facts.turn is not None:
            rgb = rgb.transpose(facts.turn)
        if facts.orientation in _TRANSPOSE:
            notes.append("rotated by EXIF")
        rgb.info = {}  # profiles and EXIF describe the file, and would otherwise be written into what is saved of rgb
        return Picture(rgb, file_format, EXTENSIONS[file_format], rgb.width, rgb.height, tuple(notes))

    return read_image(data, label, convert)


def decode_mask(data: bytes | Path, *, size: tuple[int, int] | None, name: str | None = None) -> NDArray[np.bool_]:
    """Decode a defect mask: every pixel that is not zero (for a palette: not black; with alpha: not transparent) is
    defect.

    Args:
        data: the file's content, or the path of a regular file.
        size: (height, width) in pixels of the upright image that the mask belongs to; None accepts any size.
        name: the file's name in error messages; by default the path's last part.

    Returns:
        bool (height, width), True on the defect.

    Raises:
        ImageError: as for :func:`decode` (integer masks of 32 bits are accepted), or the size is not ``size``.
    """
    label = _label(data, name)

    def convert(image: ImageFile.ImageFile) -> NDArray[np.bool_]:
        facts = _load(image)
        if facts.deep and not image.mode.startswith("I"):
            # Pillow keeps the high byte alone: a mask value below 256 would silently become good.
            raise ImageError(
                "The mask is a 16-bit colour image", value=label, expected="a grey, palette or 8-bit colour mask"
            )
        if image.mode.startswith("I;16"):
            mask = _grey16(image)[0] != 0
        elif image.mode in ("1", "L", "I") and not image.has_transparency_data:
            mask = np.asarray(image) != 0
        else:
            mask = np.asarray(_to_rgb(image, label, [], deep=False)).any(axis=2)
        if facts.turn is not None:
            mask = np.asarray(Image.fromarray(mask).transpose(facts.turn))
        return np.ascontiguousarray(mask, dtype=np.bool_)

    mask = read_image(data, label, convert)
    if size is not None and mask.shape != tuple(size):
        raise ImageError(
            f"The mask has another size than its image ({mask.shape[1]} x {mask.shape[0]} pixels)",
            value=label,
            expected=f"{size[1]} x {size[0]} pixels (width x height)",
        )
    return mask


def load_rgb(path: Path, *, image_size: tuple[int, int]) -> NDArray[np.uint8]:
    """Decode an image and bring it to a fixed size, the one way for training and inference.

    Args:
        path: an image file.
        image_size: (height, width) in pixels. The aspect ratio is not kept.

    Returns:
        uint8 (height, width, 3), 0..255, bilinear with antialiasing when it shrinks.

    Raises:
        ImageError: as for :func:`decode`.
    """
    height, width = image_size
    rgb = decode(path).rgb
    if rgb.size != (width, height):
        rgb = rgb.resize((width, height), Image.Resampling.BILINEAR)
    return np.array(rgb, dtype=np.uint8)


def _label(data: bytes | Path, name: str | None) -> str | None:
    return name if name is not None or isinstance(data, bytes) else data.name


@dataclass(frozen=True)
class _Facts:
    """What Pillow forgets once the pixels are loaded.

    Attributes:
        orientation: the EXIF orientation of the file, 1..8; 1 where there is none or it cannot be read.
        turn: the transposition that still has to be done, or None.
        deep: whether the file holds 16 bits a channel.
    """

    orientation: int
    turn: Image.Transpose | None
    deep: bool


def _load(image: ImageFile.ImageFile) -> _Facts:
    """Decode the pixels."""
    deep = any(";16" in str(tile.args) for tile in image.tile)
    if image.format == "TIFF":  # turned upright by Pillow while it loads, and the tag removed
        orientation = _orientation(image)
        image.load()
        return _Facts(orientation, None, deep)
    image.load()
    orientation = _orientation(image)  # only now: a PNG's EXIF may follow its pixels
    return _Facts(orientation, _TRANSPOSE.get(orientation), deep)


def _orientation(image: ImageFile.ImageFile) -> int:
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # noqa: BLE001 - broken EXIF is no reason to refuse sound pixels
        return 1
    return value if isinstance(value, int) else 1


def _to_rgb(image: ImageFile.ImageFile, label: str | None, notes: list[str], *, deep: bool) -> Image.Image:
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        values, maximum = _grey16(image)
        notes.append("16-bit scaled to 8-bit" if maximum == 65535 else "12-bit scaled to 8-bit")
        return Image.fromarray(_to_8_bit(maximum)[values]).convert("RGB")
    if image.mode in ("I", "F"):
        raise ImageError(
            "The image has 32-bit, signed or floating-point values, whose range is not known",
            value=label,
            expected="8-bit or unsigned 16-bit values",
            action="Export it as 8-bit or 16-bit PNG or TIFF with one fixed scale for all images",
        )
    if deep:
        notes.append("16-bit scaled to 8-bit")  # Pillow keeps the high byte: within one level of v / 257
    if image.has_transparency_data:
        return _flatten(image, notes)
    if image.mode == "LAB":
        notes.append("LAB converted to RGB")
        profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, *profiles, outputMode="RGB")
        if converted is None:
            raise ImageError("The LAB image cannot be converted to RGB", value=label)
        return converted
    if image.mode in ("CMYK", "YCbCr"):
        notes.append(f"{image.mode} converted to RGB")
    return image.convert("RGB")


def _flatten(image: Image.Image, notes: list[str]) -> Image.Image:
    straight = image.convert("LA") if image.mode == "La" else image
    rgba = straight if straight.mode == "RGBA" else straight.convert("RGBA")
    alpha = rgba.getchannel("A")
    rgb = rgba.convert("RGB")
    if alpha.getextrema() == (255, 255):
        return rgb
    notes.append("alpha flattened onto black")
    black = Image.new("RGB", rgb.size)
    black.paste(rgb, mask=alpha)
    return black


def _grey16(image: ImageFile.ImageFile) -> tuple[NDArray[np.uint16], int]:
    """The unsigned values of a grey image of more than 8 bits, black = 0, and the value that means white."""
    tags = getattr(image, "tag_v2", {})
    maximum = 4095 if 12 in tuple(tags.get(_TIFF_BITS, ())) else 65535
    values = np.asarray(image).astype(np.uint16, copy=False)
    if tags.get(_TIFF_PHOTOMETRIC) == _WHITE_IS_ZERO:  # Pillow inverts such files when they have 8 bits, not here
        values = np.uint16(maximum) - values
    return values, maximum


@lru_cache(maxsize=2)
def _to_8_bit(maximum: int) -> NDArray[np.uint8]:
    """The look-up table v -> round(255 * v / maximum), uint8 (65536,)."""
    values = np.minimum(np.arange(65536, dtype=np.int64), maximum)
    return ((values * 255 + maximum // 2) // maximum).astype(np.uint8)
