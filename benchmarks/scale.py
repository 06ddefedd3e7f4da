"""Cost grows in a straight line with the images, and memory does not: the jobs on 1,000, 10,000 and 100,000 images.

    python -m benchmarks.scale score --images 1000 10000 100000 --out benchmarks/results/scale-score.json
    python -m benchmarks.scale train --images 1000 10000 100000 --out benchmarks/results/scale-train.json
    python -m benchmarks.scale train --images 1000 10000 100000 --bad 400 \\
        --out benchmarks/results/scale-train-400-bad.json

Makes a project of N small pictures (64 x 64, noise; every tenth with a bright square), in a data folder of its own, and
runs the jobs in a process of their own as the worker does. `score`: a model trained on 40 of them scores all others;
`train`: all N are labelled, one in a hundred bad (at least 30) or as many as `--bad` says. For each N: seconds of the
job, microseconds an image, and the highest resident memory of the process (VmHWM; what the system caches of files is
not in it). Linux alone.

Optimiser steps follow the bad images, and so does what the local head learns from, up to 256 images of either class
(ssn_core/sampling.py). With 400 bad ones each network, which learns from two thirds of them, has its 256 at every N:
what then still grows, grows with the images.

The network is as small as it gets at 64 x 64 pixels, so what counts here is everything around it: database, decoding,
maps, scores. Weights are random numbers: nothing here is accurate, and nothing here depends on that.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ssn_core.inference import best_device, device_title
from storage import files, jobs, predictions, projects, registry
from storage.db import Database, chunks, connect
from storage.runner import WORKER_DEFAULTS
from storage.settings import Settings
from storage.tables import ImageRow
from storage.worker import work

SIDE = 64
N_LEARNED = 40
HANDLERS = {
    **{kind: f"storage.training_jobs:{kind}" for kind in ("train", "score")},
    **dict.fromkeys(("describe", "gain"), "benchmarks.scale:nothing"),  # queued aside; not what is measured
}
TRAINING = {
    "recipe": "cam",
    "backbone": "resnet18",
    "weights": "random",
    "image_size": [SIDE, SIDE],
    "seed": 0,
    "name": "scale",
}


def nothing(_context: object) -> None:
    """Do a job that is not measured."""


class _NoRunner:
    """The queue is worked here, in this process."""

    def start(self, job_id: int) -> None:
        """Leave the job in the queue."""

    def is_alive(self, _job: jobs.Job) -> bool:
        return True

    def kill(self, _job: jobs.Job) -> None:
        """Nothing needs killing."""


def picture(rng: np.random.Generator, *, bad: bool) -> bytes:
    """A PNG file, no two alike."""
    pixels = rng.integers(96, 160, (SIDE, SIDE), dtype=np.uint8)
    if bad:
        top, left = rng.integers(8, SIDE - 16, 2)
        pixels[top : top + 8, left : left + 8] = 240
    target = io.BytesIO()
    Image.fromarray(pixels).save(target, format="PNG", compress_level=0)
    return target.getvalue()


def add_images(db: Database, project_id: int, n: int, *, n_labelled: int, n_bad: int, seed: int) -> None:
    """Files and rows of N images, the first ones labelled, the bad ones spread evenly."""
    rng = np.random.default_rng(seed)
    for chunk in chunks(range(n)):
        rows = []
        for number in chunk:
            bad = number * n_bad % n < n_bad
            data = picture(rng, bad=bad)
            sha256 = hashlib.sha256(data).hexdigest()
            path = files.image_path(db.data_dir, sha256=sha256, extension=".png")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            rows.append(
                ImageRow(
                    project_id=project_id,
                    sha256=sha256,
                    name=f"{number}.png",
                    extension=".png",
                    width=SIDE,
                    height=SIDE,
                    n_bytes=len(data),
                    group_key=str(number),
                    part="train",
                    label=("bad" if bad else "good") if number < n_labelled else None,
                )
            )
        with db.write() as session:
            session.add_all(rows)


def settings_of(data_dir: Path) -> Settings:
    return Settings(data_dir=data_dir, database_url="", weights_dir=None)


def run_job(db: Database, kind: str, project_id: int, payload: dict[str, Any]) -> None:
    job_id = jobs.submit(db, kind=kind, project_id=project_id, payload=payload)
    while work(db, handlers=HANDLERS, runner=_NoRunner()) is not None:
        pass
    ended = jobs.get(db, job_id=job_id)
    if ended.status != "succeeded":
        raise SystemExit(f"The job ended as {ended.status}: {ended.error}")


def child(data_dir: Path, kind: str) -> None:
    """The process that is measured: does the job and prints what it took."""
    db = connect(settings_of(data_dir))
    (project,) = projects.list_projects(db)
    payload: dict[str, Any] = TRAINING
    if kind == "score":
        (model,) = registry.list_models(db, project_id=project.id)
        payload = {"model_id": model.id}
        import storage.training_jobs  # noqa: F401  # its time (torch's) is that of every job, not of the images
    before = memory_mb()
    began = time.perf_counter()
    run_job(db, kind, project.id, payload)
    print(json.dumps({"seconds": time.perf_counter() - began, "before_mb": before, "peak_mb": memory_mb()}))


def memory_mb() -> float:
    """The highest resident memory of this process so far, in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1000
    raise SystemExit("The peak memory of a process is known on Linux alone")


