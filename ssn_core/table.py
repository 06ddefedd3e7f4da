"""The comparison as one table: every recipe that data and weights allow, cross-validated, beside published figures.

A row that cannot be measured says why. A row that is in the file already, made from the same data, weights and
settings, is kept, so a long run can be stopped and gone on with, or added to with other settings.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from ssn_core.backbone import Backbone, load_backbone
from ssn_core.crossval import assign_folds, cross_validate
from ssn_core.dataset import LabelledImage
from ssn_core.errors import SsnError, WeightsError
from ssn_core.features import TapCache
from ssn_core.inference import device_title
from ssn_core.published import PUBLISHED, Published
from ssn_core.recipes import Recipe
from ssn_core.reporting import Reporter
from ssn_core.terminal import write

_FIGURES = ("ap_det", "i_auroc", "ap_loc", "p_auroc", "aupro")
_COUNTED = "AUPRO of the regions as drawn"  # a row that was counted otherwise is measured again, not kept beside these
_TITLES = {"ap_det": "AP-det", "i_auroc": "I-AUROC", "ap_loc": "AP-loc", "p_auroc": "P-AUROC", "aupro": "AUPRO"}
_LEARNS_FROM = {"labels": "image labels", "good": "good images", "masks": "all masks", "mixed": "labels and masks"}


@dataclass(frozen=True)
class Row:
    """One recipe with one backbone, all as text, so that a row reads back from CSV as it is; "" = n/a."""

    recipe: str
    backbone: str
    adaptor: str
    noise: str
    learns_from: str
    weights: str
    image_size: str  # "H x W", pixels; ", 3 scales" where there are several
    ap_det: str  # as the other figures a share, 0 to 1
    i_auroc: str
    ap_loc: str
    p_auroc: str
    aupro: str
    n_good: str
    n_bad: str
    n_masks: str
    folds: str
    seed: str
    epochs: str  # 0 = automatic; "300 at most" where they may end early
    seconds: str
    device: str
    torch: str
    date: str
    not_measured: str  # why; "" where it was
    made_of: str  # SHA-256, shortened, of data, folds, weights, settings and how figures are counted
    data: str  # SHA-256, shortened, of images, labels, folds and masks

    @property
    def place(self) -> tuple[str, ...]:
        """What a row is in the table: a later row of the same place takes its place."""
        return (self.recipe, self.backbone, self.adaptor, self.noise, self.image_size, self.seed)


def make_table(
    recipes: Sequence[Recipe],
    images: Sequence[LabelledImage],
    *,
    weights: str,
    fold_column: bool,
    cache: Path,
    out: Path,
    command: str,
    device: torch.device,
    reporter: Reporter,
    say: Callable[[str], None],
) -> list[Row]:
    """Measure what is not in the table yet, and write it after every row as CSV and, beside it, as Markdown.

    Args:
        recipes: one a row, with its backbone and all other settings.
        fold_column: the images' own folds; else folds are dealt by group.
        out: the CSV file; the Markdown has the same name with .md.
        say: told what each row came to.
    """
    backbones: dict[tuple[str, str, bool], Backbone | SsnError] = {}

    def backbone_of(recipe: Recipe) -> Backbone:
        key = (recipe.backbone, recipe.padding, recipe.has_local_head)
        if key not in backbones:
            # Without weights, another padding would not find them either.
            failed = backbones.get((recipe.backbone, "", False))
            try:
                backbones[key] = failed or load_backbone(
                    recipe.backbone, weights=weights, padding=recipe.padding, local=recipe.has_local_head
                )
            except WeightsError as error:
                backbones[key] = backbones[recipe.backbone, "", False] = error
        found = backbones[key]
        if isinstance(found, SsnError):
            raise found
        return found

    data = _data_digest(images)
    rows = _read(out)
    if any(row.data != data for row in rows):
        raise SsnError(
            "The table was made from other images, labels or masks", value=str(out), action="Choose another --out"
        )
    for number, recipe in enumerate(recipes, start=1):
        title = f"Row {number} of {len(recipes)}: {recipe.name}, {recipe.backbone}"
        try:
            backbone = backbone_of(recipe)
            made_of = _digest([data, fold_column, backbone.weights_hash, _settings(recipe), _COUNTED])
            if any(row.made_of == made_of and not row.not_measured for row in rows):
                say(f"{title}: is there already")
                continue
            say(f"{title} ...")
            need_bad = recipe.learns_from != "good"
            report = cross_validate(
                recipe,
                images,
                TapCache(cache, backbone, recipe.image_size, recipe.scales),
                folds=assign_folds(images, from_data=fold_column, need_bad=need_bad),
                device=device,
                reporter=reporter,
            )
            pooled = {**report["pooled"], "folds": len(report["folds"])}
            row = _row(recipe, pooled, backbone.weights, made_of=made_of, data=data, device=device)
        except SsnError as error:
            row = _row(recipe, {}, "", made_of="", data=data, device=device, why=str(error))
        rows = [other for other in rows if other.place != row.place]
        rows.append(row)
        say(f"{title}: {row.not_measured or ', '.join(f'{_TITLES[n]} {_shown(getattr(row, n))}' for n in _FIGURES)}")
        write(out, _csv(rows))
        write(out.with_suffix(".md"), markdown(rows, command=command).encode())
    return rows


def markdown(rows: Sequence[Row], *, command: str) -> str:
    """The table as Markdown, with the published figures below it."""
    titles = ["Recipe", "Backbone", "Adaptor", "Noise", "Learns from", *_TITLES.values(), "good / bad / masks"]
    lines = [
        "Cross-validated by group: every image is scored by a network that never saw its group. Shares from 0 to 1.",
        "",
        "```sh",
        command,
        "```",
        "",
        *_table(
            [*titles, "Size", "Epochs", "Seed", "Seconds", "Weights", "Device", "Date", "Published AP-det / AP-loc, %"],
            [_cells(row) for row in rows if not row.not_measured],
        ),
    ]
    if missing := [row for row in rows if row.not_measured]:
        cells = [[row.recipe, row.backbone, row.adaptor, row.noise, _safe(row.not_measured)] for row in missing]
        lines += ["", "Not measured:", "", *_table(["Recipe", "Backbone", "Adaptor", "Noise", "Why"], cells)]
    published = [
        [p.data, p.method, p.labels, *(_per_cent(getattr(p, name)) for name in _FIGURES), p.recipe or "", p.source]
        for p in PUBLISHED
    ]
    header = ["Data", "Method", "Labels used", *_TITLES.values(), "Recipe here", "Source"]
    lines += ["", "Published, in per cent, on their authors' data and splits:", "", *_table(header, published), ""]
    return "\n".join(lines)


def _cells(row: Row) -> list[str]:
    figures = [_shown(getattr(row, name)) for name in _FIGURES]
    counts = f"{row.n_good} / {row.n_bad} / {row.n_masks}"
    epochs = "automatic" + row.epochs[1:] if row.epochs.split()[0] == "0" else row.epochs
    learns_from = _LEARNS_FROM.get(row.learns_from, row.learns_from)
    described = [row.recipe, row.backbone, row.adaptor, row.noise, learns_from]
    run = [row.image_size, epochs, row.seed, row.seconds, row.weights, row.device, row.date]
    return [*described, *figures, counts, *run, _published_of(row.recipe)]


def _published_of(recipe: str) -> str:
    found = [p for p in PUBLISHED if p.recipe == recipe]
    return "; ".join(_in_words(p) for p in found) or "none"


def _in_words(p: Published) -> str:
    return f"{_per_cent(p.ap_det)} / {_per_cent(p.ap_loc)} ({p.data}, {p.labels})"


def _per_cent(value: float | None) -> str:
    return "–" if value is None else f"{value:g}"


def _shown(value: str) -> str:
    return f"{float(value):.4f}" if value else "n/a"


def _safe(text: str) -> str:
    """Text that may hold names from outside, in one cell of a Markdown table."""
    return " ".join(text.split()).replace("\\", "/").replace("|", "\\|").replace("<", "&lt;")


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(cells) + " |" for cells in (header, ["---"] * len(header), *rows)]


def _row(
    recipe: Recipe,
    pooled: Mapping[str, Any],
    weights: str,
    *,
    made_of: str,
    data: str,
    device: torch.device,
    why: str = "",
) -> Row:
    figures = {name: _text(pooled.get(name)) for name in (*_FIGURES, "n_good", "n_bad", "n_masks", "folds", "seconds")}
    return Row(
        recipe=recipe.name,
        backbone=recipe.backbone,
        adaptor=recipe.adaptor,
        noise=recipe.noise_kind,
        learns_from=recipe.learns_from,
        weights=weights,
        image_size=" x ".join(map(str, recipe.image_size)) + (f", {recipe.scales} scales" if recipe.scales > 1 else ""),
        **figures,
        seed=str(recipe.seed),
        epochs=f"{recipe.epochs} at most" if recipe.early_stop else str(recipe.epochs),
        device=device_title(device),
        torch=torch.__version__,
        date=datetime.now(UTC).date().isoformat(),
        not_measured=why,
        made_of=made_of,
        data=data,
    )


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _csv(rows: Sequence[Row]) -> bytes:
    target = io.StringIO()
    table = csv.DictWriter(target, [field.name for field in fields(Row)])
    table.writeheader()
    table.writerows(asdict(row) for row in rows)
    return target.getvalue().encode("utf-8", "replace")


def _read(path: Path) -> list[Row]:
    """The rows of an earlier run; none where there was none, or where the file is not such a table."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            found = list(csv.DictReader(file))
    except FileNotFoundError:
        return []
    names = {field.name for field in fields(Row)}
    if any(set(row) != names or None in row.values() for row in found):
        raise SsnError("The table's file holds something else", value=str(path), action="Choose another --out")
    return [Row(**row) for row in found]


def _settings(recipe: Recipe) -> dict[str, Any]:
    """What differs from the fields' defaults: a setting that is added to the program later makes no row another one."""
    defaults = Recipe(name="", title="", description="").settings()
    return {name: value for name, value in recipe.settings().items() if value != defaults[name]}


def _data_digest(images: Sequence[LabelledImage]) -> str:
    return _digest(
        sorted([image.key, bool(image.bad), image.group, image.fold or "", image.mask is not None] for image in images)
    )


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
