"""The cache of features: what no image needs goes first, then what was not used for longest."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from storage import images, tap_cleaning
from storage.db import Database


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
