"""Labelling in a real browser: every verdict is stored exactly once, whatever happens to tab and server."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import BrowserContext, Page, expect

if TYPE_CHECKING:
    from conftest import AppServer

pytestmark = pytest.mark.e2e

QUEUE = "globalThis[Symbol.for('ssn.label-queue.1')]"


def sign_in(context: BrowserContext, server: AppServer, name: str) -> None:
    context.add_cookies([{"name": "ssn_inspector", "value": name, "url": server.base_url}])


def open_board(page: Page, server: AppServer, filter_name: str = "all") -> None:
    page.goto(f"{server.base_url}/label")
    expect(page.locator(".ssn-board")).to_have_attribute("data-ready", "true", timeout=30_000)
    page.locator(f".filter-{filter_name}").click()
    expect(page.locator(f".filter-{filter_name}")).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".tile").first).to_be_visible()
    page.keyboard.press("Home")


def type_keys(page: Page, n: int, *, rate: float, halfway: Callable[[], object] | None = None) -> None:
    """n verdicts, G B U G B U ..., at `rate` keys a second."""
    for i in range(n):
        due = time.monotonic() + 1 / rate
        page.keyboard.press("gbu"[i % 3])
        if halfway is not None and i == n // 2:
            halfway()
        time.sleep(max(0.0, due - time.monotonic()))


def wait_until_saved(page: Page) -> None:
    page.wait_for_function(f"() => {QUEUE}?.unsaved === 0", timeout=60_000)


def stored(server: AppServer) -> int:
    return int(server.query("SELECT count(*) FROM label_events")[0][0])


def labels(server: AppServer) -> list[str | None]:
    return [label for (label,) in server.query("SELECT label FROM images ORDER BY id")]


def stale_labels(server: AppServer) -> int:
    """Images whose label is not that of their newest event."""
    newest = "SELECT max(id) FROM label_events e WHERE e.image_id = i.id"
    return int(server.query(f"SELECT count(*) FROM images i WHERE i.label_event_id IS NOT ({newest})")[0][0])  # noqa: S608


@pytest.mark.parametrize("view", ["board", "single"])
def test_twenty_keys_a_second_are_stored_once_each_and_in_order(
    app_server: AppServer, context: BrowserContext, page: Page, view: str
) -> None:
    app_server.seed(60)
    sign_in(context, app_server, "Ada")
    open_board(page, app_server)
    if view == "single":
        page.keyboard.press("Enter")
    type_keys(page, 60, rate=20)
    wait_until_saved(page)
    assert labels(app_server) == ["good", "bad", "unsure"] * 20
    assert stored(app_server) == 60
    assert app_server.query("SELECT DISTINCT inspector, origin FROM label_events") == [("Ada", view)]


def test_a_reload_in_the_middle_of_typing_loses_nothing(
    app_server: AppServer, context: BrowserContext, page: Page
) -> None:
    app_server.seed(60)
    sign_in(context, app_server, "Ada")
    open_board(page, app_server)
    type_keys(page, 30, rate=20)
    page.reload()
    expect(page.locator(".ssn-board")).to_have_attribute("data-ready", "true", timeout=30_000)
    type_keys(page, 30, rate=20)  # goes on where it was
    wait_until_saved(page)
    page.wait_for_function("() => !Object.keys(localStorage).some((key) => key.startsWith('ssn.outbox'))")
    assert labels(app_server) == ["good", "bad", "unsure"] * 20
    assert stored(app_server) == 60


def test_a_killed_server_loses_nothing_and_the_page_says_what_is_not_saved(
    app_server: AppServer, context: BrowserContext, page: Page
) -> None:
    app_server.seed(60)
    sign_in(context, app_server, "Ada")
    open_board(page, app_server)
    type_keys(page, 60, rate=20, halfway=app_server.kill)
    expect(page.locator(".save")).to_contain_text("not saved yet")
    expect(page.locator(".grid .tile.unsaved").last).to_be_visible()
    app_server.start()
    wait_until_saved(page)
    expect(page.locator(".save")).to_contain_text("All saved")
    expect(page.locator(".grid .tile.unsaved")).to_have_count(0)
    assert labels(app_server) == ["good", "bad", "unsure"] * 20
    assert stored(app_server) == 60


def test_verdicts_of_a_closed_tab_are_saved_by_any_other_page(
    app_server: AppServer, context: BrowserContext, page: Page
) -> None:
    app_server.seed(20)
    sign_in(context, app_server, "Ada")
    open_board(page, app_server)
    app_server.kill()
    type_keys(page, 20, rate=20)
    page.close()
    app_server.start()
    other = context.new_page()
    other.goto(app_server.base_url)  # Home: no board there
    deadline = time.monotonic() + 30
    while stored(app_server) < 20 and time.monotonic() < deadline:
        other.wait_for_timeout(100)
    assert labels(app_server) == (["good", "bad", "unsure"] * 7)[:20]
    other.wait_for_function("() => !Object.keys(localStorage).some((key) => key.startsWith('ssn.outbox'))")


def test_the_outbox_of_a_living_tab_is_left_alone_by_the_others(
    app_server: AppServer, context: BrowserContext, page: Page
) -> None:
    app_server.seed(20)
    sign_in(context, app_server, "Ada")
    open_board(page, app_server)
    other = context.new_page()
    open_board(other, app_server)
    app_server.kill()
    page.bring_to_front()
    type_keys(page, 20, rate=20)
    other.evaluate(f"() => {QUEUE}.adopt()")
    other.wait_for_timeout(500)
    assert other.evaluate(f"() => {QUEUE}.unsaved") == 0
    assert page.evaluate(f"() => {QUEUE}.unsaved") == 20
    assert page.evaluate("() => Object.keys(localStorage).filter((key) => key.startsWith('ssn.outbox')).length") == 1
    app_server.start()
    wait_until_saved(page)
    assert stored(app_server) == 20


def test_two_inspectors_at_once_lose_nothing_and_see_each_others_work(
    app_server: AppServer, context: BrowserContext, page: Page
) -> None:
    app_server.seed(40)
    sign_in(context, app_server, "Ada")
    open_board(page, app_server)
    browser = context.browser
    assert browser is not None
    second = browser.new_context(viewport={"width": 1920, "height": 1080})
    sign_in(second, app_server, "Bob")
    other = second.new_page()
    open_board(other, app_server)
    other.keyboard.press("End")
    for _ in range(20):
        page.keyboard.press("g")
        other.keyboard.press("b")
        other.keyboard.press("ArrowLeft")
        other.keyboard.press("ArrowLeft")
    wait_until_saved(page)
    wait_until_saved(other)
    by = dict(app_server.query("SELECT inspector, count(*) FROM label_events GROUP BY inspector"))
    assert by == {"Ada": 20, "Bob": 20}
    assert stale_labels(app_server) == 0
    good, bad = labels(app_server).count("good"), labels(app_server).count("bad")
    expect(page.locator(".filter-bad .n")).to_have_text(str(bad), timeout=10_000)  # without touching the page
    expect(other.locator(".filter-good .n")).to_have_text(str(good), timeout=10_000)
    second.close()


def test_undo_walks_back_through_this_sessions_verdicts(
    app_server: AppServer, context: BrowserContext, page: Page
) -> None:
    app_server.seed(5)
    sign_in(context, app_server, "Ada")
    open_board(page, app_server)
    for key in ("g", "b", "ArrowLeft", "u", "z", "z", "z", "z"):
        page.keyboard.press(key)
    expect(page.locator(".message")).to_have_text("Nothing to undo")
    wait_until_saved(page)
    assert labels(app_server) == [None] * 5
    events = app_server.query("SELECT image_id, verdict, is_undo FROM label_events ORDER BY id")
    assert events == [
        (1, "good", 0), (2, "bad", 0), (2, "unsure", 0), (2, "bad", 1), (2, "cleared", 1), (1, "cleared", 1),
    ]  # fmt: skip


def test_undo_leaves_alone_what_a_colleague_has_said_since(
    app_server: AppServer, context: BrowserContext, page: Page
) -> None:
    app_server.seed(3)
    sign_in(context, app_server, "Ada")
    open_board(page, app_server)
    page.keyboard.press("g")
    page.keyboard.press("g")
    wait_until_saved(page)
    browser = context.browser
    assert browser is not None
    second = browser.new_context()
    sign_in(second, app_server, "Bob")
    other = second.new_page()
    open_board(other, app_server)
    expect(other.locator(".grid .tile")).to_have_count(3)  # all of them: the board began with the unlabelled one
    other.keyboard.press("Home")
    other.keyboard.press("ArrowRight")
    expect(other.locator(".grid .tile").nth(1)).to_have_class("tile current")
    other.keyboard.press("b")
    expect(other.locator(".grid .tile").nth(1)).to_have_attribute("data-label", "bad")  # typed, not only sent
    wait_until_saved(other)
    second.close()
    expect(page.locator(".grid .tile").nth(1)).to_have_attribute("data-label", "bad", timeout=10_000)
    page.keyboard.press("z")
    expect(page.locator(".message")).to_contain_text("Not undone: somebody else has changed part-0001.png to bad")
    page.keyboard.press("z")  # the one before is still the inspector's own
    expect(page.locator(".message")).to_contain_text("Undone: part-0000.png is not labelled again")
    wait_until_saved(page)
    assert labels(app_server) == [None, "bad", None]


def test_the_board_shows_images_that_came_in_while_another_page_was_open(
    app_server: AppServer, context: BrowserContext, page: Page
) -> None:
    project = app_server.seed(3)
    sign_in(context, app_server, "Ada")
    open_board(page, app_server)
    page.get_by_role("link", name="Home").click()
    expect(page.get_by_text("Next in Brackets")).to_be_visible()
    app_server.add_images(project, range(3, 8))
    page.wait_for_timeout(2000)  # longer than a remount may take: the board has let go of its element
    page.get_by_role("link", name="Label").first.click()
    expect(page.locator(".grid .tile")).to_have_count(8)


def test_keys_after_the_last_image_label_nothing(app_server: AppServer, context: BrowserContext, page: Page) -> None:
    app_server.seed(3)
    sign_in(context, app_server, "Ada")
    open_board(page, app_server)
    page.keyboard.press("Enter")
    for key in "gggbbb":
        page.keyboard.press(key)
    expect(page.get_by_text("End of this list")).to_be_visible()
    wait_until_saved(page)
    assert labels(app_server) == ["good"] * 3
    assert stored(app_server) == 3


def test_clicks_toggle_and_a_labelled_image_stays_in_the_list_of_unlabelled_ones(
    app_server: AppServer, context: BrowserContext, page: Page
) -> None:
    app_server.seed(12)
    sign_in(context, app_server, "Ada")
    open_board(page, app_server, "none")
    tiles = page.locator(".grid .tile")
    tiles.nth(0).click(position={"x": 20, "y": 40})
    expect(tiles.nth(0)).to_have_attribute("data-label", "bad")
    tiles.nth(0).click(position={"x": 20, "y": 40})
    expect(tiles.nth(0)).to_have_attribute("data-label", "good")
    tiles.nth(1).click(button="right", position={"x": 20, "y": 40})
    expect(tiles.nth(1)).to_have_attribute("data-label", "unsure")
    wait_until_saved(page)
    page.wait_for_timeout(4500)  # longer than the time after which the page asks for news
    expect(tiles).to_have_count(12)
    expect(page.locator(".filter-none .n")).to_have_text("10")
    page.get_by_role("button", name="Refresh list").click()
    expect(tiles).to_have_count(10)


def test_the_name_is_asked_for_before_the_first_verdict_and_remembered(app_server: AppServer, page: Page) -> None:
    app_server.seed(3)
    page.goto(f"{app_server.base_url}/label")
    page.get_by_label("Your name").fill("Grace Müller")
    page.get_by_role("button", name="Start").click()
    expect(page.locator(".ssn-board")).to_have_attribute("data-ready", "true", timeout=30_000)
    page.keyboard.press("b")
    wait_until_saved(page)
    page.reload()
    expect(page.locator(".ssn-board")).to_have_attribute("data-ready", "true", timeout=30_000)
    assert app_server.query("SELECT verdict, inspector FROM label_events") == [("bad", "Grace Müller")]


def test_letters_typed_into_a_text_field_label_nothing(
    app_server: AppServer, context: BrowserContext, page: Page
) -> None:
    app_server.seed(3)
    sign_in(context, app_server, "Ada")
    open_board(page, app_server)
    field = page.get_by_role("textbox", name="Inspector")
    field.click()
    field.press_sequentially("bug")
    field.press("Enter")
    page.wait_for_timeout(500)
    assert stored(app_server) == 0
    page.locator(".size input").focus()  # a slider takes no letters
    page.keyboard.press("g")
    wait_until_saved(page)
    assert app_server.query("SELECT verdict, inspector FROM label_events") == [("good", "Adabug")]


def test_nothing_is_fetched_from_another_host(app_server: AppServer, context: BrowserContext, page: Page) -> None:
    app_server.seed(3)
    sign_in(context, app_server, "Ada")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    open_board(page, app_server)
    outside = [url for url in asked if not url.startswith((app_server.base_url, "data:", "blob:"))]
    assert outside == []
