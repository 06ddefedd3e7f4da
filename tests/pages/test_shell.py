"""The frame of the pages: what opens, what is asked, and what stays out of the process."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from page_seed import SHELL, open_page, project_with_images, texts
from streamlit.testing.v1 import AppTest

from pages.components import resources, state
from storage import projects
from storage.db import Database

ROOT = Path(__file__).resolve().parents[2]
VIEWS = ("home", "data", "label", "train", "review", "evaluate", "models", "tradeoffs", "agreement", "inspect")


def test_opening_every_page_loads_no_torch(tmp_path: Path) -> None:
    script = f"""
import sys
from pathlib import Path
from streamlit.testing.v1 import AppTest
import app
shell = AppTest.from_file({str(SHELL)!r}, default_timeout=60).run()
for view in {VIEWS!r}:
    shell.switch_page(f"views/{{view}}.py").run()
    assert not shell.exception, (view, shell.exception)
loaded = [name for name in sys.modules if name.split(".")[0] in ("torch", "torchvision")]
assert not loaded, loaded[:5]
"""
    environment = {**os.environ, "SSN_DATA_DIR": str(tmp_path), "SSN_DATABASE_URL": ""}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_app_py_finds_its_packages_from_any_folder(tmp_path: Path) -> None:
    script = f"import runpy; app = runpy.run_path({str(ROOT / 'app.py')!r})['app']; print(app.script_path.name)"
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "shell.py"), done.stderr[-2000:]


@pytest.mark.parametrize("view", VIEWS)
def test_every_page_opens_in_an_empty_installation(db: Database, view: str) -> None:
    app = open_page(view)
    assert not app.selectbox or app.selectbox[0].label != "Project"
    assert app.sidebar.text_input[0].label == "Inspector"


def test_the_newest_project_is_chosen_first_and_another_one_stays_chosen(db: Database) -> None:
    first = projects.create(db, name="First")
    second = projects.create(db, name="Second")
    app = open_page()
    assert app.session_state[state.Key.PROJECT] == second.id
    app.sidebar.selectbox[0].set_value(first.id).run()
    app.switch_page("views/data.py").run()
    assert app.session_state[state.Key.PROJECT] == first.id
    assert app.sidebar.selectbox[0].value == first.id


def test_the_label_page_without_a_project_or_images_says_what_to_do(db: Database) -> None:
    assert "no project yet" in texts(open_page("label"))
    projects.create(db, name="Empty")
    assert "no images yet" in texts(open_page("label"))


def test_the_label_page_asks_for_a_name_before_it_shows_the_board(db: Database) -> None:
    project_with_images(db, [None])
    app = open_page("label")
    assert "Who is looking?" in texts(app)
    app.main.text_input[0].set_value("   ")
    app.main.button[0].click().run()
    assert "Please type a name first." in texts(app)
    app.main.text_input[0].set_value("  Ada\tLovelace ")
    app.main.button[0].click().run()
    assert not app.exception
    assert app.session_state[state.Key.INSPECTOR] == "Ada Lovelace"
    assert app.sidebar.text_input[0].value == "Ada Lovelace"
    assert "Who is looking?" not in texts(app)


def test_a_wrong_setting_is_explained_on_the_page(monkeypatch: pytest.MonkeyPatch, db: Database) -> None:
    from pages.components import startup

    startup._start.cache_clear()
    monkeypatch.setenv("SSN_DATABASE_URL", "nonsense")
    resources.get_settings.cache_clear()
    app = AppTest.from_file(str(SHELL), default_timeout=30).run()
    resources.get_settings.cache_clear()
    assert not app.exception
    assert "SSN_DATABASE_URL" in app.error[0].value.replace("\\", "")  # shown letter by letter


def test_names_are_cleaned_before_they_are_kept() -> None:
    assert state.clean_name("  Ada \n\x00 Lovelace\u202e ") == "Ada Lovelace"
    assert len(state.clean_name("x" * 500)) == state.MAX_NAME


def test_the_signing_key_is_made_once_and_is_nobody_elses_to_read(db: Database) -> None:
    token = resources.token(1)
    path = db.data_dir / "signing.key"
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    resources._key.cache_clear()
    assert resources.token(1) == token
    assert len(path.read_bytes()) == 32
    assert list(db.data_dir.glob(".signing-*")) == []
