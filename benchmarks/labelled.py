"""The labelled images of a data set, and options of a recipe, as every benchmark reads them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from ssn_core.backbone import Backbone
from ssn_core.dataset import LabelledImage, from_sources
from ssn_core.descriptors import Described, describe, find_usual, rendition_size
from ssn_core.errors import ImageError
from ssn_core.sources import scan


def labelled_images(data: Path, *, fold_column: str | None = "fold") -> list[LabelledImage]:
    """Images that are good or bad; those that cannot be read are named on the error stream and left out.

    Args:
        data: folder or CSV file.
        fold_column: of the CSV; None: there are no folds.
    """
    found = from_sources(
        scan(data, fold_column=fold_column).items,
        on_reject=lambda name, reason: print(f"{name}: {reason}", file=sys.stderr),
        progress=lambda *_: None,
    )
    return [image for image in found if image.bad is not None]


def described(
    backbones: Sequence[Backbone], images: Sequence[LabelledImage], image_size: tuple[int, int], device: torch.device
) -> dict[str, Described]:
    """Descriptors and outlier scores of images, by key; nothing but these images takes part in what is usual."""
    found, size = [(image.key, image.path) for image in images], rendition_size(image_size)

    def tell(key: str, error: ImageError) -> None:
        print(f"{key}: {error}", file=sys.stderr)

    usual = find_usual(backbones, found, image_size=size, device=device, on_error=tell)
    if usual is None:
        raise SystemExit("No image can be read")
    rows = describe(backbones, found, usual, image_size=size, device=device, on_error=tell)
    return {row.key: row for row in rows}


def add_settings(parser: argparse.ArgumentParser) -> None:
    """The options that choose backbone, weights and any setting of a recipe, but for its name and seed."""
    parser.add_argument("--backbone")
    parser.add_argument("--weights", default="auto")
    parser.add_argument("--image-size", type=int, nargs=2)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--set", action="append", default=[], dest="settings")
