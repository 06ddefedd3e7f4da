"""Review in a real browser: picture, strip and verdicts stay together however fast the keys come."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
from playwright.sync_api import BrowserContext, Page, expect

from storage import images, maps, predictions, registry
from storage.db import connect
from storage.settings import Settings

if TYPE_CHECKING:
    from conftest import AppServer

pytestmark = pytest.mark.e2e


def seed_model(server: AppServer, n: int) -> None:
    """n unlabelled images, scored by a model: the first is the most suspicious one."""
    project_id = server.seed(n)
    db = connect(Settings(data_dir=server.data_dir, database_url="", weights_dir=None))
    model = registry.register(
        db,
        project_id=project_id,
        job_id=None,
        name="First",
        folder="models/1/1",
        recipe="gap-cam",
        backbone="resnet18",
        held_out="out_of_fold",
        threshold=0.0,
        suggested_threshold=0.0,
        scale_low=0.0,
        scale_high=1.0,
        summary={"settings": {"image_size": [64, 96], "map_sigma": 4.0}},
    )
    found = images.get_many(db, image_ids=images.ids(db, project_id=project_id))
    predictions.store(db, model_id=model.id, rows=[(i.id, float(n - k), "unseen") for k, i in enumerate(found)])
    for image in found:
        cam = np.zeros((8, 12), dtype=np.float32)
        cam[2:5, 3:7] = 1.0
        maps.save(db, model_id=model.id, sha256=image.sha256, cam=cam)
    db.engine.dispose()


@pytest.mark.parametrize("rate", [5, 50])
def test_the_large_picture_ends_where_the_strip_is_and_each_verdict_is_stored(
    app_server: AppServer, context: BrowserContext, page: Page, rate: float
) -> None:
    seed_model(app_server, 30)
    context.add_cookies([{"name": "ssn_inspector", "value": "Ada", "url": app_server.base_url}])
    page.goto(f"{app_server.base_url}/review")
    viewer = page.locator(".ssn-viewer")
    expect(viewer).to_have_attribute("data-shown", "part-0000.png", timeout=30_000)
    for i in range(20):
        page.keyboard.press("gb"[i % 2])
        page.keyboard.press("ArrowRight")
        time.sleep(1 / rate)
    page.wait_for_function("() => globalThis[Symbol.for('ssn.label-queue.1')].unsaved === 0", timeout=30_000)
    expect(page.locator('.thumb[aria-current="true"]')).to_have_attribute("title", "part-0020.png")
    expect(viewer).to_have_attribute("data-shown", "part-0020.png", timeout=10_000)
    expect(page.get_by_text("part-0020.png").first).to_be_visible(timeout=10_000)
    labels = [label for (label,) in app_server.query("SELECT label FROM images ORDER BY id")]
    assert labels == ["good", "bad"] * 10 + [None] * 10


def test_holding_a_key_hides_the_map_and_no_slider_step_asks_the_server(
    app_server: AppServer, context: BrowserContext, page: Page
) -> None:
    seed_model(app_server, 2)
    context.add_cookies([{"name": "ssn_inspector", "value": "Ada", "url": app_server.base_url}])
    page.goto(f"{app_server.base_url}/review")
    expect(page.locator(".ssn-viewer")).to_have_attribute("data-shown", "part-0000.png", timeout=30_000)
    canvas = page.locator(".frame canvas").first
    expect(canvas).to_be_visible()
    page.keyboard.down("h")
    expect(canvas).to_be_hidden()
    page.keyboard.up("h")
    expect(canvas).to_be_visible()

    def coloured() -> int:
        pixels = "c.getContext('2d').getImageData(0, 0, c.width, c.height).data"
        return int(canvas.evaluate(f"c => {pixels}.filter((value, i) => i % 4 === 3 && value).length"))

    page.wait_for_timeout(1000)  # what the page still loads by itself
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("websocket", lambda socket: asked.append(socket.url))
    everything = coloured()
    page.locator(".scale").fill("250")
    assert 0 < coloured() < everything
    page.get_by_role("slider", name="Opacity").fill("20")
    assert canvas.evaluate("c => c.style.opacity") == "0.2"
    assert [url for url in asked if not url.endswith("/ssn/labels")] == []  # which asks for news now and then


def test_a_key_on_the_next_page_judges_nothing_of_the_one_that_was_left(
    app_server: AppServer, context: BrowserContext, page: Page
) -> None:
    seed_model(app_server, 3)
    context.add_cookies([{"name": "ssn_inspector", "value": "Ada", "url": app_server.base_url}])
    page.goto(f"{app_server.base_url}/review")
    expect(page.locator(".ssn-viewer")).to_have_attribute("data-shown", "part-0000.png", timeout=30_000)
    page.keyboard.press("b")
    page.wait_for_function("() => globalThis[Symbol.for('ssn.label-queue.1')].unsaved === 0", timeout=30_000)
    page.get_by_test_id("stSidebarNav").get_by_role("link", name="Models", exact=True).click()
    page.locator(".ssn-strip").wait_for(state="detached")
    page.keyboard.press("d")  # no time for the scripts of the page that was left to be gone
    page.keyboard.press("g")
    page.wait_for_timeout(300)
    page.wait_for_function("() => globalThis[Symbol.for('ssn.label-queue.1')].unsaved === 0", timeout=30_000)
    assert app_server.query("SELECT verdict FROM label_events") == [("bad",)]
    assert app_server.query("SELECT verdict FROM map_verdicts") == []
