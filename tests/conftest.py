"""Small generated surfaces: flat grey with grain; bad ones have a dark scratch, and a mask that marks it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

# Threads of torch that wait for each other must not spin: test machines have few cores and other work to do.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def surface(rng: np.random.Generator, *, scratched: bool, size: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """An image uint8 (size, size, 3) and its mask bool (size, size)."""
    pixels = 130 + 8 * rng.standard_normal((size, size))
    mask = np.zeros((size, size), dtype=bool)
    if scratched:
        row, column = rng.integers(8, size - 24, 2)
        mask[row : row + 5, column : column + 20] = True
        pixels[mask] -= 90
    return np.repeat(np.clip(pixels, 0, 255).astype(np.uint8)[..., None], 3, axis=2), mask


@pytest.fixture(scope="session")
def surfaces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with labels.csv: 18 good and 9 bad images of 9 parts, with masks and folds."""
    root = tmp_path_factory.mktemp("surfaces")
    rng = np.random.default_rng(7)
    lines = ["image,label,mask,group,fold"]
    for number in range(27):
        scratched = number % 3 == 0
        pixels, mask = surface(rng, scratched=scratched)
        Image.fromarray(pixels).save(root / f"{number:02}.png")
        if scratched:
            Image.fromarray(mask).save(root / f"{number:02}_mask.png")
        mask_name = f"{number:02}_mask.png" if scratched else ""
        label = "bad" if scratched else "good"
        lines.append(f"{number:02}.png,{label},{mask_name},part{number // 3},{number // 3 % 3}")
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    return root
