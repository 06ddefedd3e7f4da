"""What a training keeps of each image: bytes of Python objects, counted with tracemalloc, so never a matter of time.

A network's training and its scores are left out: they take the same memory for any number of images.
"""

from __future__ import annotations

import gc
import itertools
import json
import tracemalloc
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ssn_core import pipeline
from ssn_core.backbone import load_backbone
from ssn_core.checkpoint import save_model
from ssn_core.crossfit import deal_blocks
from ssn_core.dataset import LabelledImage, deal_folds, examples
from ssn_core.features import TapCache
from ssn_core.inference import Scored
from ssn_core.map_files import MapFiles
from ssn_core.model import CamNet
from ssn_core.pipeline import Trained, train_model
from ssn_core.recipes import Recipe, get_recipe
from ssn_core.reporting import Silent
from storage import training_jobs
from storage.db import Database

N = 4000
CPU = torch.device("cpu")


class Taken(NamedTuple):
    """Bytes an image."""

    peak: float
    kept: float


def bytes_per_image(work: Callable[[], object]) -> Taken:
    """What `work` takes at its highest, and what its result keeps; done once before, for what is made only once."""
    work()
    gc.collect()
    tracemalloc.start()
    try:
        result = work()
        now, highest = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    del result
    return Taken(highest / N, now / N)


@pytest.fixture
def filled(db: Database, add_images: Callable[..., list[int]]) -> Database:
    """A project of images of which each fiftieth is bad; each is a part of its own."""
    add_images(N // 50, label="bad")
    add_images(N - N // 50, label="good")
    return db


@pytest.fixture
def images(filled: Database, project: int) -> list[LabelledImage]:
    return training_jobs.labelled_images(filled, project_id=project)


def test_a_labelled_image_stays_as_small_as_its_texts(filled: Database, project: int) -> None:
    def load() -> list[LabelledImage]:
        found = training_jobs.labelled_images(filled, project_id=project)
        assert not any(image.path.exists() for image in found)  # as a training opens each file: a path may grow by it
        return found

    assert bytes_per_image(load).kept < 750


def test_dealing_takes_little_beside_the_images(images: list[LabelledImage]) -> None:
    labels, groups = np.array([bool(image.bad) for image in images], dtype=np.int8), [image.group for image in images]
    assert bytes_per_image(lambda: deal_folds(images, 3)).peak < 230
    assert bytes_per_image(lambda: deal_blocks(labels, groups)).peak < 230


def test_examples_take_less_than_the_images(images: list[LabelledImage]) -> None:
    assert bytes_per_image(lambda: examples(images, get_recipe("cam"))).kept < 85


@pytest.fixture
def trained(images: list[LabelledImage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Trained]:
    """Does a training in which no network learns anything, and which keeps no map."""
    backbone = load_backbone("resnet18", weights="random")
    recipe = get_recipe("cam").with_settings({"image_size": (64, 64)})
    cam = np.zeros((8, 8), dtype=np.float32)

    class NoTaps(TapCache):
        def fill(self, images: Iterable[tuple[str, str | Path]], **_: object) -> None:
            assert sum(1 for _ in images) == N

    class NoMaps(MapFiles):
        def write(self, key: str, cam: NDArray[np.float32]) -> None:
            pass

        def read(self, key: str) -> NDArray[np.float32]:  # noqa: ARG002
            return cam

    def fit(used: Recipe, *_: object, **__: object) -> CamNet:
        return CamNet(used).eval()

    def score(_net: CamNet, _taps: TapCache, keys: Sequence[str], *, device: torch.device) -> Iterator[Scored]:
        return (Scored(key, int(key[:8], 16) / 2**32, cam) for key in keys)

    monkeypatch.setattr(pipeline, "fit", fit)
    monkeypatch.setattr(pipeline, "score_cached", score)
    monkeypatch.setattr(pipeline, "map_peaks", lambda cams, *_, **__: [float(cam.max()) for cam in cams])
    taps, maps = NoTaps(tmp_path / "taps", backbone, (64, 64)), NoMaps(tmp_path / "maps")
    return lambda: train_model(recipe, images, taps, device=CPU, reporter=Silent(), maps=maps)


def test_a_training_keeps_less_than_half_a_kilobyte_beside_the_images(trained: Callable[[], Trained]) -> None:
    assert trained().held_out == "out_of_fold"
    assert bytes_per_image(trained).peak < 500


def test_a_model_is_written_piece_by_piece(trained: Callable[[], Trained], tmp_path: Path) -> None:
    model, numbers = trained().model, itertools.count()
    assert bytes_per_image(lambda: save_model(model, tmp_path / str(next(numbers)))).peak < 150
    text = (tmp_path / "1" / "model.json").read_text()
    card = json.loads(text)
    assert text == json.dumps(card, indent=1) + "\n"  # as it always was, to the byte
    assert card["data"][0] == {
        "sha256": model.data[0].sha256,
        "label": "bad",
        "group": model.data[0].group,
        "role": "out_of_fold",
    }


def test_scores_are_kept_in_columns(trained: Callable[[], Trained], tmp_path: Path) -> None:
    found, path = trained(), tmp_path / "predictions.npz"
    assert bytes_per_image(lambda: training_jobs._keep_predictions(path, found)).peak < 350
