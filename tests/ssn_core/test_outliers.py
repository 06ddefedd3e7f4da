"""The outlier score: a naive reference, and what it must find."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ssn_core import descriptors, outliers
from ssn_core.outliers import Usual, joint_score, usual

Floats = NDArray[np.float32]


def taps(n: int, *, channels: int = 5, size: tuple[int, int] = (8, 8), seed: int = 0) -> list[Floats]:
    """Cells whose channels differ a hundredfold in scale, and are correlated."""
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((channels, channels)) * np.logspace(-1, 1, channels)[:, None]
    cells = np.einsum("ck,nkhw->nchw", mixing, rng.standard_normal((n, channels, *size)))
    return list((cells + rng.standard_normal(channels)[:, None, None]).astype(np.float32))


def test_the_score_is_the_mean_of_the_largest_squared_mahalanobis_distances(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outliers, "_LEAST_SHARE", 0.0)
    images = taps(12)  # of 64 cells each, all of which are taken
    every = np.concatenate([image.reshape(5, -1).T for image in images]).astype(np.float64)
    mean, inverse = every.mean(0), np.linalg.inv(np.cov(every.T, bias=True))
    distances = []
    for cell in images[0].reshape(5, -1).T.astype(np.float64):
        distances.append(float((cell - mean) @ inverse @ (cell - mean)))
    wanted = sum(sorted(distances)[-1:])  # 2 % of 64 cells: the most distant one
    assert usual(images).score(images[0]) == pytest.approx(wanted, rel=1e-3)


def test_an_image_with_one_strange_place_comes_before_all_others() -> None:
    images = taps(20, size=(16, 16))
    known = usual(images)
    strange = images[3].copy()
    strange[:, 4:6, 7:9] = -3 * strange[:, 4:6, 7:9] + 5
    assert known.score(strange) > max(known.score(image) for image in images)


def test_what_is_strange_hangs_on_correlation_and_not_on_size_alone() -> None:
    rng = np.random.default_rng(1)
    along = rng.standard_normal((1, 40, 8, 8))
    images = list(np.concatenate((along, along + 0.05 * rng.standard_normal((1, 40, 8, 8)))).transpose(1, 0, 2, 3))
    known = usual([image.astype(np.float32) for image in images])
    usual_one, odd_one = np.zeros((2, 1, 1), np.float32), np.zeros((2, 1, 1), np.float32)
    usual_one[:, 0, 0], odd_one[:, 0, 0] = (2.0, 2.0), (0.5, -0.5)
    assert known.score(odd_one) > known.score(usual_one)


def test_one_image_without_any_contrast_gives_numbers() -> None:
    flat = np.ones((3, 4, 4), np.float32)
    known = usual([flat])
    assert known.score(flat) == 0
    assert np.isfinite(known.score(np.zeros((3, 4, 4), np.float32)))


def test_no_more_axes_than_were_chosen_and_the_same_for_the_same_seed() -> None:
    images = taps(6, channels=100)
    first, again = usual(images, seed=2), usual(images, seed=2)
    assert first.whitening.shape == (100, outliers.AXES)
    assert np.array_equal(first.whitening, again.whitening)
    assert isinstance(first, Usual)


def test_several_backbones_have_one_say_each_in_the_joint_score_whatever_their_scale() -> None:
    views = [taps(10), taps(10, channels=7, seed=1)]
    known = [usual(view) for view in views]
    score = joint_score(known, [view[0] for view in views])
    assert score == pytest.approx((known[0].score(views[0][0]) * known[1].score(views[1][0])) ** 0.5)
    assert joint_score(known[:1], [views[0][0]]) == pytest.approx(known[0].score(views[0][0]))
    with pytest.raises(ValueError, match="shorter"):
        joint_score(known, [views[0][0]])


@pytest.mark.parametrize(("found", "kinds"), [(Path("resnet18.pth"), ["imagenet", "bundled"]), (None, ["bundled"])])
def test_imagenets_backbone_describes_where_it_is_and_the_bundled_one_always_looks(
    found: Path | None, kinds: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(descriptors.weights, "find_imagenet", lambda *_: found)
    monkeypatch.setattr(descriptors, "load_backbone", lambda _name, *, weights, weights_dir=None: weights)
    assert list(descriptors.describing_backbones(None)) == kinds
