"""The map as evidence in a real browser: shares add up to the score, cells can be covered, and maps are judged."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from playwright.sync_api import BrowserContext, Page, Route, expect

from ssn_core import evidence
from storage import images, labels
from storage.db import connect
from storage.settings import Settings
from tests.model_seed import add_model

if TYPE_CHECKING:
    from conftest import AppServer

pytestmark = pytest.mark.e2e

Q, BIAS, SHAPE = 0.1, -2.0, (8, 12)  # 10 of 96 cells count
UNSAVED = "() => globalThis[Symbol.for('ssn.label-queue.1')].unsaved"


def cells_of(index: int) -> np.ndarray:
    """A map with noise below 1 and a defect of 2 x 3 cells, whose first cell is the highest."""
    cells = np.random.default_rng(index).uniform(-1, 1, SHAPE).astype(np.float32)
    cells[2:4, 3:6] = [[9.0, 5.0, 5.5], [4.0, 4.5, 3.0]]
    return cells - np.float32(index)


def score_of(index: int) -> float:
    return evidence.pooled_mean(cells_of(index), fraction=Q) + BIAS


def seed(server: AppServer, n: int = 6) -> None:
    """n images labelled bad and held out, with maps that make their scores; the first is the most suspicious one."""
    project_id = server.seed(n)
    db = connect(Settings(data_dir=server.data_dir, database_url="", weights_dir=None))
    found = images.get_many(db, image_ids=images.ids(db, project_id=project_id))
    rows = [(image.id, score_of(index), "out_of_fold") for index, image in enumerate(found)]
    cams = {image.sha256: cells_of(index) for index, image in enumerate(found)}
    add_model(db, project_id, rows, cams=cams, scale_high=5.0, settings={"pooling_fraction": Q})
    events = [labels.LabelEvent("seed", seq, i.id, "bad", "Ada", "board") for seq, i in enumerate(found, start=1)]
    labels.record(db, project_id=project_id, events=events)
    db.engine.dispose()


def open_review(server: AppServer, context: BrowserContext, page: Page) -> None:
    context.add_cookies([{"name": "ssn_inspector", "value": "Ada", "url": server.base_url}])
    page.goto(f"{server.base_url}/review")
    expect(page.locator(".ssn-viewer")).to_have_attribute("data-shown", "part-0000.png", timeout=30_000)
    expect(line(page)).to_contain_text("Score")


def line(page: Page) -> Any:
    return page.locator(".evidence .sum")


def at(page: Page, row: float, column: float) -> tuple[float, float]:
    """The place on the screen of a cell's middle, counted from 0."""
    box = page.locator(".frame img").bounding_box()
    assert box is not None
    return box["x"] + (column + 0.5) / SHAPE[1] * box["width"], box["y"] + (row + 0.5) / SHAPE[0] * box["height"]


def numbers(text: str) -> list[float]:
    return [float(found.replace("−", "-")) for found in re.findall(r"[−-]?\d+(?:\.\d+)?", text)]


def test_the_shares_of_all_cells_and_the_bias_add_up_to_the_score_on_the_page(
    app_server: AppServer, context: BrowserContext, page: Page
) -> None:
    seed(app_server, 2)
    open_review(app_server, context, page)
    score, pooled, k, n, bias = numbers(line(page).inner_text().replace(" − ", " -"))
    assert (k, n) == (10, 96)
    assert score == pytest.approx(score_of(0), abs=6e-4)
    assert pooled + bias == pytest.approx(score, abs=2e-3)
    cells, total, counting = cells_of(0), 0.0, 0
    for row in range(SHAPE[0]):
        for column in range(SHAPE[1]):
            page.mouse.move(*at(page, row, column))
            said = line(page).inner_text()
            assert said.startswith(f"Row {row + 1}, column {column + 1}: value ")
            _, _, value, share = numbers(said)
            assert value == pytest.approx(float(cells[row, column]), abs=6e-4)
            assert share == pytest.approx(value / 10 if ", counts," in said else 0.0, abs=6e-4)
            total += share
            counting += ", counts," in said
    assert counting == 10
    assert total + bias == pytest.approx(score_of(0), abs=0.01)  # ten shares with three digits each


def test_covered_cells_change_score_and_verdict_at_once_as_the_method_says(
    app_server: AppServer, context: BrowserContext, page: Page
) -> None:
    seed(app_server, 2)
    open_review(app_server, context, page)
    asked: list[str] = []
    page.wait_for_timeout(1000)
    page.on("request", lambda request: asked.append(request.url))
    page.mouse.move(*at(page, 2, 3))
    page.mouse.down()
    page.mouse.move(*at(page, 3, 4))
    page.mouse.move(*at(page, 3, 5))
    page.mouse.up()
    covered = np.zeros(SHAPE, dtype=bool)
    covered[2:4, 3:6] = True
    taken = evidence.explain(cells_of(0), fraction=Q, bias=BIAS)
    wanted = evidence.score_without(taken, covered)
    assert wanted is not None
    expect(line(page)).to_contain_text("Without these 6 cells")
    without = float(page.locator(".evidence").get_attribute("data-without") or "nan")
    assert without == pytest.approx(wanted, abs=1e-5)
    assert score_of(0) >= 0 > wanted
    expect(line(page)).to_contain_text("then ✓ Good")
    assert [url for url in asked if not url.endswith("/ssn/labels")] == []  # which asks for news now and then
    page.keyboard.press("Escape")
    expect(line(page)).not_to_contain_text("Without")
    page.mouse.move(*at(page, -0.4, -0.4))
    page.mouse.down()
    page.mouse.move(2000, 700)  # far outside: all cells
    page.mouse.up()
    expect(line(page)).to_contain_text("n/a")
    page.mouse.move(*at(page, 5, 5))
    page.mouse.down()
    page.mouse.up()  # a click clears too
    expect(line(page)).to_contain_text("Row 6, column 6")


