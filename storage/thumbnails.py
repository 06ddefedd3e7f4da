"""Pictures for the browser, cached by content: small ones for boards, and full-size ones that a browser can show.

An import makes the small ones at once. What is missing later (the cache was emptied, or a TIFF needs a picture that
browsers know) is made when it is asked for, and for a whole project ahead of the eye by a job.
"""

from __future__ import annotations

import io
import os
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import ExifTags, Image

from ssn_core import imaging
from ssn_core.errors import ImageError
from storage import files, images, jobs, projects
from storage.db import Database

if TYPE_CHECKING:
    from storage.job_context import JobContext

EDGE = 320  # pixels; the longer side of a thumbnail
JOB = "thumbnails"  # the kind of job that makes pictures ahead
_DISPLAY = "display"
_QUALITY = 82  # of WebP; a hair-line crack stays visible, and a thumbnail stays near 10 KB
_BROWSER_FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
_BROWSER_EXTENSIONS = (".png", ".jpg", ".webp", ".gif")
_BROWSER_MODES = ("1", "L", "P", "RGB")
_UPRIGHT = 1
_PAGE = 200  # images that a job reads from the database at once
_MAX_THREADS = 4  # each may hold one decoded image of up to 100 megapixels


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
    path = display_path(data_dir, sha256=sha256, extension=extension)
    original = files.image_path(data_dir, sha256=sha256, extension=extension)
    if path != original and not path.exists():
        stream = io.BytesIO()
        imaging.decode(original).rgb.save(stream, "PNG", compress_level=1)
        files.write_atomically(path, stream.getvalue(), durable=False)
    return path


def display_path(data_dir: Path, *, sha256: str, extension: str) -> Path:
    """Where the full-size file for the browser is, or will be once `display` has made it."""
    original = files.image_path(data_dir, sha256=sha256, extension=extension)
    if extension in _BROWSER_EXTENSIONS and _is_plain(original):
        return original
    return files.by_content(data_dir / "thumbnails" / _DISPLAY, sha256, ".png")


def submit(db: Database, *, project_id: int) -> int:
    """Queue a job that makes what is missing of a project's pictures, and return it; an active one is not doubled.

    Raises:
        SsnError: there is no such project.
    """
    projects.get(db, project_id=project_id)
    active = jobs.active(db, project_id=project_id, kinds=(JOB,))
    return active[0].id if active else jobs.submit(db, kind=JOB, project_id=project_id, payload={})


def run_job(context: JobContext) -> dict[str, int]:
    """The handler of these jobs. What is there already is passed over, so an interrupted one goes on where it was.

    Raises:
        Cancelled: the job has to stop.
    """
    project_id = context.job.project_id
    if project_id is None:
        raise ValueError(f"job {context.job.id} belongs to no project")
    total = projects.label_counts(context.db, project_id=project_id).total
    done = made = failed = 0
    after: int | None = None
    with ThreadPoolExecutor(min(_MAX_THREADS, os.cpu_count() or 1), thread_name_prefix="pictures") as executor:
        while page := images.page(context.db, project_id=project_id, after_id=after, limit=_PAGE):
            context.progress("Making pictures", done, total)
            for outcome in executor.map(lambda image: _make(context, image), page):
                made += outcome is True
                failed += outcome is None
            done += len(page)
            after = page[-1].id
    context.progress("Making pictures", done, total)
    return {"made": made, "there": done - made - failed, "failed": failed}


def _make(context: JobContext, image: images.Image) -> bool | None:
    """True: something was missing and is there now; False: nothing was; None: it cannot be made."""
    context.check()
    data_dir, content = context.db.data_dir, {"sha256": image.sha256, "extension": image.extension}
    try:
        missing = [
            make
            for make, path in (
                (thumbnail, thumbnail_path(data_dir, sha256=image.sha256)),
                (display, display_path(data_dir, **content)),
            )
            if not path.exists()
        ]
        for make in missing:
            make(data_dir, **content)
    except (ImageError, OSError) as error:  # one damaged file is no reason to leave the others without pictures
        context.log.warning("Image %d: %s", image.id, error)
        return None
    return bool(missing)


def _is_plain(path: Path) -> bool:
    try:
        return path.is_file() and _has_plain_pixels(path)
    except Exception:  # noqa: BLE001 - whatever the damage, or the machine's trouble, is: decoding says so, for people
        return False


@lru_cache(maxsize=2_000)  # content never changes, and a PNG's EXIF may only be found behind its pixels
def _has_plain_pixels(path: Path) -> bool:
    with Image.open(path, formats=_BROWSER_FORMATS) as image:
        return (
            image.mode in _BROWSER_MODES
            and not image.has_transparency_data
            and image.getexif().get(ExifTags.Base.Orientation, _UPRIGHT) == _UPRIGHT
        )
