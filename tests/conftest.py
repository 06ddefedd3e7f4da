"""What tests of several rooms share."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.surfaces import surface

# Threads of torch that wait for each other must not spin: test machines have few cores and other work to do.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


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
