"""Which computation an engine uses: measured once for each model, image size and machine, and remembered.

Candidates run in turn on the same pictures, so that a busy machine slows all of them alike. Each must keep the score of
every picture of the probe within MAX_ERROR of the plain network's; none may be slower than the plain network.
The probe is eight generated surfaces (:mod:`ssn_core.surfaces`), the same ones everywhere.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import platform
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import platformdirs
import torch
from torch import Tensor

from ssn_core.backbone import Backbone
from ssn_core.engine import EXACT, PLAIN, Engine, Forward, Plan, build, plans_in_few_bits, plans_of_openvino
from ssn_core.folded import why_not
from ssn_core.model import CamNet
from ssn_core.openvino_network import installed as openvino_installed
from ssn_core.surfaces import plan as plan_surface
from ssn_core.surfaces import render

MAX_ERROR = 1e-2  # of a score, logit
_VERSION = 3  # of this measurement and of the networks it chooses from: a change makes all machines measure again
_ROUNDS, _SECONDS = 7, 5.0  # of the measurement, at most
_LARGEST_SIDE = 512  # pixels; larger images are measured at this size, or the measurement would take a minute
_PROBE = range(1, 24, 3)  # images of the generator: two parts of each material, some with a defect
_IN_MEMORY: dict[str, Choice] = {}
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Choice:
    """What was measured.

    Attributes:
        plan: the quickest.
        ratio: how many times quicker than the plain network.
        error: largest difference of a score of the probe from the plain network's, logit.
        plain_ms: of the plain network, a picture of the measured size.
    """

    plan: Plan
    ratio: float
    error: float
    plain_ms: float


def engine_for(
    backbone: Backbone, net: CamNet, *, image_size: tuple[int, int], device: torch.device, cache: Path | None
) -> Engine:
    """The engine for a model on this machine.

    Args:
        backbone, net: in eval mode; later changes of their weights are not followed.
        image_size: (H, W), pixels.
        cache: folder in which the choice is remembered for later processes; None: for this process alone.
    """
    net.eval()
    key = _key(backbone, net, image_size, device)
    kept = None if cache is None else cache / f"{key}.onnx"
    choice = _IN_MEMORY.get(key) or _read(cache, key, device)
    if choice is None:
        choice = choose(backbone, net, image_size=image_size, device=device, kept=kept)
        _write(cache, key, choice)
    _IN_MEMORY[key] = choice
    forward = None
    if choice.plan.runtime != "torch":
        forward = _of_another_runtime(choice.plan, backbone, net, image_size, kept)
        if forward is None:
            choice = choose(backbone, net, image_size=image_size, device=device, torch_alone=True)
            _write(cache, key, choice)
            _IN_MEMORY[key] = choice
    if forward is None:
        with torch.inference_mode():
            forward = build(choice.plan, backbone, net, image_size=image_size, device=device)
    reason = why_not(net)
    note = f"{choice.plan.title}: {choice.ratio:.1f} times the plain network's speed, scores within {choice.error:.1g}"
    if reason is not None and choice.plan.fast:
        note += f"; only the backbone, because {reason}"
    return Engine(plan=choice.plan, note=note, image_size=image_size, device=device, _forward=forward)


@torch.inference_mode()
def _of_another_runtime(
    plan: Plan, backbone: Backbone, net: CamNet, image_size: tuple[int, int], kept: Path | None
) -> Forward | None:
    """The computation that was measured, if its scores are still the plain network's; None: torch is to do it.

    What is read from a file is believed only so far: the file may be of an older version of this program, or damaged.
    """
    cpu = torch.device("cpu")
    picture = probe_pixels(image_size)[:1]
    expected = [build(PLAIN, backbone, net, image_size=image_size, device=cpu)(picture).score]
    for attempt in (None,) if kept is None else (kept, None):
        try:
            forward = build(plan, backbone, net, image_size=image_size, device=cpu, kept=attempt)
            error = _largest_error(forward, picture, expected, in_batches=False)
        except RuntimeError as failure:  # a library that worked when it was measured
            _log.warning("Scores cannot be computed %s any more: %s", plan.title, failure)
            return None
        if error < MAX_ERROR:
            return forward
        _log.warning("Scores computed %s are off by %.1g", plan.title, error)
        if attempt is not None:
            with suppress(OSError):
                attempt.unlink(missing_ok=True)
    return None


def user_cache() -> Path:
    """Where choices are remembered for whoever has no data folder of his own: the command line."""
    return platformdirs.user_cache_path("ssn-inspector", appauthor=False) / "engines"


@torch.inference_mode()
def choose(
    backbone: Backbone,
    net: CamNet,
    *,
    image_size: tuple[int, int],
    device: torch.device,
    kept: Path | None = None,
    torch_alone: bool = False,
) -> Choice:
    """Measure the candidates and take the quickest whose scores are right.

    Args:
        kept: as for :func:`ssn_core.engine.build`; of use only where the whole size is measured.
        torch_alone: leave other runtimes out.
    """
    height, width = (min(side, _LARGEST_SIDE) for side in image_size)
    size = (height, width)
    probe = probe_pixels(size).to(device)
    forwards = {PLAIN: build(PLAIN, backbone, net, image_size=size, device=device)}
    expected = [forwards[PLAIN](picture[None]).score.cpu() for picture in probe]
    errors = {PLAIN: 0.0}
    kept = kept if size == tuple(image_size) else None
    for plans in ([EXACT], plans_in_few_bits(device), [] if torch_alone else plans_of_openvino(device)):
        for plan in plans:
            try:
                forward = build(plan, backbone, net, image_size=size, device=device, kept=kept)
                error = _largest_error(forward, probe, expected, in_batches=device.type != "cpu")
            except RuntimeError as failure:  # an operation that a library or this device does not have
                _log.warning("Scores cannot be computed %s here: %s", plan.title, failure)
                continue
            if error < MAX_ERROR:
                forwards[plan], errors[plan] = forward, error
                break  # those after it compute more of it in float32, and are slower
    seconds = _timed(forwards, probe[:1])
    best = min(seconds, key=lambda plan: seconds[plan])
    return Choice(best, seconds[PLAIN] / seconds[best], errors[best], seconds[PLAIN] * 1000)


def probe_pixels(size: tuple[int, int]) -> Tensor:
    """The probe's pictures, (8, 3, H, W) uint8, channels last."""
    pictures = [torch.from_numpy(render(plan_surface(index), size=size).pixels) for index in _PROBE]
    return torch.stack(pictures).permute(0, 3, 1, 2)


