"""What several commands share: their options, the recipe these describe, and the labelled images of a data set."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ssn_core.errors import SettingError
from ssn_core.recipes import ADAPTORS, BACKBONES, DEFAULT_RECIPE, NOISES, RECIPES, Recipe, chosen
from ssn_core.sources import scan
from ssn_core.terminal import BarReporter, messages
from ssn_core.weights import AUTO


def add_data(parser: argparse.ArgumentParser) -> None:
    """Where the images are, and where their features are kept."""
    parser.add_argument(
        "data",
        type=Path,
        metavar="DATA",
        help="a folder (MVTec AD, KSDD2, KolektorSDD, good/bad folders) or a CSV: image,label[,mask,group,split,fold]",
    )
    parser.add_argument("--cache", type=Path, metavar="DIR", help="keep backbone features here between runs")


def add_recipe(parser: argparse.ArgumentParser) -> None:
    """Everything that :func:`recipe_from` reads."""
    parser.add_argument("--recipe", default=DEFAULT_RECIPE, help=f"{', '.join(RECIPES)} (default: {DEFAULT_RECIPE})")
    parser.add_argument("--backbone", help=f"{', '.join(BACKBONES)} (default: the recipe's)")
    parser.add_argument("--adaptor", help=f"{', '.join(ADAPTORS)} (default: the recipe's)")
    parser.add_argument("--noise", help=f"synthetic anomalies: {', '.join(NOISES)} (default: the recipe's)")
    parser.add_argument("--beta", type=float, help="bound of the learned noise (default: the recipe's, 0.05)")
    add_run(parser)


def add_run(parser: argparse.ArgumentParser) -> None:
    """Options that go with every recipe."""
    parser.add_argument(
        "--weights",
        default=AUTO,
        help="auto (ImageNet's where they can be had, else the bundled backbone), imagenet, bundled, "
        "or random (for tests and speed measurement only; default: auto)",
    )
    parser.add_argument("--image-size", type=int, nargs=2, metavar=("H", "W"), help="pixels (default: the recipe's)")
    parser.add_argument(
        "--scales",
        type=int,
        help="sizes at which an image is looked at, each of half the pixels of the one before (cam alone; default: 1)",
    )
    parser.add_argument("--epochs", type=int, help="0 = automatic (default: the recipe's)")
    parser.add_argument(
        "--early-stop",
        action="store_true",
        default=None,
        help="first find out, on half of the training images, how many of these epochs are needed",
    )
    parser.add_argument("--seed", type=int, help="of all random numbers (default: 0)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        dest="settings",
        help="any other setting of the recipe, such as pooling_fraction=0.05; can be repeated",
    )


def recipe_from(options: argparse.Namespace) -> Recipe:
    """The recipe that the options describe; an option that the command does not have is the recipe's own.

    Raises:
        SettingError: a recipe or setting that does not exist, or a value out of range.
    """
    settings: dict[str, Any] = {}
    for entry in options.settings:
        name, equals, text = entry.partition("=")
        if not equals:
            raise SettingError("A setting has no value", value=entry, expected="NAME=VALUE")
        settings[name] = _value(text)
    return chosen(options.recipe, vars(options), settings)


def _value(text: str) -> Any:
    """A setting's value: a JSON number, boolean or list, else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def load_labelled(options: argparse.Namespace, reporter: BarReporter, *, fold_column: str | None = None) -> list[Any]:
    """The labelled images of a data set (:class:`ssn_core.dataset.LabelledImage`); what is left out is said."""
    from ssn_core.dataset import from_sources

    found = scan(options.data, fold_column=fold_column)
    for problem in (*found.problems, *(f"{name}: {reason}" for name, reason in found.ignored)):
        messages.print(f"Note: {problem}", soft_wrap=True)
    images = from_sources(
        found.items,
        on_reject=lambda name, reason: messages.print(f"Left out {name}: {reason}", soft_wrap=True),
        progress=lambda done, total: reporter.progress("Checking files", done, total),
    )
    labelled = [image for image in images if image.bad is not None]
    bad = sum(bool(image.bad) for image in labelled)
    messages.print(
        f"{found.title}: {len(images)} different images, {len(labelled) - bad} good, {bad} bad, "
        f"{len(images) - len(labelled)} without a label"
    )
    return labelled


@contextmanager
def cache_root(options: argparse.Namespace) -> Iterator[Path]:
    """The folder for features: the one asked for, or one that lasts as long as the command."""
    if options.cache is not None:
        yield options.cache
        return
    with tempfile.TemporaryDirectory(prefix="ssn-taps-") as folder:
        yield Path(folder)
