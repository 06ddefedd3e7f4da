"""The board and the one-image view: selecting, stacks, orders, keys of one's own, looking closely, limit samples."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from playwright.sync_api import BrowserContext, Locator, Page, Route, expect
from test_labelling import labels, open_board, sign_in, stored, wait_until_saved

from storage import descriptors, files, images, label_queues, projects, thumbnails
from storage import labels as store
from storage.db import connect
from storage.settings import Settings
from tests.model_seed import add_model

if TYPE_CHECKING:
    from conftest import AppServer

pytestmark = pytest.mark.e2e


@pytest.fixture
def board(app_server: AppServer, context: BrowserContext, page: Page) -> Page:
    """Ada on the board of a project of twelve images."""
    app_server.seed(12)
    sign_in(context, app_server, "Ada")
    open_board(page, app_server)
    return page


def tile(page: Page, at: int) -> Any:
    return page.locator(".grid .tile").nth(at)


def at_rest(of: Locator) -> Any:
    """Its place once it no longer moves: the board is drawn anew when its list comes, and is nowhere for a moment."""
    for _ in range(100):
        before = of.bounding_box()
        of.page.wait_for_timeout(100)
        if before is not None and before == of.bounding_box():
            return before
    raise AssertionError("The board does not come to rest")


def listed(page: Page, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Let the list route answer something else, as other data or a later version of it would."""

    def answer(route: Route) -> None:
        response = route.fetch()
        route.fulfill(response=response, body=json.dumps(change(response.json())))

    page.route("**/ssn/list?*", answer)


def test_one_key_labels_a_range_selected_by_shift_click_and_one_undo_takes_it_back(
    app_server: AppServer, board: Page
) -> None:
    tile(board, 1).click(modifiers=["ControlOrMeta"])
    tile(board, 4).click(modifiers=["Shift"])
    tile(board, 7).click(modifiers=["ControlOrMeta"])
    expect(board.locator(".grid .tile.selected")).to_have_count(5)
    expect(board.locator(".chosen")).to_contain_text("5 selected")
    assert stored(app_server) == 0  # selecting is no verdict
    board.keyboard.press("b")
    expect(board.locator(".grid .tile.selected")).to_have_count(0)
    expect(board.locator(".message")).to_contain_text("Bad for 5 images")
    wait_until_saved(board)
    assert labels(app_server) == [None, *["bad"] * 4, None, None, "bad", None, None, None, None]
    board.keyboard.press("z")
    expect(board.locator(".message")).to_contain_text("Undone for 5 images")
    wait_until_saved(board)
    assert labels(app_server) == [None] * 12
    assert stored(app_server) == 10


def test_labels_of_a_long_range_are_read_before_it_is_labelled_so_that_an_undo_brings_them_back(
    app_server: AppServer, context: BrowserContext, page: Page
) -> None:
    app_server.seed(420)
    db = connect(Settings(data_dir=app_server.data_dir, database_url="", weights_dir=None))
    store.record(db, project_id=1, events=[store.LabelEvent("tab of Bo", 1, 215, "unsure", "Bo", "board")])
    db.close()
    sign_in(context, app_server, "Ada")
    open_board(page, app_server)
    tile(page, 0).click(modifiers=["ControlOrMeta"])
    page.keyboard.press("End")
    page.locator(".grid .tile[data-id='420']").click(modifiers=["Shift"])
    expect(page.locator(".chosen")).to_contain_text("420 selected")
    page.keyboard.press("b")
    expect(page.locator(".message")).to_contain_text("are read: press the key again")
    assert stored(app_server) == 1
    page.keyboard.press("b")
    wait_until_saved(page)
    assert labels(app_server) == ["bad"] * 420
    page.keyboard.press("z")
    wait_until_saved(page)
    assert labels(app_server) == [*[None] * 214, "unsure", *[None] * 205]


def test_a_frame_drawn_with_the_mouse_selects_what_it_touches(app_server: AppServer, board: Page) -> None:
    first, last = at_rest(tile(board, 0)), at_rest(tile(board, 2))
    board.mouse.move(first["x"] + 20, first["y"] + 20)
    board.mouse.down()
    board.mouse.move(last["x"] + 10, last["y"] + 60, steps=5)
    expect(board.locator(".band")).to_be_visible()
    board.mouse.up()
    expect(board.locator(".band")).to_have_count(0)
    expect(board.locator(".grid .tile.selected")).to_have_count(3)
    board.keyboard.press("g")
    wait_until_saved(board)
    assert labels(app_server) == [*["good"] * 3, *[None] * 9]


