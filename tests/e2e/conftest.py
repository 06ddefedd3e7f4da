"""The app as its users get it: `streamlit run app.py` in a process of its own, and a real headless Chromium."""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from storage import files, projects
from storage.db import connect
from storage.settings import Settings
from storage.tables import ImageRow

ROOT = Path(__file__).resolve().parents[2]
SCREENSHOTS = ROOT / "artifacts" / "e2e"
VIEWPORT = {"width": 1366, "height": 768}
CHROMIUM = os.environ.get("SSN_TEST_CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
CHROMIUM_ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class AppServer:
    """One installation: a data folder, a free port, and the server process on them."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.port = _free_port()
        self.base_url = f"http://localhost:{self.port}"
        self.log = data_dir.parent / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The number of the running server's process."""
        assert self._process is not None, "the server is not running"
        return self._process.pid

    def start(self) -> None:
        """Start the server and wait until it answers."""
        command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(self.port)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, "SSN_DATA_DIR": str(self.data_dir), "SSN_DATABASE_URL": ""},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 60
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the server did not start:\n{self.log.read_text()[-4000:]}")
            time.sleep(0.1)

    def kill(self) -> None:
        """End the server the hard way (kill -9), as a power cut would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End the server the polite way."""
        self._end(signal.SIGTERM)

    def restart(self) -> None:
        """Kill the server and start it again on the same port and data."""
        self.kill()
        self.start()

    def query(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Rows straight from the database file."""
        connection = sqlite3.connect(self.data_dir / "ssn.sqlite3", timeout=30)
        try:
            return connection.execute(sql, values).fetchall()
        finally:
            connection.close()

    def seed(self, n: int, *, name: str = "Brackets") -> int:
        """A project with n generated, unlabelled images; returns its number."""
        db = connect(Settings(data_dir=self.data_dir, database_url="", weights_dir=None))
        project = projects.create(db, name=name)
        db.engine.dispose()
        self.add_images(project.id, range(n))
        return project.id

    def add_images(self, project_id: int, numbers: range) -> None:
        """More generated, unlabelled images for a project."""
        db = connect(Settings(data_dir=self.data_dir, database_url="", weights_dir=None))
        with db.write() as session:
            for index in numbers:
                stored = files.put_image(db.data_dir, data=_png(project_id, index), extension=".png")
                session.add(
                    ImageRow(
                        project_id=project_id, sha256=stored.sha256, name=f"part-{index:04d}.png", extension=".png",
                        width=96, height=64, n_bytes=stored.n_bytes, group_key=stored.sha256, part="train",
                    )
                )  # fmt: skip
        db.engine.dispose()

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.base_url}/_stcore/health", timeout=2) as answer:  # noqa: S310
                return answer.status == 200
        except OSError:
            return False

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(timeout=20)
            self._process = None


@pytest.fixture
def app_server(tmp_path: Path) -> Iterator[AppServer]:
    """The running app with an empty data folder of its own."""
    server = AppServer(tmp_path / "data")
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One headless Chromium for all tests (SSN_TEST_CHROMIUM, else the one on the PATH)."""
    if CHROMIUM is None:
        pytest.skip("no Chromium: install it or name it in SSN_TEST_CHROMIUM")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGS)
        yield chromium
        chromium.close()


@pytest.fixture
def screenshots() -> Path:
    """The folder for pictures that a test keeps."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    return SCREENSHOTS


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A fresh browser profile: no cookies, empty storage."""
    fresh = browser.new_context(viewport=VIEWPORT)
    yield fresh
    fresh.close()


@pytest.fixture
def page(context: BrowserContext, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page at 1366x768. An error in its scripts fails the test; a failed test leaves a screenshot."""
    opened = context.new_page()
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    yield opened
    failed = getattr(request.node, "failed_call", False)
    if (failed or errors) and not opened.is_closed():
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        opened.screenshot(path=SCREENSHOTS / f"{re.sub(r'[^a-z0-9]+', '-', request.node.name.lower())}.png")
    assert not errors, errors


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Tell the fixtures whether the test itself failed."""
    report = yield
    if report.when == "call":
        item.failed_call = report.failed  # type: ignore[attr-defined]
    return report


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _png(project: int, index: int) -> bytes:
    pixels = np.random.default_rng((project, index)).integers(90, 170, (64, 96), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()
