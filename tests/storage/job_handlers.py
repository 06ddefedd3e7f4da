"""Handlers for the tests of the worker; `payload["do"]` says which one of them a job of any kind runs."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from ssn_core.errors import TooFewLabelsError


def run(context):
    return globals()[context.job.payload["do"]](context)


def count(context):
    """Count to payload["steps"], going on from a checkpoint, as a training does."""
    checkpoint = context.folder / "checkpoint.txt"
    first = int(checkpoint.read_text()) if checkpoint.exists() else 0
    steps = context.job.payload["steps"]
    for step in range(first, steps):
        time.sleep(context.job.payload.get("pause", 0.0))
        context.points("model", step, 1.0 / (step + 1))
        checkpoint.write_text(str(step + 1))
        context.progress("Counting", step + 1, steps, loss=1.0 / (step + 1))
    context.log.info("counted to %d", steps)
    return {"first": first, "steps": steps}


def span(context):
    """Leave one line with the times of start and end, to see which jobs overlapped."""
    start = time.time()
    time.sleep(context.job.payload["pause"])
    with Path(context.job.payload["file"]).open("a") as file:
        file.write(f"{context.job.kind} {start} {time.time()}\n")


def deaf(context):
    """Never ask whether to stop, and have a child process as a data loader would."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    (context.folder / "child.txt").write_text(str(child.pid))
    context.progress("Deaf", 0, 0)
    time.sleep(600)


def refuse(context):
    raise TooFewLabelsError("There are too few bad images", value=0, expected="at least 2", action="Label 2 more")


def crash(context):
    context.points("model", 1, 0.5)
    return 1 / 0
