"""The labelled images of a data set, as every benchmark reads them."""

from __future__ import annotations

import sys
from pathlib import Path

from ssn_core.dataset import LabelledImage, from_sources
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
