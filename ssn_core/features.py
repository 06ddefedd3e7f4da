"""Cached taps: the frozen backbone sees each image once, not once per epoch.

One file per image under a folder named after what the taps depend on (backbone, its weights' hash, padding, image
size), float16, written beside its final name and renamed. Reading is a memory map, so a data set larger than memory
costs page cache, not memory.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssn_core.backbone import Backbone
from ssn_core.errors import ImageError
from ssn_core.imaging import load_rgb

Progress = Callable[[int, int], None]  # done, total
_NPY_HEADER = 128  # bytes before the values in a .npy file of one axis
_LARGEST = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class TapCache:
    """Where the taps of images are kept.

    Args:
        root: folder of all caches.
        backbone: whose taps.
        image_size: (H, W) the images are resized to.
    """

    root: Path
    backbone: Backbone
    image_size: tuple[int, int]

    @property
    def folder(self) -> Path:
        """The folder for this backbone, weights, padding and size."""
        height, width = self.image_size
        b = self.backbone
        return self.root / f"{b.name}-{b.weights_hash[:16]}-{b.padding}-{height}x{width}{'-layer1' * b.local}"

    def path(self, key: str) -> Path:
        """The file for the image with this key (the SHA-256 of its bytes)."""
        return self.folder / key[:2] / f"{key}.npy"

    def fill(
        self, images: Sequence[tuple[str, Path]], *, device: torch.device, progress: Progress | None = None
    ) -> None:
        """Compute what is missing.

        Args:
            images: (key, file) pairs.
            progress: called with (done, total) after each batch; may raise to stop, what is done stays.
        """
        missing = [(key, path) for key, path in dict(images).items() if not self._is_whole(key)]
        done = len(images) - len(missing)
        if progress:
            progress(done, len(images))
        self.backbone.to(device)
        for batch in load_batches(missing, self.image_size):
            taps = extract(self.backbone, batch.pixels, device)
            for index, key in enumerate(batch.keys):
                flat = torch.cat([tap[index].flatten() for tap in taps]).clamp(-_LARGEST, _LARGEST)
                _write_atomically(self.path(key), flat.to("cpu", torch.float16).numpy())
            done += len(batch.keys)
            if progress:
                progress(done, len(images))

    def _is_whole(self, key: str) -> bool:
        """Whether the taps are there; a power cut can leave a file that is too short."""
        try:
            found = self.path(key).stat().st_size
        except FileNotFoundError:
            return False
        values = sum(math.prod(shape) for shape in self.backbone.tap_shapes(self.image_size))
        return found == _NPY_HEADER + np.dtype(np.float16).itemsize * values

    def read(self, keys: Sequence[str], *, local: bool = True) -> tuple[Tensor, ...]:
        """Taps of some images, (B, C_i, h_i, w_i) float32 on the CPU, in the order of the backbone.

        Args:
            local: False leaves layer1 out, which then is not even read from the disk.
        """
        shapes = self.backbone.tap_shapes(self.image_size)
        shapes = shapes if local else shapes[:2]
        sizes = [math.prod(shape) for shape in shapes]
        wanted = [np.load(self.path(key), mmap_mode="r", allow_pickle=False)[: sum(sizes)] for key in keys]
        flat = torch.from_numpy(np.stack(wanted))
        parts = torch.split(flat, sizes, dim=1)
        return tuple(part.float().view(-1, *shape) for part, shape in zip(parts, shapes, strict=True))


@dataclass(frozen=True)
class PixelBatch:
    """Some decoded images."""

    keys: tuple[str, ...]
    pixels: Tensor  # (B, 3, H, W) uint8


def load_batches(
    images: Sequence[tuple[str, Path]],
    image_size: tuple[int, int],
    *,
    on_error: Callable[[str, ImageError], None] | None = None,
) -> Iterator[PixelBatch]:
    """Decode and resize images in threads, two batches ahead of the network.

    Args:
        images: (key, file) pairs.
        image_size: (H, W) pixels.
        on_error: called with (key, error) for a file that cannot be read, which is then left out.

    Raises:
        ImageError: a file that cannot be read, when there is no `on_error`.
    """
    # About 4 megapixels a batch keeps the first layers' activations near 300 MB in float32.
    size = max(1, min(32, (4 << 20) // math.prod(image_size)))
    chunks = (images[start : start + size] for start in range(0, len(images), size))
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:

        def submit(chunk: Sequence[tuple[str, Path]]) -> list[tuple[str, Future[NDArray[np.uint8]]]]:
            return [(key, pool.submit(load_rgb, path, image_size=image_size)) for key, path in chunk]

        ahead = deque(submit(chunk) for chunk in islice(chunks, 2))
        while ahead:
            current = ahead.popleft()
            ahead.extend(submit(chunk) for chunk in islice(chunks, 1))
            decoded: list[tuple[str, NDArray[np.uint8]]] = []
            for key, future in current:
                try:
                    decoded.append((key, future.result()))
                except ImageError as error:
                    if on_error is None:
                        raise
                    on_error(key, error)
            if decoded:
                pixels = torch.from_numpy(np.stack([array for _, array in decoded])).permute(0, 3, 1, 2)
                yield PixelBatch(tuple(key for key, _ in decoded), pixels)


@torch.inference_mode()
def extract(backbone: Backbone, pixels: Tensor, device: torch.device) -> tuple[Tensor, ...]:
    """Taps of a batch of pixels (B, 3, H, W) uint8, on `device`."""
    taps: tuple[Tensor, ...] = backbone(pixels.to(device, non_blocking=True, memory_format=torch.channels_last))
    return taps


def _write_atomically(path: Path, array: NDArray[np.float16]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with partial.open("wb") as file:
            np.save(file, array, allow_pickle=False)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
