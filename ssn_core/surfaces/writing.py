"""A folder of generated surfaces in the common layout: images, masks and a labels.csv."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image

from ssn_core.errors import SettingError
from ssn_core.surfaces.fields import Shape
from ssn_core.surfaces.generator import DEFAULT_SIZE, MATERIALS, Plan, check_materials, check_size, plan, render

COLUMNS = ("image", "label", "mask", "group", "fold")
MAX_IMAGES = 100_000
MAX_SEED = 2**32 - 1


def write_surfaces(
    out: Path,
    images: int = 300,
    *,
    seed: int = 0,
    names: Sequence[str] = tuple(MATERIALS),
    size: Shape = DEFAULT_SIZE,
    half_labelled: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write `images` surfaces below `out`: images/*.png, masks/*.png and, last, labels.csv.

    A quarter of the images is bad. Every file is there whole or not at all; labels.csv comes last, so a folder that
    has one is complete.

    Args:
        out: a folder that does not exist yet or is empty.
        images: 1 to 100,000.
        seed: 0 to 2**32 - 1; with the materials it decides everything.
        names: of MATERIALS; parts of them take turns.
        size: (H, W), pixels, 64 to 2048 each.
        half_labelled: leave the label of every second part of each material empty; masks are kept.
        progress: called with (images done, images in all); may raise to stop.

    Returns:
        The number of bad images.

    Raises:
        SettingError: the folder holds something, or a value is out of range.
        OSError: the folder cannot be written.
    """
    _check(out, images, seed)
    check_materials(names)
    check_size(size)
    table = io.StringIO(newline="")
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(COLUMNS)
    n_bad = 0
    for index in range(images):
        if progress is not None:
            progress(index, images)
        what = plan(index, seed=seed, names=names)
        rows.writerow(_write_one(out, what, seed, size, labelled=not (half_labelled and _second_part(what))))
        n_bad += what.defect is not None
    _write(out / "labels.csv", table.getvalue().encode())
    if progress is not None:
        progress(images, images)
    return n_bad


def _check(out: Path, images: int, seed: int) -> None:
    if not 1 <= images <= MAX_IMAGES:
        raise SettingError("The number of images is out of range", value=images, expected=f"1 to {MAX_IMAGES:,}")
    if not 0 <= seed <= MAX_SEED:
        raise SettingError("The seed is out of range", value=seed, expected=f"0 to {MAX_SEED}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise SettingError(
            "The folder to write to is not empty", value=str(out), expected="a folder that is empty or does not exist"
        )


def _second_part(what: Plan) -> bool:
    return int(what.part.rpartition("-")[2]) % 2 == 1


def _write_one(out: Path, what: Plan, seed: int, size: Shape, *, labelled: bool) -> tuple[str, str, str, str, str]:
    """Write one image with its mask; returns its line of the table. The name does not give the verdict away."""
    surface = render(what, seed=seed, size=size)
    name = f"{what.index:05}-{what.material}.png"
    _write(out / "images" / name, _png(Image.fromarray(surface.pixels)))
    mask = ""
    if what.defect is not None:
        mask = f"masks/{name}"
        _write(out / mask, _png(Image.fromarray(surface.mask)))
    label = ("good" if what.defect is None else "bad") if labelled else ""
    return f"images/{name}", label, mask, what.part, what.fold


def _png(picture: Image.Image) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "PNG", compress_level=1)  # noise does not get smaller by trying harder
    return stream.getvalue()


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        beside.write_bytes(data)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
