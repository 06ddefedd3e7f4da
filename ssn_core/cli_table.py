"""The command `table`: all recipes on one data set. Imports torch only when it runs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ssn_core.cli_options import add_data, add_run, cache_root, load_labelled, recipe_from
from ssn_core.errors import SettingError
from ssn_core.recipes import ADAPTORS, BACKBONES, NOISES, RECIPES, Recipe
from ssn_core.terminal import bars, messages


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command with its options."""
    table = commands.add_parser("table", help="cross-validate all recipes into one table", allow_abbrev=False)
    add_data(table)
    table.add_argument("--fold-column", metavar="NAME", help="column of the CSV that names each image's fold")
    table.add_argument("--recipes", nargs="+", default=list(RECIPES), metavar="NAME", help="default: all")
    table.add_argument("--backbones", nargs="+", default=list(BACKBONES), metavar="NAME", help="default: all")
    table.add_argument("--adaptors", nargs="+", metavar="NAME", help=f"{', '.join(ADAPTORS)} (default: the recipe's)")
    table.add_argument("--noises", nargs="+", metavar="NAME", help=f"{', '.join(NOISES)} (default: the recipe's)")
    table.add_argument("--beta", type=float, help="bound of the learned noise (default: the recipe's, 0.05)")
    add_run(table)
    table.add_argument("--out", type=Path, required=True, metavar="CSV", help="table to write; beside it goes a .md")
    table.set_defaults(run=_run)


def recipes_of(options: argparse.Namespace) -> list[Recipe]:
    """One recipe a row: every combination that was asked for, leaving out noises that a recipe cannot do without.

    Raises:
        SettingError: a name or value that does not exist.
    """
    for name in (*(options.noises or ()), *(options.adaptors or ())):
        if name not in (*NOISES, *ADAPTORS):
            raise SettingError("Unknown noise or adaptor", value=name, expected=", ".join((*NOISES, *ADAPTORS)))
    found = []
    for name in options.recipes:
        for backbone in options.backbones:
            for adaptor in options.adaptors or (None,):
                for noise in options.noises or (None,):
                    row = {"recipe": name, "backbone": backbone, "adaptor": adaptor, "noise": noise}
                    if noise == "none" and RECIPES[name].learns_from == "good":
                        continue
                    if not RECIPES[name].has_local_head:
                        row["scales"] = None  # it looks at one size
                    found.append(recipe_from(argparse.Namespace(**{**vars(options), **row})))
    return found


def _run(options: argparse.Namespace) -> None:
    for name in options.recipes:
        if name not in RECIPES:
            raise SettingError("Unknown recipe", value=name, expected="some of " + ", ".join(RECIPES))
    recipes = recipes_of(options)
    if options.out.suffix.lower() != ".csv":
        raise SettingError("--out names a CSV file", value=str(options.out), expected="a name that ends in .csv")

    from ssn_core.inference import best_device
    from ssn_core.table import make_table

    options.out.parent.mkdir(parents=True, exist_ok=True)  # fails now rather than after hours of work
    with bars() as reporter, cache_root(options) as cache:
        images = load_labelled(options, reporter, fold_column=options.fold_column)
        rows = make_table(
            recipes,
            images,
            weights=options.weights,
            fold_column=options.fold_column is not None,
            cache=cache,
            out=options.out,
            command="python -m ssn_core " + " ".join(sys.argv[1:]),
            device=best_device(),
            reporter=reporter,
            say=lambda text: messages.print(text, soft_wrap=True),
        )
    missing = sum(bool(row.not_measured) for row in rows)
    messages.print(f"{options.out} and {options.out.with_suffix('.md')}: {len(rows)} rows, {missing} not measured")
