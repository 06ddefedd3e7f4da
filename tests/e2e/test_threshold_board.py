"""Evaluate in a real browser: a threshold is dragged on any chart, every figure follows, versions come back."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from playwright.sync_api import BrowserContext, FloatRect, Locator, Page, expect

from ssn_core import crossfit, metrics, rates, thresholds
from ssn_core.rules import YOUDEN, by_training
from storage import images, labels
from storage import thresholds as saved_thresholds
from storage.db import connect
from storage.settings import Settings
from tests.model_seed import add_model

if TYPE_CHECKING:
    from conftest import AppServer

pytestmark = pytest.mark.e2e

COUNTS = Path(__file__).resolve().parents[2] / "pages" / "components" / "threshold_board" / "counts.js"
GOOD = [-3.0 + 0.1 * i for i in range(30)]  # up to -0.1
BAD = [-1.05, -0.55, *(0.5 + 0.5 * i for i in range(18))]
LABELS = np.array([0] * len(GOOD) + [1] * len(BAD), dtype=np.int8)
SCORES = np.array([*GOOD, *BAD])
SAVED = -0.075
SLIDERS = {"scores": "Threshold, on the scores", "roc": "Threshold, on the ROC", "pr": "Threshold, on the precision"}


def seed(server: AppServer) -> int:
    """A model with out-of-fold scores of 30 good and 20 bad images; returns its number."""
    project_id = server.seed(len(SCORES))
    db = connect(Settings(data_dir=server.data_dir, database_url="", weights_dir=None))
    ids = images.ids(db, project_id=project_id)
    events = [
        labels.LabelEvent("seed", seq, image_id, "bad" if bad else "good", "Ada", "board")
        for seq, (image_id, bad) in enumerate(zip(ids, LABELS, strict=True), start=1)
    ]
    labels.record(db, project_id=project_id, events=events)
    rows = [(image_id, float(score), "out_of_fold") for image_id, score in zip(ids, SCORES, strict=True)]
    model = add_model(db, project_id, rows, threshold=SAVED)
    db.engine.dispose()
    return model.id


@pytest.fixture
def model_id(app_server: AppServer, context: BrowserContext, page: Page) -> int:
    """The Evaluate page, open on a model with scores."""
    model_id = seed(app_server)
    context.add_cookies([{"name": "ssn_inspector", "value": "Ada", "url": app_server.base_url}])
    page.goto(f"{app_server.base_url}/evaluate")
    expect(slider(page, "scores")).to_be_visible(timeout=30_000)
    expect(page.get_by_text("Saved thresholds")).to_be_visible(timeout=15_000)
    page.wait_for_timeout(500)
    return model_id


def slider(page: Page, chart: str) -> Locator:
    return page.get_by_role("slider", name=SLIDERS[chart])


def at(page: Page) -> float:
    """The threshold that the board shows."""
    return float(slider(page, "scores").get_attribute("aria-valuenow") or "nan")


def box(where: Locator) -> FloatRect:
    found = where.bounding_box()
    assert found is not None
    return found


def figures(page: Page) -> dict[str, str]:
    """Every figure that follows the threshold, as it stands on the page."""
    found = {name: page.locator(f".tile.{name}").inner_text() for name in ("escape", "overkill")}
    for name in ("passed", "overkill", "escapes", "caught"):
        found[f"cell {name}"] = page.locator(f".cell.{name} b").inner_text()
    for name in SLIDERS:
        found[f"slider {name}"] = slider(page, name).get_attribute("aria-valuenow") or ""
    return {**found, "line": page.locator(".handle.high .line").get_attribute("x1") or ""}


def expect_consistent(page: Page) -> None:
    """All figures are those that Python counts at the threshold shown."""
    shown, counted = figures(page), thresholds.outcome(LABELS, SCORES, at(page))
    assert shown["cell escapes"] == str(counted.escapes)
    assert shown["cell overkill"] == str(counted.overkill)
    assert shown["cell passed"] == str(counted.n_good - counted.overkill)
    assert shown["cell caught"] == str(counted.n_bad - counted.escapes)
    assert f"{100 * (counted.escape_rate or 0):.1f} %" in shown["escape"]
    assert f"{counted.escapes} of 20 bad passed" in shown["escape"]
    assert f"{100 * (counted.overkill_rate or 0):.1f} %" in shown["overkill"]
    interval = rates.rate_interval(counted.overkill, counted.n_good)
    assert interval is not None
    honest = page.locator(".honest").inner_text()
    # These images chose the threshold of a rule: an interval of their counts would claim too much.
    if "Honest figure" in honest:
        assert "honest figure below" in shown["overkill"]
    else:
        assert f"95 %: {100 * interval.low:.1f}–{100 * interval.high:.1f} %" in shown["overkill"]
        assert "placed by hand, with these same scores in view" in honest
    flagged = 100 * (counted.n_bad - counted.escapes + counted.overkill) / len(LABELS)
    assert (float(shown["slider roc"]), float(shown["slider pr"])) == pytest.approx((flagged, flagged), abs=0.001)


def drag(page: Page, start: tuple[float, float], *stops: tuple[float, float]) -> list[dict[str, str]]:
    """Press at `start`, go to each stop, and say what stood on the page there; the button is still down."""
    page.mouse.move(*start)
    page.mouse.down()
    seen = []
    for x, y in stops:
        page.mouse.move(x, y, steps=4)
        page.wait_for_timeout(80)
        expect_consistent(page)
        seen.append(figures(page))
    return seen


def test_rates_counts_and_curves_in_the_browser_are_those_of_python(page: Page) -> None:
    source = COUNTS.read_text(encoding="utf-8")
    cases = [(0, 50), (1, 50), (50, 50), (3, 100_000), (17, 333), (0, 1), (1, 1)]
    wilson = page.evaluate(
        f"(cases) => {{ {source}; return cases.map(([k, n]) => wilson(k, n, 1.959963984540054)); }}", cases
    )
    for (events, n), found in zip(cases, wilson, strict=True):
        expected = rates.rate_interval(events, n)
        assert expected is not None
        assert (found["low"], found["high"]) == pytest.approx((expected.low, expected.high), rel=1e-12, abs=1e-15)
    assert page.evaluate(f"() => {{ {source}; return wilson(0, 0, 2); }}") is None
    rng = np.random.default_rng(1)
    bad = rng.random(400) < 0.3
    scores = np.round(rng.normal(bad * 1.5, 1.0), 1)  # ties, within a class and across
    packed = [base64.b64encode(np.sort(scores[bad == side]).astype("<f8").tobytes()).decode() for side in (False, True)]
    cuts = [[float(low), float(high)] for low, high in np.sort(np.round(rng.normal(0.7, 1.5, (40, 2)), 1), axis=1)]
    counted = page.evaluate(
        f"""([good, bad, cuts]) => {{
            {source}
            const [g, b] = [decodeScores(good), decodeScores(bad)];
            const points = corners(g, b).map((c) => ({{ ...c, threshold: Math.min(c.threshold, 1e9) }}));
            return [cuts.map(([low, high]) => outcome(g, b, high, low)), points];
        }}""",
        [*packed, cuts],
    )
    for (low, high), found in zip(cuts, counted[0], strict=True):
        expected_counts = thresholds.outcome(bad, scores, high, low)
        names = {
            "escapes": "escapes",
            "overkill": "overkill",
            "personGood": "to_person_good",
            "personBad": "to_person_bad",
        }
        assert {name: found[name] for name in names} == {
            name: getattr(expected_counts, of) for name, of in names.items()
        }
    roc = metrics.roc_curve(bad, scores)
    assert [corner["fpr"] for corner in counted[1]] == pytest.approx(roc.fpr)
    assert [corner["tpr"] for corner in counted[1]] == pytest.approx(roc.tpr)
    for corner in counted[1]:
        at_corner = thresholds.outcome(bad, scores, corner["threshold"])
        assert (at_corner.overkill_rate, 1 - (at_corner.escape_rate or 0)) == pytest.approx(
            (corner["fpr"], corner["tpr"])
        )


def test_100_000_scores_are_counted_in_less_than_a_frame_and_their_curves_are_thin(page: Page) -> None:
    measured = page.evaluate(
        f"""() => {{
            {COUNTS.read_text(encoding="utf-8")}
            const score = (i, shift) => 3 * Math.sin(i * 12.9898) + Math.sin(i) + shift;
            const draw = (n, shift) => Float64Array.from({{ length: n }}, (_, i) => score(i, shift)).sort();
            const [good, bad] = [draw(90000, 0), draw(10000, 1.5)];
            const points = corners(good, bad).length;
            const start = performance.now();
            for (let i = 0; i < 1000; i++) outcome(good, bad, i / 100, i / 200);
            return [points, (performance.now() - start) / 1000];
        }}"""
    )
    assert 50 < measured[0] < 6000
    assert measured[1] < 4  # ms for one step


def test_a_drag_on_the_scores_moves_everything_and_asks_nobody_until_it_ends(page: Page, model_id: int) -> None:
    sent: list[Any] = []
    page.on("websocket", lambda socket: socket.on("framesent", lambda frame: sent.append(frame)))
    page.reload()
    expect(slider(page, "scores")).to_be_visible(timeout=30_000)
    page.wait_for_timeout(1500)
    chart = box(page.locator(".chart").nth(0))
    tops = box(page.locator(".tile.escape")), box(page.locator(".suggestions")), box(page.locator(".verdicts"))
    middle = chart["y"] + chart["height"] / 2
    line = box(page.locator(".handle.high .line"))
    sent.clear()
    seen = drag(
        page,
        (line["x"], middle),
        (line["x"] - 40, middle),
        (line["x"] + 90, middle),
        (line["x"] + 200, middle - 30),
    )
    assert not sent
    assert all(a[name] != b[name] for name in seen[0] for a, b in [(seen[0], seen[2])])
    page.mouse.up()
    page.wait_for_timeout(800)
    assert sent
    assert (
        box(page.locator(".tile.escape")),
        box(page.locator(".suggestions")),
        box(page.locator(".verdicts")),
    ) == tops
    expect_consistent(page)
    assert at(page) > SAVED + 1
    verdicts = thresholds.outcome(LABELS, SCORES, at(page))
    assert verdicts.escapes > 2
    expect(page.get_by_role("button", name="Save", exact=True)).to_be_enabled()


@pytest.mark.parametrize("chart", ["roc", "pr"])
def test_a_drag_on_a_curve_moves_everything(page: Page, model_id: int, chart: str) -> None:
    number = {"roc": 1, "pr": 2}[chart]
    area, dot = box(page.locator(".chart").nth(number)), box(slider(page, chart).locator(".dot"))
    start = (dot["x"] + dot["width"] / 2, dot["y"] + dot["height"] / 2)
    left = (area["x"] + area["width"] * 0.35, area["y"] + area["height"] * 0.2)
    right = (area["x"] + area["width"] * 0.8, area["y"] + area["height"] * 0.15)
    seen = drag(page, start, left, right)
    page.mouse.up()
    # On the precision-recall curve no good part is rejected at either place.
    still = ("cell passed", "cell overkill", "overkill")
    assert all(seen[0][name] != seen[1][name] for name in seen[0] if name not in still)
    assert float(seen[0]["slider scores"]) > float(seen[1]["slider scores"])  # to the right: a lower threshold
    expect_consistent(page)


@pytest.mark.parametrize("chart", list(SLIDERS))
def test_keys_move_the_threshold_and_focus_can_be_seen(page: Page, model_id: int, chart: str) -> None:
    handle = slider(page, chart)
    page.keyboard.press("Tab")
    handle.focus()
    ring = handle.locator(".grip" if chart == "scores" else ".halo")
    assert ring.evaluate("node => getComputedStyle(node).stroke") != "none"
    start = figures(page)
    page.keyboard.press("ArrowRight")
    expect_consistent(page)
    assert float(figures(page)[f"slider {chart}"]) > float(start[f"slider {chart}"])
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert float(figures(page)[f"slider {chart}"]) < float(start[f"slider {chart}"])
    page.keyboard.press("Home")
    lowest = float(figures(page)[f"slider {chart}"])
    expect_consistent(page)
    page.keyboard.press("End")
    assert float(figures(page)[f"slider {chart}"]) > lowest
    expect_consistent(page)
    least = {"scores": "20 of 20 bad passed", "roc": "0 of 20 bad passed", "pr": "0 of 20 bad passed"}[chart]
    expect(page.locator(".tile.escape")).to_contain_text(least)
    assert handle.get_attribute("aria-valuetext")


def test_no_escape_is_said_as_what_it_proves(page: Page, model_id: int) -> None:
    slider(page, "scores").focus()
    page.keyboard.press("Home")
    expect(page.locator(".tile.escape")).to_contain_text("at most 13.9 %")
    expect(page.locator(".notes")).to_contain_text("0 of 20: with 95 % confidence at most 13.9 % of bad parts pass")
    expect(page.locator(".notes")).to_contain_text("5 % needs 39 more, 1 % needs 279 more, 0.1 % needs 2,975 more")


def test_two_thresholds_are_saved_shown_again_and_an_earlier_version_restored(
    app_server: AppServer, page: Page, model_id: int
) -> None:
    page.get_by_label("Doubtful ones to a person").check()
    page.get_by_label("Lower threshold T1", exact=True).fill("-1.2")
    page.keyboard.press("Enter")
    page.get_by_label("Threshold", exact=True).fill("0.6")
    page.keyboard.press("Enter")
    counted = thresholds.outcome(LABELS, SCORES, 0.6, -1.2)
    people = counted.to_person_good + counted.to_person_bad
    expect(page.locator(".tile.person")).to_contain_text(f"{people} of 50")
    expect(page.locator(".cell.personBad b")).to_have_text(str(counted.to_person_bad))
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("−1.200 / 0.600").first).to_be_visible(timeout=15_000)
    saved = "SELECT threshold, threshold_low, how, inspector FROM threshold_events ORDER BY id DESC LIMIT 1"
    assert app_server.query(saved) == [(0.6, -1.2, "By hand", "Ada")]
    page.reload()
    expect(page.locator(".tile.person")).to_contain_text(f"{people} of 50", timeout=30_000)
    page.get_by_role("button", name="Restore").last.click()
    expect(page.locator(".tile.person")).to_be_hidden(timeout=15_000)
    assert at(page) == SAVED
    assert app_server.query(saved)[0][:2] == (SAVED, None)
    expect_consistent(page)


def test_a_suggestion_is_taken_over_by_one_click_and_typed_targets_are_remembered(
    app_server: AppServer, page: Page, model_id: int
) -> None:
    page.get_by_label("Largest escape rate, %").fill("25")
    page.keyboard.press("Tab")
    expected = thresholds.escape_at_most(LABELS, SCORES, 0.25)
    row = page.locator(".suggestions tbody tr").nth(2)
    expect(row).to_contain_text(f"{expected:.3f}", timeout=15_000)
    groups = [group for (group,) in app_server.query("SELECT group_key FROM images ORDER BY id")]
    counted = crossfit.crosswise(
        LABELS,
        SCORES,
        crossfit.deal_blocks(LABELS, groups),
        lambda labels, scores: (thresholds.escape_at_most(labels, scores, 0.25), None),
    )
    assert counted is not None
    escapes = f"{100 * (counted.escape_rate or 0):.1f} %"
    expect(row.get_by_role("cell").nth(2)).to_have_text(re.compile(rf"{counted.escapes}\s*{re.escape(escapes)}"))
    row.get_by_role("button").click()
    assert at(page) == expected
    expect_consistent(page)
    honest = f"Honest figure: escapes {escapes}, {counted.escapes} of 20"
    expect(page.locator(".honest")).to_contain_text(honest)
    expect(page.locator(".honest")).to_contain_text("Escape rate at most 25 %. Each part is counted at a threshold")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("Escape rate at most 25 %, on out-of-fold scores")).to_be_visible(timeout=15_000)
    page.reload()
    expect(page.get_by_label("Largest escape rate, %")).to_have_value("25", timeout=30_000)
    assert at(page) == expected
    page.get_by_label("Largest escape rate, %").fill("5")  # what is in force keeps the target it was chosen with
    page.keyboard.press("Tab")
    expect(row).not_to_contain_text(f"{expected:.3f}", timeout=15_000)
    expect(page.locator(".honest")).to_contain_text(honest)


def test_the_honest_figure_stands_below_the_tiles_until_the_threshold_is_moved_by_hand(
    app_server: AppServer, page: Page, model_id: int
) -> None:
    groups = [group for (group,) in app_server.query("SELECT group_key FROM images ORDER BY id")]
    counted = crossfit.crosswise(LABELS, SCORES, crossfit.deal_blocks(LABELS, groups), YOUDEN.choose)
    assert counted is not None
    strip = page.locator(".honest")
    expect(strip).to_contain_text(f"Honest figure: escapes {100 * counted.escapes / 20:.1f} %")
    expect(strip).to_contain_text(f"{counted.escapes} of 20")
    expect(strip).to_contain_text("Youden's J. Each part is counted at a threshold chosen without it")
    expect_consistent(page)
    place = box(strip)
    slider(page, "scores").focus()
    page.keyboard.press("ArrowRight")
    expect(strip).to_contain_text("Slightly optimistic")
    expect(strip).to_contain_text("fixed test split or judge a fresh batch")
    expect_consistent(page)
    assert box(strip) == place
    page.get_by_role("button", name="Back", exact=True).click()
    expect(strip).to_contain_text("Honest figure")


def test_good_parts_alone_have_an_honest_overkill_and_no_escapes(
    app_server: AppServer, context: BrowserContext, page: Page
) -> None:
    project_id = app_server.seed(len(GOOD))
    db = connect(Settings(data_dir=app_server.data_dir, database_url="", weights_dir=None))
    ids = images.ids(db, project_id=project_id)
    events = [labels.LabelEvent("seed", seq, image, "good", "Ada", "board") for seq, image in enumerate(ids, start=1)]
    labels.record(db, project_id=project_id, events=events)
    rows = [(image, score, "out_of_fold") for image, score in zip(ids, GOOD, strict=True)]
    add_model(db, project_id, rows, threshold=float(np.nextafter(max(GOOD), 1)), how=by_training(0))
    db.engine.dispose()
    context.add_cookies([{"name": "ssn_inspector", "value": "Ada", "url": app_server.base_url}])
    page.goto(f"{app_server.base_url}/evaluate")
    honest = page.get_by_text("Honest figure: ")
    expect(honest).to_contain_text("escapes n/a, no bad image held out", timeout=30_000)
    expect(honest).to_contain_text("overkill 3.3 %, 1 of 30")
    expect(page.get_by_text("honest figure below").locator("visible=true")).to_have_count(1)  # on the overkill alone
    expect(slider(page, "scores")).to_be_visible()


def test_what_was_not_saved_is_still_there_after_a_look_at_another_page(page: Page, model_id: int) -> None:
    slider(page, "scores").focus()
    for _ in range(3):
        page.keyboard.press("PageUp")
    moved = at(page)
    page.get_by_role("link", name="Home").click()
    expect(page.locator(".ssn-threshold")).to_have_count(0, timeout=15_000)
    page.wait_for_timeout(2000)
    page.get_by_role("link", name="Evaluate").first.click()
    expect(slider(page, "scores")).to_be_visible(timeout=15_000)
    assert at(page) == moved
    expect(page.get_by_role("button", name="Save", exact=True)).to_be_enabled()


def test_what_somebody_else_saves_pulls_no_threshold_that_was_moved_here(
    app_server: AppServer, page: Page, model_id: int
) -> None:
    db = connect(Settings(data_dir=app_server.data_dir, database_url="", weights_dir=None))
    slider(page, "scores").focus()
    page.keyboard.press("PageUp")
    saved_thresholds.save(db, model_id=model_id, threshold=2.0, how="By hand", inspector="Bob")
    page.keyboard.press("PageUp")
    moved = at(page)
    expect(page.get_by_text("Saved: 2.000")).to_be_visible(timeout=15_000)
    assert at(page) == moved
    page.get_by_role("button", name="Back", exact=True).click()
    assert at(page) == 2.0
    saved_thresholds.save(db, model_id=model_id, threshold=3.0, how="By hand", inspector="Bob")
    page.get_by_label("Largest escape rate, %").fill("7")
    page.keyboard.press("Tab")
    expect(slider(page, "scores")).to_have_attribute("aria-valuenow", "3", timeout=15_000)
    db.engine.dispose()
