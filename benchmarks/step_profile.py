"""Where the time of one training step goes, and how far it is from what this CPU can multiply.

    OMP_NUM_THREADS=1 python -m benchmarks.step_profile --out step-profile.json

One thread, processor time (not the clock's), so that a busy machine changes little. Every operation of the trainer's
own step is timed where torch starts it, forward and backward; multiply-adds are those of torch's own formulas, for
convolutions and matrix products. "Peak" is what a square matrix product reaches in the same run, best of several.

Beside it stand the multiply-adds and the time of the slower steps of :mod:`benchmarks.training`: a way of computing can
gain no more than their ratio, unless single multiplications become cheaper (bfloat16).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from benchmarks.labelled import labelled_images
from benchmarks.training import CPU, cached_step, changed, re_extracted
from ssn_core.backbone import load_backbone
from ssn_core.dataset import examples
from ssn_core.engine_choice import machine_title
from ssn_core.features import TapCache
from ssn_core.half_precision import bfloat16_pays
from ssn_core.recipes import get_recipe
from ssn_core.surfaces import MATERIALS, write_surfaces
from ssn_core.training import Trainer

_WARM_UP = 2
_SIDE = 2048  # of the matrices that the peak is measured with
READING = "reading and flipping taps"
PLAIN, PUBLISHED = "features cached, network as it is written, float32", "published, without anomalies, float32"


@dataclass
class Seen:
    """An operation on arrays of certain shapes."""

    ms: list[float]
    multiply_adds: int


class Clock(TorchDispatchMode):
    """Notes the processor time of every operation of this thread."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[tuple[str, str], Seen] = defaultdict(lambda: Seen([], 0))

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        began = time.thread_time()
        result = func(*args, **(kwargs or {}))
        ms = (time.thread_time() - began) * 1000
        shapes = " ".join(titled(x) for x in args if isinstance(x, Tensor))
        seen = self.seen[func.overloadpacket.__name__, shapes]
        seen.ms.append(ms)
        formula = flop_registry.get(func.overloadpacket)
        if formula is not None:
            seen.multiply_adds = formula(*args, **(kwargs or {}), out_val=result) // 2
        return result


def titled(values: Tensor) -> str:
    """Shape and type of an array, in short."""
    kind = {torch.float32: "", torch.bfloat16: " bf16"}.get(values.dtype, f" {values.dtype}".replace("torch.", ""))
    return "(" + "x".join(map(str, values.shape)) + kind + ")"


def peak(dtype: torch.dtype) -> float:
    """Billions of multiply-adds a second of a matrix product on one thread."""
    a, b = (torch.rand(_SIDE, _SIDE).to(dtype) for _ in range(2))
    return _SIDE**3 / best_ms(lambda: a @ b, rounds=5) / 1e6


def best_ms(call: Callable[[], object], *, rounds: int) -> float:
    """Processor milliseconds of the quickest call: other work can only slow one down."""
    return min(taken(call, rounds=rounds))


def taken(call: Callable[[], object], *, rounds: int) -> list[float]:
    """Processor milliseconds of each call, with what other threads read for it."""
    found = []
    for _ in range(rounds):
        began = time.process_time()
        call()
        found.append((time.process_time() - began) * 1000)
    return found


def profile(trainer: Trainer, *, half: bool, rounds: int) -> dict[str, Any]:
    """The rows of one step, most time first: medians over the rounds, times calls a step."""
    trainer.half = half
    trainer.net.train()
    samples = trainer.sampler.epoch()[: trainer.recipe.batch_size]
    reading = taken(lambda: trainer._oriented(samples), rounds=_WARM_UP + rounds)[_WARM_UP:]
    read = trainer._oriented(samples)
    for _ in range(_WARM_UP):
        trainer._step(samples, read)
    whole = taken(lambda: trainer._step(samples, read), rounds=rounds)
    with Clock() as clock:
        for _ in range(rounds):
            trainer._step(samples, read)
    rows: list[dict[str, Any]] = [{"what": READING, "calls": 1, "ms": statistics.median(reading), "multiply_adds": 0}]
    for (name, shapes), seen in clock.seen.items():
        calls = len(seen.ms) / rounds
        rows.append(
            {
                "what": f"{name} {shapes}",
                "calls": round(calls, 1),
                "ms": statistics.median(seen.ms) * calls,
                "multiply_adds": round(seen.multiply_adds * calls),
            }
        )
    return {
        "precision": "bfloat16" if half else "float32",
        "step_ms": round(statistics.median(whole) + statistics.median(reading), 1),
        "multiply_adds": sum(row["multiply_adds"] for row in rows),
        "rows": sorted(({**row, "ms": round(row["ms"], 2)} for row in rows), key=lambda row: -row["ms"]),
    }


