"""Memory that nothing uses any more, back to the operating system.

glibc keeps what was freed between pieces that are in use, and a training leaves many such gaps: batches, gradients and
cells of images of every size, between scores that stay. From network to network they add up to more than what a
training needs at a time, the more so the more images there are.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from functools import cache


def give_back() -> None:
    """Return freed memory (milliseconds). Does nothing where the C library is not glibc."""
    trim = _trim()
    if trim is not None:
        trim(0)


@cache
def _trim() -> Callable[[int], int] | None:
    if sys.platform != "linux":
        return None
    found = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
    if found is not None:
        found.argtypes, found.restype = [ctypes.c_size_t], ctypes.c_int
    return found
