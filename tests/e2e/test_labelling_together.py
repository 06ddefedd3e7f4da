"""Labelling against odds: a slow database, two tabs, two inspectors on one queue, and all of it at once."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import BrowserContext, Page, Route, expect
from test_labelling import QUEUE, labels, open_board, sign_in, stale_labels, stored, type_keys, wait_until_saved

if TYPE_CHECKING:
    from conftest import AppServer

pytestmark = pytest.mark.e2e

# SSN_LABEL_SECONDS=60 makes the last test the full minute.
SECONDS = float(os.environ.get("SSN_LABEL_SECONDS", "9"))


@contextmanager
def slow_database(server: AppServer, *, held: float, pause: float) -> Iterator[None]:
    """Somebody else holds the write lock most of the time, for `held` seconds at once."""
    done = threading.Event()

    def hold() -> None:
        connection = sqlite3.connect(server.data_dir / "ssn.sqlite3", timeout=30, isolation_level=None)
        while not done.wait(pause):
            connection.execute("BEGIN IMMEDIATE")
            done.wait(held)
            connection.execute("COMMIT")
        connection.close()

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        yield
    finally:
        done.set()
        holder.join()


def doubled(server: AppServer) -> int:
    """Verdicts stored more than once; what the inspector gave twice has two numbers and does not count."""
    return int(
        server.query("SELECT count(*) FROM (SELECT 1 FROM label_events GROUP BY client, seq HAVING count(*) > 1)")[0][0]
    )


def test_a_slow_database_makes_nobody_wait_and_loses_nothing(
    app_server: AppServer, context: BrowserContext, page: Page
) -> None:
    app_server.seed(60)
    sign_in(context, app_server, "Ada")
    open_board(page, app_server)
    page.keyboard.press("Enter")
    with slow_database(app_server, held=1.5, pause=0.05):
        type_keys(page, 60, rate=20)
        expect(page.get_by_text("End of this list")).to_be_visible()  # every verdict was shown at once
        assert page.evaluate(f"() => {QUEUE}.unsaved") > 0
        expect(page.locator(".save")).to_contain_text("Saving")
        wait_until_saved(page)
    assert labels(app_server) == ["good", "bad", "unsure"] * 20
    assert stored(app_server) == 60
    assert "database is locked" not in app_server.log.read_text()


def test_an_answer_that_is_lost_on_the_way_stores_nothing_twice(
    app_server: AppServer, context: BrowserContext, page: Page
) -> None:
    app_server.seed(12)
    sign_in(context, app_server, "Ada")
    open_board(page, app_server)
    lost = 0

    def lose_every_other(route: Route) -> None:
        nonlocal lost
        if lost % 2 == 0:
            route.fetch()  # the server has stored it, and the browser never hears of it
            route.abort()
        else:
            route.continue_()
        lost += 1

    page.route("**/ssn/labels", lose_every_other)
    type_keys(page, 12, rate=10)
    wait_until_saved(page)
    assert lost >= 2
    assert labels(app_server) == ["good", "bad", "unsure"] * 4
    assert stored(app_server) == 12


def test_two_tabs_of_one_inspector_store_each_verdict_once(
    app_server: AppServer, context: BrowserContext, page: Page
) -> None:
    app_server.seed(40)
    sign_in(context, app_server, "Ada")
    open_board(page, app_server)
    other = context.new_page()
    open_board(other, app_server)
    for _ in range(2):  # back and forth, quicker than anything is stored
        page.bring_to_front()
        type_keys(page, 10, rate=20)
        other.bring_to_front()
        type_keys(other, 10, rate=20)
    page.close()
    wait_until_saved(other)
    other.wait_for_function("() => !Object.keys(localStorage).some((key) => key.startsWith('ssn.outbox'))")
    assert stored(app_server) == 40
    assert doubled(app_server) == 0
    assert len(app_server.query("SELECT DISTINCT client FROM label_events")) == 2
    assert stale_labels(app_server) == 0


def test_two_inspectors_on_one_queue_are_not_served_the_same_image(
    app_server: AppServer, context: BrowserContext, page: Page
) -> None:
    app_server.seed(200)
    browser = context.browser
    assert browser is not None
    second = browser.new_context()
    other = second.new_page()
    for inspector, of, opened in (("Ada", context, page), ("Bob", second, other)):
        sign_in(of, app_server, inspector)
        open_board(opened, app_server, "none")
        opened.keyboard.press("Enter")
        opened.wait_for_timeout(800)  # until it is known who has what
    first = page.locator(".ssn-board").get_attribute("data-current")
    expect(other.locator(".ssn-board")).not_to_have_attribute("data-current", first or "")
    expect(other.locator(".people")).to_contain_text("Ada", timeout=15_000)
    for _ in range(30):  # at the pace of a quick inspector
        page.keyboard.press("g")
        other.keyboard.press("b")
        page.wait_for_timeout(120)
    wait_until_saved(page)
    wait_until_saved(other)
    second.close()
    by = dict(app_server.query("SELECT inspector, count(*) FROM label_events GROUP BY inspector"))
    assert by == {"Ada": 30, "Bob": 30}
    assert app_server.query("SELECT image_id FROM label_events GROUP BY image_id HAVING count(*) > 1") == []


def test_everything_that_can_go_wrong_at_once_loses_none_and_doubles_none(
    app_server: AppServer, context: BrowserContext, page: Page
) -> None:
    """Ten keys a second through a reload, a killed server, a second tab and a slow database."""
    rate = 10
    n = round(rate * SECONDS / 3)
    app_server.seed(4 * n)
    sign_in(context, app_server, "Ada")
    open_board(page, app_server)
    with slow_database(app_server, held=0.4, pause=0.2):
        type_keys(page, n, rate=rate)
        page.reload()
        expect(page.locator(".ssn-board")).to_have_attribute("data-ready", "true", timeout=30_000)
        type_keys(page, n, rate=rate)
        other = context.new_page()
        open_board(other, app_server)
        other.keyboard.press("End")
        before = time.monotonic()
        app_server.kill()
    for at in range(n):
        (page if at % 2 else other).keyboard.press("gbu"[at % 3])
        if at % 2 == 0:
            other.keyboard.press("ArrowLeft")
            other.keyboard.press("ArrowLeft")
        time.sleep(max(0.0, before + (at + 1) / rate - time.monotonic()))
    app_server.start()
    wait_until_saved(page)
    wait_until_saved(other)
    assert stored(app_server) == 3 * n
    assert doubled(app_server) == 0
    assert stale_labels(app_server) == 0
    assert page.evaluate("() => Object.keys(localStorage).filter((key) => key.startsWith('ssn.outbox')).length") == 0
