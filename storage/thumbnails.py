"""Pictures for the browser, cached by content: small ones for boards, and full-size ones that a browser can show."""

from __future__ import annotations

import io
from functools import lru_cache
from pathlib import Path

from PIL import ExifTags, Image

from ssn_core import imaging
from storage import files

EDGE = 320  # pixels; the longer side of a thumbnail
_QUALITY = 82  # of WebP; a hair-line crack stays visible, and a thumbnail stays near 10 KB
_BROWSER_FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
_BROWSER_EXTENSIONS = (".png", ".jpg", ".webp", ".gif")
_BROWSER_MODES = ("1", "L", "P", "RGB")
_UPRIGHT = 1


def thumbnail(data_dir: Path, *, sha256: str, extension: str, edge: int = EDGE) -> Path:
    """The WebP thumbnail of a stored image, made when it is asked for first.

    Args:
        edge: pixels of the longer side, 16 to 4096; an image is never enlarged.

    Raises:
        ImageError: the stored file is gone or damaged.
    """
    path = thumbnail_path(data_dir, sha256=sha256, edge=edge)
    if not path.exists():
        picture = imaging.decode(files.image_path(data_dir, sha256=sha256, extension=extension))
        save_thumbnail(data_dir, sha256=sha256, rgb=picture.rgb, edge=edge)
    return path


def thumbnail_path(data_dir: Path, *, sha256: str, edge: int = EDGE) -> Path:
    """Where the thumbnail is, or will be."""
    if not 16 <= edge <= 4096:
        raise ValueError(f"edge is {edge}; expected 16 to 4096 pixels")
    return files.by_content(data_dir / "thumbnails" / str(edge), sha256, ".webp")


def save_thumbnail(data_dir: Path, *, sha256: str, rgb: Image.Image, edge: int = EDGE) -> Path:
    """Make the thumbnail from pixels that are decoded already (an import has them at hand)."""
    path = thumbnail_path(data_dir, sha256=sha256, edge=edge)
    # reducing_gap: large images are first shrunk by whole factors; the difference cannot be seen at this size
    scale = min(1.0, edge / max(rgb.size))
    size = (max(1, round(rgb.width * scale)), max(1, round(rgb.height * scale)))
    small = rgb.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0) if size != rgb.size else rgb
    stream = io.BytesIO()
    small.save(stream, "WEBP", quality=_QUALITY, method=2)
    files.write_atomically(path, stream.getvalue(), durable=False)
    return path


def display(data_dir: Path, *, sha256: str, extension: str) -> Path:
    """A full-size file that a browser shows as the method sees it: the original, or a lossless PNG of its pixels.

    The original is served where a browser would show the same pixels: 8 bits, opaque, upright, in a format that it
    knows. Everything else (TIFF, BMP, 16 bits, CMYK, transparency, EXIF rotation ...) gets a PNG, made once.

    Raises:
        ImageError: the stored file is gone or damaged.
    """
    original = files.image_path(data_dir, sha256=sha256, extension=extension)
    if extension in _BROWSER_EXTENSIONS and _is_plain(original):
        return original
    path = files.by_content(data_dir / "thumbnails" / "display", sha256, ".png")
    if not path.exists():
        stream = io.BytesIO()
        imaging.decode(original).rgb.save(stream, "PNG", compress_level=1)
        files.write_atomically(path, stream.getvalue(), durable=False)
    return path


@lru_cache(maxsize=100_000)  # content never changes, and a PNG's EXIF may only be found behind its pixels
def _is_plain(path: Path) -> bool:
    if not path.is_file():
        return False
    with Image.open(path, formats=_BROWSER_FORMATS) as image:
        return (
            image.mode in _BROWSER_MODES
            and not image.has_transparency_data
            and image.getexif().get(ExifTags.Base.Orientation, _UPRIGHT) == _UPRIGHT
        )
