"""A network computed by OpenVINO instead of torch, on a CPU where that is installed.

    pip install openvino onnx onnxscript

None of these is among the requirements: the engine takes OpenVINO where it is there and measured to be faster
(:mod:`ssn_core.engine_choice`). The network travels as ONNX, which takes a second more than OpenVINO's own way from
torch, and gives a network that took a sixth to a third less time where it was measured.
"""

from __future__ import annotations

import importlib.metadata
import logging
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ssn_core.heads import Output

NEEDED = ("openvino", "onnx", "onnxscript")
Forward = Callable[[Tensor], Output]
_KEPT = 4  # exported networks; of ResNet18 17 MB each
_log = logging.getLogger(__name__)


class Network(nn.Module):
    """Scores and maps as a module with plain tuples, as exporters and compilers want it."""

    def __init__(self, forward: Forward) -> None:
        super().__init__()
        self._forward = forward

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) uint8 -> score (B,), map (B, h, w)."""
        score, cam = self._forward(pixels)
        return score, cam


def installed() -> str | None:
    """The versions of all that it takes, or None where something is missing."""
    try:
        return " ".join(f"{name} {importlib.metadata.version(name)}" for name in NEEDED)
    except importlib.metadata.PackageNotFoundError:
        return None


def compiled(forward: Forward, *, image_size: tuple[int, int], bfloat16: bool, kept: Path | None = None) -> Forward:
    """The same computation by OpenVINO, image by image: it gains nothing from several at a time.

    Args:
        forward: pixels (B, 3, H, W) uint8 -> score and map, of ordinary operations, made outside of inference mode.
        image_size: (H, W), pixels, that it is made for.
        bfloat16: compute in it; else in float32.
        kept: an ONNX file of this very network and size, written if it is not there: reading it takes a tenth of the
            time. Beside it only the few used last are left. None: nothing is kept.

    Returns:
        a function of pixels on the CPU.

    Raises:
        RuntimeError: OpenVINO cannot compute this network.
    """
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if bfloat16 else "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    # Its tools would report their use to its makers. Python takes None for "cannot be imported".
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import openvino

        def read(path: Path) -> Any:
            return openvino.Core().compile_model(path, "CPU", settings)

        model = None if kept is None else _from_kept(read, kept)
        if model is None:
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
                path = Path(folder) / "network.onnx"
                _export(forward, image_size, path)
                model = read(path)
                if kept is not None:
                    _keep(path, kept)
    except Exception as error:  # of many kinds: what it stumbles over is a reason not to take it
        raise RuntimeError(f"OpenVINO: {type(error).__name__}: {error}") from error

    def compute(pixels: Tensor) -> Output:
        found = [model([image[None].contiguous().numpy()]).values() for image in pixels]
        return Output(*(torch.cat([torch.from_numpy(part) for part in parts]) for parts in zip(*found, strict=True)))

    return compute


def _export(forward: Forward, image_size: tuple[int, int], path: Path) -> None:
    with torch.inference_mode(mode=False), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, about itself
        example = torch.zeros((1, 3, *image_size), dtype=torch.uint8)
        program = torch.export.export(Network(forward).eval(), (example,))
        torch.onnx.export(program, (example,), path, dynamo=True, verbose=False, external_data=False)


def _from_kept(read: Callable[[Path], Any], kept: Path) -> Any | None:
    """The network from the file that was kept; None where there is none, or a power cut has damaged it."""
    if not kept.exists():
        return None
    try:
        found = read(kept)
    except Exception as error:  # noqa: BLE001 - it is exported again
        _log.warning("A kept network cannot be read and is exported again: %s", error)
        return None
    with suppress(OSError):
        kept.touch()  # what was used last is kept longest
    return found


def _keep(path: Path, kept: Path) -> None:
    """Keep an exported network, and of the others the ones used last; a full disk costs time at each start, no more."""
    partial = kept.with_name(f".{kept.name}.{os.getpid()}.tmp")
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, partial)
        partial.replace(kept)
        others = sorted(kept.parent.glob("*.onnx"), key=lambda file: file.stat().st_mtime, reverse=True)
        for old in others[_KEPT:]:
            old.unlink(missing_ok=True)
    except OSError as error:
        _log.warning("The exported network cannot be kept: %s", error)
        with suppress(OSError):
            partial.unlink(missing_ok=True)
