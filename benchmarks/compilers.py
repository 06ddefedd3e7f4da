"""Whether a compiler or another runtime computes scores faster than the engine does, in one run.

    python -m benchmarks.compilers --out compilers.json

Compared with :mod:`ssn_core.engine` on the CPU, in turns:

- torch.compile (inductor, which writes C++ and calls a compiler on the machine where it runs) of the recipe's plain
  network, as its documentation has it, and of the engine's own rewritten network with weights as constants
  ("freezing"); the engine's packed convolutions are written as ordinary ones again, for the compiler packs them itself.
- ONNX Runtime and OpenVINO on that rewritten network, exported to ONNX for a fixed size and batch.

What is not installed has a row that says so; none of it is in requirements.txt. ONNX export needs `onnx` and
`onnxscript`. "CPU" is the processor time of one call over all threads, which a busy machine lengthens less than the
clock's. `error` is the largest difference of a score from the plain network's on the probe of
:mod:`ssn_core.engine_choice`, logit. "First call" is what a program waits at its start, before the first score:
exporting, compiling, loading; nothing is cached.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from ssn_core.backbone import Backbone, load_backbone
from ssn_core.engine import EXACT, PLAIN, Engine, Plan, build, plans_in_few_bits
from ssn_core.engine_choice import choose, machine_title, probe_pixels
from ssn_core.inference import device_title
from ssn_core.model import CamNet
from ssn_core.openvino_network import Network
from ssn_core.packed import ordinary_convolutions
from ssn_core.recipes import get_recipe
from ssn_core.timing import take_turns

CPU = torch.device("cpu")
Scores = Callable[[Tensor], Tensor]  # pixels (B, 3, H, W) uint8, channels last -> (B,)


class MissingError(Exception):
    """A tool cannot be measured; says why."""


def rewritten(backbone: Backbone, net: CamNet, pixels: Tensor, dtype: str) -> torch.export.ExportedProgram:
    """The engine's network for one shape, as a graph of ordinary operations."""
    size = (pixels.shape[2], pixels.shape[3])
    with ordinary_convolutions():
        forward = build(Plan(dtype=dtype), backbone, net, image_size=size, device=CPU)
    with torch.no_grad():
        return torch.export.export(Network(forward).eval(), (pixels,))


def compiled(network: nn.Module, pixels: Tensor, *, frozen: bool) -> Scores:
    """With torch.compile, for the shape of `pixels`."""
    from torch._inductor import config

    # One compiling process: a pool of them would hide processor time. No cache on disk: see main().
    with torch.no_grad(), config.patch(freezing=frozen, compile_threads=1):
        function = torch.compile(network, dynamic=False)
        function(pixels)
    return lambda given: function(given)[0]


def on_disk(program: torch.export.ExportedProgram, pixels: Tensor, folder: Path) -> Path:
    """The network as an ONNX file."""
    for name in ("onnx", "onnxscript"):
        installed(name)
    path = folder / f"network-{len(pixels)}.onnx"
    with torch.no_grad():
        torch.onnx.export(
            program, (pixels,), path, input_names=["pixels"], output_names=["score", "cam"], dynamo=True, verbose=False
        )
    return path


def onnx_runtime(path: Path, threads: int) -> Scores:
    """With ONNX Runtime's own CPU kernels, float32."""
    installed("onnxruntime")
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    # Threads that spin while others have their turn would slow the others down.
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    return lambda pixels: torch.from_numpy(session.run(["score"], {"pixels": pixels.numpy()})[0])


def open_vino(path: Path, threads: int, precision: str) -> Scores:
    """With OpenVINO; precision "f32" or "bf16"."""
    installed("openvino")
    import openvino

    settings = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
    }
    model = openvino.Core().compile_model(path, "CPU", settings)
    return lambda pixels: torch.from_numpy(model([pixels.numpy()])["score"])


def installed(name: str) -> str:
    """The version of a tool.

    Raises:
        MissingError: it is not installed.
    """
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError as error:
        raise MissingError(f"{name} is not installed (pip install {name})") from error