def measure(kind: str, n: int, n_bad: int | None) -> dict[str, Any]:
    """One row.

    Args:
        n_bad: of the images that are trained on; None: one in a hundred, at least 30.
    """
    with tempfile.TemporaryDirectory() as folder:
        data_dir = Path(folder) / "data"
        db = connect(settings_of(data_dir))
        project_id = projects.create(db, name="Scale").id
        if kind == "score":
            add_images(db, project_id, N_LEARNED, n_labelled=N_LEARNED, n_bad=N_LEARNED // 10, seed=1)
            run_job(db, "train", project_id, {**TRAINING, "epochs": 1})
            add_images(db, project_id, n, n_labelled=0, n_bad=n // 10, seed=2)
        else:
            add_images(db, project_id, n, n_labelled=n, n_bad=n_bad or max(30, n // 100), seed=2)
        command = [sys.executable, "-m", "benchmarks.scale", "child", "--data-dir", str(data_dir), "--kind", kind]
        environment = {**WORKER_DEFAULTS, **os.environ, "SSN_DATA_DIR": str(data_dir)}
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
        found = json.loads(done.stdout.splitlines()[-1])
        (model,) = registry.list_models(db, project_id=project_id)
        left = predictions.count_unscored(db, model_id=model.id)
        db.close()
    return {
        "job": kind,
        "images": n,
        "seconds": round(found["seconds"], 1),
        "us_per_image": round(1e6 * found["seconds"] / n),
        "peak_mb": round(found["peak_mb"]),
        "above_start_mb": round(found["peak_mb"] - found["before_mb"]),
        "not_scored": left,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind_of_run", choices=("score", "train", "child"))
    parser.add_argument("--images", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument(
        "--bad", type=int, help="bad images that are trained on (default: one in a hundred, at least 30)"
    )
    parser.add_argument("--out", type=Path)
    parser.add_argument("--data-dir", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--kind", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.bad is not None and not 0 < options.bad < min(options.images):
        parser.error(f"--bad {options.bad}: expected from 1 to {min(options.images) - 1}, less than the fewest images")
    if options.kind_of_run == "child":
        child(options.data_dir, options.kind)
        return
    rows = []
    for n in options.images:
        rows.append(measure(options.kind_of_run, n, options.bad))
        print(json.dumps(rows[-1]), flush=True)
        report = {
            "command": " ".join(["python", "-m", "benchmarks.scale", *sys.argv[1:]]),
            "rows": rows,
            "device": device_title(best_device()),
            "malloc_arena_max": os.environ.get("MALLOC_ARENA_MAX", WORKER_DEFAULTS["MALLOC_ARENA_MAX"]),
            "cpu": torch.cpu.get_capabilities().get("cpu_name") if hasattr(torch.cpu, "get_capabilities") else None,
            "load_average": os.getloadavg()[0],
            "torch": torch.__version__,
            "date": datetime.now(UTC).date().isoformat(),
        }
        if options.out:
            options.out.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