def test_the_keyboard_moves_over_cells_and_gives_the_arrow_keys_back(
    app_server: AppServer, context: BrowserContext, page: Page
) -> None:
    seed(app_server, 3)
    open_review(app_server, context, page)
    page.locator(".frame").focus()
    expect(line(page)).to_contain_text("Row 3, column 4: value 9.000, counts, share 0.900")  # the highest comes first
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    expect(line(page)).to_contain_text("Row 4, column 5: value 4.500")
    page.keyboard.press("Shift+ArrowLeft")
    expect(line(page)).to_contain_text("Without these 2 cells")
    expect(page.locator(".ssn-viewer")).to_have_attribute("data-shown", "part-0000.png")
    page.keyboard.press("Escape")
    expect(line(page)).to_contain_text("Row 4, column 4")
    page.keyboard.press("Escape")
    page.keyboard.press("ArrowRight")
    expect(page.locator(".ssn-viewer")).to_have_attribute("data-shown", "part-0001.png")


def test_a_key_outlines_the_cells_that_count(app_server: AppServer, context: BrowserContext, page: Page) -> None:
    seed(app_server, 1)
    open_review(app_server, context, page)
    canvas = page.locator(".frame canvas").last
    drawn = "c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some((v, i) => i % 4 === 3 && v)"
    assert not canvas.evaluate(drawn)
    page.keyboard.press("k")
    assert canvas.evaluate(drawn)
    expect(page.get_by_label("Outline the 10")).to_be_checked()
    page.keyboard.press("k")
    assert not canvas.evaluate(drawn)


def test_map_verdicts_are_stored_once_each_and_z_takes_back_the_newest_of_both_kinds(
    app_server: AppServer, context: BrowserContext, page: Page
) -> None:
    seed(app_server, 5)
    open_review(app_server, context, page)
    for key in ("d", "e", "n", "d"):
        page.keyboard.press(key)
        page.keyboard.press("ArrowRight")
    page.keyboard.press("g")  # the fifth is good after all
    page.keyboard.press("d")  # and says nothing about its map
    expect(page.get_by_text("Only the map of an image labelled Bad")).to_be_visible()
    page.wait_for_function(f"() => ({UNSAVED})() === 0", timeout=30_000)
    expect(page.get_by_text("On the defect: 2 of 3, 67 %")).to_be_visible(timeout=10_000)
    expect(page.get_by_text("4 of 4 held-out bad images judged, 1 not sure")).to_be_visible()
    page.keyboard.press("z")  # the label
    page.keyboard.press("z")  # the fourth verdict
    page.wait_for_function(f"() => ({UNSAVED})() === 0", timeout=30_000)
    expect(page.locator(".ssn-viewer")).to_have_attribute("data-shown", "part-0003.png")
    expect(page.get_by_text("On the defect: 1 of 2, 50 %")).to_be_visible(timeout=10_000)
    stored = app_server.query("SELECT image_id, verdict, inspector FROM map_verdicts ORDER BY id")
    said = ["on_defect", "elsewhere", "unsure", "on_defect", "cleared"]
    assert stored == [(image, verdict, "Ada") for image, verdict in zip([1, 2, 3, 4, 4], said, strict=True)]
    assert app_server.query("SELECT label FROM images ORDER BY id") == [("bad",)] * 5


def test_map_verdicts_that_cannot_be_sent_wait_in_the_browser_and_hold_up_no_label(
    app_server: AppServer, context: BrowserContext, page: Page
) -> None:
    seed(app_server, 3)
    open_review(app_server, context, page)
    lost: list[dict[str, Any]] = []

    def stored_but_never_acknowledged(route: Route) -> None:
        route.fetch()
        lost.append(json.loads(route.request.post_data or "{}"))
        route.abort()

    page.route("**/ssn/map-verdicts", stored_but_never_acknowledged)
    page.keyboard.press("e")
    page.keyboard.press("u")
    page.wait_for_function(f"() => ({UNSAVED})() === 1", timeout=30_000)
    assert app_server.query("SELECT label FROM images WHERE id = 1") == [("unsure",)]
    assert lost
    page.unroute("**/ssn/map-verdicts")
    page.reload()  # another tab's life: it adopts the outbox and sends again
    page.wait_for_function(f"() => globalThis[Symbol.for('ssn.label-queue.1')] && ({UNSAVED})() === 0", timeout=30_000)
    page.wait_for_function(
        "() => !Object.keys(localStorage).some((key) => key.startsWith('ssn.outbox.'))", timeout=30_000
    )
    assert app_server.query("SELECT image_id, verdict FROM map_verdicts") == [(1, "elsewhere")]
