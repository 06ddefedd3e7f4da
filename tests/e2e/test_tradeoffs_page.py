"""Trade-offs in a real browser: Plotly's chart, two lines dragged and moved by keys, the regret list, one click to
Review, and a benchmark cancelled."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import BrowserContext, Locator, Page, expect

from storage import registry
from storage.db import connect
from storage.settings import Settings
from tests.bench_seed import add_measurement
from tests.e2e.two_models import Seeded, name_of, seed, wait_until_idle

if TYPE_CHECKING:
    from conftest import AppServer

pytestmark = pytest.mark.e2e


def open_page(server: AppServer, context: BrowserContext, page: Page) -> Seeded:
    """Two measured models: the first is quick and wrong four times, the second slow and wrong twice."""
    seeded = seed(server)
    db = connect(Settings(data_dir=server.data_dir, database_url="", weights_dir=None))
    for number, ms, memory in ((seeded.first, 5.0, 30.0), (seeded.second, 30.0, 120.0)):
        add_measurement(db, registry.get(db, model_id=number), ms=ms, memory=memory)
    db.engine.dispose()
    context.add_cookies([{"name": "ssn_inspector", "value": "Ada", "url": server.base_url}])
    page.goto(f"{server.base_url}/tradeoffs")
    expect(page.locator(".ssn-tradeoffs .js-plotly-plot .scatterlayer .trace").first).to_be_visible(timeout=30_000)
    wait_until_idle(page)
    return seeded


def handle(page: Page, name: str) -> Locator:
    return page.get_by_role("slider", name=re.compile(name))


def middle(of: Locator) -> tuple[float, float]:
    box: Any = of.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def bubble(page: Page, number: int) -> tuple[float, float]:
    """Where a model's bubble is, by the number in it."""
    return middle(page.locator(".ssn-tradeoffs .textpoint", has_text=re.compile(f"^{number}$")))


def test_lines_are_dragged_and_moved_by_keys_and_remembered(
    app_server: AppServer, context: BrowserContext, page: Page
) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    open_page(app_server, context, page)
    said = page.locator(".ssn-tradeoffs .said")
    budget, least = handle(page, "Time budget"), handle(page, "Least acceptable")
    expect(budget).to_have_attribute("aria-valuenow", "10")
    expect(said).to_contain_text("The best in time: 1. First (5.0 ms")

    # The budget is dragged to the right of the slow model, the other line below both.
    (x, y), (slow_x, _), (_, fast_y) = middle(budget), bubble(page, 2), bubble(page, 1)
    page.mouse.move(x, y + 40)
    page.mouse.down()
    page.mouse.move((x + slow_x) / 2, y)
    page.mouse.move(slow_x + 30, y)
    page.mouse.up()
    moved = float(budget.get_attribute("aria-valuenow") or 0)
    assert 30 < moved < 60
    x, y = middle(least)
    page.mouse.move(x - 200, y)
    page.mouse.down()
    page.mouse.move(x - 200, fast_y + 30, steps=3)
    page.mouse.up()
    expect(said).to_contain_text("Within both lines: 1. First (5.0 ms")
    expect(said).to_contain_text("2. Second (30.0 ms")

    # By keys: one step is 2 %; by number: the field. Both say the same.
    budget.focus()
    page.keyboard.press("ArrowLeft")
    expect(budget).to_have_attribute("aria-valuenow", f"{moved / 1.02:.3g}")
    page.get_by_label("Time budget, ms", exact=True).fill("12.5")
    page.keyboard.press("Enter")
    expect(budget).to_have_attribute("aria-valuetext", "Budget 12.5 ms")
    expect(said).not_to_contain_text("Second")
    kept = least.get_attribute("aria-valuenow")
    page.reload()
    expect(handle(page, "Time budget")).to_have_attribute("aria-valuenow", "12.5", timeout=30_000)
    expect(handle(page, "Least acceptable")).to_have_attribute("aria-valuenow", str(kept))

    hosts = {urlsplit(url).hostname for url in asked if url.startswith("http")}
    assert hosts == {"localhost"}  # Plotly's script too


def test_hovering_says_everything_and_the_regret_list_leads_to_review(
    app_server: AppServer, context: BrowserContext, page: Page, screenshots: Any
) -> None:
    open_page(app_server, context, page)
    page.mouse.move(*bubble(page, 2))
    hover = page.locator(".ssn-tradeoffs .hoverlayer .hovertext")
    for words in ("Second", "active", "I-AUROC", "p95", "Published way", "Throughput", "MiB", "multiply-adds", "torch"):
        expect(hover).to_contain_text(words)
    page.screenshot(path=screenshots / "tradeoffs.png")
    expect(page.get_by_text("wrong with 1 and right with 2")).to_be_visible()
    expect(page.get_by_text("Bad parts that the fast model passes (escapes): 2")).to_be_visible()
    page.get_by_role("button", name="Review with Fast").first.click()
    expect(page).to_have_url(re.compile("/review"), timeout=15_000)
    expect(page.get_by_text(re.compile(f"^({name_of(12)}|{name_of(13)})$"))).to_be_visible(timeout=15_000)
    expect(page.get_by_text("1 of 2")).to_be_visible()


def test_a_benchmark_is_cancelled_from_the_page(app_server: AppServer, context: BrowserContext, page: Page) -> None:
    open_page(app_server, context, page)
    page.get_by_role("button", name="Measure all again").first.click()
    page.get_by_role("button", name="Cancel").first.click(timeout=15_000)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        ((status,),) = app_server.query("SELECT status FROM jobs WHERE kind = 'benchmark'")
        if status not in ("queued", "running"):
            break
        time.sleep(0.2)
    assert status in ("cancelled", "failed")  # failed: so quick that the folders, which hold no network, were found out
    expect(page.get_by_text(re.compile("Benchmark (was cancelled|failed)"))).to_be_visible(timeout=15_000)
    expect(page.locator(".ssn-tradeoffs .js-plotly-plot .scatterlayer .trace").first).to_be_visible()
