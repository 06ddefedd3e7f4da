"""Scores and maps: from cached taps (labelled images) or straight from files (everything else)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ssn_core.engine import Engine
from ssn_core.errors import ImageError
from ssn_core.features import TapCache, load_batches
from ssn_core.folded import Place, fold, why_not
from ssn_core.graphs import moved_ahead
from ssn_core.heads import Output
from ssn_core.model import CamNet

_CACHED_BATCH = 16  # images; a batch of maps and features stays below 300 MB at 704x256


@dataclass(frozen=True)
class Scored:
    """What the model says about one image."""

    key: str
    score: float  # logit; positive = bad
    cam: NDArray[np.float32]  # (h, w), contribution of each cell to the logit


def best_device() -> torch.device:
    """The GPU where there is one, else the CPU; float32 means float32 on both."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    # Convolutions would round their inputs to TF32's 10 bits by default; in cached features the error would stay.
    torch.backends.cudnn.allow_tf32 = False
    return torch.device("cuda")


def device_title(device: torch.device) -> str:
    """The device in words, for people and reports."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    n = torch.get_num_threads()
    return f"CPU, {n} thread{'' if n == 1 else 's'}"


@torch.inference_mode()
def score_cached(net: CamNet, taps: TapCache, keys: Sequence[str], *, device: torch.device) -> Iterator[Scored]:
    """Scores and maps of images whose taps are cached, in the order of `keys`; float32 throughout."""
    net.eval()
    forward: Callable[[Sequence[torch.Tensor]], Output] | None = None
    _, *smaller = replace(taps, scales=1 + len(net.smaller)).levels
    for start in range(0, len(keys), _CACHED_BATCH):
        chunk = keys[start : start + _CACHED_BATCH]
        read = [tap.to(device) for tap in taps.read(chunk, local=net.local is not None)]
        read += [tap.to(device) for level in smaller for tap in level.read(chunk)]
        if forward is None:
            shapes = tuple((tap.shape[1], tap.shape[2], tap.shape[3]) for tap in read)
            plain = why_not(net) is not None
            forward = (lambda found: net(*found)) if plain else fold(net, Place(shapes, torch.float32, device))
        yield from _scored(chunk, forward(read))


def score_files(
    engine: Engine,
    images: Iterable[tuple[str, Path]],
    *,
    on_error: Callable[[str, ImageError], None] | None = None,
) -> Iterator[Scored]:
    """Scores and maps of image files, decoded in threads ahead of the network; memory does not grow with their number.

    Args:
        engine: of the model (:func:`ssn_core.engine_choice.engine_for`).
        images: (key, file) pairs.
        on_error: called with (key, error) for a file that cannot be read, which is then left out; without it the error
            is raised.
    """
    for batch in moved_ahead(load_batches(images, engine.image_size, on_error=on_error), engine.device):
        yield from _scored(batch.keys, engine(batch.pixels))


def _scored(keys: Sequence[str], output: Output) -> list[Scored]:
    scores = output.score.float().cpu().tolist()
    cams = output.cam.float().cpu().numpy()
    return [Scored(key, score, cam) for key, score, cam in zip(keys, scores, cams, strict=True)]
