"""Cached taps: the frozen backbone sees each image once, not once per epoch.

One file per image and size under a folder named after what the taps depend on (backbone, its weights' hash, padding,
image size, the size it was made smaller from), float16, written beside its final name and renamed. Reading is a memory
map, so a data set larger than memory costs page cache, not memory. Files are decoded, passed through the network and
written in different threads. The network is the rewritten one in float32 (:mod:`ssn_core.fused_backbone`); its taps are
the plain one's but for rounding.
"""

from __future__ import annotations

import copy
import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ssn_core.backbone import Backbone
from ssn_core.errors import ImageError
from ssn_core.fused_backbone import FusedBackbone
from ssn_core.imaging import load_rgb
from ssn_core.side_by_side import each
from ssn_core.sizes import sizes_of

Progress = Callable[[int, int], None]  # done, total
# Pixels of a pass of one thread: activations of one image of 256 x 256 stay in the processor's cache. Two threads with
# an image each are a third faster than both on one image, or on two.
_PIXELS_PER_THREAD = 1 << 16
_NPY_HEADER = 128  # bytes before the values in a .npy file of one axis
_LARGEST = float(np.finfo(np.float16).max)
_TIME_OF_USE_SECONDS = 60  # a file that was used later than so long ago is not marked again


@dataclass(frozen=True)
class TapCache:
    """Where the taps of images are kept.

    Args:
        root: folder of all caches.
        backbone: whose taps.
        image_size: (H, W) the images are resized to.
        scales: at so many sizes, each in a folder of its own (:func:`ssn_core.sizes.sizes_of`).
        decoded: (H, W) from which pixels are made smaller to `image_size`; None: it is the size itself.
    """

    root: Path
    backbone: Backbone
    image_size: tuple[int, int]
    scales: int = 1
    decoded: tuple[int, int] | None = None

    @property
    def levels(self) -> list[TapCache]:
        """The caches of all sizes, the image's own first, each of one size."""
        first, *smaller = sizes_of(self.image_size, self.scales)
        wide = copy.copy(self.backbone)  # with the same weights: the local head looks at the image's own size alone
        wide.local = False
        of_smaller = [replace(self, backbone=wide, image_size=size, scales=1, decoded=first) for size in smaller]
        return [replace(self, scales=1), *of_smaller]

    @property
    def folder(self) -> Path:
        """The folder for this backbone, weights, padding and size."""
        height, width = self.image_size
        of = "" if self.decoded is None else f"-of-{self.decoded[0]}x{self.decoded[1]}"
        b = self.backbone
        return self.root / f"{b.name}-{b.weights_hash[:16]}-{b.padding}-{height}x{width}{of}{'-layer1' * b.local}"

    def path(self, key: str) -> Path:
        """The file for the image with this key (the SHA-256 of its bytes)."""
        return self.folder / key[:2] / f"{key}.npy"

    def fill(
        self, images: Iterable[tuple[str, str | Path]], *, device: torch.device, progress: Progress | None = None
    ) -> None:
        """Compute what is missing, at all sizes.

        Args:
            images: (key, file) pairs.
            progress: called with (done, total) after each batch, an image counting once a size; may raise to stop, what
                is done stays.
        """
        files, levels = dict(images), self.levels
        for number, level in enumerate(levels):

            def tell(done: int, total: int, before: int = number * len(files)) -> None:
                if progress:
                    progress(before + done, total * len(levels))

            level._fill(files, device=device, progress=tell)

    def _fill(self, files: dict[str, str | Path], *, device: torch.device, progress: Progress) -> None:
        """Compute what is missing at this one size."""
        missing = [key for key in files if not self._is_whole(key)]
        done = len(files) - len(missing)
        progress(done, len(files))
        if not missing:
            return
        compute = tap_extractor(self.backbone, self.image_size, device)
        with ThreadPoolExecutor(max_workers=1) as writer:
            writing: Future[None] | None = None
            decoded = self.decoded or self.image_size
            for batch in load_batches(((key, Path(files[key])) for key in missing), decoded):
                flat = compute(at_size(batch.pixels, self.image_size))
                if writing is not None:
                    writing.result()
                writing = writer.submit(self._write, batch.keys, flat)
                done += len(batch.keys)
                progress(done, len(files))
            if writing is not None:
                writing.result()

    def _write(self, keys: Sequence[str], flat: Tensor) -> None:
        for key, row in zip(keys, flat.cpu().numpy(), strict=True):
            _write_atomically(self.path(key), row)

    def _is_whole(self, key: str) -> bool:
        """Whether the taps are there, which counts as a use; a power cut can leave a file that is too short."""
        path = self.path(key)
        try:
            found = path.stat()
        except FileNotFoundError:
            return False
        values = sum(math.prod(shape) for shape in self.backbone.tap_shapes(self.image_size))
        whole = found.st_size == _NPY_HEADER + np.dtype(np.float16).itemsize * values
        now = time.time()
        if whole and now - found.st_atime > _TIME_OF_USE_SECONDS:
            # Whoever cleans the cache goes by it; many file systems do not keep the time of access themselves.
            os.utime(path, ns=(int(now * 1e9), found.st_mtime_ns))
        return whole

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
    images: Iterable[tuple[str, Path]],
    image_size: tuple[int, int],
    *,
    on_error: Callable[[str, ImageError], None] | None = None,
) -> Iterator[PixelBatch]:
    """Decode and resize images in threads, two batches ahead of the network.

    Args:
        images: (key, file) pairs, asked for two batches ahead, so that they may come from a database page by page.
        image_size: (H, W) pixels.
        on_error: called with (key, error) for a file that cannot be read, which is then left out.

    Raises:
        ImageError: a file that cannot be read, when there is no `on_error`.
    """
    # About 4 megapixels a batch keeps the first layers' activations near 300 MB in float32.
    size = max(1, min(32, (4 << 20) // math.prod(image_size)))
    waiting = iter(images)
    chunks = iter(lambda: list(islice(waiting, size)), [])
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


def at_size(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """Pixels (B, 3, H, W), whole numbers of any type -> the same at a size (h, w); made smaller, in float32.

    Averaged over what a pixel covers, and rounded to whole levels again, which 16 bits hold exactly.
    """
    if pixels.shape[-2:] == size:
        return pixels
    smaller = F.interpolate(pixels.float(), size, mode="bilinear", align_corners=False, antialias=True)
    return smaller.round_().clamp_(0, 255)


def images_per_thread(image_size: tuple[int, int]) -> int:
    """How many images a backbone takes best in one pass of one thread of the CPU."""
    return max(1, _PIXELS_PER_THREAD // math.prod(image_size))


def tap_extractor(backbone: Backbone, image_size: tuple[int, int], device: torch.device) -> Callable[[Tensor], Tensor]:
    """A function pixels (B, 3, H, W) uint8 -> all taps of an image in a row, (B, values) float16, on `device`.

    In float32 up to the last step, whatever else the device can compute with: an error made here stays.
    """
    fused = FusedBackbone(backbone, image_size=image_size, dtype=torch.float32, device=device)

    def some(part: Tensor) -> Tensor:
        flat = torch.cat([tap.contiguous().flatten(1) for tap in fused(part)], dim=1)
        return flat.clamp_(-_LARGEST, _LARGEST).half()

    @torch.inference_mode()
    def extract(pixels: Tensor) -> Tensor:
        moved = pixels.to(device, non_blocking=True, memory_format=torch.channels_last)
        if device.type != "cpu":
            return some(moved)
        return torch.cat(each(some, torch.split(moved, images_per_thread(image_size))))

    return extract


def _write_atomically(path: Path, array: NDArray[np.float16]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with partial.open("wb") as file:
            np.save(file, array, allow_pickle=False)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
