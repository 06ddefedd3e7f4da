"""A study of agreement in real browsers: two inspectors, blind, each in an own order; then the results."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

from storage import images, labels, studies
from storage.db import connect
from storage.settings import Settings

if TYPE_CHECKING:
    from conftest import AppServer

pytestmark = pytest.mark.e2e

PARTS, TRIALS = 6, 2
VERDICT_OF = {"g": "good", "b": "bad"}


def seed_study(server: AppServer) -> studies.Study:
    """Six labelled images and a study of all of them."""
    project_id = server.seed(PARTS, name="Brackets")
    db = connect(Settings(data_dir=server.data_dir, database_url="", weights_dir=None))
    events = [
        labels.LabelEvent("seed", image, image, "good" if image % 2 else "bad", "Ada", "board")
        for image in images.ids(db, project_id=project_id)
    ]
    labels.record(db, project_id=project_id, events=events)
    study = studies.create(db, project_id=project_id, name="First look", inspector="Ada", n_parts=PARTS, seed=3)
    db.engine.dispose()
    return study


def sign_in(context: BrowserContext, server: AppServer, name: str) -> None:
    context.add_cookies([{"name": "ssn_inspector", "value": name, "url": server.base_url}])


def begin(page: Page, server: AppServer, button: str = "Start") -> None:
    page.goto(f"{server.base_url}/agreement")
    page.get_by_role("button", name=button, exact=True).click(timeout=30_000)


def wait_for(page: Page, trial: int, part: int) -> None:
    expect(page.locator(".ssn-study")).to_have_attribute("data-shown", f"{trial}/{part}", timeout=30_000)


def judge(page: Page, trial: int, keys: str, start: int = 1) -> None:
    """One key for each part from `start` on, each when its picture is on the screen."""
    for part, key in enumerate(keys, start=start):
        wait_for(page, trial, part)
        page.keyboard.press(key)


def wait_until_saved(page: Page) -> None:
    expect(page.locator(".ssn-study .save")).to_have_attribute("data-unsaved", "0", timeout=30_000)


def verdicts(server: AppServer, who: str, trial: int) -> list[tuple[int, str]]:
    query = "SELECT image_id, verdict FROM study_verdicts WHERE inspector = ? AND trial = ? ORDER BY id"
    return [(image, verdict) for image, verdict in server.query(query, who, trial)]


@pytest.fixture
def other(browser: Browser, app_server: AppServer) -> Iterator[Page]:
    """A second inspector in a browser of their own."""
    context = browser.new_context(viewport={"width": 1366, "height": 768})
    sign_in(context, app_server, "Bo")
    opened = context.new_page()
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    yield opened
    context.close()
    assert not errors, errors


def test_two_inspectors_judge_blind_twice_and_then_see_the_results(
    app_server: AppServer, context: BrowserContext, page: Page, other: Page
) -> None:
    seed_study(app_server)
    sign_in(context, app_server, "Ada")
    labelled = app_server.query("SELECT count(*) FROM label_events")
    begin(page, app_server)
    begin(other, app_server)
    judge(page, 1, "gbgbgb")
    judge(other, 1, "bbbggg")
    for opened in (page, other):
        expect(opened.get_by_text("Trial 1 of 2 is done")).to_be_visible()
        opened.get_by_role("button", name="Start trial 2").click()
    judge(page, 2, "gggbbb")
    expect(page.get_by_text("All your trials are done")).to_be_visible()
    wait_until_saved(page)
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_text("Results appear when everybody who has begun is done")).to_be_visible(timeout=15_000)
    expect(page.get_by_text("Bo (6 of 12)")).to_be_visible()
    judge(other, 2, "gbgbgb")
    wait_until_saved(other)
    other.get_by_role("button", name="Go on").click()
    expect(other.get_by_role("cell", name="Ada").last).to_be_visible(timeout=15_000)
    expect(other.get_by_text("Effectiveness").first).to_be_visible()
    for who, keys in (("Ada", ("gbgbgb", "gggbbb")), ("Bo", ("bbbggg", "gbgbgb"))):
        for trial, typed in enumerate(keys, start=1):
            assert [verdict for _, verdict in verdicts(app_server, who, trial)] == [VERDICT_OF[key] for key in typed]
    orders = [[image for image, _ in verdicts(app_server, who, trial)] for who in ("Ada", "Bo") for trial in (1, 2)]
    assert all(sorted(order) == sorted(orders[0]) for order in orders)
    assert len({tuple(order) for order in orders}) == 4
    assert app_server.query("SELECT count(*) FROM label_events") == labelled  # no verdict became a label


def test_nothing_but_the_picture_is_shown_and_told(app_server: AppServer, context: BrowserContext, page: Page) -> None:
    seed_study(app_server)
    sign_in(context, app_server, "Ada")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    begin(page, app_server)
    judge(page, 1, "g")
    wait_for(page, 1, 2)
    said = page.locator(".ssn-study").inner_text()
    assert "2 of 6, trial 1 of 2" in said
    assert "part-" not in page.content()
    image = page.locator(".ssn-study .photo img")
    assert image.get_attribute("alt") == "The part to judge"
    assert not any("/ssn/details" in url or "/ssn/map" in url for url in asked)


def test_undo_reload_and_a_killed_server_lose_nothing(
    app_server: AppServer, context: BrowserContext, page: Page
) -> None:
    study = seed_study(app_server)
    sign_in(context, app_server, "Ada")
    begin(page, app_server)
    judge(page, 1, "gg")
    wait_for(page, 1, 3)
    page.keyboard.press("z")
    wait_for(page, 1, 2)
    expect(page.locator(".ssn-study .undo")).to_be_enabled()  # the part before may be taken back as well
    judge(page, 1, "b", start=2)
    page.reload()
    wait_for(page, 1, 3)
    app_server.kill()
    judge(page, 1, "g", start=3)
    expect(page.locator(".ssn-study .save")).to_contain_text("1 not saved yet")
    app_server.start()
    wait_until_saved(page)
    judge(page, 1, "b", start=4)
    wait_until_saved(page)
    page.get_by_role("button", name="Pause").click()
    begin(page, app_server, "Go on")
    wait_for(page, 1, 5)
    assert [verdict for _, verdict in verdicts(app_server, "Ada", 1)] == ["good", "bad", "good", "bad"]
    db = connect(Settings(data_dir=app_server.data_dir, database_url="", weights_dir=None))
    assert [image for image, _ in verdicts(app_server, "Ada", 1)] == studies.orders(db, study=study, inspector="Ada")[
        0
    ][:4]
    db.engine.dispose()


def test_fast_keys_never_judge_a_part_that_is_not_on_the_screen(
    app_server: AppServer, context: BrowserContext, page: Page
) -> None:
    study = seed_study(app_server)
    db = connect(Settings(data_dir=app_server.data_dir, database_url="", weights_dir=None))
    third = studies.orders(db, study=study, inspector="Ada")[0][2]
    db.engine.dispose()
    held: list[Route] = []
    page.route(f"**/ssn/image/{third}?*", lambda route: held.append(route))  # a picture that takes its time
    sign_in(context, app_server, "Ada")
    begin(page, app_server)
    judge(page, 1, "gb")
    for _ in range(20):
        page.keyboard.press("g")
    wait_until_saved(page)
    assert held
    assert [verdict for _, verdict in verdicts(app_server, "Ada", 1)] == ["good", "bad"]
    for route in held:
        route.continue_()
    judge(page, 1, "bbbb", start=3)
    for _ in range(20):
        page.keyboard.press("g")
    wait_until_saved(page)
    assert [verdict for _, verdict in verdicts(app_server, "Ada", 1)] == ["good", *["bad"] * 5]
    assert verdicts(app_server, "Ada", 2) == []  # the next trial needs a click


def test_a_second_tab_waits_and_goes_on_where_the_first_one_was(
    app_server: AppServer, context: BrowserContext, page: Page
) -> None:
    seed_study(app_server)
    sign_in(context, app_server, "Ada")
    begin(page, app_server)
    judge(page, 1, "gb")
    wait_until_saved(page)
    second = context.new_page()
    begin(second, app_server, "Go on")
    expect(second.get_by_text("the study is open in another tab")).to_be_visible(timeout=15_000)
    page.close()
    wait_for(second, 1, 3)


def test_closing_ends_the_judging(app_server: AppServer, context: BrowserContext, page: Page, other: Page) -> None:
    seed_study(app_server)
    sign_in(context, app_server, "Ada")
    begin(page, app_server)
    judge(page, 1, "gb")
    wait_until_saved(page)
    other.goto(f"{app_server.base_url}/agreement")
    other.get_by_text("Close study").click(timeout=30_000)
    other.get_by_role("button", name="Close now").click()
    expect(other.get_by_text("· closed 2")).to_be_visible(timeout=15_000)
    judge(page, 1, "g", start=3)
    expect(page.get_by_text("This study was closed")).to_be_visible(timeout=15_000)
    assert len(verdicts(app_server, "Ada", 1)) == 2
