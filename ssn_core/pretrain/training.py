"""The pretraining run: textures in, a frozen backbone's weights out.

Two tasks share the network: which texture is this (from the mean of layer2 and of layer3 over its region), and for each
cell, whether it holds a mark, of which shape, with which filling. Both are read off exactly the layers whose features
the product uses, by one linear map each, so that what they need to know is in the features plainly.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from ssn_core.backbone import IMAGENET_MEAN, IMAGENET_STD
from ssn_core.errors import SettingError, WeightsError
from ssn_core.pretrain.marks import FILLINGS, SHAPES, Marks, add_marks
from ssn_core.pretrain.scenes import Scenes, compose, photograph
from ssn_core.pretrain.textures import make_bank, render

_STAGES = ("conv1", "bn1", "layer1", "layer2", "layer3")


@dataclass(frozen=True)
class Settings:
    """Everything that decides the result, device and library versions aside."""

    steps: int = 16000
    batch_size: int = 56
    image_size: int = 96  # pixels, a multiple of 16
    n_classes: int = 2000
    peak_lr: float = 2e-3
    weight_decay: float = 0.02
    marked_share: float = 0.7
    two_textures_share: float = 0.4
    seed: int = 0
    start: str = ""  # SHA-256 of the file of weights that the run begins with; "" = from nothing


class Pretrainer(nn.Module):
    """ResNet18 up to layer3 with two small heads on each of its two last stages, used in pretraining only."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.network = torchvision.models.resnet18(weights=None)
        del self.network.layer4, self.network.fc
        for module in self.network.modules():
            # As the product uses it: the edge is continued, so the border looks like any other place.
            if isinstance(module, nn.Conv2d) and module.padding != (0, 0):
                module.padding_mode = "replicate"
        self.class2, self.class3 = nn.Linear(128, n_classes), nn.Linear(256, n_classes)
        n_outputs = 1 + len(SHAPES) + len(FILLINGS)
        self.mark2, self.mark3 = nn.Conv2d(128, n_outputs, 1), nn.Conv2d(256, n_outputs, 1)

    def forward(self, images: Tensor, regions: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Logits from layer2 and from layer3.

        Args:
            images: (B, 3, S, S), normalised.
            regions: (B, 2, S/8, S/8), how much of each cell belongs to the first and to the second texture.

        Returns:
            class logits (B, 2, n_classes) of the two regions from both layers, then mark logits (B, 1 + shapes +
            fillings, h, w) of both.
        """
        n = self.network
        x = n.layer1(n.maxpool(n.relu(n.bn1(n.conv1(images)))))
        tap2 = n.layer2(x)
        tap3 = n.layer3(tap2)
        coarse = F.avg_pool2d(regions, 2)
        return (
            self.class2(_region_means(tap2, regions)),
            self.class3(_region_means(tap3, coarse)),
            self.mark2(tap2),
            self.mark3(tap3),
        )


def _region_means(tap: Tensor, regions: Tensor) -> Tensor:
    """Mean feature of each region, cells weighted by their share in it; (B, 2, C)."""
    weights = (regions / regions.sum((2, 3), keepdim=True).clamp_min(1e-3)).to(tap.dtype)
    return torch.einsum("bchw,bkhw->bkc", tap, weights)


def pretrain(
    settings: Settings,
    *,
    device: torch.device,
    start: dict[str, Tensor] | None = None,
    state_file: Path | None = None,
    cool_down: int = 0,
    on_step: Callable[[int, dict[str, float]], None] | None = None,
    log_every: int = 50,
) -> tuple[dict[str, Tensor], list[dict[str, float]]]:
    """Run, or go on with, a pretraining.

    Args:
        start: what an earlier run has written (see :func:`read_weights`); its texture classes and marks are learned
            anew on top of it. None: begin from nothing.
        state_file: kept up to date every few minutes; a run of the same settings goes on from it.
        cool_down: end the run in so many more steps, the learning rate falling to zero in a straight line: for when the
            time is up before the schedule is. 0 = follow the schedule.
        on_step: called every `log_every` steps with the step and the means since the last call.

    Returns:
        torchvision's state dict from conv1 to layer3 (float32, CPU), and the log.

    Raises:
        SettingError: the state file belongs to a run with other settings.
    """
    torch.manual_seed(settings.seed)
    net = Pretrainer(settings.n_classes).to(memory_format=torch.channels_last).to(device)
    if start is not None:
        net.network.load_state_dict(start, strict=False)  # read_weights has checked it; only counters are missing
    bank = make_bank(settings.n_classes, seed=settings.seed).to(device)
    generator = torch.Generator(device).manual_seed(settings.seed + 1)
    optimiser = torch.optim.AdamW(net.parameters(), lr=settings.peak_lr, weight_decay=settings.weight_decay)
    schedule: torch.optim.lr_scheduler.LRScheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, settings.peak_lr, total_steps=settings.steps, pct_start=0.1
    )
    mean, std = (torch.tensor(v, device=device).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    log: list[dict[str, float]] = []
    step, seconds = 0, 0.0
    if state_file is not None and state_file.exists():
        state = torch.load(state_file, map_location=device, weights_only=True)
        if {"start": "", **state["settings"]} != asdict(settings):  # runs before there was a start
            raise SettingError(
                "The state file belongs to a run with other settings",
                value=str(state_file),
                action="Give the same settings, or another state file",
            )
        net.load_state_dict(state["net"])
        optimiser.load_state_dict(state["optimiser"])
        schedule.load_state_dict(state["schedule"])
        generator.set_state(state["generator"].cpu())
        step, seconds, log = state["step"], state["seconds"], state["log"]

    last = settings.steps
    if cool_down:
        last = min(last, step + cool_down)
        for group in optimiser.param_groups:
            group["initial_lr"] = group["lr"]  # the new schedule starts from here
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, _falling(last - step))

    def save() -> None:
        if state_file is None or cool_down:  # a cool-down ends a run: the state before it stays as it is
            return
        partial = state_file.with_name(state_file.name + ".tmp")
        torch.save(
            {
                "settings": asdict(settings),
                "net": net.state_dict(),
                "optimiser": optimiser.state_dict(),
                "schedule": schedule.state_dict(),
                "generator": generator.get_state(),
                "step": step,
                "seconds": seconds,
                "log": log,
            },
            partial,
        )
        partial.replace(state_file)

    began, saved = time.monotonic() - seconds, time.monotonic()
    sums: dict[str, float] = {}
    net.train()
    while step < last:
        classes = torch.randint(settings.n_classes, (settings.batch_size,), generator=generator, device=device)
        textures = render(bank, classes, settings.image_size, generator=generator)
        scenes = compose(textures, classes, share=settings.two_textures_share, generator=generator)
        images, marks = add_marks(scenes.images, share=settings.marked_share, generator=generator)
        images = photograph(images, generator=generator)
        images = ((images - mean) / std).contiguous(memory_format=torch.channels_last)
        regions = _regions(scenes)
        with torch.autocast(device.type, torch.bfloat16):
            class2, class3, mark2, mark3 = net(images, regions)
        losses = {
            "class3": _class_loss(class3.float(), scenes, regions),
            "class2": _class_loss(class2.float(), scenes, regions),
            "mark2": _mark_loss(mark2.float(), marks),
            "mark3": _mark_loss(mark3.float(), marks.coarser()),
        }
        loss = 0.5 * losses["class3"] + 0.25 * losses["class2"] + 4.0 * losses["mark2"] + 2.0 * losses["mark3"]
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimiser.step()
        schedule.step()
        step += 1
        for name, value in losses.items():
            sums[name] = sums.get(name, 0.0) + float(value.detach())
        sums["lr"] = sums.get("lr", 0.0) + float(optimiser.param_groups[0]["lr"])
        sums["accuracy"] = sums.get("accuracy", 0.0) + float((class3[:, 0].argmax(1) == classes).float().mean())
        if step % log_every == 0 or step == last:
            seconds = time.monotonic() - began
            n = (step - 1) % log_every + 1
            means = {"step": step, "seconds": round(seconds, 1), **{k: float(f"{v / n:.4g}") for k, v in sums.items()}}
            log.append(means)
            sums = {}
            if on_step is not None:
                on_step(step, means)
            if time.monotonic() - saved > 120 or step == last:
                save()
                saved = time.monotonic()
    state_dict = {k: v.detach().cpu() for k, v in net.network.state_dict().items() if k.split(".")[0] in _STAGES}
    return state_dict, log


def _falling(steps: int) -> Callable[[int], float]:
    return lambda done: max(0.0, 1.0 - done / steps)


def _regions(scenes: Scenes) -> Tensor:
    """Share of each 8 x 8 cell in the first and in the second texture; cells on the border count little."""
    second = F.avg_pool2d(scenes.second[:, None], 8)
    return torch.cat((1 - second, second), dim=1) ** 2


def _class_loss(logits: Tensor, scenes: Scenes, regions: Tensor) -> Tensor:
    """Cross-entropy of the regions that are large enough to be known by."""
    weight = (regions.mean((2, 3)) > 0.1).float()
    loss = F.cross_entropy(logits.flatten(0, 1), scenes.classes.flatten(), reduction="none", label_smoothing=0.1)
    return (loss * weight.flatten()).sum() / weight.sum().clamp_min(1.0)


def _mark_loss(logits: Tensor, marks: Marks) -> Tensor:
    """Is there a mark (marked cells and others weigh half each), and, where there is one, which? Cross-entropies."""
    there, shape, filling = torch.split(logits, [1, len(SHAPES), len(FILLINGS)], dim=1)
    loss = F.binary_cross_entropy_with_logits(there[:, 0], marks.touched, reduction="none")
    free = (1 - marks.touched) * (~marks.hidden).float()
    n_marked = marks.touched.sum().clamp_min(1.0)
    found = 0.5 * ((loss * marks.touched).sum() / n_marked + (loss * free).sum() / free.sum().clamp_min(1.0))
    named = sum(
        F.cross_entropy(scores, kind, reduction="none", ignore_index=-1).sum() / n_marked
        for scores, kind in ((shape, marks.shape), (filling, marks.filling))
    )
    return found + 0.15 * named


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any], str]:
    """Read what :func:`write_weights` wrote.

    Returns:
        the weights (float32), their history, and the SHA-256 of the file.

    Raises:
        WeightsError: the file cannot be read, or holds something else than a run of pretraining.
    """
    try:
        with safetensors.safe_open(path, "pt") as file:
            state = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118 -- not a dict
            history = json.loads((file.metadata() or {})["pretraining"])
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except (OSError, safetensors.SafetensorError, KeyError, ValueError) as error:
        raise WeightsError(
            "The weights to begin with cannot be read",
            value=str(path),
            expected="a file that a pretraining has written",
        ) from error
    blank = Pretrainer(1).network.state_dict()
    wanted = {key: value.shape for key, value in blank.items() if value.is_floating_point()}
    if {key: value.shape for key, value in state.items()} != wanted:
        raise WeightsError(
            "The weights to begin with are of another network", value=str(path), expected="ResNet18 up to layer3"
        )
    return state, history, digest


def write_weights(state: dict[str, Tensor], path: Path, *, description: dict[str, Any]) -> None:
    """Write the weights as float16 safetensors with their history as metadata, whole or not at all."""
    half = {key: value.half().contiguous() for key, value in state.items() if value.is_floating_point()}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.tmp")
    safetensors.torch.save_file(half, partial, metadata={"pretraining": json.dumps(description)})
    partial.replace(path)
