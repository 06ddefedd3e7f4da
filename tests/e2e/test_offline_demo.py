"""The demo on a machine that can reach nothing: from the first start to a model that is right about unseen images."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, Route, expect

from ssn_core import metrics, weights

if TYPE_CHECKING:
    from conftest import AppServer

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]

SLOW = 600_000  # ms; a shared machine may be busy with other work
DOZEN = 12

# Python reads this file at its start. An audit hook cannot be taken off again, and every process that the server
# starts inherits the folder: whatever reaches for another machine is refused, and written down.
NO_NETWORK = """
import os, sys

HERE = ("localhost", "127.0.0.1", "::1", "0.0.0.0", None, "")

def refuse(event, arguments):
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event in ("socket.connect", "socket.sendto") and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    else:
        return
    host = host.decode() if isinstance(host, bytes) else host
    if host not in HERE:
        with open(os.environ["SSN_TEST_REFUSED"], "a") as log:
            log.write(f"{host}\\n")
        raise OSError(101, "Network is unreachable")

sys.addaudithook(refuse)
"""


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No network, no weights folder and no weights in any cache for what starts from here; the hosts asked for."""
    guard, asked = tmp_path / "guard", tmp_path / "refused.txt"
    guard.mkdir()
    (guard / "sitecustomize.py").write_text(NO_NETWORK)
    asked.touch()
    for name in ("SSN_WEIGHTS_DIR", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(guard), os.environ.get("PYTHONPATH")))))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("SSN_TEST_REFUSED", str(asked))
    return asked


def test_the_demo_gives_a_good_model_without_any_network(
    refused: Path, request: pytest.FixtureRequest, page: Page, screenshots: Path
) -> None:
    server: AppServer = request.getfixturevalue("app_server")
    beyond: list[str] = []

    def only_ours(route: Route) -> None:
        if urlsplit(route.request.url).hostname == "localhost":
            route.continue_()
        else:
            beyond.append(route.request.url)
            route.abort()

    page.route("**/*", only_ours)

    def shot(name: str) -> None:
        page.screenshot(path=screenshots / f"demo-{name}.png")

    def go(name: str) -> None:
        page.get_by_test_id("stSidebarNav").get_by_role("link", name=name, exact=True).click()

    # The first start offers a tour; one click makes the project
    page.goto(server.base_url)
    page.get_by_role("button", name="Try it with a demo").click()
    expect(page.get_by_text("300 photographs of four materials")).to_be_visible(timeout=SLOW)
    page.get_by_label("Inspector", exact=True).fill("Ada")
    page.get_by_label("Inspector", exact=True).press("Enter")
    shot("1-tour")

    # A dozen labels, given by someone who knows the parts
    truth = dict(server.query("SELECT id, mask_sha256 IS NOT NULL FROM images"))
    [(unlabelled,)] = server.query("SELECT count(*) FROM images WHERE label IS NULL")
    assert len(truth) == 300
    assert 130 <= unlabelled <= 170
    go("Label")
    board = page.locator(".ssn-board")
    expect(board).to_have_attribute("data-ready", "true", timeout=30_000)
    page.locator(".filter-none").click()
    expect(page.locator(".filter-none")).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".tile").first).to_be_visible()
    page.keyboard.press("Home")
    for _ in range(DOZEN):
        page.keyboard.press("b" if truth[int(board.get_attribute("data-current") or 0)] else "g")
    page.wait_for_function("() => globalThis[Symbol.for('ssn.label-queue.1')]?.unsaved === 0")
    own = dict(server.query("SELECT image_id, verdict FROM label_events WHERE inspector = 'Ada'"))
    assert own == {image: "bad" if truth[image] else "good" for image in own}
    assert len(own) == DOZEN

    # The page says which backbone it will be
    go("Train")
    expect(page.get_by_text("the bundled backbone is used")).to_be_visible()
    page.get_by_role("button", name="Train", exact=True).click()
    expect(page.get_by_role("button", name="Cancel")).to_be_visible(timeout=30_000)
    expect(page.get_by_text("Training done")).to_be_visible(timeout=SLOW)
    shot("2-trained")
    assert set(refused.read_text().split()) <= {urlsplit(weights.IMAGENET_URLS["resnet18"]).hostname}

    # Maps and curves
    go("Review")
    expect(page.locator("[data-shown]")).to_be_visible(timeout=30_000)
    shot("3-review")
    go("Evaluate")
    expect(page.locator(".ssn-threshold .chart").first).to_be_visible(timeout=30_000)
    shot("4-evaluate")

    # Right about images that it never saw and nobody labelled
    unseen = server.query(
        "SELECT i.mask_sha256 IS NOT NULL, p.score FROM predictions p JOIN images i ON i.id = p.image_id "
        "WHERE p.role = 'unseen'"
    )
    bad, scores = [bool(row[0]) for row in unseen], [row[1] for row in unseen]
    assert len(unseen) == unlabelled - DOZEN
    assert metrics.i_auroc(bad, scores) >= 0.9
    assert beyond == []
