"""Average precision on many bootstrap draws at once.

A draw is kept as how often it holds each image, so that the scores are sorted once, and not for every draw.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

# This many (draw, image) pairs are held at once: about 100 MB with what is computed from them, however many images.
_CHUNK = 2_000_000


def resampled_ap(bad: NDArray[np.bool_], scores: Sequence[Floats], *, resamples: int, seed: int) -> Floats:
    """AP (resamples, M) of M score vectors (N,), on draws with replacement within the good and within the bad images.

    Every draw holds as many good and bad images as there are, and the same images for each score vector. `bad` (N,)
    must hold both classes, and the scores be finite. The same seed gives the same draws.
    """
    orders = [_Order.of(bad, values) for values in scores]
    n_bad = int(bad.sum())
    found = np.empty((resamples, len(orders)))
    done = 0
    for of_bad, of_good in _draws(n_bad, int(bad.size) - n_bad, resamples=resamples, seed=seed):
        for number, order in enumerate(orders):
            found[done : done + len(of_bad), number] = order.ap(of_bad, of_good)
        done += len(of_bad)
    return found


def _draws(n_bad: int, n_good: int, *, resamples: int, seed: int) -> Iterator[tuple[Counts, Counts]]:
    """How often each bad and each good image is drawn, in chunks of resamples: (R, n_bad) and (R, n_good)."""
    rng = np.random.default_rng(seed)
    rows = max(1, _CHUNK // (n_bad + n_good))
    for start in range(0, resamples, rows):
        count = min(rows, resamples - start)
        yield _times_drawn(rng, count, n_bad), _times_drawn(rng, count, n_good)


def _times_drawn(rng: np.random.Generator, rows: int, n: int) -> Counts:
    drawn = rng.integers(0, n, size=(rows, n)) + n * np.arange(rows)[:, None]
    return np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n)


@dataclass(frozen=True)
class _Order:
    """Where the images of one score vector stand, so that AP follows from how often each was drawn."""

    by_bad: NDArray[np.intp]  # (n_bad,) the bad images, falling score
    by_good: NDArray[np.intp]  # (n_good,) the good images, falling score
    bad_ge: NDArray[np.intp]  # (n_bad,) for each bad image, how many bad ones score at least as high
    good_ge: NDArray[np.intp]  # (n_bad,) and how many good ones

    @classmethod
    def of(cls, bad: NDArray[np.bool_], values: Floats) -> _Order:
        of_bad, of_good = values[bad], values[~bad]
        by_bad, by_good = np.argsort(-of_bad, kind="stable"), np.argsort(-of_good, kind="stable")
        falling = -of_bad[by_bad]
        return cls(
            by_bad=by_bad,
            by_good=by_good,
            bad_ge=np.searchsorted(falling, falling, "right"),
            good_ge=np.searchsorted(-of_good[by_good], falling, "right"),
        )

    def ap(self, of_bad: Counts, of_good: Counts) -> Floats:
        """AP (R,) with the bad images drawn `of_bad` (R, n_bad) times and the good ones `of_good` (R, n_good) times."""
        weights = of_bad[:, self.by_bad]
        found = np.cumsum(weights, axis=1)[:, self.bad_ge - 1]
        false = np.concatenate(
            (np.zeros((len(of_good), 1), np.int64), np.cumsum(of_good[:, self.by_good], axis=1)), axis=1
        )[:, self.good_ge]
        # An image that was not drawn adds nothing, and its precision may be 0 / 0.
        precision = found / np.maximum(found + false, 1)
        mean: Floats = np.einsum("rn,rn->r", weights, precision) / of_bad.shape[1]
        return mean
