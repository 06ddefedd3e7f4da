"""Several inspectors in browsers of their own: second opinions settled blind, and verdicts before the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from storage import images, labels, projects
from storage.db import Database, connect
from storage.settings import Settings
from tests.model_seed import add_model

if TYPE_CHECKING:
    from conftest import AppServer

pytestmark = pytest.mark.e2e

OpenAs = Callable[[str], Page]


@pytest.fixture
def open_as(browser: Browser, app_server: AppServer) -> Iterator[OpenAs]:
    """Opens a page for an inspector in a browser profile of their own."""
    contexts: list[BrowserContext] = []
    errors: list[str] = []

    def opened(who: str) -> Page:
        context = browser.new_context(viewport={"width": 1366, "height": 768})
        context.add_cookies([{"name": "ssn_inspector", "value": who, "url": app_server.base_url}])
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(f"{who}: {error}"))
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not errors, errors


def connected(server: AppServer) -> Database:
    return connect(Settings(data_dir=server.data_dir, database_url="", weights_dir=None))


def show_opinions(page: Page, server: AppServer) -> None:
    page.goto(f"{server.base_url}/audit")
    page.get_by_text("Second opinions", exact=True).click(timeout=30_000)


def judge(page: Page, keys: str) -> None:
    board = page.locator(".ssn-study")
    for place, key in enumerate(keys, start=1):
        expect(board).to_have_attribute("data-shown", f"1/{place}", timeout=30_000)
        page.keyboard.press(key)
    expect(page.get_by_text("Nothing more to judge")).to_be_visible(timeout=15_000)
    expect(board.locator(".save")).to_have_attribute("data-unsaved", "0", timeout=15_000)


def test_two_inspectors_judge_blind_and_a_third_settles_what_they_differ_on(
    app_server: AppServer, open_as: OpenAs
) -> None:
    project_id = app_server.seed(4)
    db = connected(app_server)
    ids = images.ids(db, project_id=project_id)
    said = [
        labels.LabelEvent("seed", n, image, "good" if n % 2 else "bad", "Ada", "board")
        for n, image in enumerate(ids, start=1)
    ]
    labels.record(db, project_id=project_id, events=said)
    db.close()
    ada, bo, cem = (open_as(who) for who in ("Ada", "Bo", "Cem"))
    show_opinions(ada, app_server)
    ada.get_by_role("button", name="Set up the round").click(timeout=30_000)
    expect(ada.get_by_text("0 of 4 images judged")).to_be_visible(timeout=30_000)
    expect(ada.get_by_text("Nothing to judge for you here")).to_be_visible()
    show_opinions(bo, app_server)
    bo.get_by_role("button", name="Judge 4 images").click(timeout=30_000)
    judge(bo, "gggg")
    bo.get_by_role("button", name="Go on").click()
    expect(bo.get_by_text("4 of 4 images judged")).to_be_visible(timeout=30_000)
    expect(bo.get_by_role("cell", name="2 of 4 images").first).to_be_visible()
    expect(bo.get_by_text("0 of 2 settled")).to_be_visible()
    expect(bo.get_by_role("button", name="Settle")).to_have_count(0)  # nobody settles what they judged
    show_opinions(cem, app_server)
    expect(cem.get_by_text("you can settle it, blind").first).to_be_visible(timeout=30_000)
    cem.get_by_role("button", name="Settle 2 disagreements").click()
    judge(cem, "gb")
    cem.get_by_role("button", name="Go on").click()
    expect(cem.get_by_text("2 of 2 settled")).to_be_visible(timeout=30_000)
    events = app_server.query("SELECT verdict, inspector, origin FROM label_events WHERE client != 'seed' ORDER BY id")
    assert events == [("good", "Cem", "opinion"), ("bad", "Cem", "opinion")]
    found = app_server.query("SELECT label, count(*) FROM images GROUP BY label ORDER BY label")
    assert found == [("bad", 1), ("good", 3)]
    given = app_server.query("SELECT inspector, verdict, settles FROM opinion_verdicts ORDER BY id")
    assert given == [*[("Bo", "good", 0)] * 4, ("Cem", "good", 1), ("Cem", "bad", 1)]


def test_the_map_appears_after_the_verdict_and_a_change_of_mind_is_counted(
    app_server: AppServer, open_as: OpenAs
) -> None:
    project_id = app_server.seed(2)
    db = connected(app_server)
    found = images.page(db, project_id=project_id, limit=2)
    cams = {image.sha256: np.full((8, 12), 0.5, dtype=np.float32) for image in found}
    scores = [(image.id, float(2 - n), "unseen") for n, image in enumerate(found)]
    add_model(db, project_id, scores, cams=cams)
    projects.set_verdict_first(db, project_id=project_id, value=True)
    db.close()
    page = open_as("Ada")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{app_server.base_url}/review")
    viewer = page.locator(".ssn-viewer")
    expect(viewer).to_have_attribute("data-shown", "part-0000.png", timeout=30_000)
    expect(page.get_by_text("The map appears after your verdict")).to_be_visible()
    expect(page.get_by_text("Model: hidden")).to_be_visible()
    page.keyboard.press("g")
    expect(page.get_by_text("Model: ✕ Bad")).to_be_visible(timeout=30_000)
    expect(page.get_by_text("The map appears after your verdict")).not_to_be_visible()
    before = [url for url in asked if "/ssn/map/" in url or "/ssn/cells/" in url]
    assert all(f"/{found[0].id}" in url for url in before)  # nothing of the image without a verdict was fetched
    page.keyboard.press("b")
    expect(page.get_by_text("Label: ✕ Bad")).to_be_visible(timeout=30_000)
    assert app_server.query("SELECT verdict, map_seen FROM label_events ORDER BY id") == [("good", 0), ("bad", 1)]
    page.goto(f"{app_server.base_url}/audit")
    expect(page.get_by_text("1 good → bad")).to_be_visible(timeout=30_000)


def test_who_only_looks_keeps_his_images_and_who_is_away_gives_them_back(
    app_server: AppServer, open_as: OpenAs
) -> None:
    app_server.seed(4)
    page = open_as("Ada")
    page.clock.install()
    asked: list[dict[str, list[int]]] = []
    page.on("request", lambda request: asked.append(request.post_data_json) if "/ssn/leases" in request.url else None)
    page.goto(f"{app_server.base_url}/label")
    expect(page.locator(".ssn-board")).to_have_attribute("data-ready", "true", timeout=30_000)

    def idle(seconds: int) -> None:
        for _ in range(seconds):
            page.clock.run_for(1000)
            page.wait_for_timeout(20)  # for the answers, whose time is not the clock's

    page.keyboard.press("Home")
    idle(5)
    asked.clear()
    idle(60)
    kept = [request["images"] for request in asked]
    assert len(kept) in (2, 3, 4), kept  # a lease lasts 45 s
    assert all(sorted(some) == [1, 2, 3, 4] for some in kept), kept
    idle(150)
    given_back = [image for request in asked for image in request["release"]]
    assert (asked[-1]["images"], sorted(given_back)) == ([], [1, 2, 3, 4])
    page.keyboard.press("ArrowRight")  # back again
    idle(2)
    assert sorted(asked[-1]["images"]) == [1, 2, 3, 4]
