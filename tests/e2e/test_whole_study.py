"""A whole attribute-agreement study in two browsers: set up, judged to the end, and its results checked by hand."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect
from scipy.stats import binomtest
from sklearn.metrics import cohen_kappa_score

from storage import studies
from storage.db import connect
from storage.settings import Settings
from tests.e2e.two_models import BAD, SECOND, Seeded, seed, wait_until_idle

if TYPE_CHECKING:
    from conftest import AppServer

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

PARTS, TRIALS = 20, 2
GOOD_PARTS, BAD_PARTS = range(12), range(12, 20)  # places of BAD
KEY_OF = {0: "g", 1: "b"}
ADA = {2: {12: 0}}  # trial -> place -> another verdict than the reference: one bad part missed the second time
BO = {1: {**dict.fromkeys(range(12, 18), 0), 0: 1}, 2: dict.fromkeys(range(12, 18), 0)}  # six missed, one false alarm


def said(differently: dict[int, dict[int, int]], trial: int) -> list[int]:
    """Verdicts of a trial in the order of BAD, 1 = bad."""
    return [differently.get(trial, {}).get(place, int(bad)) for place, bad in enumerate(BAD)]


@pytest.fixture
def other(browser: Browser, app_server: AppServer) -> Iterator[Page]:
    """A second inspector in a browser of their own."""
    context = browser.new_context(viewport={"width": 1366, "height": 768})
    yield sign_in(context, app_server, "Bo")
    context.close()


def sign_in(context: BrowserContext, server: AppServer, name: str) -> Page:
    context.add_cookies([{"name": "ssn_inspector", "value": name, "url": server.base_url}])
    return context.new_page()


def set_up(server: AppServer, page: Page) -> None:
    """A study of all parts, with limits typed in, by the form."""
    page.goto(f"{server.base_url}/agreement")
    page.get_by_role("spinbutton", name="Parts").fill(str(PARTS), timeout=30_000)
    page.get_by_role("spinbutton", name="Effectiveness, at least").fill("30")
    page.get_by_role("button", name="Set up the study").click()
    expect(page.get_by_text("Judge 20 parts, 2 times")).to_be_visible(timeout=15_000)


def judge(
    server: AppServer, page: Page, seeded: Seeded, who: str, differently: dict[int, dict[int, int]], trial: int
) -> None:
    """A whole trial: for each part, in this inspector's own order, one key when its picture is on the screen."""
    db = connect(Settings(data_dir=server.data_dir, database_url="", weights_dir=None))
    (study,) = studies.list_studies(db, project_id=seeded.project)
    order = studies.orders(db, study=study, inspector=who)[trial - 1]
    db.engine.dispose()
    verdicts = dict(zip(seeded.images, said(differently, trial), strict=True))
    for number, image in enumerate(order, start=1):
        expect(page.locator(".ssn-study")).to_have_attribute("data-shown", f"{trial}/{number}", timeout=15_000)
        page.keyboard.press(KEY_OF[verdicts[image]])
    expect(page.locator(".ssn-study .save")).to_have_attribute("data-unsaved", "0", timeout=15_000)


def begin(server: AppServer, page: Page) -> None:
    page.goto(f"{server.base_url}/agreement")
    page.get_by_role("button", name="Start", exact=True).click(timeout=30_000)


def cells(table: Locator, first: str) -> list[str]:
    """The cells of the row that begins with these words, each in one line."""
    row = table.locator("tr").filter(has=table.page.locator("td:first-child").filter(has_text=re.compile(f"^{first}")))
    return [" ".join(text.split()) for text in row.locator("td").all_inner_texts()]


def share(count: int, of: int, unit: str = "parts") -> str:
    interval = binomtest(count, of).proportion_ci(method="wilson")
    return f"{100 * count / of:.1f} % {{}}{count} of {of} {unit} · {100 * interval.low:.1f}–{100 * interval.high:.1f} %"


