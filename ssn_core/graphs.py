"""On a GPU: single images without the cost of starting each operation, and transfers while the GPU computes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from ssn_core.features import PixelBatch
from ssn_core.heads import Output

_WARM_UP = 3  # runs before the recording, so that libraries have chosen their algorithms and taken their memory


class Replayed:
    """A computation on the GPU that is recorded once for one image and then replayed; batches run as they are.

    With one image the GPU waits for the CPU to start some hundred small operations; a CUDA graph starts them all at
    once. A computation that cannot be recorded runs as it is.

    Args:
        forward: pixels (B, 3, H, W) uint8 on the GPU -> score and map; always the same operations for one shape.
    """

    def __init__(self, forward: Callable[[Tensor], Output]) -> None:
        self._forward = forward
        self._recorded: tuple[torch.cuda.CUDAGraph, Tensor, Output] | None = None
        self._refused = False

    def __call__(self, pixels: Tensor) -> Output:
        if pixels.shape[0] != 1 or self._refused:
            return self._forward(pixels)
        if self._recorded is None or self._recorded[1].shape != pixels.shape:
            try:
                self._recorded = self._record(pixels)
            except RuntimeError:  # an operation that must wait for the GPU cannot be part of a graph
                self._refused = True
                return self._forward(pixels)
        graph, entry, result = self._recorded
        entry.copy_(pixels, non_blocking=True)
        graph.replay()
        return Output(*(part.clone() for part in result))  # the next replay writes over the result

    def _record(self, pixels: Tensor) -> tuple[torch.cuda.CUDAGraph, Tensor, Output]:
        entry = pixels.clone()
        aside = torch.cuda.Stream(pixels.device)  # type: ignore[no-untyped-call]  # torch has no types here
        aside.wait_stream(torch.cuda.current_stream(pixels.device))
        try:
            with torch.cuda.stream(aside):
                for _ in range(_WARM_UP):
                    self._forward(entry)
        finally:  # also when a run fails: its memory goes back, and what began on it must be done before it is reused
            torch.cuda.current_stream(pixels.device).wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        # Other threads may go on with the GPU meanwhile: the next images are on their way to it. The outer context
        # leads back to the stream in use, for a recording that fails as it ends stays on its own.
        with (
            torch.cuda.stream(torch.cuda.current_stream(pixels.device)),
            torch.cuda.graph(graph, capture_error_mode="thread_local"),
        ):
            result = self._forward(entry)
        return graph, entry, result


def moved_ahead(batches: Iterable[PixelBatch], device: torch.device) -> Iterator[PixelBatch]:
    """Each batch on the device, the next one on its way there while the caller computes with this one."""
    if device.type != "cuda":
        yield from batches
        return
    aside = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def start(batch: PixelBatch) -> tuple[PixelBatch, torch.cuda.Event]:
        pinned = batch.pixels.contiguous(memory_format=torch.channels_last).pin_memory()
        with torch.cuda.stream(aside):
            moving = pinned.to(device, non_blocking=True)
            return PixelBatch(batch.keys, moving), aside.record_event()

    def arrived(batch: PixelBatch, done: torch.cuda.Event) -> PixelBatch:
        here = torch.cuda.current_stream(device)
        here.wait_event(done)
        batch.pixels.record_stream(here)  # its memory was taken on the other stream
        return batch

    coming: tuple[PixelBatch, torch.cuda.Event] | None = None
    for batch in batches:
        following = start(batch)
        if coming is not None:
            yield arrived(*coming)
        coming = following
    if coming is not None:
        yield arrived(*coming)
