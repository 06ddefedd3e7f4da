"""The command `benchmark`: speed and memory of recipes and models, each beside the published way. Imports torch only
when it runs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ssn_core import weights
from ssn_core.errors import LayoutError, SettingError
from ssn_core.recipes import BACKBONES, RECIPES, get_recipe, recorded
from ssn_core.sources import scan
from ssn_core.terminal import bars, messages, write

if TYPE_CHECKING:
    from ssn_core.benchmark import Candidate
    from ssn_core.benchmark_row import Row

_PICTURES = 16  # files of --images that are decoded in turn
_MOST_ROUNDS = 10_000


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command with its options."""
    bench = commands.add_parser(
        "benchmark", help="measure speed and memory beside the published way", allow_abbrev=False
    )
    bench.add_argument("--backbones", nargs="+", default=list(BACKBONES), metavar="NAME", help="default: all")
    bench.add_argument("--recipes", nargs="+", default=list(RECIPES), metavar="NAME", help="default: all")
    bench.add_argument("--adaptors", nargs="+", metavar="NAME", help="default: the recipe's")
    bench.add_argument(
        "--models", nargs="+", type=Path, default=[], metavar="MODEL_DIR", help="trained models, instead of recipes"
    )
    bench.add_argument("--image-size", type=int, nargs=2, metavar=("H", "W"), help="pixels (default: the recipe's)")
    bench.add_argument(
        "--weights",
        default=weights.AUTO,
        help="auto (what is found without a download: ImageNet's, the bundled ones, else random ones, which are as "
        "fast), imagenet, bundled or random (default: auto)",
    )
    bench.add_argument("--images", type=Path, metavar="IMAGES", help="files to decode (default: generated PNG files)")
    bench.add_argument("--batches", type=int, nargs="*", metavar="N", help="batch sizes to try besides 1")
    bench.add_argument("--rounds", type=int, default=20, metavar="N", help="calls of each computation (default: 20)")
    bench.add_argument("--threads", type=int, metavar="N", help="of the CPU (default: one a core)")
    bench.add_argument("--out", type=Path, required=True, metavar="CSV", help="table to write, one row a measurement")
    bench.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    _check(options)
    candidates = _candidates(options)

    import torch

    from ssn_core.benchmark import STEPS, Effort, measure
    from ssn_core.benchmark_row import to_csv
    from ssn_core.engine_choice import user_cache
    from ssn_core.inference import best_device

    if options.threads is not None:
        torch.set_num_threads(options.threads)
    effort = Effort(options.rounds, None if options.batches is None else tuple(options.batches))
    pictures = _pictures(options.images)
    options.out.parent.mkdir(parents=True, exist_ok=True)  # fails now rather than after minutes of work
    rows: list[Row] = []
    with bars() as reporter:
        for number, candidate in enumerate(candidates):

            def tell(_what: str, done: int, before: int = number * STEPS) -> None:
                reporter.progress("Measuring", before + done, STEPS * len(candidates))

            rows.append(
                measure(
                    candidate,
                    device=best_device(),
                    pictures=pictures,
                    cache=user_cache(),
                    effort=effort,
                    tell=tell,
                )
            )
            write(options.out, to_csv(rows))  # after each: what is measured is never lost
            messages.print(_in_words(rows[-1]), soft_wrap=True)
    messages.print(
        f"{options.out}: {len(rows)} row{'' if len(rows) == 1 else 's'}; {rows[0].machine}, {rows[0].device}"
    )


def _check(options: argparse.Namespace) -> None:
    if options.out.suffix.lower() != ".csv":
        raise SettingError("--out names a CSV file", value=str(options.out), expected="a name that ends in .csv")
    for name, value, most in (("--rounds", options.rounds, _MOST_ROUNDS), ("--threads", options.threads, 1024)):
        if value is not None and not 1 <= value <= most:
            raise SettingError(f"{name} is out of range", value=value, expected=f"a whole number from 1 to {most}")
    for batch in options.batches or ():
        if not 2 <= batch <= 4096:
            raise SettingError("A batch size is out of range", value=batch, expected="a whole number from 2 to 4096")


def _candidates(options: argparse.Namespace) -> list[Candidate]:
    """What to measure; every name and value is checked before torch is loaded."""
    settings = {} if options.image_size is None else {"image_size": tuple(options.image_size)}
    recipes = [
        get_recipe(name).with_settings(
            {**settings, "backbone": backbone, **({} if adaptor is None else {"adaptor": adaptor})}
        )
        for name in options.recipes
        for backbone in options.backbones
        for adaptor in options.adaptors or (None,)
    ]
    from ssn_core.benchmark import Candidate
    from ssn_core.checkpoint import read_card

    if options.models:
        cards = [(folder, read_card(folder)) for folder in options.models]
        return [
            Candidate(folder.name, recorded(card["recipe"], card["settings"]).with_settings(settings), folder=folder)
            for folder, card in cards
        ]
    return [
        Candidate(
            f"{recipe.name}, {recipe.backbone}, {recipe.adaptor}", recipe, weights=_weights(options, recipe.backbone)
        )
        for recipe in recipes
    ]


def _weights(options: argparse.Namespace, backbone: str) -> str:
    """Nothing is downloaded for a measurement of speed, unless ImageNet's weights are asked for by name."""
    if options.weights != weights.AUTO:
        return str(options.weights)
    if weights.find_imagenet(backbone) is not None:
        return "imagenet"
    return "random" if weights.bundled(backbone) is None else "bundled"


def _pictures(images: Path | None) -> list[Path]:
    if images is None:
        return []
    found = (
        [images] if images.is_file() and images.suffix.lower() != ".csv" else [item.path for item in scan(images).items]
    )
    if not found:
        raise LayoutError("There are no images here", value=str(images), expected="an image, a folder or a CSV")
    step = max(1, len(found) // _PICTURES)
    return found[::step][:_PICTURES]


def _in_words(row: Row) -> str:
    return (
        f"{row.title}: {row.p50_ms:.1f} ms an image (reference {row.reference_p50_ms:.1f}, {row.ratio:.1f} times), "
        f"with decoding {row.decoded_p50_ms:.1f} ms; {row.images_per_s:.1f} images/s in batches of {row.best_batch}; "
        f"{row.peak_memory_mib:.0f} MiB"
    )
