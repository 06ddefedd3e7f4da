"""Pictures for the browser: cached by content, and showing what the method sees."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ssn_core import imaging
from ssn_core.errors import ImageError
from storage import files, jobs, thumbnails
from storage.db import Database
from storage.worker import work


def store(data_dir: Path, image: Image.Image, file_format: str, extension: str, **options: Any) -> dict[str, str]:
    stream = io.BytesIO()
    image.save(stream, file_format, **options)
    stored = files.put_image(data_dir, data=stream.getvalue(), extension=extension)
    return {"sha256": stored.sha256, "extension": extension}


def gradient(width: int = 900, height: int = 600) -> Image.Image:
    across = np.linspace(0, 255, width, dtype=np.uint8)
    return Image.fromarray(np.broadcast_to(across[None, :, None], (height, width, 3)).copy())


def test_a_thumbnail_keeps_the_shape_and_is_made_once(tmp_path: Path) -> None:
    image = store(tmp_path, gradient(), "PNG", ".png")
    path = thumbnails.thumbnail(tmp_path, **image)
    with Image.open(path) as small:
        assert (small.format, small.size) == ("WEBP", (320, 213))
    before = path.stat().st_mtime_ns
    assert thumbnails.thumbnail(tmp_path, **image) == path
    assert path.stat().st_mtime_ns == before
    assert path.stat().st_size < 15_000


@pytest.mark.parametrize(("size", "expected"), [((40, 30), (40, 30)), ((5000, 3), (320, 1)), ((3, 5000), (1, 320))])
def test_small_and_extreme_images_have_thumbnails_too(
    tmp_path: Path, size: tuple[int, int], expected: tuple[int, int]
) -> None:
    path = thumbnails.thumbnail(tmp_path, **store(tmp_path, gradient(*size), "PNG", ".png"))
    with Image.open(path) as small:
        assert small.size == expected


def test_other_sizes_are_kept_apart(tmp_path: Path) -> None:
    image = store(tmp_path, gradient(), "PNG", ".png")
    with Image.open(thumbnails.thumbnail(tmp_path, **image, edge=64)) as small:
        assert max(small.size) == 64
    with pytest.raises(ValueError, match="16 to 4096"):
        thumbnails.thumbnail(tmp_path, **image, edge=5)


def test_a_file_that_is_gone_is_an_error_for_people(tmp_path: Path) -> None:
    for picture in (thumbnails.thumbnail, thumbnails.display):
        with pytest.raises(ImageError, match="does not exist"):
            picture(tmp_path, sha256="0" * 64, extension=".png")


@pytest.mark.parametrize(
    ("mode", "file_format", "extension"),
    [
        ("RGB", "PNG", ".png"),
        ("L", "PNG", ".png"),
        ("P", "PNG", ".png"),
        ("RGB", "JPEG", ".jpg"),
        ("RGB", "WEBP", ".webp"),
    ],
)
def test_what_a_browser_shows_rightly_is_served_as_it_is(
    tmp_path: Path, mode: str, file_format: str, extension: str
) -> None:
    image = store(tmp_path, gradient().convert(mode), file_format, extension)
    assert thumbnails.display(tmp_path, **image) == files.image_path(tmp_path, **image)


@pytest.mark.parametrize(
    ("image", "file_format", "extension"),
    [
        (gradient(), "TIFF", ".tif"),
        (gradient(), "BMP", ".bmp"),
        (gradient().convert("CMYK"), "JPEG", ".jpg"),
        (gradient().convert("RGBA"), "PNG", ".png"),
        (Image.fromarray(np.arange(600, dtype=np.uint16).reshape(20, 30) * 100), "PNG", ".png"),
    ],
)
def test_what_a_browser_shows_otherwise_or_not_becomes_a_lossless_png(
    tmp_path: Path, image: Image.Image, file_format: str, extension: str
) -> None:
    stored = store(tmp_path, image, file_format, extension)
    path = thumbnails.display(tmp_path, **stored)
    with Image.open(path) as shown:
        assert (shown.format, shown.mode) == ("PNG", "RGB")
        assert np.array_equal(np.asarray(shown), np.asarray(imaging.decode(files.image_path(tmp_path, **stored)).rgb))


def test_a_rotated_photo_is_shown_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = store(tmp_path, gradient(90, 60), "JPEG", ".jpg", exif=exif)
    for path in (thumbnails.display(tmp_path, **image), thumbnails.thumbnail(tmp_path, **image)):
        with Image.open(path) as shown:
            assert shown.size == (60, 90)
            assert shown.getexif().get(0x0112, 1) == 1


class _NoRunner:
    """Starts nothing: the test works the queue itself."""

    def start(self, job_id: int) -> None:
        """Leave the job in the queue."""

    def is_alive(self, job: jobs.Job) -> bool:  # noqa: ARG002
        return True

    def kill(self, job: jobs.Job) -> None:  # noqa: ARG002
        raise AssertionError("nothing here needs killing")


def test_a_job_makes_what_is_missing_and_leaves_the_rest(
    db: Database, project: int, add_images: Callable[..., list[int]]
) -> None:
    plain = store(db.data_dir, gradient(), "PNG", ".png")
    tiff = store(db.data_dir, gradient(500, 400), "TIFF", ".tif")
    there = store(db.data_dir, gradient(400, 300), "PNG", ".png")
    for stored in (plain, tiff, there):
        add_images(1, **stored)
    add_images(1)  # a row whose file is missing
    before = thumbnails.thumbnail(db.data_dir, **there).stat().st_mtime_ns
    first = thumbnails.submit(db, project_id=project)
    assert thumbnails.submit(db, project_id=project) == first  # waits already
    ended = work(db, handlers={thumbnails.JOB: "storage.thumbnails:run_job"}, runner=_NoRunner())
    assert ended is not None
    assert (ended.status, ended.error) == ("succeeded", None)
    assert ended.result == {"made": 2, "there": 1, "failed": 1}
    assert (ended.done, ended.total) == (4, 4)
    assert thumbnails.thumbnail_path(db.data_dir, sha256=plain["sha256"]).exists()
    assert thumbnails.display_path(db.data_dir, **tiff).exists()
    assert thumbnails.display_path(db.data_dir, **tiff).suffix == ".png"
    assert thumbnails.thumbnail_path(db.data_dir, sha256=there["sha256"]).stat().st_mtime_ns == before
    assert thumbnails.submit(db, project_id=project) != first  # asked for again: it would look again