def two_digits(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


def fleiss(columns: Sequence[Sequence[int]]) -> float:
    """Fleiss' kappa of raters (or trials) with two categories, from the pairs of verdicts on each part."""
    raters, parts = len(columns), list(zip(*columns, strict=True))
    pairs = raters * (raters - 1)
    agreeing = sum((b := sum(part)) * (b - 1) + (raters - b) * (raters - b - 1) for part in parts)
    observed = agreeing / (pairs * len(parts))
    bad = sum(map(sum, parts)) / (raters * len(parts))
    by_chance = bad**2 + (1 - bad) ** 2
    return (observed - by_chance) / (1 - by_chance)


def test_a_study_judged_to_the_end_tells_what_the_verdicts_make(
    app_server: AppServer, context: BrowserContext, page: Page, other: Page
) -> None:
    seeded = seed(app_server)
    sign_in(context, app_server, "Ada").close()
    set_up(app_server, page)
    people = (("Ada", page, ADA), ("Bo", other, BO))
    for _, opened, _ in people:
        begin(app_server, opened)
    for trial in (1, 2):
        for who, opened, differently in people:
            judge(app_server, opened, seeded, who, differently, trial)
            if trial < TRIALS:
                opened.get_by_role("button", name=f"Start trial {trial + 1}").click()
    for _, opened, _ in people:
        opened.get_by_role("button", name="Go on").click()
        expect(opened.get_by_role("heading", name="Results")).to_be_visible(timeout=15_000)
        wait_until_idle(opened)
    counted = Counter(app_server.query("SELECT inspector, trial FROM study_verdicts"))
    assert counted == {(who, trial): PARTS for who in ("Ada", "Bo") for trial in (1, 2)}
    tables = [opened.locator("table.ssn-agreement").all_inner_texts() for opened in (page, other)]
    assert tables[0] == tables[1]
    raters, together, pairs, disputed = (page.locator("table.ssn-agreement").nth(place) for place in range(4))
    expect(raters).to_contain_text("at least 30 %")
    ada, bo, model = ([said(who, trial) for trial in (1, 2)] for who in (ADA, BO, {}))
    model = [[int(score >= 0) for score in SECOND]]
    expected = {
        # parts right in every trial, bad verdicts missed, false alarms, parts with one verdict, all verdicts
        "Ada": (19, 1, 0, 19, ada),
        "Bo": (13, 12, 1, 19, bo),
        "Second": (18, 1, 1, None, model),
    }
    for name, (right, missed, alarms, same, trials) in expected.items():
        found = cells(raters, name)
        n = len(trials)
        assert found[1] == share(right, PARTS).format("✓ meets ")
        assert f"{missed} of {8 * n} verdicts" in found[2]
        assert f"{100 * missed / (8 * n):.1f} %" in found[2]
        assert {"Ada": "? too few to tell", "Bo": "✕ does not meet", "Second": "✕ does not meet"}[name] in found[2]
        assert "? too few to tell" in found[3]
        assert f"{alarms} of {12 * n} verdicts" in found[3]
        if same is None:
            assert found[4] == "n/a a model always says the same of the same image"
        else:
            assert found[4].startswith(f"{share(same, PARTS).format('')} kappa {two_digits(fleiss(trials))}, ")
        pooled = [verdict for trial in trials for verdict in trial]
        assert found[5].split()[0] == two_digits(cohen_kappa_score(pooled, list(BAD) * n))
    assert cells(together, r"All say the same\s*in all trials")[1] == share(13, PARTS).format("")
    assert cells(together, "All say the same as the reference")[1] == share(13, PARTS).format("")
    assert cells(together, "Kappa of all")[1].split()[0] == two_digits(fleiss([*ada, *bo]))
    first = {"Ada": ada[0], "Bo": bo[0], "Second": model[0]}
    for name, against in (("Ada", ("Bo", "Second")), ("Bo", ("Second",))):
        shown = [text.split()[0] for text in cells(pairs, name)[1:] if text]
        assert shown == [two_digits(cohen_kappa_score(first[name], first[one])) for one in against]
    # One part in dispute a row: the six that Bo missed, most dissent first, and the false alarm.
    expect(disputed.locator("tbody tr")).to_have_count(7)
    assert disputed.locator("tbody tr").first.locator("td").nth(1).inner_text().startswith("part-0012.png")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download CSV").click()
    rows = download.value.path().read_text(encoding="utf-8-sig").splitlines()
    assert len(rows) == 1 + 2 * TRIALS * PARTS + PARTS
