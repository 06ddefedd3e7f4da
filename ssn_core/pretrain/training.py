"""The pretraining run: textures in, a frozen backbone's weights out.

Two tasks share the network: which texture class is this (from the mean of layer2 and of layer3), and which cells hold a
mark. Both are read off exactly the layers whose features the product uses.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from ssn_core.backbone import IMAGENET_MEAN, IMAGENET_STD
from ssn_core.errors import SettingError
from ssn_core.pretrain.marks import add_marks, cells_touched
from ssn_core.pretrain.textures import make_bank, render

_STAGES = ("conv1", "bn1", "layer1", "layer2", "layer3")


@dataclass(frozen=True)
class Settings:
    """Everything that decides the result, device and library versions aside."""

    steps: int = 4000
    batch_size: int = 128
    image_size: int = 64  # pixels
    n_classes: int = 2000
    peak_lr: float = 2e-3
    weight_decay: float = 0.02
    marked_share: float = 0.6
    seed: int = 0


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
        self.mark2, self.mark3 = nn.Conv2d(128, 1, 1), nn.Conv2d(256, 1, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Class logits from layer2 and layer3, then mark logits (B, h, w) of both."""
        n = self.network
        x = n.layer1(n.maxpool(n.relu(n.bn1(n.conv1(images)))))
        tap2 = n.layer2(x)
        tap3 = n.layer3(tap2)
        return (
            self.class2(tap2.mean((2, 3))),
            self.class3(tap3.mean((2, 3))),
            self.mark2(tap2)[:, 0],
            self.mark3(tap3)[:, 0],
        )


def pretrain(
    settings: Settings,
    *,
    device: torch.device,
    state_file: Path | None = None,
    cool_down: int = 0,
    on_step: Callable[[int, dict[str, float]], None] | None = None,
    log_every: int = 50,
) -> tuple[dict[str, Tensor], list[dict[str, float]]]:
    """Run, or go on with, a pretraining.

    Args:
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
        if state["settings"] != asdict(settings):
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
        images = render(bank, classes, settings.image_size, generator=generator)
        images, opacity = add_marks(images, share=settings.marked_share, generator=generator)
        images = ((images - mean) / std).contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16):
            class2, class3, mark2, mark3 = net(images)
        losses = {
            "class3": F.cross_entropy(class3.float(), classes, label_smoothing=0.1),
            "class2": F.cross_entropy(class2.float(), classes, label_smoothing=0.1),
            "mark2": _mark_loss(mark2.float(), opacity),
            "mark3": _mark_loss(mark3.float(), opacity),
        }
        loss = losses["class3"] + 0.5 * losses["class2"] + 2.0 * losses["mark2"] + losses["mark3"]
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimiser.step()
        schedule.step()
        step += 1
        for name, value in losses.items():
            sums[name] = sums.get(name, 0.0) + float(value.detach())
        sums["lr"] = sums.get("lr", 0.0) + float(optimiser.param_groups[0]["lr"])
        sums["accuracy"] = sums.get("accuracy", 0.0) + float((class3.argmax(1) == classes).float().mean())
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


def _mark_loss(logits: Tensor, opacity: Tensor) -> Tensor:
    """Cross-entropy on the marked cells and on the others, each with half the weight: marks are rare."""
    target = cells_touched(opacity, logits.shape[-1])
    loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    marked = target.sum().clamp_min(1.0)
    rest = (1 - target).sum().clamp_min(1.0)
    return 0.5 * ((loss * target).sum() / marked + (loss * (1 - target)).sum() / rest)


def write_weights(state: dict[str, Tensor], path: Path, *, description: dict[str, Any]) -> None:
    """Write the weights as float16 safetensors with their history as metadata, whole or not at all."""
    half = {key: value.half().contiguous() for key, value in state.items() if value.is_floating_point()}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.tmp")
    safetensors.torch.save_file(half, partial, metadata={"pretraining": json.dumps(description)})
    partial.replace(path)
