"""What inference needs besides time: memory, parameters, multiply-adds.

Memory is measured in a process of its own, because a process's peak never falls again: it is the most that loading the
model and scoring a few images took of the machine's memory, Python and torch included, and of the GPU's.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

from ssn_core.errors import SsnError

MEBI = 1 << 20
_CALLS = 3  # images scored before the peak is read; from the second on nothing new is allocated
_PATIENCE_SECONDS = 600.0
_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Memory:
    """Peaks of one process, MiB."""

    process: float
    before: float  # of it, what Python and torch took before the model was loaded
    gpu: float | None  # allocated by torch; None without a GPU


def peak_memory(
    load: Callable[..., Callable[[], object]], *arguments: Any, tell: Callable[[], None] = lambda: None
) -> Memory:
    """Peak memory of a process that loads something and calls it a few times.

    Args:
        load: a function of a module (it travels by name) that gives what is called.
        arguments: for it; they are pickled.
        tell: called while waiting; may raise to stop, and the process is ended.

    Raises:
        SsnError: the process died, or did not answer within ten minutes.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(
        target=_child, args=(theirs, torch.get_num_threads(), load, arguments), name="peak-memory", daemon=True
    )
    process.start()
    theirs.close()
    with closing(ours):
        try:
            waited = 0.0
            while not ours.poll(_POLL_SECONDS):
                tell()
                waited += _POLL_SECONDS
                if waited > _PATIENCE_SECONDS:
                    raise SsnError("Memory could not be measured: the process did not answer within ten minutes")
            try:
                answer = ours.recv()
            except EOFError as error:
                raise SsnError(
                    "Memory could not be measured: the process ended before it answered",
                    action="See whether the machine ran out of memory, and measure again",
                ) from error
        finally:
            process.kill()
            process.join()
    if isinstance(answer, Exception):
        raise answer
    return Memory(*answer)


def _child(answer: Connection, threads: int, load: Callable[..., Callable[[], object]], arguments: Any) -> None:
    torch.set_num_threads(threads)
    before = psutil.Process().memory_info().rss / MEBI
    try:
        with torch.inference_mode():
            call = load(*arguments)
            for _ in range(_CALLS):
                call()
        gpu = torch.cuda.max_memory_allocated() / MEBI if torch.cuda.is_available() else None
        answer.send((_peak_bytes() / MEBI, before, gpu))
    except torch.OutOfMemoryError as error:
        what = f"Memory could not be measured: the device has too little left ({error})"
        answer.send(SsnError(what, action="End what else uses the device, and measure again"))
    except SsnError as error:
        answer.send(error)


def _peak_bytes() -> float:
    """The largest resident set of this process so far."""
    if sys.platform == "win32":
        return float(psutil.Process().memory_info().peak_wset)
    try:  # not getrusage on Linux: a new process starts with its parent's peak there
        with Path("/proc/self/status").open(encoding="ascii", errors="replace") as file:
            peak = next((line for line in file if line.startswith("VmHWM:")), None)
    except OSError:  # not Linux
        peak = None
    if peak is not None:
        return float(peak.split()[1]) * 1024  # kB
    import resource  # does not exist on Windows

    peak_of_mac: int = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak_of_mac)


def count_parameters(*modules: nn.Module) -> int:
    """Numbers that were trained, here or elsewhere; statistics of batch norms are not among them."""
    return sum(values.numel() for module in modules for values in module.parameters())


def count_multiply_adds(forward: Callable[[Tensor], object], pixels: Tensor) -> int:
    """Multiply-adds of one call: those of convolutions and matrix products, as torch's own counter finds them.

    Args:
        forward: on the CPU, in float32: what runs packed there is counted as the convolution that it is.
    """
    with torch.inference_mode(), FlopCounterMode(display=False, custom_mapping=_packed_formulas()) as counter:
        forward(pixels)
    return int(counter.get_total_flops()) // 2


def _packed_formulas() -> dict[Any, Any]:
    """What torch's counter does not know: the operators of :mod:`ssn_core.packed`."""

    def alone(x: list[int], weight: list[int], *_: Any, out_shape: Any = None, **__: Any) -> int:
        return conv_flop_count(x, weight, out_shape, transposed=False)

    def added(_: Any, x: list[int], weight: list[int], *__: Any, out_shape: Any = None, **___: Any) -> int:
        return conv_flop_count(x, weight, out_shape, transposed=False)

    formulas = {"_convolution_pointwise": alone, "_convolution_pointwise_": added}
    return {getattr(torch.ops.mkldnn, name): f for name, f in formulas.items() if hasattr(torch.ops.mkldnn, name)}
