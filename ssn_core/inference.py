"""Scores and maps: from cached taps (labelled images) or straight from files (everything else)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ssn_core.backbone import Backbone
from ssn_core.errors import ImageError
from ssn_core.features import TapCache, extract, load_batches
from ssn_core.model import CamNet

_CACHED_BATCH = 16  # images; a batch of maps and features stays below 300 MB at 704x256


@dataclass(frozen=True)
class Scored:
    """What the model says about one image."""

    key: str
    score: float  # logit; positive = bad
    cam: NDArray[np.float32]  # (h, w), contribution of each cell to the logit


def best_device() -> torch.device:
    """The GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_title(device: torch.device) -> str:
    """The device in words, for people and reports."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads"


@torch.inference_mode()
def score_cached(net: CamNet, taps: TapCache, keys: Sequence[str], *, device: torch.device) -> Iterator[Scored]:
    """Scores and maps of images whose taps are cached, in the order of `keys`."""
    net.eval()
    for start in range(0, len(keys), _CACHED_BATCH):
        chunk = keys[start : start + _CACHED_BATCH]
        tap2, tap3 = taps.read(chunk)
        yield from _scored(net, chunk, tap2.to(device), tap3.to(device))


def score_files(
    backbone: Backbone,
    net: CamNet,
    images: Sequence[tuple[str, Path]],
    *,
    image_size: tuple[int, int],
    device: torch.device,
    on_error: Callable[[str, ImageError], None] | None = None,
) -> Iterator[Scored]:
    """Scores and maps of image files, decoded in threads ahead of the network; memory does not grow with their number.

    Args:
        images: (key, file) pairs.
        image_size: (H, W) the network was trained with.
        on_error: called with (key, error) for a file that cannot be read, which is then left out; without it the error
            is raised.
    """
    net.eval()
    backbone.to(device)
    for batch in load_batches(images, image_size, on_error=on_error):
        with torch.inference_mode():
            tap2, tap3 = extract(backbone, batch.pixels, device)
            scored = _scored(net, batch.keys, tap2, tap3)
        yield from scored  # outside: the mode would hold in the caller between two results


def _scored(net: CamNet, keys: Sequence[str], tap2: torch.Tensor, tap3: torch.Tensor) -> list[Scored]:
    output = net(tap2, tap3)
    scores = output.score.float().cpu().tolist()
    cams = output.cam.float().cpu().numpy()
    return [Scored(key, score, cam) for key, score, cam in zip(keys, scores, cams, strict=True)]
