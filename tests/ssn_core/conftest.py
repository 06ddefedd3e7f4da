"""What several tests train on: generated surfaces of 64 x 64 pixels, and their taps of a random backbone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from ssn_core.backbone import load_backbone
from ssn_core.dataset import LabelledImage, from_sources
from ssn_core.features import TapCache
from ssn_core.sources import scan


@pytest.fixture(scope="session")
def labelled(surfaces: Path) -> list[LabelledImage]:
    return from_sources(scan(surfaces / "labels.csv").items, on_reject=lambda *_: None, progress=lambda *_: None)


@pytest.fixture(scope="session")
def caches(labelled: list[LabelledImage], tmp_path_factory: pytest.TempPathFactory) -> dict[str, TapCache]:
    root = tmp_path_factory.mktemp("small-taps")
    found = {}
    for padding in ("replicate", "zeros"):
        backbone = load_backbone("resnet18", weights="random", padding=padding, local=True)  # type: ignore[arg-type]
        found[padding] = TapCache(root, backbone, (64, 64))
        found[padding].fill([(i.key, i.path) for i in labelled], device=torch.device("cpu"))
    return found


@pytest.fixture
def one_thread() -> Iterator[None]:
    yield from _with_threads(1)


@pytest.fixture
def two_threads() -> Iterator[None]:
    yield from _with_threads(2)


def _with_threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    yield
    torch.set_num_threads(before)
