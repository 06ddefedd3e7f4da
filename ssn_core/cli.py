"""The command line: train, predict, cross-validate and inspect models without a database or a web page."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ssn_core import cli_benchmark, cli_table
from ssn_core.cli_options import add_data, add_recipe, cache_root, load_labelled, recipe_from
from ssn_core.errors import LayoutError, SettingError, SsnError
from ssn_core.honest import note
from ssn_core.operating_point import OperatingPoint, check_thresholds
from ssn_core.settling import in_words
from ssn_core.sources import SourceItem, scan
from ssn_core.terminal import bars, messages, write


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status (0 = done, 1 = an error that was explained, 2 = wrong usage)."""
    options = build_parser().parse_args(arguments)
    try:
        options.run(options)
    except SsnError as error:
        messages.print(f"Error: {error}", style="bold red", soft_wrap=True)
        return 1
    except OSError as error:  # a full disk, a folder that may not be written to: nothing a traceback explains better
        where = f": {error.filename!r}" if error.filename else ""
        messages.print(f"Error: {error.strerror or error}{where}", style="bold red", soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        messages.print("Stopped.")
        return 130
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(prog="python -m ssn_core", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    train = commands.add_parser("train", help="train a model on a folder or a CSV", allow_abbrev=False)
    add_data(train)
    add_recipe(train)
    train.add_argument("--out", type=Path, required=True, metavar="MODEL_DIR", help="folder to write the model to")
    train.set_defaults(run=_train)

    predict = commands.add_parser("predict", help="score images with a model", allow_abbrev=False)
    predict.add_argument("model", type=Path, metavar="MODEL_DIR")
    predict.add_argument("images", type=Path, metavar="IMAGES", help="an image, a folder or a CSV")
    predict.add_argument("--out", type=Path, required=True, metavar="CSV", help="table of scores to write")
    predict.add_argument("--overlays", type=Path, metavar="DIR", help="folder for images with the map laid over them")
    predict.add_argument("--threshold", type=float, help="score from which an image is bad (default: the model's)")
    predict.add_argument(
        "--threshold-low",
        type=float,
        help="lower threshold: images from here up to the threshold go to a person, verdict check (default: the "
        "model's, or none where --threshold is given)",
    )
    predict.set_defaults(run=_predict)

    crossval = commands.add_parser("crossval", help="measure a recipe by grouped cross-validation", allow_abbrev=False)
    add_data(crossval)
    add_recipe(crossval)
    crossval.add_argument("--fold-column", metavar="NAME", help="column of the CSV that names each image's fold")
    crossval.add_argument(
        "--choose-q",
        type=float,
        nargs="+",
        default=[],
        metavar="Q",
        help="pooling fractions to choose from, for each fold on its training folds alone",
    )
    crossval.add_argument("--out", type=Path, required=True, metavar="JSON", help="report to write")
    crossval.set_defaults(run=_crossval)

    cli_table.add_parser(commands)
    cli_benchmark.add_parser(commands)

    info = commands.add_parser("info", help="describe a model folder", allow_abbrev=False)
    info.add_argument("model", type=Path, metavar="MODEL_DIR")
    info.set_defaults(run=_info)

    generate = commands.add_parser("generate", help="make photographs of surfaces with defects", allow_abbrev=False)
    generate.add_argument("--out", type=Path, required=True, metavar="DIR", help="empty or new folder to write to")
    generate.add_argument("--images", type=int, default=300, metavar="N", help="default: 300")
    generate.add_argument("--seed", type=int, default=0, help="the same seed makes the same images (default: 0)")
    generate.add_argument("--materials", nargs="+", metavar="NAME", help="only some of the materials (default: all)")
    generate.add_argument("--image-size", type=int, nargs=2, metavar=("H", "W"), help="pixels (default: 256 256)")
    generate.set_defaults(run=_generate)
    return parser


# The commands import torch only when they run, so that --help and wrong settings answer at once.


def _train(options: argparse.Namespace) -> None:
    recipe = recipe_from(options)
    if options.out.exists():
        raise SettingError("--out exists already", value=str(options.out), expected="a folder that does not exist yet")

    from ssn_core.backbone import load_backbone
    from ssn_core.checkpoint import save_model
    from ssn_core.dataset import assign_parts
    from ssn_core.features import TapCache
    from ssn_core.inference import best_device
    from ssn_core.pipeline import train_model

    backbone = load_backbone(
        recipe.backbone, weights=options.weights, padding=recipe.padding, local=recipe.has_local_head
    )
    options.out.parent.mkdir(parents=True, exist_ok=True)  # fails now rather than after hours of work
    with bars() as reporter, cache_root(options) as cache:
        images = assign_parts(load_labelled(options, reporter))
        trained = train_model(
            recipe,
            images,
            TapCache(cache, backbone, recipe.image_size, recipe.scales),
            device=best_device(),
            reporter=reporter,
        )
    save_model(trained.model, options.out)
    messages.print(f"Model written to {options.out}")
    _print_card(options.out)


def _predict(options: argparse.Namespace) -> None:
    import numpy as np

    from ssn_core.checkpoint import load_model
    from ssn_core.engine_choice import engine_for, user_cache
    from ssn_core.imaging import decode
    from ssn_core.inference import best_device, score_files
    from ssn_core.rendering import overlay, png_bytes, to_display_size

    items = _items_to_score(options.images)
    model, backbone = load_model(options.model)
    calibration, point = model.calibration, _asked_for(options, model.operating_point)
    size, device = model.recipe.image_size, best_device()
    engine = engine_for(backbone, model.net, image_size=size, device=device, cache=user_cache())
    messages.print(f"Scores are computed {engine.note}", soft_wrap=True)
    errors: dict[str, str] = {}
    rows: dict[str, tuple[float, str]] = {}
    paths = {item.name: item.path for item in items}
    with bars() as reporter:
        scored = score_files(
            engine, list(paths.items()), on_error=lambda name, error: errors.update({name: str(error)})
        )
        for done, result in enumerate(scored, start=1):
            rows[result.key] = (result.score, point.verdict(result.score))
            if options.overlays is not None:
                photo = np.asarray(decode(paths[result.key]).rgb)
                # As the colour scale was set: blurred at the size of the network's input.
                shown = to_display_size(result.cam, size, sigma=model.recipe.map_sigma)
                picture = overlay(photo, shown, low=calibration.scale_low, high=calibration.scale_high)
                write(options.overlays / f"{result.key}.png", png_bytes(picture))
            reporter.progress("Scoring", done + len(errors), len(items))
    _write_scores(options.out, items, rows, errors, point)
    said = Counter(verdict for _, verdict in rows.values())
    person = f"{said['check']} to a person, " if point.threshold_low is not None else ""
    messages.print(
        f"{options.out}: {said['good']} good, {person}{said['bad']} bad, {len(errors)} unreadable, {_in_words(point)}"
    )


def _asked_for(options: argparse.Namespace, own: OperatingPoint) -> OperatingPoint:
    """The thresholds to use: the model's own, unless some were typed in; a typed upper one drops the own lower one."""
    high, low = options.threshold, options.threshold_low
    if high is None and low is None:
        return own
    high = own.threshold if high is None else high
    check_thresholds(high, low)
    return OperatingPoint(high, low, how="Typed in")


def _in_words(point: OperatingPoint) -> str:
    if point.threshold_low is None:
        return f"threshold {point.threshold:.4g}"
    return f"thresholds {point.threshold_low:.4g} and {point.threshold:.4g}"


def _items_to_score(path: Path) -> list[SourceItem]:
    if path.is_file() and path.suffix.lower() != ".csv":
        return [SourceItem(name=path.name, path=path, label=None, mask=None, group=None, split=None, fold=None)]
    found = scan(path)
    if not found.items:
        raise LayoutError("There are no images here", value=str(path), expected="an image, a folder or a CSV")
    return list(found.items)


def _write_scores(
    out: Path,
    items: Sequence[SourceItem],
    rows: dict[str, tuple[float, str]],
    errors: dict[str, str],
    point: OperatingPoint,
) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.tmp")
    with partial.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("image", "score", "verdict", "threshold", "threshold_low", "error"))
        for item in items:
            score, verdict = rows.get(item.name, ("", ""))
            low = "" if point.threshold_low is None else point.threshold_low
            table.writerow((item.name, score, verdict, point.threshold, low, errors.get(item.name, "")))
    partial.replace(out)


def _crossval(options: argparse.Namespace) -> None:
    recipe = recipe_from(options)
    for q in options.choose_q:
        recipe.with_settings({"pooling_fraction": q})  # refuses a value out of range before hours of work

    from ssn_core.backbone import load_backbone
    from ssn_core.crossval import assign_folds, cross_validate
    from ssn_core.features import TapCache
    from ssn_core.inference import best_device

    backbone = load_backbone(
        recipe.backbone, weights=options.weights, padding=recipe.padding, local=recipe.has_local_head
    )
    options.out.parent.mkdir(parents=True, exist_ok=True)  # fails now rather than after hours of work
    with bars() as reporter, cache_root(options) as cache:
        images = load_labelled(options, reporter, fold_column=options.fold_column)
        report = cross_validate(
            recipe,
            images,
            TapCache(cache, backbone, recipe.image_size, recipe.scales),
            folds=assign_folds(images, from_data=options.fold_column is not None),
            pooling_fractions=options.choose_q,
            device=best_device(),
            reporter=reporter,
        )
    report["settings"]["weights"] = backbone.weights
    report["command"] = "python -m ssn_core " + " ".join(sys.argv[1:])
    write(options.out, (json.dumps(report, indent=1, allow_nan=False) + "\n").encode())
    pooled = report["pooled"]
    figures = ", ".join(
        f"{title} {'n/a' if pooled[name] is None else format(pooled[name], '.4f')}" for name, title in _TITLES.items()
    )
    messages.print(f"{figures}; {pooled['n_good']} good, {pooled['n_bad']} bad; {report['seconds']} s")
    at = pooled["at_threshold"]
    if at is not None:
        messages.print(f"{at['rule']}: {_rates(at)}. {note(at['basis'], 'out_of_fold')}")


_TITLES = {"i_auroc": "I-AUROC", "ap_det": "AP-det", "p_auroc": "P-AUROC", "ap_loc": "AP-loc", "aupro": "AUPRO"}


def _generate(options: argparse.Namespace) -> None:
    from ssn_core.surfaces import DEFAULT_SIZE, MATERIALS, write_surfaces

    names, size = options.materials or tuple(MATERIALS), tuple(options.image_size or DEFAULT_SIZE)
    with bars() as reporter:
        tell = partial(reporter.progress, "Making surfaces")
        n_bad = write_surfaces(options.out, options.images, seed=options.seed, names=names, size=size, progress=tell)
    messages.print(f"{options.out / 'labels.csv'}: {options.images - n_bad} good, {n_bad} bad")


def _info(options: argparse.Namespace) -> None:
    _print_card(options.model)


def _print_card(folder: Path) -> None:
    from ssn_core.checkpoint import read_card, read_operating_point

    card, point = read_card(folder), read_operating_point(folder)
    labels = [entry["label"] for entry in card["data"]]
    figures, calibration = card["figures"], card["calibration"]
    lines = {
        "Model": str(folder),
        "Created": card["created"],
        "Recipe": card["recipe"],
        "Backbone": f"{card['settings']['backbone']}, {card['backbone']['weights']} weights, "
        f"SHA-256 {card['backbone']['sha256'][:16]}...",
        "Image size": " x ".join(map(str, card["settings"]["image_size"])) + " pixels (H x W)",
        **({"Length": in_words(figures["length"])} if figures.get("length") else {}),
        "Training data": f"{labels.count('good')} good, {labels.count('bad')} bad images",
        "Threshold": f"{point.threshold:.4g}: a score at or above it means bad",
        **({} if point.threshold_low is None else {"To a person": f"{point.threshold_low:.4g} up to the threshold"}),
        "Threshold by": _origin(point),
        "Calibrated on": f"{calibration['source']}: {calibration['n_good']} good, {calibration['n_bad']} bad; "
        f"suggested {calibration['threshold']:.4g}",
        "Measured on": f"{figures['held_out']}: {figures['n_good']} good, {figures['n_bad']} bad, "
        f"{figures['n_masks']} masks",
        **{title: "n/a" if figures[name] is None else f"{figures[name]:.4f}" for name, title in _TITLES.items()},
        **_at_suggested(figures),
        "Colour scale": _dark(calibration.get("scale_check")),
    }
    for title, value in lines.items():
        print(f"{title + ':':<15} {value}")


def _at_suggested(figures: dict[str, Any]) -> dict[str, str]:
    """What the suggested threshold does to the held-out images, and whether they had a say in it."""
    at = figures.get("at_threshold")
    if at is None:
        return {"At suggested": "n/a: the model is from before this was counted"}
    return {"At suggested": _rates(at), "Counted": note(at["basis"], figures["held_out"])}


def _rates(at: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {at[name]} of {at[n]} ({at[name] / at[n]:.1%})" if at[n] else f"{name} n/a: no {word} image"
        for name, n, word in (("escapes", "n_bad", "bad"), ("overkill", "n_good", "good"))
    )


def _dark(check: dict[str, Any] | None) -> str:
    if check is None:
        return "n/a: whether good images stay dark was not checked"
    how = "each at a scale set without it" if check["checked"] == "crosswise" else "test images"
    return f"{check['dark']} of {check['n_good']} good images stay dark ({how})"


def _origin(point: OperatingPoint) -> str:
    """How, by whom and when the thresholds in force were found."""
    who = f", {point.inspector}" if point.inspector else ""
    when = f", {point.saved_at.isoformat(sep=' ', timespec='minutes')}" if point.saved_at else ""
    return f"{point.how}{who}{when}" + (f" (version {point.version})" if point.version else "")
