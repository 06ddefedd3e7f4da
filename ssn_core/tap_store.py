"""The taps of one training: read from the cache batch by batch, or held on the device for as long as it lasts.

Layer2 and layer3 only: layer1 is read once, at the end, where a recipe has a local head. A GPU waits for the disk
otherwise. The values are the same either way: the cache keeps float16 too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ssn_core.features import TapCache

_SHARE = 0.5  # of the device's free memory; the rest is for the batches
_CHUNK = 64  # images read at a time


class TapStore:
    """Taps by place in a list of images.

    Args:
        taps: the cache; all images must be in it.
        keys: of the images.
        device: where batches are wanted.
        room: bytes that may be held on the device; None: half of a GPU's free memory, nothing on a CPU, whose memory
            the operating system's page cache uses better.
        beside: bytes of a GPU's free memory that the training itself needs.
    """

    def __init__(
        self, taps: TapCache, keys: Sequence[str], device: torch.device, *, room: int | None = None, beside: int = 0
    ) -> None:
        self._taps, self._keys, self._device = taps, list(keys), device
        self._held: list[Tensor] | None = None
        room = _room(device, beside) if room is None else room
        shapes = [tap.shape[1:] for tap in self._read([0])] if room else []
        if room and sum(math.prod(shape) for shape in shapes) * 2 * len(self._keys) <= room:
            # Filled in place: chunks that are joined afterwards would take the room twice.
            self._held = [torch.empty(len(self._keys), *shape, dtype=torch.float16, device=device) for shape in shapes]
            for start in range(0, len(self._keys), _CHUNK):
                end = min(start + _CHUNK, len(self._keys))
                for held, tap in zip(self._held, self._read(range(start, end)), strict=True):
                    held[start:end] = tap.half()

    @property
    def holds_all(self) -> bool:
        """Whether the taps are on the device."""
        return self._held is not None

    def _read(self, places: Sequence[int]) -> list[Tensor]:
        return list(self._taps.read([self._keys[place] for place in places], local=False))

    def read(self, places: Sequence[int]) -> list[Tensor]:
        """Taps of some images, (B, C_i, h_i, w_i) float32; the caller may change them."""
        if self._held is None:
            return self._read(places)
        chosen = torch.tensor(places, device=self._device)
        return [tap.index_select(0, chosen).float() for tap in self._held]


def _room(device: torch.device, beside: int) -> int:
    if device.type != "cuda":
        return 0
    # What torch keeps of a network before this one is as free as what the driver calls so.
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    free = torch.cuda.mem_get_info(device)[0] + kept
    return max(0, min(int(_SHARE * free), free - beside))
