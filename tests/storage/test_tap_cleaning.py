"""The cache of features: what no image needs goes first, then what was not used for longest."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from storage import images, jobs, tap_cleaning
from storage.db import Database
from storage.settings import get_settings


@pytest.fixture
def cached(db: Database, add_images: Callable[..., list[int]]) -> list[str]:
    """The hashes of four images, each with 100 bytes of features, the first one used longest ago."""
    ids = add_images(4)
    hashes = [image.sha256 for image in images.get_many(db, image_ids=ids)]
    for number, sha256 in enumerate(hashes):
        path = tap_cleaning.root(db) / "resnet18-x-64x64" / sha256[:2] / f"{sha256}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 100)
        os.utime(path, (1_000_000 + number, 2_000_000 - number))
    return hashes


def left(db: Database) -> set[str]:
    return {path.stem for path in tap_cleaning.root(db).rglob("*.npy")}


def test_what_fits_is_kept(db: Database, cached: list[str]) -> None:
    assert tap_cleaning.clean(db, keep_bytes=400) == tap_cleaning.Cleaned(0, 0, 400)
    assert left(db) == set(cached)


def test_what_was_not_used_for_longest_goes_first(db: Database, cached: list[str]) -> None:
    assert tap_cleaning.clean(db, keep_bytes=250) == tap_cleaning.Cleaned(2, 200, 200)
    assert left(db) == set(cached[2:])


def test_what_no_image_of_any_project_needs_goes_even_where_there_is_room(db: Database, cached: list[str]) -> None:
    stray = tap_cleaning.root(db) / "wide_resnet50_2-x-64x64" / "ab" / f"{'ab' * 32}.npy"
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"x" * 50)
    assert tap_cleaning.clean(db, keep_bytes=10_000) == tap_cleaning.Cleaned(1, 50, 400)
    assert left(db) == set(cached)


def test_an_empty_cache_is_clean(db: Database) -> None:
    assert tap_cleaning.clean(db, keep_bytes=0) == tap_cleaning.Cleaned(0, 0, 0)


@pytest.mark.parametrize(("ends", "reads"), [("train", "gain"), ("gain", "train")])
def test_nothing_is_cleaned_while_another_job_reads_the_cache(
    db: Database, project: int, cached: list[str], monkeypatch: pytest.MonkeyPatch, ends: str, reads: str
) -> None:
    settings = get_settings().model_copy(update={"tap_cache_gb": 250 / 1e9})
    monkeypatch.setattr(tap_cleaning, "get_settings", lambda: settings)
    running = {}
    for kind in (ends, reads):
        jobs.submit(db, kind=kind, project_id=project, payload={})
        claimed = jobs.claim(db, pid=1, process_created=1.0)
        assert claimed is not None
        running[kind] = claimed
    assert tap_cleaning.after_job(db, job_id=running[ends].id) is None
    assert left(db) == set(cached)
    jobs.finish(db, job=running[ends], status="succeeded", result={})
    assert tap_cleaning.after_job(db, job_id=running[reads].id) == tap_cleaning.Cleaned(2, 200, 200)
    assert left(db) == set(cached[2:])


def test_a_job_that_waits_reads_nothing_yet(db: Database, project: int, cached: list[str]) -> None:
    jobs.submit(db, kind="gain", project_id=project, payload={})
    assert tap_cleaning.after_job(db, job_id=99) == tap_cleaning.Cleaned(0, 0, 400)


def test_what_was_used_after_it_was_listed_stays(db: Database, cached: list[str]) -> None:
    (path,) = tap_cleaning.root(db).rglob(f"{cached[0]}.npy")
    listed = path.stat().st_atime
    os.utime(path, (listed + 100, listed))
    assert not tap_cleaning._remove(path, last_used=listed)
    assert path.exists()
    assert tap_cleaning._remove(path, last_used=listed + 100)
    assert not path.exists()


def test_what_a_killed_worker_left_half_written_goes_and_what_is_being_written_stays(
    db: Database, cached: list[str]
) -> None:
    folder = tap_cleaning.root(db) / "resnet18-x-64x64" / cached[0][:2]
    left_behind, at_work = (folder / f".{cached[0]}.npy.{pid}.tmp" for pid in (1, 2))
    for path in (left_behind, at_work):
        path.write_bytes(b"x" * 30)
    os.utime(left_behind, (1_000_000, 1_000_000))
    assert tap_cleaning.clean(db, keep_bytes=400) == tap_cleaning.Cleaned(1, 30, 400)
    assert not left_behind.exists()
    assert at_work.exists()
