"""Opening an image file safely: which readers, how large, how many frames, and a reason for every refusal."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeVar

from PIL import Image, ImageFile, UnidentifiedImageError

from ssn_core.errors import ImageError

MAX_PIXELS = 100_000_000
"""The largest image accepted, in pixels (100 megapixels: 400 MB once decoded, 0.8 to 1.3 GB while at it)."""

MAX_BYTES = 2**30
"""The largest file accepted, in bytes: more than MAX_PIXELS need in any format."""

# A second fence for whatever else in this process opens an image with Pillow.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS

# Pillow is only ever offered these readers. EPS would start Ghostscript; the rare ones are seldom looked after.
EXTENSIONS = {
    "PNG": ".png",
    "JPEG": ".jpg",
    "MPO": ".jpg",  # a JPEG with more pictures behind the first; browsers show it as a JPEG
    "BMP": ".bmp",
    "TIFF": ".tif",
    "WEBP": ".webp",
    "GIF": ".gif",
    "PPM": ".ppm",  # Pillow's one name for PBM, PGM and PPM
    "JPEG2000": ".jp2",
}
_READERS = tuple(name for name in EXTENSIONS if name != "MPO")  # Pillow's JPEG reader finds MPO by itself
_ACCEPTED = "a PNG, JPEG, BMP, TIFF, WebP, JPEG 2000, PGM/PPM or single-frame GIF file"

# How files begin that people bring by mistake, so that the message can name them.
_FOREIGN: tuple[tuple[re.Pattern[bytes], str], ...] = (
    (re.compile(rb"%PDF"), "a PDF document"),
    (re.compile(rb"%!PS|\xc5\xd0\xd3\xc6"), "a PostScript (EPS) file"),
    (re.compile(rb"(?s)(?:\xef\xbb\xbf)?\s*<(?:svg|\?xml|!doctype|html)", re.IGNORECASE), "an SVG, XML or HTML text"),
    (re.compile(rb"(?s)....ftyp(?:heic|heix|heif|mif1|msf1|hevc)"), "a HEIC image"),
    (re.compile(rb"(?s)....ftyp(?:avif|avis)"), "an AVIF image"),
    (re.compile(rb"(?s)....ftyp"), "a video"),
    (re.compile(rb"\x00\x00[\x01\x02]\x00"), "an icon (ICO)"),
    (re.compile(rb"8BPS"), "a Photoshop document"),
    (re.compile(rb"PK\x03\x04"), "a zip archive or office document"),
)
_FAMILIAR: tuple[tuple[re.Pattern[bytes], str], ...] = (
    (re.compile(rb"\x89PNG"), "PNG"),
    (re.compile(rb"\xff\xd8\xff"), "JPEG"),
    (re.compile(rb"GIF8"), "GIF"),
    (re.compile(rb"(?s)RIFF....WEBP"), "WebP"),
    (re.compile(rb"II[*+]\x00|MM\x00[*+]"), "TIFF"),
    (re.compile(rb"BM"), "BMP"),
    (re.compile(rb"\xff\x4f\xff\x51|\x00\x00\x00\x0cjP"), "JPEG 2000"),
)
_MANY_PAGES = 1000  # pages of a TIFF are counted up to here: a hostile chain of empty pages is as long as its file

_T = TypeVar("_T")


def read_image(data: bytes | Path, label: str | None, convert: Callable[[ImageFile.ImageFile], _T]) -> _T:
    """Open, check the header, convert; every failure becomes an ImageError."""
    _quieten_pillow()
    prefix = b""
    try:
        with _stream(data, label) as stream:
            prefix = stream.read(256)
            with Image.open(stream, formats=_READERS) as image:
                _check_header(image, label)
                return convert(image)
    except ImageError:
        raise
    except Image.DecompressionBombError as error:  # Pillow's own fence, at twice MAX_PIXELS
        raise _too_large("more than twice as many", label) from error
    except UnidentifiedImageError as error:
        raise _unknown(prefix, label) from error
    except MemoryError as error:
        raise ImageError("There is not enough memory to decode the image", value=label) from error
    except OSError as error:
        if error.errno is not None:  # from the file system; Pillow's own OSErrors carry no number
            raise ImageError(f"The file cannot be read ({error.strerror})", value=label) from error
        raise _damaged(prefix, label) from error
    except Exception as error:  # hostile bytes make Pillow's parsers raise a dozen other types
        raise _damaged(prefix, label) from error


@contextmanager
def _stream(data: bytes | Path, label: str | None) -> Iterator[BinaryIO]:
    if isinstance(data, bytes):
        size = len(data)
    else:
        if not data.is_file():  # a named pipe would wait for a writer for ever
            what = "This is not a regular file" if data.exists() else "The file does not exist"
            raise ImageError(what, value=label, expected=_ACCEPTED)
        size = data.stat().st_size
    if size == 0:
        raise ImageError("The file is empty", value=label, expected=_ACCEPTED)
    if size > MAX_BYTES:
        raise ImageError(
            f"The file is too large ({size / 2**20:,.0f} MiB)", value=label, expected=f"at most {MAX_BYTES >> 20} MiB"
        )
    with io.BytesIO(data) if isinstance(data, bytes) else data.open("rb") as stream:
        yield stream


def _check_header(image: ImageFile.ImageFile, label: str | None) -> None:
    width, height = image.size
    if width < 1 or height < 1:
        raise ImageError("The image has no pixels", value=label)
    if width * height > MAX_PIXELS:
        raise _too_large(f"{width} x {height} = {width * height / 1e6:,.0f} megapixels", label)
    frames = _count_frames(image)
    if frames > 1:
        count = f"{_MANY_PAGES} or more" if image.format == "TIFF" and frames >= _MANY_PAGES else str(frames)
        raise ImageError(
            f"The file holds {count} frames or pages",
            value=label,
            expected="one image per file",
            action="Save the frame that matters as an image of its own",
        )


def _count_frames(image: ImageFile.ImageFile) -> int:
    if image.format == "MPO":
        return 1  # the others are previews or a second eye's view
    if image.format != "TIFF":
        return int(getattr(image, "n_frames", 1))
    for frame in range(1, _MANY_PAGES):
        try:
            image.seek(frame)
        except EOFError:
            image.seek(0)
            return frame
    return _MANY_PAGES


def _quieten_pillow() -> None:
    """Pillow's warnings (size, odd tags, odd APNG) would repeat what is checked here, on the console of a server.

    The filter stays: `warnings.catch_warnings` is not safe while other threads decode.
    """
    rule = ("ignore", None, Warning, re.compile(r"PIL\."), 0)
    if rule not in warnings.filters:
        warnings.filterwarnings("ignore", module=r"PIL\.")


def _too_large(size: str, label: str | None) -> ImageError:
    return ImageError(
        f"The image is too large: its header claims {size}",
        value=label,
        expected=f"at most {MAX_PIXELS // 1_000_000} megapixels",
        action="Crop it or save it smaller",
    )


def _unknown(prefix: bytes, label: str | None) -> ImageError:
    for pattern, kind in _FOREIGN:
        if pattern.match(prefix):
            return ImageError(f"This is {kind}, which is not accepted", value=label, expected=_ACCEPTED)
    if any(pattern.match(prefix) for pattern, _ in _FAMILIAR):
        return _damaged(prefix, label)
    return ImageError("This is not an image", value=label, expected=_ACCEPTED)


def _damaged(prefix: bytes, label: str | None) -> ImageError:
    kind = next((f"{kind} " for pattern, kind in _FAMILIAR if pattern.match(prefix)), "")
    return ImageError(f"The {kind}file is damaged or cut short", value=label, expected="a complete image file")
