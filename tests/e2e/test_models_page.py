"""Models in a real browser: two of them compared on the same images, activated, archived and deleted."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest
from playwright.sync_api import BrowserContext, Page, expect

from ssn_core import intervals, metrics
from storage import jobs
from storage.db import connect
from storage.settings import Settings
from tests.e2e.two_models import (
    BAD,
    FIRST,
    SECOND,
    card,
    choose,
    name_of,
    open_models,
    seed,
    wait_until_idle,
)
from tests.model_seed import add_model

if TYPE_CHECKING:
    from conftest import AppServer

pytestmark = pytest.mark.e2e

FLIPS = [  # in the page's order: what harms comes first
    ("Became wrong: bad parts that B passes (new escapes): 1", [14]),
    ("Became wrong: good parts that B rejects (new overkill): 1", [9]),
    ("Became right: bad parts that B catches: 2", [12, 13]),
    ("Became right: good parts that B passes: 2", [10, 11]),
]


def area(scores: np.ndarray) -> float:
    """The share of pairs of a bad and a good part in which the bad one scores higher, by counting."""
    return float((scores[BAD == 1][:, None] > scores[BAD == 0]).mean())


def signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")


def pick(page: Page, selector: str, option: str) -> None:
    page.get_by_role("combobox", name=re.compile(selector)).click()
    page.get_by_role("option", name=re.compile(f"^{option} ")).click()
    wait_until_idle(page)


def compare(page: Page) -> None:
    """First (A) and Second (B), chosen by hand."""
    page.get_by_role("radio", name="Compare two").or_(page.get_by_text("Compare two", exact=True)).first.click()
    expect(page.get_by_text("A, the reference")).to_be_visible(timeout=15_000)
    wait_until_idle(page)
    pick(page, "A, the reference", "First")
    expect(page.get_by_role("combobox", name=re.compile("B, the other one"))).to_have_value(re.compile("^Second "))


def test_two_models_are_compared_by_paired_differences_and_one_figure(
    app_server: AppServer, context: BrowserContext, page: Page
) -> None:
    seed(app_server)
    open_models(app_server, context, page)
    compare(page)
    expect(page.get_by_text("Both on the same 12 good and 8 bad images")).to_be_visible()
    paired = {
        "I-AUROC": intervals.auroc_difference(BAD, SECOND, FIRST),
        "AP-det": intervals.ap_difference(BAD, SECOND, FIRST),
    }
    assert paired["I-AUROC"] is not None
    assert paired["I-AUROC"].value == pytest.approx(area(SECOND) - area(FIRST))
    for name, difference in paired.items():
        assert difference is not None
        assert difference.interval is not None
        tile = page.locator("[data-testid=stVerticalBlock]").filter(has_text=f"{name}: B minus A").last
        expect(tile).to_contain_text(signed(difference.value))
        low, high = signed(difference.interval.low), signed(difference.interval.high)
        expect(tile).to_contain_text(f"95 % interval: {low} to {high}")
    table = page.get_by_role("table")
    expect(table).to_contain_text(f"{area(FIRST):.3f} (")
    expect(table).to_contain_text("25.0 % (7.1 % to 59.1 %), 2 of 8")  # escapes of A, Wilson's interval by hand
    expect(table).to_contain_text("12.5 % (2.2 % to 47.1 %), 1 of 8")  # of B
    drawn = page.locator(".js-plotly-plot").evaluate(
        "plot => plot._fullData.filter(t => t.name && t.mode === 'lines' && t.showlegend)"
        ".map(t => [t.name, t.line.dash, Array.from(t.x), Array.from(t.y)])"
    )
    for (name, dash, x, y), letter, scores in zip(drawn, "AB", (FIRST, SECOND), strict=True):
        curve = metrics.roc_curve(BAD, scores)
        assert (name, dash) == (f"{letter} · area {area(scores):.3f}", "dash" if letter == "A" else "solid")
        assert (x, y) == (pytest.approx(curve.fpr), pytest.approx(curve.tpr))


def test_flips_in_each_direction_lead_to_review_and_back(
    app_server: AppServer, context: BrowserContext, page: Page
) -> None:
    seeded = seed(app_server)
    open_models(app_server, context, page)
    compare(page)
    expect(page.get_by_text("Where the verdict changes: 6 of 20 images")).to_be_visible()
    said = page.locator("[data-testid=stMain]").inner_text()
    places = [said.index(title) for title, _ in FLIPS]
    assert places == sorted(places)
    for (title, flipped), start, end in zip(FLIPS, places, [*places[1:], len(said)], strict=True):
        assert sorted(re.findall(r"part-\d{4}\.png", said[start:end])) == [name_of(i) for i in flipped], title
    expect(page.locator("[data-testid=stImage] img, [data-testid=stMain] img")).to_have_count(6)
    assert "A ✕ Bad 0.500 → B ✓ Good −0.200" in said
    escaped = seeded.images[14]
    page.locator(f".st-key-flip-review-b-{escaped}").get_by_role("button").click()
    expect(page.locator(".ssn-viewer")).to_have_attribute("data-shown", name_of(14), timeout=15_000)
    expect(page.get_by_text("score −0.200 · threshold 0.000")).to_be_visible()
    expect(page.get_by_test_id("stMain").get_by_role("combobox").first).to_have_value(re.compile("^Second "))
    page.go_back()
    expect(page.get_by_text("Where the verdict changes: 6 of 20 images")).to_be_visible(timeout=15_000)
    for selector, name in (("A, the reference", "First"), ("B, the other one", "Second")):
        expect(page.get_by_role("combobox", name=re.compile(selector))).to_have_value(re.compile(f"^{name} "))


def test_a_model_is_activated_rolled_back_to_archived_and_brought_back(
    app_server: AppServer, context: BrowserContext, page: Page
) -> None:
    seeded = seed(app_server)
    active = "SELECT active_model_id FROM projects"
    open_models(app_server, context, page)
    first, second = card(page, seeded.first), card(page, seeded.second)
    expect(second).to_contain_text("Active")
    expect(second).to_contain_text("After First: 2 labels added (0 good, 2 bad); epochs automatic → 40")
    first.get_by_role("button", name="Roll back to it").click()
    expect(page.get_by_text("First is the active model now")).to_be_visible(timeout=15_000)
    expect(second.get_by_role("button", name="Activate")).to_be_visible(timeout=15_000)
    expect(first).to_contain_text("Active")
    assert app_server.query(active) == [(seeded.first,)]
    second.get_by_role("button", name="Activate").click()
    expect(first.get_by_role("button", name="Roll back to it")).to_be_visible(timeout=15_000)
    assert app_server.query(active) == [(seeded.second,)]
    wait_until_idle(page)
    choose(page, seeded.first, "Archive")
    expect(page.get_by_text("Archived: 1 model")).to_be_visible(timeout=15_000)
    expect(first).to_be_hidden()
    wait_until_idle(page)
    page.get_by_text("Compare two", exact=True).click()
    expect(page.get_by_text("Comparing needs two models that are not archived")).to_be_visible(timeout=15_000)
    page.get_by_text("All models", exact=True).click()
    page.get_by_text("Archived: 1 model").click()
    first.get_by_role("button", name="Bring back").click()
    expect(page.get_by_text("Archived: 1 model")).to_be_hidden(timeout=15_000)
    expect(first.get_by_role("button", name="Roll back to it")).to_be_visible()
    assert app_server.query("SELECT count(*) FROM models WHERE archived_at IS NULL") == [(2,)]


@pytest.fixture
def scoring() -> Iterator[psutil.Process]:
    """A process that stands for the one that trains."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield psutil.Process(process.pid)
        process.communicate(b"\n")


