"""Freed memory goes back to the operating system."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator

import psutil
import pytest

from ssn_core import memory


@pytest.fixture(autouse=True)
def _asked_anew() -> Iterator[None]:
    memory._trim.cache_clear()
    yield
    memory._trim.cache_clear()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no malloc_trim to call")
def test_gaps_between_pieces_in_use_are_given_back() -> None:
    blocks = [bytes([1]) * 64_000 for _ in range(3000)]
    kept = blocks[99::100]
    del blocks
    before = psutil.Process().memory_info().rss
    memory.give_back()
    assert before - psutil.Process().memory_info().rss > 100_000_000
    assert all(piece == bytes([1]) * 64_000 for piece in kept)


def test_elsewhere_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    memory.give_back()
    assert memory._trim() is None