def candidates(
    backbone: Backbone, net: CamNet, pixels: Tensor, threads: int, folder: Path
) -> dict[str, Callable[[], Scores]]:
    """What is measured, by title; each is made when its turn comes."""
    size = (pixels.shape[2], pixels.shape[3])

    def engine(plan: Plan) -> Scores:
        made = Engine(
            plan=plan,
            note="",
            image_size=size,
            device=CPU,
            _forward=build(plan, backbone, net, image_size=size, device=CPU),
        )
        return lambda given: made(given).score

    def plain() -> Scores:
        return compiled(Network(lambda x: net(*backbone(x))).eval(), pixels, frozen=False)

    def own(dtype: str) -> Scores:
        # Through export: its module knows all tensors as its own, so that they can be constants.
        return compiled(rewritten(backbone, net, pixels, dtype).module(), pixels, frozen=True)

    def exported() -> Path:
        path = folder / f"network-{len(pixels)}.onnx"
        return path if path.exists() else on_disk(rewritten(backbone, net, pixels, "float32"), pixels, folder)

    found = {
        "plain network": lambda: engine(PLAIN),
        "plain, torch.compile": plain,
        "engine, float32": lambda: engine(EXACT),
        "rewritten, torch.compile, float32": lambda: own("float32"),
        "rewritten, ONNX Runtime, float32": lambda: onnx_runtime(exported(), threads),
        "rewritten, OpenVINO, float32": lambda: open_vino(exported(), threads, "f32"),
    }
    if plans_in_few_bits(CPU):
        chosen = choose(backbone, net, image_size=size, device=CPU).plan
        found["engine, as it chooses"] = lambda: engine(chosen)
        found["rewritten, torch.compile, bfloat16"] = lambda: own("bfloat16")
        found["rewritten, OpenVINO, bfloat16"] = lambda: open_vino(exported(), threads, "bf16")
    return found


def busy() -> float:
    """Processor seconds of this process and of the ones that it has waited for."""
    return sum(os.times()[:4])