def add_unfinished(server: AppServer, project: int, worker: psutil.Process) -> int:
    """A model whose training has not yet scored its images; returns its number."""
    db = connect(Settings(data_dir=server.data_dir, database_url="", weights_dir=None))
    job = jobs.submit(db, kind="train", project_id=project, payload={"recipe": "cam"})
    jobs.claim(db, pid=worker.pid, process_created=worker.create_time())
    model = add_model(db, project, name="Third", job_id=job, activate=False, learned={})
    db.engine.dispose()
    return model.id


def test_a_model_is_deleted_only_when_nothing_rests_on_it(
    app_server: AppServer, context: BrowserContext, page: Page, scoring: psutil.Process
) -> None:
    seeded = seed(app_server)
    unfinished = add_unfinished(app_server, seeded.project, scoring)
    folder = app_server.data_dir / f"models/{seeded.project}/1"
    maps = app_server.data_dir / f"maps/{seeded.first}"
    context.add_cookies([{"name": "ssn_inspector", "value": "Ada", "url": app_server.base_url}])
    page.goto(f"{app_server.base_url}/models")
    expect(card(page, unfinished)).to_contain_text("In training", timeout=30_000)
    expect(card(page, unfinished).get_by_role("button", name="Activate")).to_have_count(0)
    wait_until_idle(page)
    for model, reason in ((unfinished, "A job is working with it"), (seeded.second, "It is the active model")):
        choose(page, model, "Delete …")
        expect(page.get_by_role("dialog")).to_contain_text(reason)
        expect(page.get_by_role("button", name="Delete for ever")).to_have_count(0)
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_have_count(0)
        wait_until_idle(page)
    choose(page, seeded.first, "Delete …")
    expect(page.get_by_role("dialog")).to_contain_text("the scores and maps of 20 images")
    page.get_by_role("button", name="Keep it").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    wait_until_idle(page)
    assert folder.is_dir()
    choose(page, seeded.first, "Delete …")
    page.get_by_role("button", name="Delete for ever").click()
    expect(page.get_by_text("First is deleted.")).to_be_visible(timeout=15_000)
    expect(card(page, seeded.first)).to_be_hidden()
    expect(card(page, seeded.second)).to_contain_text("No parent on record")
    assert app_server.query("SELECT name FROM models ORDER BY id") == [("Second",), ("Third",)]
    assert not folder.exists()
    assert not maps.exists()
