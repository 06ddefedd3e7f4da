"""The README keeps up with the commands, the options, the settings and the files that it names."""

from __future__ import annotations

import argparse
import importlib
import re
from pathlib import Path

import pytest

import ssn_core
from pages.components.import_panel import LAYOUTS_HELP
from ssn_core.cli import build_parser
from ssn_core.recipes import BACKBONES, RECIPES
from ssn_core.source_types import TITLES
from storage.settings import Settings

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands() -> dict[str, argparse.ArgumentParser]:
    (action,) = (a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    return dict(action.choices)


@pytest.mark.parametrize("command", commands())
def test_every_command_and_each_of_its_options_is_described(command: str) -> None:
    assert f"python -m ssn_core {command}" in README
    for action in commands()[command]._actions:
        for option in action.option_strings:
            if option not in ("-h", "--help"):
                assert f"`{option}" in README or f" {option} " in README, option


def test_no_option_is_described_that_does_not_exist() -> None:
    known = {o for parser in commands().values() for action in parser._actions for o in action.option_strings}
    known |= {"--requirement", "--server.port", "--server.address"}
    assert set(re.findall(r"(?<![\w-])--[a-z][\w.-]*", README)) <= known


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_of_the_environment_is_described(name: str) -> None:
    assert f"`SSN_{name.upper()}`" in README


def test_every_recipe_backbone_and_layout_is_named() -> None:
    for name in (*RECIPES, *BACKBONES):
        assert f"`{name}`" in README
    for key, title in TITLES.items():
        if key not in ("csv", "flat"):
            assert title in README
            assert title in LAYOUTS_HELP


@pytest.mark.parametrize("script", sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py")))
def test_every_benchmark_can_be_started(script: str) -> None:
    """What a document prints as a command must at least find all that it imports."""
    assert importlib.import_module(f"benchmarks.{script}").__doc__


def test_the_two_commands_are_those_of_the_machine_that_checks() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    assert "streamlit run app.py" in README
    assert "python -m pytest" in README
    assert script.rstrip().endswith("python -m pytest")


def test_pictures_and_files_that_are_named_exist() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target


def test_the_changelog_knows_the_version() -> None:
    assert f"## {ssn_core.__version__}" in (ROOT / "CHANGELOG.md").read_text()
    assert f'version = "{ssn_core.__version__}"' in (ROOT / "pyproject.toml").read_text()


def test_every_figure_has_the_command_that_made_it() -> None:
    for result in (ROOT / "benchmarks" / "results").glob("*.json"):
        assert result.name in (ROOT / "benchmarks" / "README.md").read_text(), result.name


def test_the_repository_stays_small() -> None:
    tracked = [p for p in ROOT.rglob("*") if p.is_file() and not {".git", ".venv", "artifacts"} & set(p.parts)]
    assert sum(p.stat().st_size for p in tracked if p.suffix in (".png", ".jpg", ".json")) < 20 << 20