def counted(step: Callable[[], None], rounds: int) -> dict[str, Any]:
    """Multiply-adds and processor time of a whole step, reading included where the step reads."""
    with FlopCounterMode(display=False) as counter:
        step()
    step()
    return {
        "step_ms": round(statistics.median(taken(step, rounds=rounds)), 1),
        "multiply_adds": counter.get_total_flops() // 2,
    }


def print_profile(found: dict[str, Any], peak_of: float, top: int) -> None:
    """One precision's rows as Markdown; `peak_of` in billions of multiply-adds a second."""
    print(f"\n{found['precision']}: {found['step_ms']} ms a step with reading")
    print(f"Peak: {peak_of:.0f} billion multiply-adds a second\n")
    print("| Operation (arrays) | calls | ms | million multiply-adds | % of peak |\n|---|---|---|---|---|")
    for row in found["rows"][:top]:
        million = row["multiply_adds"] / 1e6
        counts = [f"{million:.0f}", f"{100 * million / row['ms'] / peak_of:.0f}"] if million and row["ms"] else ["", ""]
        print("| " + " | ".join([row["what"], f"{row['calls']:g}", f"{row['ms']:.1f}", *counts]) + " |")
    rest = found["rows"][top:]
    print(f"| {len(rest)} others | | {sum(row['ms'] for row in rest):.1f} | | |")


def print_steps(steps: dict[str, dict[str, Any]], peaks: Mapping[str, float], ours: Sequence[str]) -> None:
    """The steps against each other."""
    print("\n| Step | ms | billion multiply-adds | ms at the peak | % of peak |\n|---|---|---|---|---|")
    for name, step in steps.items():
        at_peak = step["multiply_adds"] / 1e6 / peaks["bfloat16" if name in ours else "float32"]
        billions, share = step["multiply_adds"] / 1e9, 100 * at_peak / step["step_ms"]
        print(f"| {name} | {step['step_ms']} | {billions:.1f} | {at_peak:.0f} | {share:.0f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="cam")
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--weights", default="auto")
    parser.add_argument("--image-size", type=int, nargs=2, default=(256, 256), metavar=("H", "W"))
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--top", type=int, default=16, help="operations to print")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    size = (options.image_size[0], options.image_size[1])
    recipe = get_recipe(options.recipe).with_settings({"backbone": options.backbone, "image_size": size})
    backbone = load_backbone(
        recipe.backbone, weights=options.weights, padding=recipe.padding, local=recipe.has_local_head
    )
    peaks = {"float32": peak(torch.float32), "bfloat16": peak(torch.bfloat16)}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        write_surfaces(data, 40, seed=0, names=tuple(MATERIALS), size=size, progress=lambda *_: None)
        images = labelled_images(data, fold_column=None)
        taps = TapCache(Path(folder) / "cache", backbone, size)
        taps.fill([(image.key, image.path) for image in images], device=CPU)
        trainer = Trainer(recipe, examples(images, recipe), taps, CPU)
        profiles = [profile(trainer, half=half, rounds=options.rounds) for half in (False, True)]
        ours = [f"ours, {found['precision']}" for found in profiles]
        steps = {
            name: {"step_ms": found["step_ms"], "multiply_adds": found["multiply_adds"]}
            for name, found in zip(ours, profiles, strict=True)
        }
        with changed(folded=False, few_bits=False):
            plain = cached_step(recipe, images, taps)
        published = re_extracted(recipe, images, backbone, noise=False)
        fewer = max(3, options.rounds // 3)
        steps[PLAIN] = counted(plain, fewer)
        steps[PUBLISHED] = counted(published, fewer)
    for found in profiles:
        print_profile(found, peaks[found["precision"]], options.top)
    print_steps(steps, peaks, ours[1:])
    report = {
        "command": " ".join(["python", "-m", "benchmarks.step_profile", *sys.argv[1:]]),
        "recipe": recipe.name,
        "backbone": backbone.name,
        "image_size": list(size),
        "batch_size": recipe.batch_size,
        "rounds": options.rounds,
        "peak_billion_multiply_adds_per_s": {name: round(value, 1) for name, value in peaks.items()},
        "bfloat16_pays": bfloat16_pays(CPU, folded=True),
        "steps": steps,
        "profiles": profiles,
        "isa": os.environ.get("ONEDNN_MAX_CPU_ISA"),
        "machine": machine_title(CPU),
        "threads": 1,
        "torch": torch.__version__,
        "date": datetime.now(UTC).date().isoformat(),
    }
    print(f"\n{report['machine']}; one thread; torch {report['torch']}; {report['date']}")
    if options.out:
        options.out.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
