"""What holds for the whole tree: style, types, the direction of imports, and who may load torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(*command: str) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"


def test_the_style_is_clean() -> None:
    run(sys.executable, "-m", "ruff", "check", ".")


def test_the_format_is_ruffs() -> None:
    run(sys.executable, "-m", "ruff", "format", "--check", ".")


def test_types_are_strict_in_the_method_and_the_memory() -> None:
    run(sys.executable, "-m", "mypy")


def test_imports_run_one_way() -> None:
    run(str(Path(sys.executable).with_name("lint-imports")), "--no-cache")


TORCH_FREE = (
    "app",
    "pages.shell",
    *(f"ssn_core.{name}" for name in ("recipes", "errors", "imaging", "sources", "metrics", "rendering", "crossfit")),
    *(f"ssn_core.{name}" for name in ("agreement", "evidence", "probability", "operating_point", "report.document")),
    *(f"storage.{name}" for name in ("jobs", "imports", "registry", "predictions", "labels", "runner", "worker")),
    *(f"storage.{name}" for name in ("reports", "lineage", "comparison", "studies", "thresholds", "map_verdicts")),
    *(f"storage.{name}" for name in ("label_queues", "label_advice")),
)


@pytest.mark.parametrize("module", TORCH_FREE)
def test_opening_the_web_page_never_waits_for_torch(module: str) -> None:
    if module == "pages.shell":
        # The page script draws when it runs, so its imports are looked at and not its module.
        code = (
            "import sys; from streamlit.testing.v1 import AppTest; "
            "AppTest.from_file('pages/shell.py', default_timeout=60).run(); sys.exit('torch' in sys.modules)"
        )
    else:
        code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_files_of_tests_have_names_of_their_own() -> None:
    """pytest imports them by name alone, and a second one of a name ends the whole run."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))
