"""How fast a model scores, how much memory it takes, and how that compares with the published way in the same run.

The computations take turns (:mod:`ssn_core.timing`), so that a busy machine slows all of them alike:

- ours: what :func:`ssn_core.engine_choice.engine_for` takes on this machine, as Review, Inspect and `predict` do;
- the reference: the published way, written plainly, with the same weights (:mod:`ssn_core.reference`);
- plain: the recipe's own network, written plainly. It computes the same numbers as ours; `error` is ours against it.

Latency is that of one image at a time, without decoding (pixels to score) and with it (file to score). Throughput is
that of the best batch size, without decoding.
"""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import torch
import torchvision
from PIL import Image
from torch import Tensor

from ssn_core.backbone import Backbone, load_backbone
from ssn_core.benchmark_row import Row
from ssn_core.checkpoint import load_model
from ssn_core.engine import EXACT, PLAIN, Engine, Plan, build
from ssn_core.engine_choice import engine_for, machine_title, probe_pixels
from ssn_core.footprint import Memory, count_multiply_adds, count_parameters, peak_memory
from ssn_core.heads import Output
from ssn_core.imaging import load_rgb
from ssn_core.inference import device_title
from ssn_core.model import CamNet
from ssn_core.recipes import Recipe
from ssn_core.reference import published
from ssn_core.seeding import seeded
from ssn_core.timing import WARM_UP, Timing, take_turns

ROUNDS = 20
BATCHES = {"cpu": (2, 4, 8), "cuda": (8, 32, 64, 128)}  # besides 1
_SECONDS = 40.0  # for one set of turns, at most
_OURS, _REFERENCE, _PLAIN = "ours", "reference", "plain"
_DECODED = "{}, decoded"  # the same from a file on
STEPS = 5  # of one measurement, as `tell` counts them


@dataclass(frozen=True)
class Candidate:
    """What is measured: a trained model, or a recipe whose head has random weights (for the same speed).

    Attributes:
        folder: of the trained model; None: made from the recipe.
        weights: of the backbone, without a folder: as :func:`ssn_core.backbone.load_backbone` takes them.
    """

    title: str
    recipe: Recipe
    folder: Path | None = None
    weights: str = "random"
    weights_dir: Path | None = None

    def load(self) -> tuple[Backbone, CamNet]:
        """Backbone and network, in eval mode.

        Raises:
            SsnError: the model folder or the weights cannot be read.
        """
        if self.folder is not None:
            model, backbone = load_model(self.folder, weights_dir=self.weights_dir)
            return backbone, model.net.eval()
        recipe = self.recipe
        backbone = load_backbone(
            recipe.backbone,
            weights=self.weights,
            weights_dir=self.weights_dir,
            padding=recipe.padding,
            local=recipe.has_local_head,
        )
        with seeded(recipe.seed):
            return backbone, CamNet(recipe).eval()


@dataclass(frozen=True)
class Effort:
    """How much is measured."""

    rounds: int = ROUNDS
    batches: tuple[int, ...] | None = None  # besides 1; None: the device's usual ones