def _largest_error(forward: Forward, probe: Tensor, expected: list[Tensor], *, in_batches: bool) -> float:
    """Over the probe; stops at the first picture that is beyond the limit (inf for a score that is not finite).

    Args:
        in_batches: also over the probe as one batch, for which a GPU's libraries may compute otherwise.
    """
    largest = 0.0
    passes = [(picture[None], score) for picture, score in zip(probe, expected, strict=True)]
    if in_batches:
        passes.append((probe, torch.cat(expected)))
    for pixels, scores in passes:
        error = float((forward(pixels).score.cpu() - scores).abs().max())
        largest = max(largest, error if math.isfinite(error) else math.inf)
        if largest >= MAX_ERROR:
            break
    return largest


def _timed(forwards: dict[Plan, Forward], pixels: Tensor) -> dict[Plan, float]:
    """Seconds a call, the computations taking turns: the quickest round, for other work can only slow one down.

    All of them have run on the probe before, so none pays for its first call here.
    """
    taken = dict.fromkeys(forwards, math.inf)
    start = time.perf_counter()
    for _ in range(_ROUNDS):
        for plan, forward in forwards.items():
            began = time.perf_counter()
            forward(pixels).score.cpu()  # waits for a GPU
            taken[plan] = min(taken[plan], time.perf_counter() - began)
        if time.perf_counter() - start > _SECONDS:
            break
    return taken


def _key(backbone: Backbone, net: CamNet, image_size: tuple[int, int], device: torch.device) -> str:
    """All that the choice and the scores depend on: the machine, the libraries, the weights, what they do, the size."""
    digest = hashlib.sha256()
    does = (net.combine.scale, net.combine.padding, net.combine.align_corners, net.plain_class_features)
    pools = [getattr(head, "pooling_fraction", None) for head in (net.head, net.local)]
    digest.update(f"{does} {type(net.head).__name__} {pools}".encode())
    for name, value in sorted(net.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    parts = (
        _VERSION,
        machine_title(device),
        torch.__version__,
        openvino_installed(),
        torch.get_num_threads(),
        backbone.name,
        backbone.padding,
        backbone.weights_hash,
        *image_size,
        digest.hexdigest(),
    )
    return hashlib.sha256("|".join(map(str, parts)).encode()).hexdigest()[:32]


def machine_title(device: torch.device) -> str:
    """The GPU or CPU by its maker's name, and what of it torch uses."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as file:
            model = next((line.partition(":")[2].strip() for line in file if line.startswith("model name")), "")
    except OSError:  # not Linux
        model = ""
    return f"{platform.machine()} {model or platform.processor()} {torch.backends.cpu.get_cpu_capability()}"


def _read(cache: Path | None, key: str, device: torch.device) -> Choice | None:
    if cache is None:
        return None
    try:
        kept = json.loads((cache / f"{key}.json").read_text(encoding="utf-8"))
        choice = Choice(Plan(**kept["plan"]), *(float(kept[name]) for name in ("ratio", "error", "plain_ms")))
        if choice.plan not in (PLAIN, EXACT, *plans_in_few_bits(device), *plans_of_openvino(device)):
            raise ValueError(f"no such plan: {choice.plan}")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, LookupError) as error:
        _log.warning("A remembered measurement cannot be read and is made again: %r", error)
        return None
    return choice


def _write(cache: Path | None, key: str, choice: Choice) -> None:
    if cache is None:
        return
    path = cache / f"{key}.json"
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        cache.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(asdict(choice), indent=1) + "\n", encoding="utf-8")
        partial.replace(path)
    except OSError as error:  # a read-only folder costs a second at each start, no more
        _log.warning("The measurement of the engine cannot be kept: %s", error)
