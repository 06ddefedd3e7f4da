"""How much faster scores are computed than in the published way, step by step, in one run.

    python -m benchmarks.inference --backbone resnet18 --image-size 256 256 --out benchmarks/results/inference.json

The reference ("published") is the published way of computing, written plainly, with the same weights as ours
(:mod:`ssn_core.reference`).
"plain" is the recipe's own network, written just as plainly: it computes the same numbers as ours, for `cam` from
features of layer2's own size.

All computations take turns, so that a busy machine slows all of them alike; figures are medians over the rounds.
Decoding is not in them. OpenVINO has rows where it is installed. `error` is the largest difference of a score from the
recipe's plain network on the probe of :mod:`ssn_core.engine_choice`, logit. "Chosen" is what
:func:`ssn_core.engine_choice.choose` takes here.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ssn_core.backbone import Backbone, load_backbone
from ssn_core.checkpoint import load_model
from ssn_core.engine import EXACT, PLAIN, Engine, Plan, build, plans_in_few_bits, plans_of_openvino
from ssn_core.engine_choice import choose, probe_pixels
from ssn_core.folded import Place, fold
from ssn_core.inference import device_title
from ssn_core.model import CamNet
from ssn_core.recipes import get_recipe
from ssn_core.reference import Scores, published
from ssn_core.timing import Timing, take_turns

CPU = torch.device("cpu")


def computations(backbone: Backbone, net: CamNet, size: tuple[int, int]) -> dict[str, Scores]:
    """Every step from the published way to ours."""
    taps = backbone(torch.zeros(1, 3, *size, dtype=torch.uint8))
    shapes = tuple((tap.shape[1], tap.shape[2], tap.shape[3]) for tap in taps)
    folded = fold(net, Place(shapes, torch.float32, CPU))

    def made(plan: Plan) -> Scores:
        forward = build(plan, backbone, net, image_size=size, device=CPU)
        return Engine(plan=plan, note="", image_size=size, device=CPU, _forward=forward)

    return {
        "published": published(backbone, net, CPU),
        PLAIN.title: made(PLAIN),
        "folded head, plain backbone, float32": lambda pixels: folded(backbone(pixels)),
        EXACT.title: made(EXACT),
        **{plan.title: made(plan) for plan in (*reversed(plans_in_few_bits(CPU)), *reversed(plans_of_openvino(CPU)))},
    }


def medians(found: dict[str, Scores], pixels: Tensor, rounds: int) -> dict[str, Timing]:
    """Of each computation on a batch."""
    return take_turns({name: partial(forward, pixels) for name, forward in found.items()}, rounds=rounds)


@torch.inference_mode()
def measure(
    title: str, backbone: Backbone, net: CamNet, size: tuple[int, int], *, batches: Sequence[int], rounds: int
) -> list[dict[str, Any]]:
    """One row a step."""
    found = computations(backbone, net, size)
    probe = probe_pixels(size)
    expected = found[PLAIN.title](probe).score
    chosen = choose(backbone, net, image_size=size, device=CPU)
    at_one = medians(found, probe[:1], rounds)
    best = {name: (1000 / timing.p50_ms, 1) for name, timing in at_one.items()}
    for batch in batches:
        pixels = probe.repeat(-(-batch // len(probe)), 1, 1, 1)[:batch].contiguous(memory_format=torch.channels_last)
        for name, timing in medians(found, pixels, max(3, rounds // 4)).items():
            best[name] = max(best[name], (1000 * batch / timing.p50_ms, batch))
    rows = []
    for name, forward in found.items():
        timing = at_one[name]
        error = float((forward(probe).score - expected).abs().max())
        rows.append(
            {
                "recipe": title,
                "computation": name,
                "chosen": name == chosen.plan.title,
                "p50_ms": round(timing.p50_ms, 2),
                "p95_ms": round(timing.p95_ms, 2),
                "reference_p50_ms": round(at_one["published"].p50_ms, 2),
                "ratio": round(at_one["published"].p50_ms / timing.p50_ms, 2),
                "ratio_to_plain": round(at_one[PLAIN.title].p50_ms / timing.p50_ms, 2),
                "images_per_s": round(best[name][0], 1),
                "best_batch": best[name][1],
                "throughput_ratio": round(best[name][0] / best["published"][0], 2),
                # The published way at another feature size and padding is another function of the image.
                "error": None if name == "published" else float(f"{error:.2g}"),
            }
        )
    return rows


def print_table(rows: list[dict[str, Any]]) -> None:
    """The rows as Markdown."""
    print(
        "| recipe | computation | batch 1, ms (p95) | x published | x plain | images/s (batch) | x published | error |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for row in rows:
        name = f"**{row['computation']}** (chosen)" if row["chosen"] else row["computation"]
        error = "n/a" if row["error"] is None else format(row["error"], ".1g")
        cells = (
            row["recipe"],
            name,
            f"{row['p50_ms']} ({row['p95_ms']})",
            row["ratio"],
            row["ratio_to_plain"],
            f"{row['images_per_s']} ({row['best_batch']})",
            row["throughput_ratio"],
            error,
        )
        print("| " + " | ".join(map(str, cells)) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--weights", default="auto", help="of the backbone; the head is random without --model")
    parser.add_argument("--model", type=Path, nargs="*", default=[], help="trained models, instead of random heads")
    parser.add_argument("--recipes", nargs="*", default=["gap-cam", "cam"])
    parser.add_argument("--image-size", type=int, nargs=2, default=(256, 256), metavar=("H", "W"))
    parser.add_argument("--batches", type=int, nargs="*", default=(2, 4, 8), help="batch sizes besides 1")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    size = (options.image_size[0], options.image_size[1])
    rows = []
    for folder in options.model:
        model, backbone = load_model(folder)
        title = f"{model.recipe.name} (trained)"
        rows += measure(title, backbone, model.net, size, batches=options.batches, rounds=options.rounds)
    for name in [] if options.model else options.recipes:
        recipe = get_recipe(name).with_settings({"backbone": options.backbone})
        torch.manual_seed(0)
        backbone = load_backbone(
            recipe.backbone, weights=options.weights, padding=recipe.padding, local=recipe.has_local_head
        )
        rows += measure(name, backbone, CamNet(recipe).eval(), size, batches=options.batches, rounds=options.rounds)
    print_table(rows)
    report = {
        "command": " ".join(["python", "-m", "benchmarks.inference", *sys.argv[1:]]),
        "backbone": backbone.name,
        "weights": backbone.weights,
        "image_size": list(size),
        "rows": rows,
        "device": device_title(CPU),
        "cpu": torch.cpu.get_capabilities().get("cpu_name") if hasattr(torch.cpu, "get_capabilities") else None,
        "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY"),
        "torch": torch.__version__,
        "date": datetime.now(UTC).date().isoformat(),
    }
    print(f"\n{report['device']}; {report['cpu']}; torch {report['torch']}; {report['date']}")
    if options.out:
        options.out.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