def test_the_keyboard_alone_selects_labels_and_goes_on(app_server: AppServer, board: Page) -> None:
    board.keyboard.press("Shift+ArrowRight")
    board.keyboard.press("Shift+ArrowRight")
    expect(board.locator(".grid .tile.selected")).to_have_count(3)
    board.keyboard.press("Enter")  # the other view has the same selection
    expect(board.locator(".strip .tile.selected")).to_have_count(3)
    expect(board.locator(".chosen")).to_contain_text("3 selected")
    board.keyboard.press("u")
    expect(board.locator(".ssn-board")).to_have_attribute("data-current", "4")
    board.keyboard.press("Escape")
    board.keyboard.press("Control+a")
    expect(board.locator(".grid .tile.selected")).to_have_count(12)
    board.keyboard.press("Escape")
    expect(board.locator(".grid .tile.selected")).to_have_count(0)
    wait_until_saved(board)
    assert labels(app_server) == [*["unsure"] * 3, *[None] * 9]


def test_an_inspectors_own_keys_are_kept_by_the_browser(app_server: AppServer, board: Page) -> None:
    board.keyboard.press("?")
    board.locator(".key-bad").click()
    board.keyboard.press("r")  # the app's own
    expect(board.locator(".help .note")).to_contain_text("R is taken")
    board.locator(".key-bad").click()
    board.keyboard.press("g")  # exchanged with "good"
    expect(board.locator(".key-bad")).to_have_text("G")
    expect(board.locator(".key-good")).to_have_text("B")
    board.locator(".key-unsure").click()
    board.keyboard.press("3")
    board.keyboard.press("Escape")
    board.reload()
    expect(board.locator(".ssn-board")).to_have_attribute("data-ready", "true", timeout=30_000)
    board.keyboard.press("Home")
    for key in "gb3u":  # "u" means nothing any more
        board.keyboard.press(key)
    wait_until_saved(board)
    assert labels(app_server)[:4] == ["bad", "good", "unsure", None]


def test_an_order_that_cannot_be_had_says_why_and_the_way_out(
    app_server: AppServer, context: BrowserContext, page: Page
) -> None:
    app_server.seed(5)
    sign_in(context, app_server, "Ada")
    open_board(page, app_server)
    asked: list[str] = []

    def answer(list_: dict[str, Any]) -> dict[str, Any]:
        if "suspicious" in asked[-1]:
            return {"ids": [], "stacks": [], "reason": "No model has scored these images yet. Train one first."}
        return {**list_, "ids": sorted(list_["ids"], reverse="random" in asked[-1])}

    page.on("request", lambda request: asked.append(request.url) if "/ssn/list?" in request.url else None)
    listed(page, answer)
    page.get_by_label("Order of the images").select_option("suspicious")
    expect(page.get_by_text("No model has scored these images yet")).to_be_visible()
    page.get_by_role("button", name="Oldest first").click()
    expect(page.locator(".grid .tile")).to_have_count(5)
    page.get_by_label("Order of the images").select_option("random")
    expect(page.locator(".grid .tile").first).to_have_attribute("data-id", "5")
    assert "seed=" in asked[-1]
    page.keyboard.press("Home")
    page.keyboard.press("b")  # the menu has given the letters back
    page.keyboard.press("Enter")
    expect(page.locator(".ssn-board")).to_have_attribute("data-current", "4")  # both views share the order
    wait_until_saved(page)
    assert labels(app_server) == [None, None, None, None, "bad"]


def test_the_order_that_saves_labels_is_the_first_choice_from_when_it_can_be_had(
    app_server: AppServer, context: BrowserContext, page: Page
) -> None:
    project = app_server.seed(6)
    sign_in(context, app_server, "Ada")
    open_board(page, app_server, "none")
    order, ready = page.get_by_label("Order of the images"), page.get_by_role("button", name="ready now")
    expect(order).to_have_value("oldest")  # nobody waits for a comparison
    expect(ready).to_be_hidden()

    db = connect(Settings(data_dir=app_server.data_dir, database_url="", weights_dir=None))
    where = descriptors.folder(db, project_id=project, setup="made-up")
    found = images.get_many(db, image_ids=images.ids(db, project_id=project))
    rows = [(image.sha256, np.array([n, 0.0], np.float16), float(n == 4)) for n, image in enumerate(found)]
    descriptors.add(where, rows)
    label_queues.build(db, project_id=project, described=where)
    db.engine.dispose()
    odd = str(found[4].id)
    ready.click(timeout=40_000)  # the news come every 20 s; nothing has moved by itself
    expect(order).to_have_value("informative")
    expect(page.locator(".ssn-board")).to_have_attribute("data-current", odd)
    expect(ready).to_be_hidden()

    page.locator(".filter-all").click()
    expect(order).to_have_value("oldest")  # what is looked through again comes as it came in
    order.select_option("random")
    page.locator(".filter-none").click()
    expect(order).to_have_value("random")  # a choice is kept, in this tab
    page.reload()
    expect(order).to_have_value("random", timeout=30_000)
    another = context.new_page()
    open_board(another, app_server, "none")
    expect(another.get_by_label("Order of the images")).to_have_value("informative")
    expect(another.locator(".ssn-board")).to_have_attribute("data-current", odd)


