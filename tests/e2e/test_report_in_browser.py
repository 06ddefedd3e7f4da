"""A report in a real browser: written, downloaded, opened without a network, printed, deleted."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

from tests.e2e.two_models import card, choose, open_models, seed, wait_until_idle

if TYPE_CHECKING:
    from conftest import AppServer

pytestmark = pytest.mark.e2e

A4_LESS_MARGINS = 673  # px: 210 mm less 2 * 16 mm, at 96 px an inch
PURPOSE = f"Finds scratches.\nPart number {'X' * 150}"
CUT_OFF = """() => {
  const right = document.querySelector("main").getBoundingClientRect().right + 0.5;
  return [...document.querySelectorAll("main, section, table, th, td, figure, svg, img, h1, h2, p, li")]
    .filter((one) => one.getBoundingClientRect().right > right || one.scrollWidth > (one.clientWidth || Infinity) + 1)
    .map((one) => one.outerHTML.slice(0, 200));
}"""


def write(page: Page, model: int, purpose: str = "") -> None:
    """A report on a model, from its card."""
    card(page, model).get_by_role("button", name="Report", exact=True).click()
    page.get_by_role("textbox", name="What the model is for").fill(purpose)
    page.get_by_role("button", name="Write report").click()
    expect(page.get_by_text("The report is written")).to_be_visible(timeout=30_000)
    wait_until_idle(page)


def test_a_report_is_one_file_that_needs_no_network_and_prints_whole(
    app_server: AppServer, browser: Browser, context: BrowserContext, page: Page, tmp_path: Path
) -> None:
    seeded = seed(app_server)
    open_models(app_server, context, page)
    write(page, seeded.second, PURPOSE)
    ((path, sha256),) = app_server.query("SELECT path, sha256 FROM reports")
    kept = (app_server.data_dir / path).read_bytes()
    with page.expect_download() as download:
        page.get_by_role("button", name=re.compile("^Download")).click()
    assert re.fullmatch(r"report-Second-\d{8}-\d{4}\.html", download.value.suggested_filename)
    file = tmp_path / "report.html"
    download.value.save_as(file)
    assert file.read_bytes() == kept
    assert hashlib.sha256(kept).hexdigest() == sha256
    asked: list[str] = []

    def watch(route: Route) -> None:
        if route.request.url.startswith(("file:", "data:")):
            route.continue_()
        else:
            asked.append(route.request.url)
            route.abort()

    reader = browser.new_context(viewport={"width": A4_LESS_MARGINS, "height": 900})
    reader.route("**/*", watch)
    report = reader.new_page()
    problems: list[str] = []
    report.on("console", lambda message: problems.append(message.text))
    report.on("pageerror", lambda error: problems.append(str(error)))
    report.goto(file.as_uri())
    expect(report.get_by_role("heading", name="Second", exact=True)).to_be_visible()
    expect(report.get_by_text("Finds scratches.")).to_be_visible()
    expect(report.get_by_role("heading", name="Comparison with the parent")).to_be_visible()
    pictures = report.locator("img")
    assert pictures.count() >= 8
    assert pictures.evaluate_all("all => all.every((one) => one.complete && one.naturalWidth > 0)")
    report.emulate_media(media="print")
    assert report.evaluate(CUT_OFF) == []
    pdf = report.pdf(prefer_css_page_size=True, print_background=True)
    assert pdf.startswith(b"%PDF-")
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) > 1
    assert {tuple(map(round, map(float, box.split()))) for box in re.findall(rb"/MediaBox\s*\[([^]]+)]", pdf)} == {
        (0, 0, 595, 842)  # points: A4 upright
    }
    reader.close()
    assert (asked, problems) == ([], [])


def test_a_model_is_kept_as_long_as_a_report_rests_on_it(
    app_server: AppServer, context: BrowserContext, page: Page
) -> None:
    seeded = seed(app_server)
    open_models(app_server, context, page)
    write(page, seeded.first)
    ((path,),) = app_server.query("SELECT path FROM reports")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    wait_until_idle(page)
    choose(page, seeded.first, "Delete …")
    expect(page.get_by_role("dialog")).to_contain_text("cannot be deleted")
    expect(page.get_by_role("dialog")).to_contain_text("A report rests on it.")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    wait_until_idle(page)
    card(page, seeded.first).get_by_role("button", name="Report", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Delete", exact=True).click()
    page.get_by_role("button", name="Delete for ever").click()
    expect(page.get_by_text("No report on this model is kept.")).to_be_visible(timeout=15_000)
    assert app_server.query("SELECT count(*) FROM reports") == [(0,)]
    assert not (app_server.data_dir / path).exists()
    wait_until_idle(page)
    page.keyboard.press("Escape")  # although the button that was clicked is gone
    expect(page.get_by_role("dialog")).to_have_count(0)
    wait_until_idle(page)
    choose(page, seeded.first, "Delete …")
    page.get_by_role("button", name="Delete for ever").click()
    expect(page.get_by_text("First is deleted.")).to_be_visible(timeout=15_000)
    assert app_server.query("SELECT name FROM models") == [("Second",)]
