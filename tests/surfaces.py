"""Generated test surfaces: flat grey with grain; bad ones have a dark scratch, and a mask that marks it."""

from __future__ import annotations

import numpy as np


def surface(rng: np.random.Generator, *, scratched: bool, size: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """An image uint8 (size, size, 3) and its mask bool (size, size)."""
    pixels = 130 + 8 * rng.standard_normal((size, size))
    mask = np.zeros((size, size), dtype=bool)
    if scratched:
        row, column = rng.integers(8, size - 24, 2)
        mask[row : row + 5, column : column + 20] = True
        pixels[mask] -= 90
    return np.repeat(np.clip(pixels, 0, 255).astype(np.uint8)[..., None], 3, axis=2), mask