def test_a_stack_takes_one_verdict_for_all_and_can_be_opened(
    app_server: AppServer, context: BrowserContext, page: Page
) -> None:
    app_server.seed(8)
    sign_in(context, app_server, "Ada")
    listed(page, lambda list_: {**list_, "stacks": [[2, 4, 6], [5, 7]]})
    open_board(page, app_server)
    tiles = page.locator(".grid .tile")
    expect(tiles).to_have_count(5)  # 1, the stack of 2, 3, the stack of 5, 8
    expect(tiles.nth(1).locator(".count")).to_have_text("3")
    expect(tiles.nth(1).locator("img")).to_have_count(3)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("g")
    expect(page.locator(".message")).to_contain_text("Good for 3 images")
    wait_until_saved(page)
    assert labels(app_server) == [None, "good", None, "good", None, "good", None, None]
    page.keyboard.press("ArrowRight")
    page.keyboard.press("e")  # opens the stack of 5 and 7: they stand where the list has them
    expect(tiles).to_have_count(6)
    page.keyboard.press("b")
    wait_until_saved(page)
    assert labels(app_server)[4:] == ["bad", "good", None, None]
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("e")
    expect(tiles.nth(3)).to_have_attribute(
        "aria-label", "part-0004.png and 1 more: one verdict for all: 1 of 2 labelled"
    )
    page.keyboard.press("g")
    expect(page.locator(".message")).to_contain_text("Good for 2 images, 1 of which had another verdict")
    page.keyboard.press("z")
    expect(page.locator(".message")).to_contain_text("Undone for 2 images")
    page.get_by_role("button", name="Stacks").click()
    expect(tiles).to_have_count(8)


def give_a_model(server: AppServer, *, verdict_first: bool) -> None:
    """An active model of project 1 with a map of each of its images but the last: red all over."""
    db = connect(Settings(data_dir=server.data_dir, database_url="", weights_dir=None))
    found = images.page(db, project_id=1, limit=100)
    red = np.full((8, 12), 1e6, np.float32)  # far above the colour scale of any model
    add_model(db, 1, cams={image.sha256: red for image in found[:-1]})
    projects.set_verdict_first(db, project_id=1, value=verdict_first)
    db.close()


@pytest.mark.parametrize("verdict_first", [False, True])
def test_the_models_map_lies_over_the_image_while_a_key_is_held_and_waits_for_the_verdict_where_asked_to(
    app_server: AppServer, context: BrowserContext, page: Page, verdict_first: bool
) -> None:
    app_server.seed(3)
    give_a_model(app_server, verdict_first=verdict_first)
    sign_in(context, app_server, "Ada")
    open_board(page, app_server)
    page.keyboard.press("Enter")
    page.keyboard.down("m")
    if verdict_first:
        expect(page.locator(".message")).to_contain_text("Your verdict comes first")
        expect(page.locator(".plate .map")).to_have_count(0)
    else:
        expect(page.locator(".plate .map")).to_be_visible()
    page.keyboard.up("m")
    held: list[Route] = []
    page.route("**/ssn/labels", lambda route: held.append(route))  # the map is asked for before the verdict is stored
    page.keyboard.press("g")
    page.keyboard.press("ArrowLeft")
    page.keyboard.down("m")
    if verdict_first:
        expect(page.locator(".message")).to_contain_text("as soon as your verdict is saved")
    page.route("**/ssn/labels", lambda route: route.continue_())  # in front of the one before
    for route in held:
        route.continue_()
    expect(page.locator(".plate .map")).to_be_visible()
    page.keyboard.up("m")
    expect(page.locator(".plate .map")).to_have_count(0)
    page.keyboard.press("b")
    page.keyboard.press("End")
    page.keyboard.press("u")
    page.keyboard.press("ArrowLeft")
    page.keyboard.down("m")
    expect(page.locator(".message")).to_contain_text("No map: There is no map of this image yet")
    page.keyboard.up("m")
    wait_until_saved(page)
    said = app_server.query("SELECT image_id, verdict, map_seen FROM label_events ORDER BY id")
    assert said == [(1, "good", int(not verdict_first)), (1, "bad", 1), (3, "unsure", 0)]
    page.reload()
    expect(page.locator(".ssn-board")).to_have_attribute("data-ready", "true", timeout=30_000)
    page.keyboard.press("Home")
    page.keyboard.press("g")
    wait_until_saved(page)
    assert app_server.query("SELECT image_id, map_seen FROM label_events ORDER BY id")[-1] == (1, 1)  # still known


