"""The map as evidence: the cells that make up the score, the share of each, and the score without some of them.

By construction of the head (model.py)

    score = mean of the k highest cells + bias,    k = max(1, round(q * number of cells))

so one of those k cells adds value / k to the logit, every other cell adds nothing, and the shares plus the bias are the
score: no approximation, and no attribution method. What a cell *saw* is larger than the place it covers, for the
network looks at each cell's surroundings; which cells count is exact all the same.

Nothing here imports torch: pages show these numbers, and model.py takes k from here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import safetensors
from numpy.typing import NDArray

_HALF = 2.0**-11  # largest relative rounding error of a float16
_SINGLE = 1e-5  # generous for a mean of float32 values, whatever the order in which they were added


@dataclass(frozen=True)
class Evidence:
    """One image's map, taken apart."""

    cells: NDArray[np.float32]  # (h, w), CAM units
    counted: NDArray[np.bool_]  # (h, w), True for the k highest; of equal cells the first in reading order
    shares: NDArray[np.float64]  # (h, w), what each cell adds to the logit: value / k or 0
    bias: float  # logit

    @property
    def k(self) -> int:
        """How many cells count."""
        return int(self.counted.sum())

    @property
    def pooled(self) -> float:
        """The mean of the k highest cells: the sum of all shares."""
        return float(self.shares.sum())

    @property
    def score(self) -> float:
        """The logit: all shares plus the bias."""
        return self.pooled + self.bias

    @property
    def peak(self) -> float:
        """The highest cell."""
        return float(self.cells.max())


def pooled_count(cells: int, fraction: float) -> int:
    """k: of so many cells, how many the score is the mean of; at least one.

    Args:
        fraction: q, 0 to 1; 1 is global average pooling.
    """
    return max(1, round(fraction * cells))


def explain(cells: NDArray[np.floating], *, fraction: float, bias: float) -> Evidence:
    """Take a map apart into the shares of its cells.

    Args:
        cells: (h, w), finite, CAM units: on the network's own grid, not resized and not blurred.
        fraction: q of the recipe.
        bias: of the network that made the map, logit.

    Raises:
        ValueError: the map is not two-dimensional or empty.
    """
    values = np.asarray(cells, dtype=np.float32)
    if values.ndim != 2 or not values.size:
        raise ValueError(f"An anomaly map has the shape (h, w), not {values.shape}")
    k = pooled_count(values.size, fraction)
    counted = np.zeros(values.shape, dtype=np.bool_)
    counted.flat[np.argsort(-values.ravel(), kind="stable")[:k]] = True
    shares = np.where(counted, values.astype(np.float64) / k, 0.0)
    return Evidence(cells=values, counted=counted, shares=shares, bias=float(bias))


def pooled_mean(cells: NDArray[np.floating], *, fraction: float) -> float:
    """The mean of the k highest cells of a map (h, w): the score without its bias."""
    return explain(cells, fraction=fraction, bias=0.0).pooled


def score_without(evidence: Evidence, covered: NDArray[np.bool_]) -> float | None:
    """The score of the map alone with some of its cells covered.

    Each covered cell gets the median of all cells that are not covered; then the k highest are averaged as ever, with
    the same k. So the covered place counts as looking like the rest of this part. This is not what the network would
    say of a photo that is painted over there: cells beside the covered ones saw the place too.

    Args:
        covered: (h, w), True where a cell is covered.

    Returns:
        logit, or None when every cell is covered: there is nothing left to take the median of.
    """
    if covered.shape != evidence.cells.shape:
        raise ValueError(f"The cover has the shape of the map {evidence.cells.shape}, not {covered.shape}")
    if covered.all():
        return None
    values = evidence.cells.astype(np.float64)
    values[covered] = np.median(values[~covered])
    return float(np.sort(values, axis=None)[-evidence.k :].mean()) + evidence.bias


def tolerance(evidence: Evidence, *, rounded: bool) -> float:
    """By how much shares plus bias may miss the score the network computed, logit.

    Args:
        rounded: the cells were kept as float16, which changes each by up to 0.05 %.
    """
    size = float(np.abs(evidence.shares).sum())  # the mean magnitude of the cells that count
    return (_HALF if rounded else 0.0) * size + _SINGLE * (1.0 + size + abs(evidence.bias))


def network_bias(folder: Path) -> float | None:
    """The bias of a saved model's own network, logit; None if its weights cannot be read."""
    path = folder / "weights.safetensors"
    try:
        return _bias(path, path.stat().st_mtime_ns)
    except (OSError, safetensors.SafetensorError, TypeError):  # TypeError: a bias that is not one number
        return None


@lru_cache(maxsize=64)
def _bias(path: Path, _changed: int) -> float:
    with safetensors.safe_open(path, framework="numpy") as tensors:
        return float(tensors.get_tensor("head.bias"))