def measure(
    candidate: Candidate,
    *,
    device: torch.device,
    pictures: Sequence[Path] = (),
    cache: Path | None = None,
    effort: Effort | None = None,
    tell: Callable[[str, int], None] = lambda _what, _done: None,
) -> Row:
    """One row.

    Args:
        pictures: image files to decode; without any, generated surfaces of the network's input size, as PNG.
        cache: where the choice of the computation is remembered (:func:`ssn_core.engine_choice.engine_for`).
        tell: called often with (what is being measured, steps done of STEPS); may raise to stop.

    Raises:
        SsnError: the candidate or a picture cannot be read.
    """
    effort = effort or Effort()
    size = candidate.recipe.image_size
    tell("loading", 0)
    backbone, net = candidate.load()
    multiply_adds = _multiply_adds(backbone, net, size)  # on the CPU, before anything is moved
    engine = engine_for(backbone, net, image_size=size, device=device, cache=cache)
    parameters = count_parameters(backbone, net)
    ours_alone = count_parameters(*filter(None, (net.local, *net.smaller)))  # which the published way has not
    with torch.inference_mode():
        found: dict[str, Callable[[Tensor], Output]] = {
            _OURS: engine,
            _REFERENCE: published(backbone, net, device),
            _PLAIN: _plain(backbone, net, size, device),
        }
        probe = probe_pixels(size)
        tell("one image at a time", 1)
        error = max(float((found[_OURS](x).score - found[_PLAIN](x).score).abs().max().cpu()) for x in probe[:, None])
        at_one, files = _one_at_a_time(found, probe, pictures, effort, tell=lambda: tell("one image at a time", 1))
        tell("many images at once", 2)
        both = {name: found[name] for name in (_OURS, _REFERENCE)}
        best = _best_batches(both, at_one, probe, effort, device, tell=lambda: tell("many images at once", 2))
    plan = engine.plan
    del engine, found, both  # what they hold of a GPU's memory, the processes that come now may need
    if device.type == "cuda":
        torch.cuda.empty_cache()
    tell("memory", 3)
    memory = peak_memory(_load_ours, candidate, plan, device, tell=lambda: tell("memory", 3))
    tell("memory of the reference", 4)
    theirs = peak_memory(_load_reference, candidate, device, tell=lambda: tell("memory of the reference", 4))
    tell("done", STEPS)
    return Row(
        title=candidate.title,
        recipe=candidate.recipe.name,
        backbone=backbone.name,
        weights=backbone.weights,
        head="random" if candidate.folder is None else "trained",
        image_size=" x ".join(map(str, size)),
        computation=plan.title,
        **_compared(at_one),
        decoded_files=files,
        **_throughput(best),
        **_memory(memory, theirs),
        parameters=parameters,
        reference_parameters=parameters - ours_alone,
        multiply_adds=multiply_adds[0],
        reference_multiply_adds=multiply_adds[1],
        error=error,
        rounds=effort.rounds,
        seed=candidate.recipe.seed,
        **_surroundings(device),
    )


def _plain(backbone: Backbone, net: CamNet, size: tuple[int, int], device: torch.device) -> Engine:
    forward = build(PLAIN, backbone, net, image_size=size, device=device)
    return Engine(plan=PLAIN, note="", image_size=size, device=device, _forward=forward)


def _multiply_adds(backbone: Backbone, net: CamNet, size: tuple[int, int]) -> tuple[int, int]:
    """(ours, reference); ours as the folded computation has them, in whatever precision it runs here."""
    cpu = torch.device("cpu")
    pixels = probe_pixels(size)[:1]
    with torch.inference_mode():
        folded = build(EXACT, backbone, net, image_size=size, device=cpu)
        return count_multiply_adds(folded, pixels), count_multiply_adds(published(backbone, net, cpu), pixels)


def _scored(forward: Callable[[Tensor], Output], pixels: Tensor) -> None:
    forward(pixels).score.cpu()  # waits for a GPU


def _timed(
    found: dict[str, Callable[[Tensor], Output]], pixels: Tensor, effort: Effort, *, tell: Callable[[], None]
) -> dict[str, Timing]:
    calls = {name: partial(_scored, forward, pixels) for name, forward in found.items()}
    return take_turns(calls, rounds=effort.rounds, seconds=_SECONDS, tell=tell)


def _one_at_a_time(
    found: dict[str, Callable[[Tensor], Output]],
    probe: Tensor,
    pictures: Sequence[Path],
    effort: Effort,
    *,
    tell: Callable[[], None],
) -> tuple[dict[str, Timing], str]:
    """From pixels and, in the same turns, from a file to a score; the files take turns too. Also says which files."""
    height, width = probe.shape[2:]

    def call(forward: Callable[[Tensor], Output], files: cycle[Path]) -> None:
        pixels = torch.from_numpy(load_rgb(next(files), image_size=(height, width)))
        _scored(forward, pixels.permute(2, 0, 1)[None])

    with tempfile.TemporaryDirectory(prefix="ssn-benchmark-") as folder:
        chosen = list(pictures) or _written(probe, Path(folder))
        calls: dict[str, Callable[[], object]] = {}
        for name, forward in found.items():
            calls[name] = partial(_scored, forward, probe[:1])
            if name != _PLAIN:
                calls[_DECODED.format(name)] = partial(call, forward, cycle(chosen))
        timed = take_turns(calls, rounds=effort.rounds, seconds=_SECONDS, tell=tell)
    n = f"{len(chosen)} file{'' if len(chosen) == 1 else 's'}"
    return timed, f"{n} of the data" if pictures else f"{n}, PNG, generated, {height} x {width}"


