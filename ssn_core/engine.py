"""The one way from pixels to scores: the fastest computation that gives the plain network's scores on this machine.

Every caller that scores image files goes through :func:`engine_for`: Review, Inspect and the command line. Which
computation it is, is measured once for each model and machine (:mod:`ssn_core.engine_choice`), so the same image has
the same score everywhere: on a CPU whatever else is in its batch, on a GPU but for the rounding that its libraries
choose by the batch.

Training's taps (:mod:`ssn_core.features`) do not come from here: they stay in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ssn_core.backbone import Backbone
from ssn_core.features import at_size, images_per_thread
from ssn_core.folded import Place, fold, why_not
from ssn_core.fused_backbone import FusedBackbone
from ssn_core.graphs import Replayed
from ssn_core.heads import Output
from ssn_core.model import CamNet
from ssn_core.openvino_network import compiled, installed
from ssn_core.packed import ordinary_convolutions
from ssn_core.side_by_side import each
from ssn_core.sizes import sizes_of

Taps = Callable[[Tensor], tuple[Tensor, ...]]
Forward = Callable[[Tensor], Output]  # pixels (B, 3, H, W) uint8 on the device -> score and map
_STAGES = 4


@dataclass(frozen=True)
class Plan:
    """One way to compute the scores.

    Args:
        fast: rewritten backbone and, where the algebra holds, folded head; False is the plain network.
        dtype: "float32", "bfloat16" or "float16", of what is not kept exact.
        exact_stages: of the backbone's four stages so many, from the first on, compute in float32 all the same.
        runtime: "torch" or "openvino", which computes everything in `dtype`.
    """

    fast: bool = True
    dtype: str = "float32"
    exact_stages: int = 0
    runtime: str = "torch"

    @property
    def title(self) -> str:
        """In words, for people and reports."""
        if not self.fast:
            return "plain, float32"
        if self.runtime != "torch":
            return f"folded, {self.dtype} by OpenVINO"
        if self.dtype == "float32" or not self.exact_stages:
            return f"folded, {self.dtype}"
        exact = ("stem", "stem and layer1", "stem to layer2", "backbone")[self.exact_stages - 1]
        return f"folded, {self.dtype} ({exact} in float32)"


PLAIN = Plan(fast=False)
EXACT = Plan()


def plans_in_few_bits(device: torch.device) -> list[Plan]:
    """What this device can compute in 16 bits, the most promising first."""
    if device.type == "cuda":
        return [Plan(dtype="float16"), Plan(dtype="float16", exact_stages=_STAGES)]
    if device.type == "cpu" and cpu_has_bfloat16():
        return [Plan(dtype="bfloat16", exact_stages=stages) for stages in (0, 2, 3, _STAGES)]
    return []


def plans_of_openvino(device: torch.device) -> list[Plan]:
    """What OpenVINO can compute here, the most promising first; nothing where it is not installed."""
    if device.type != "cpu" or installed() is None:
        return []
    dtypes = ("bfloat16", "float32") if cpu_has_bfloat16() else ("float32",)
    return [Plan(dtype=dtype, runtime="openvino") for dtype in dtypes]


def cpu_has_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 itself; where it does not, it would be slower than float32."""
    found = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return any(bool(found.get(name)) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def build(
    plan: Plan,
    backbone: Backbone,
    net: CamNet,
    *,
    image_size: tuple[int, int],
    device: torch.device,
    kept: Path | None = None,
) -> Forward:
    """The computation that a plan names, with the weights the networks have now.

    Args:
        backbone, net: both in eval mode; moved to `device` where the plan uses them as they are.
        image_size: (H, W), pixels.
        kept: where a network that was exported for another runtime is kept for later processes; None: nowhere.
    """
    sizes = sizes_of(image_size, 1 + len(net.smaller))
    if not plan.fast:
        plain_backbone, plain_net = backbone.to(device), net.to(device).eval()
        plain_taps = _at_sizes(sizes, [plain_backbone] * len(sizes))
        return lambda pixels: plain_net(*plain_taps(pixels))
    if plan.runtime == "openvino":
        # It rounds by itself what it is given in float32.
        with ordinary_convolutions(), torch.inference_mode(mode=False), torch.no_grad():
            exact = build(EXACT, backbone, net, image_size=image_size, device=device)
        return compiled(exact, image_size=image_size, bfloat16=plan.dtype == "bfloat16", kept=kept)
    dtype: torch.dtype = getattr(torch, plan.dtype)
    fused = _at_sizes(
        sizes,
        [
            FusedBackbone(backbone, image_size=size, dtype=dtype, device=device, exact_stages=plan.exact_stages)
            for size in sizes
        ],
    )
    if why_not(net) is None:
        shapes = [shape for size in sizes[1:] for shape in backbone.tap_shapes(size)[:2]]
        folded = fold(net, Place((*backbone.tap_shapes(image_size), *shapes), dtype, device))
        forward: Forward = lambda pixels: folded(fused(pixels))  # noqa: E731 - one of two, both short
    else:
        whole = net.to(device).eval()
        forward = lambda pixels: whole(*(tap.float() for tap in fused(pixels)))  # noqa: E731
    return Replayed(forward) if device.type == "cuda" else forward


def _at_sizes(sizes: Sequence[tuple[int, int]], backbones: Sequence[Taps]) -> Taps:
    """Pixels of the first size -> its taps, and layer2 and layer3 at each of the others, as the network takes them."""
    whole, *others = backbones

    def taps(pixels: Tensor) -> tuple[Tensor, ...]:
        smaller = [one(at_size(pixels, size))[:2] for one, size in zip(others, sizes[1:], strict=True)]
        return (*whole(pixels), *(tap for pair in smaller for tap in pair))

    return taps


@dataclass(frozen=True)
class Engine:
    """Scores and maps from pixels.

    Attributes:
        plan: how they are computed.
        note: why so, for people: the measured gain and error.
        image_size: (H, W), pixels, that it was made for.
    """

    plan: Plan
    note: str
    image_size: tuple[int, int]
    device: torch.device
    _forward: Forward

    @torch.inference_mode()
    def __call__(self, pixels: Tensor) -> Output:
        """Score (B,) and map (B, h, w), float32, on the device.

        Args:
            pixels: (B, 3, H, W) uint8, RGB, of the engine's size, on the CPU or the device.
        """
        moved = pixels.to(self.device, non_blocking=True, memory_format=torch.channels_last)
        if self.device.type != "cpu":
            return self._forward(moved)
        parts = torch.split(moved, images_per_thread(self.image_size))
        # Another runtime has threads of its own.
        found = each(self._forward, parts) if self.plan.runtime == "torch" else [self._forward(part) for part in parts]
        return found[0] if len(found) == 1 else Output(*(torch.cat(parts) for parts in zip(*found, strict=True)))
