"""Random starts that depend on their seed alone, whatever else draws numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

import torch

_in_turn = Lock()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from torch's own generator on the CPU as after `manual_seed`, and leave it as it was.

    All threads have that one generator in common, so that one after the other may do this.
    """
    with _in_turn, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