def measure(
    backbone: Backbone,
    net: CamNet,
    *,
    batch: int,
    threads: int,
    size: tuple[int, int],
    rounds: int,
    only: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """One row a computation; with `only`, of those alone in whose titles one of these words is."""
    probe = probe_pixels(size)
    pixels = probe.repeat(-(-batch // len(probe)), 1, 1, 1)[:batch].contiguous()
    with torch.inference_mode():
        expected = torch.cat([net(*backbone(picture[None])).score for picture in probe])
    rows: list[dict[str, Any]] = []
    ready: dict[str, Scores] = {}
    with tempfile.TemporaryDirectory() as folder:
        for title, make in candidates(backbone, net, pixels, threads, Path(folder)).items():
            if only and not any(word in title for word in only):
                continue
            row: dict[str, Any] = {"computation": title, "batch": batch, "threads": threads}
            rows.append(row)
            began, spent = time.perf_counter(), busy()
            try:
                scores = make()
                with torch.inference_mode():
                    scores(pixels)
            except Exception as error:  # noqa: BLE001 - whatever a tool stumbles over is its row's result
                row["why_not"] = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
                print(json.dumps(row), flush=True)
                continue
            row["first_call_s"] = round(time.perf_counter() - began, 2)
            row["first_call_cpu_s"] = round(busy() - spent, 2)
            with torch.inference_mode():
                found = torch.cat([scores(part) for part in padded(probe, batch)])[: len(probe)]
            row["error"] = float(f"{float((found - expected).abs().max()):.2g}")
            print(json.dumps(row), flush=True)
            ready[title] = scores
        spent_ms: dict[str, list[float]] = {title: [] for title in ready}

        def call(title: str, scores: Scores) -> None:
            began = time.process_time()
            with torch.inference_mode():
                scores(pixels)
            spent_ms[title].append((time.process_time() - began) * 1000)

        timed = take_turns({title: partial(call, title, scores) for title, scores in ready.items()}, rounds=rounds)
    for row in rows:
        if (title := row["computation"]) in timed:
            row["p50_ms"], row["p95_ms"] = round(timed[title].p50_ms, 2), round(timed[title].p95_ms, 2)
            row["cpu_p50_ms"] = round(sorted(spent_ms[title])[len(spent_ms[title]) // 2], 2)
            print(json.dumps(row), flush=True)
    return rows


def padded(probe: Tensor, batch: int) -> Sequence[Tensor]:
    """The probe in whole batches, the last one filled up with its own first pictures."""
    n = -(-len(probe) // batch) * batch
    return torch.split(probe.repeat(-(-n // len(probe)), 1, 1, 1)[:n].contiguous(), batch)


def without_compiler() -> str:
    """What torch.compile says on a machine that has no C++ compiler: the last line of its error, or "works"."""
    code = "import torch; print(torch.compile(lambda x: torch.sin(x) + 1)(torch.ones(64)).sum())"
    with tempfile.TemporaryDirectory() as folder:
        kept = {name: value for name, value in os.environ.items() if name not in ("CXX", "CC")}
        environment = {**kept, "PATH": folder, "TORCHINDUCTOR_CACHE_DIR": folder}
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    said = [line for line in done.stderr.splitlines() if "Error" in line or "Exception" in line]
    return "works" if done.returncode == 0 else (said or done.stderr.splitlines() or ["no message"])[-1].strip()


def print_table(rows: list[dict[str, Any]]) -> None:
    """Milliseconds of a call (processor time), a column for each batch and number of threads."""
    columns = sorted({(row["threads"], row["batch"]) for row in rows})
    titles = list(dict.fromkeys(row["computation"] for row in rows))
    head = " | ".join(f"{threads} thread{'s'[: threads > 1]}, batch {batch}" for threads, batch in columns)
    print(f"| Computation | {head} | first call, s | error |")
    print("|---" * (len(columns) + 3) + "|")
    for title in titles:
        own = {(row["threads"], row["batch"]): row for row in rows if row["computation"] == title}
        cells = [
            f"{row['p50_ms']} ({row['cpu_p50_ms']})" if "p50_ms" in row else row["why_not"]
            for row in (own[column] for column in columns)
        ]
        waits = [row["first_call_s"] for row in own.values() if "first_call_s" in row]
        errors = [row["error"] for row in own.values() if "error" in row]
        cells += [f"{min(waits)} to {max(waits)}" if waits else "n/a", str(max(errors)) if errors else "n/a"]
        print(f"| {title} | " + " | ".join(cells) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="cam")
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--weights", default="auto", help="of the backbone; the head is random")
    parser.add_argument("--image-size", type=int, nargs=2, default=(256, 256), metavar=("H", "W"))
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--only", nargs="+", default=[], help="words; of the computations those with one in the title")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    size = (options.image_size[0], options.image_size[1])
    recipe = get_recipe(options.recipe).with_settings({"backbone": options.backbone})
    torch.manual_seed(0)
    backbone = load_backbone(
        recipe.backbone, weights=options.weights, padding=recipe.padding, local=recipe.has_local_head
    )
    net, rows = CamNet(recipe).eval(), []
    with tempfile.TemporaryDirectory() as cache, mock.patch.dict(os.environ, {"TORCHINDUCTOR_CACHE_DIR": cache}):
        for threads in options.threads:
            torch.set_num_threads(threads)  # is part of the code that inductor writes
            for batch in options.batches:
                shutil.rmtree(cache, ignore_errors=True)
                torch.compiler.reset()
                asked = {"size": size, "rounds": options.rounds, "only": options.only}
                rows += measure(backbone, net, batch=batch, threads=threads, **asked)
    report = {
        "command": " ".join(["python", "-m", "benchmarks.compilers", *sys.argv[1:]]),
        "recipe": recipe.name,
        "backbone": backbone.name,
        "weights": backbone.weights,
        "image_size": list(size),
        "rounds": options.rounds,
        "rows": rows,
        "torch_compile_without_compiler": without_compiler(),
        "versions": {name: version_of(name) for name in ("torch", "onnx", "onnxruntime", "openvino")},
        "machine": machine_title(CPU),
        "device": device_title(CPU),
        "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY"),
        "date": datetime.now(UTC).date().isoformat(),
    }
    print_table(rows)
    print(f"\nWithout a compiler: {report['torch_compile_without_compiler']}")
    print(f"{report['machine']}; {report['versions']}; {report['date']}")
    if options.out:
        options.out.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def version_of(name: str) -> str:
    """The version of a tool, or that it is not installed."""
    try:
        return installed(name)
    except MissingError:
        return "not installed"


if __name__ == "__main__":
    main()