def test_the_picture_can_be_looked_at_closely_and_comes_back(app_server: AppServer, board: Page) -> None:
    board.keyboard.press("Enter")
    plate = board.locator(".plate").first
    room = board.locator(".photo").first.bounding_box()
    assert room is not None
    board.mouse.move(room["x"] + 100, room["y"] + 100)
    board.mouse.wheel(0, -600)
    expect(board.locator(".zoom")).not_to_have_text("100 %")
    before = plate.bounding_box()
    board.mouse.down()
    board.mouse.move(room["x"] + 160, room["y"] + 130, steps=3)
    board.mouse.up()
    after = plate.bounding_box()
    assert before is not None
    assert after is not None
    assert (round(after["x"] - before["x"]), round(after["y"] - before["y"])) == (60, 30)
    board.get_by_label("Brightness").fill("150")
    board.keyboard.press("i")
    board.keyboard.press("g")  # labelled as usual; the next one is looked at in the same way
    expect(board.locator(".ssn-board")).to_have_attribute("data-shown", "2")
    expect(plate.locator("img")).to_have_css("filter", "brightness(1.5) invert(1)")
    expect(board.locator(".photo").first).to_have_class("photo zoomed")
    board.keyboard.press("f")
    expect(plate.locator("img")).to_have_css("filter", "none")
    expect(board.locator(".zoom")).to_have_text("100 %")
    wait_until_saved(board)
    assert labels(app_server)[:2] == ["good", None]


def test_limit_samples_are_pinned_seen_by_everybody_and_compared(
    app_server: AppServer, context: BrowserContext, board: Page
) -> None:
    board.keyboard.press("Enter")
    expect(board.locator(".photo").first).to_be_visible()
    board.keyboard.press("p")
    expect(board.locator(".message")).to_contain_text("needs a verdict first")
    board.keyboard.press("b")
    board.keyboard.press("ArrowLeft")
    board.keyboard.press("p")
    expect(board.locator(".message")).to_contain_text("part-0000.png is a limit sample for bad")
    other = context.new_page()
    other.goto(f"{app_server.base_url}/label")
    expect(other.locator(".limit")).to_have_count(1, timeout=30_000)
    other.close()
    board.bring_to_front()
    board.keyboard.press("ArrowRight")
    board.locator(".limit").click()
    expect(board.locator(".beside img")).to_be_visible()
    expect(board.locator(".beside .caption")).to_have_text("Limit sample: bad")
    board.keyboard.press("g")  # keys go on working beside it
    board.locator(".limit").click()
    expect(board.locator(".beside")).to_be_hidden()
    board.keyboard.press("Home")
    board.keyboard.press("p")
    expect(board.locator(".limit")).to_have_count(0)
    wait_until_saved(board)
    assert labels(app_server)[:2] == ["bad", "good"]
    assert app_server.query("SELECT image_id, verdict, inspector, removed_by FROM limit_samples") == [
        (1, "bad", "Ada", "Ada")
    ]


def test_a_picture_that_is_damaged_says_so_and_the_image_can_be_labelled_all_the_same(
    app_server: AppServer, context: BrowserContext, page: Page
) -> None:
    app_server.seed(3)
    (_, (second,), (third,)) = app_server.query("SELECT sha256 FROM images ORDER BY id")
    thumbnails.thumbnail(app_server.data_dir, sha256=third, extension=".png")  # which is there before the damage
    for sha256 in (second, third):
        stored_at = files.image_path(app_server.data_dir, sha256=sha256, extension=".png")
        stored_at.chmod(0o644)
        stored_at.write_bytes(b"no picture")
    sign_in(context, app_server, "Ada")
    open_board(page, app_server)
    broken = tile(page, 1).locator("img.missing")
    expect(broken).to_have_attribute("title", re.compile("not an image"), timeout=20_000)
    expect(page.locator(".grid .tile img.missing")).to_have_count(1)
    asked: list[str] = []
    page.on(
        "request", lambda request: asked.append(request.url) if re.search("/ssn/(thumb|image)/", request.url) else None
    )
    page.wait_for_timeout(4000)
    assert not asked  # it is not asked for again and again
    tile(page, 1).hover()
    tile(page, 1).locator(".open").click()
    expect(page.locator(".plate img.missing")).to_have_attribute("title", re.compile("not an image"), timeout=20_000)
    page.wait_for_timeout(3000)
    asked.clear()
    page.wait_for_timeout(4000)
    assert not asked
    page.get_by_role("button", name="Board", exact=True).click()
    tile(page, 2).hover()
    tile(page, 2).locator(".open").click()
    expect(page.locator(".name")).to_contain_text("damaged", timeout=20_000)
    page.get_by_role("button", name="Board", exact=True).click()
    tile(page, 1).click()
    wait_until_saved(page)
    assert labels(app_server)[1] is not None