def _written(pixels: Tensor, folder: Path) -> list[Path]:
    paths = [folder / f"{number}.png" for number in range(len(pixels))]
    for path, picture in zip(paths, pixels, strict=True):
        Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy()).save(path)
    return paths


def _best_batches(
    found: dict[str, Callable[[Tensor], Output]],
    at_one: dict[str, Timing],
    probe: Tensor,
    effort: Effort,
    device: torch.device,
    *,
    tell: Callable[[], None],
) -> dict[str, tuple[float, int]]:
    """Of each computation (images a second, batch size), at the size that is best for it.

    A size that one of them has no memory for ends the search: larger ones have no room either.
    """
    best = {name: (1000 / at_one[name].p50_ms, 1) for name in found}
    fewer = Effort(rounds=max(3, effort.rounds // 4))
    for batch in BATCHES[device.type] if effort.batches is None else effort.batches:
        pixels = probe.repeat(-(-batch // len(probe)), 1, 1, 1)[:batch].contiguous(memory_format=torch.channels_last)
        try:
            timed = _timed(found, pixels, fewer, tell=tell)
        except torch.OutOfMemoryError:
            break
        for name, timing in timed.items():
            best[name] = max(best[name], (1000 * batch / timing.p50_ms, batch))
    return best


def _load_ours(candidate: Candidate, plan: Plan, device: torch.device) -> Callable[[], object]:
    backbone, net = candidate.load()
    size = candidate.recipe.image_size
    forward = build(plan, backbone, net, image_size=size, device=device)
    engine = Engine(plan=plan, note="", image_size=size, device=device, _forward=forward)
    return partial(_scored, engine, _blank(size))


def _load_reference(candidate: Candidate, device: torch.device) -> Callable[[], object]:
    return partial(_scored, published(*candidate.load(), device), _blank(candidate.recipe.image_size))


def _blank(size: tuple[int, int]) -> Tensor:
    return torch.full((1, 3, *size), 128, dtype=torch.uint8)


def _compared(at_one: dict[str, Timing]) -> dict[str, Any]:
    ours, reference, plain = (at_one[name] for name in (_OURS, _REFERENCE, _PLAIN))
    decoded, reference_decoded = (at_one[_DECODED.format(name)] for name in (_OURS, _REFERENCE))
    return {
        "p50_ms": ours.p50_ms,
        "p95_ms": ours.p95_ms,
        "reference_p50_ms": reference.p50_ms,
        "reference_p95_ms": reference.p95_ms,
        "ratio": reference.p50_ms / ours.p50_ms,
        "plain_p50_ms": plain.p50_ms,
        "ratio_to_plain": plain.p50_ms / ours.p50_ms,
        "decoded_p50_ms": decoded.p50_ms,
        "decoded_p95_ms": decoded.p95_ms,
        "reference_decoded_p50_ms": reference_decoded.p50_ms,
        "reference_decoded_p95_ms": reference_decoded.p95_ms,
        "decoded_ratio": reference_decoded.p50_ms / decoded.p50_ms,
    }


def _throughput(best: dict[str, tuple[float, int]]) -> dict[str, Any]:
    (ours, batch), (reference, reference_batch) = best[_OURS], best[_REFERENCE]
    return {
        "images_per_s": ours,
        "best_batch": batch,
        "reference_images_per_s": reference,
        "reference_best_batch": reference_batch,
        "throughput_ratio": ours / reference,
    }


def _memory(ours: Memory, reference: Memory) -> dict[str, Any]:
    return {
        "peak_memory_mib": ours.process,
        "memory_before_model_mib": ours.before,
        "reference_peak_memory_mib": reference.process,
        "gpu_memory_mib": ours.gpu,
        "reference_gpu_memory_mib": reference.gpu,
    }


def _surroundings(device: torch.device) -> dict[str, Any]:
    return {
        "device": device_title(device),
        "machine": machine_title(device),
        "threads": torch.get_num_threads(),
        "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY", "not set"),
        "warm_up": WARM_UP,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
