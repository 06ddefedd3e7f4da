"""Trade-offs: points, front and chart; measuring as a job; the regret list and its way to Review."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from page_seed import HOSTILE, open_page, project_with_images, running, set_job, texts
from starlette.applications import Starlette
from starlette.testclient import TestClient

from pages.components import plotly_route, state, tradeoff_chart
from pages.components.tradeoff_chart import figure, ranges, shown_name
from pages.components.tradeoff_points import ACCEPTABLE, Point, fast_and_slow, front
from pages.components.tradeoffs import table, why_not_available
from storage import benchmarks, comparison, images, jobs, projects, registry
from storage.db import Database
from tests.bench_seed import add_measurement, bench_row
from tests.model_seed import add_model

VERDICTS = ["good"] * 6 + ["bad"] * 4
#       the fast model rejects the sixth good part and passes the first bad one; the slow one the second good part
FAST = [-3.0, -2.5, -2.0, -1.5, -1.0, 0.5, -0.5, 2.0, 3.0, 1.0]
SLOW = [-3.0, 0.9, -2.1, -1.4, -1.1, -0.6, 1.2, 2.2, 2.8, 1.7]


def point(number: int, ms: float | None, auroc: float | None, **values: Any) -> Point:
    row = None if ms is None else bench_row(p50_ms=ms, decoded_p50_ms=ms + 1, peak_memory_mib=2.0 + ms)
    given = {"low": None, "high": None, "n_good": 6, "n_bad": 4, "name": f"Model {number}", "active": False, **values}
    return Point(number=number, model_id=10 * number, row=row, auroc=auroc, **given)


def add(db: Database, project: projects.Project, scores: list[float], **values: Any) -> registry.Model:
    ids = images.ids(db, project_id=project.id)
    rows = [(image, score, "out_of_fold") for image, score in zip(ids, scores, strict=True)]
    return add_model(db, project.id, rows, **values)


@pytest.fixture
def project(db: Database) -> projects.Project:
    return project_with_images(db, VERDICTS)


@pytest.fixture
def pair(db: Database, project: projects.Project) -> tuple[registry.Model, registry.Model]:
    fast, slow = add(db, project, FAST, name="Quick"), add(db, project, SLOW, name=HOSTILE)
    add_measurement(db, fast, ms=4.0, memory=30)
    add_measurement(db, slow, ms=40.0, memory=120)
    return fast, slow


# --- points ---------------------------------------------------------------------------------------------------------


def test_the_front_holds_what_nothing_else_beats_in_both() -> None:
    points = [point(1, 5, 0.90), point(2, 10, 0.95), point(3, 12, 0.94), point(4, 5, 0.80), point(5, 90, 0.99)]
    points += [point(6, None, 1.0), point(7, 1, None)]
    assert [one.number for one in front(points, "score")] == [1, 2, 5]
    assert front([], "score") == []


def test_the_regret_list_starts_with_the_fastest_acceptable_and_the_best_of_the_slower_ones() -> None:
    points = [point(1, 50, 0.97), point(2, 5, 0.96), point(3, 9, 0.98), point(4, None, 1.0), point(5, 1, 0.60)]
    assert fast_and_slow(points, "score") == (20, 30)
    assert fast_and_slow([point(1, 50, 0.7), point(2, 5, 0.6), point(3, 9, 0.5)], "score") == (20, 10)
    assert fast_and_slow([point(1, 50, 0.99), point(2, 5, 0.6)], "score") == (20, 10)
    assert fast_and_slow(points[:1], "score") is None


def test_time_is_with_or_without_decoding_and_memory_is_the_models_own() -> None:
    one = point(1, 5, 0.9)
    assert (one.latency("score"), one.latency("file")) == (5, 6)
    assert one.memory == pytest.approx(5)
    on_gpu = dataclasses.replace(one, row=bench_row(gpu_memory_mib=70.0))
    assert on_gpu.memory == 70


# --- chart ----------------------------------------------------------------------------------------------------------


def test_the_chart_has_each_model_the_front_and_the_published_figures() -> None:
    points = [point(1, 5, 0.9, low=0.8, high=0.95), point(2, 20, 0.99, active=True), point(3, None, 0.9)]
    drawn = figure(points, "score")
    own = next(trace for trace in drawn.data if trace.name.startswith("Models"))
    assert list(own.x) == [5, 20]
    assert list(own.text) == ["<b>1</b>", "<b>2</b>"]
    assert own.error_y.array[0] == pytest.approx(0.05)
    assert own.error_y.arrayminus[0] == pytest.approx(0.1)
    assert own.error_y.array[1] == own.error_y.arrayminus[1] == 0
    assert own.marker.size[0] < own.marker.size[1] == tradeoff_chart.LARGEST
    published = next(trace for trace in drawn.data if trace.name.startswith("Published"))
    assert sorted(published.x) == [7.78, 7.78, 7.83, 8.36, 8.36, 9.3, 25.58, 25.58]
    assert next(trace for trace in drawn.data if trace.name == "Pareto front").y == (0.9, 0.99)
    assert list(next(t for t in figure(points, "file").data if t.name.startswith("Models")).x) == [6, 21]


def test_the_first_view_holds_all_own_models_and_both_lines() -> None:
    points = [point(1, 0.4, 0.70), point(2, 700, 0.99)]
    (left, right), (bottom, top) = ranges(points, "score")
    assert left < 0.4
    assert right > 700
    assert bottom < 0.70
    assert top > 1
    assert ranges([point(1, 5, 1.0)], "score")[1][0] < ACCEPTABLE
    for worst in (0.45, 0.7, 0.867, 0.99):  # no grid line above 1: the chart draws at most eight across its height
        bottom, top = ranges([point(1, 5, worst)], "score")[1]
        assert 1 < top < 1 + (top - bottom) / 8


def test_a_hostile_name_is_shown_sign_by_sign() -> None:
    assert shown_name("<a href=x>%{y}</a>") == "&lt;a href=x&gt;%{y}&lt;/a&gt;"
    assert len(shown_name("x" * 200)) == tradeoff_chart.NAME
    drawn = figure([point(1, 5, 0.9, name=HOSTILE)], "score")
    own = next(trace for trace in drawn.data if trace.name.startswith("Models"))
    assert "&lt;b&gt;y&lt;/b&gt;" in own.customdata[0]


def test_the_table_says_why_something_is_missing() -> None:
    points = [point(1, 5, 0.9), point(2, None, None, missing="not measured yet; no I-AUROC")]
    frame = table(points)
    assert why_not_available(points) == "n/a: No. 2: not measured yet; no I-AUROC."
    assert list(frame["ms (p95)"]) == ["5.0 (2.0)", "n/a"]
    assert list(frame["I-AUROC (95 %)"]) == ["0.900", "n/a"]
    points += [point(3, None, 0.9, missing="not measured yet"), point(4, None, 0.9, missing="not measured yet")]
    assert why_not_available(points).endswith(" · No. 3, 4: not measured yet.")
    assert why_not_available(points[:1]) == ""


def test_plotlys_script_comes_from_here_under_an_address_with_its_version() -> None:
    client = TestClient(Starlette(routes=plotly_route.PLOTLY_ROUTES))
    answer = client.get(f"/{plotly_route.address()}")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/javascript")
    assert "immutable" in answer.headers["cache-control"]
    assert "plotly.js v" in answer.text[:200]


# --- the page -------------------------------------------------------------------------------------------------------


def test_without_a_model_the_page_leads_to_training(db: Database, project: projects.Project) -> None:
    assert "There is no model yet" in texts(open_page("tradeoffs"))


def test_what_is_not_measured_is_said_and_measured_by_one_click(db: Database, project: projects.Project) -> None:
    model = add(db, project, FAST, name=HOSTILE)
    app = open_page("tradeoffs")
    assert "not measured yet" in texts(app)
    app.button(key="tradeoffs-measure-new").click().run()
    assert not app.exception, app.exception
    (job,) = jobs.list_jobs(db, project_id=project.id, kinds=("benchmark",))
    assert job.payload == {"model_ids": [model.id]}
    assert any(button.key == f"job-cancel-{job.id}" for button in app.button)
    assert not any(button.key == "tradeoffs-measure-new" for button in app.button)


def test_a_measured_model_without_bad_images_says_why_it_is_not_drawn(db: Database) -> None:
    project = project_with_images(db, ["good"] * 4)
    add_measurement(db, add(db, project, [0.0, 0.1, 0.2, 0.3]), ms=3)
    said = texts(open_page("tradeoffs")).replace("\\", "")
    assert "no I-AUROC: no bad image held out" in said.replace("\u2060", "")


def test_a_failed_benchmark_says_why_and_can_be_tried_again(
    db: Database, project: projects.Project, pair: tuple[registry.Model, registry.Model]
) -> None:
    job_id = benchmarks.submit(db, project_id=project.id, model_ids=[pair[0].id])
    set_job(db, job_id, **running())
    set_job(db, job_id, status="failed", error="None of the models could be measured")
    app = open_page("tradeoffs")
    assert "Benchmark failed" in texts(app)
    assert any(button.key == f"job-resume-{job_id}" for button in app.button)


def test_the_regret_list_shows_what_the_fast_model_gets_wrong_and_the_slow_one_right(
    db: Database, project: projects.Project, pair: tuple[registry.Model, registry.Model]
) -> None:
    said = texts(open_page("tradeoffs"))
    assert "**2 images** wrong with 1 and right with 2 for 4.0 ms instead of 40.0 ms" in said
    assert "The other way round: **1 image**" in said
    assert "Bad parts that the fast model passes (escapes): 1" in said
    assert "Good parts that it rejects (overkill): 1" in said
    assert "`part-5.png`" in said
    assert "`part-6.png`" in said
    assert "`part-1.png`" not in said
    assert "flatters its model" in said


def test_one_click_opens_review_at_the_regretted_image(
    db: Database, project: projects.Project, pair: tuple[registry.Model, registry.Model]
) -> None:
    app = open_page("tradeoffs")
    image = images.ids(db, project_id=project.id)[6]
    app.button(key=f"flip-review-fast-{image}").click().run()
    assert not app.exception, app.exception
    assert app.session_state[f"{state.Key.REVIEW_IMAGE}-{pair[0].id}"] == image
    (_, entries) = app.session_state[state.Key.REVIEW_LIST]
    assert [entry.image_id for entry in entries] == [image]


def test_a_part_that_goes_to_a_person_is_no_regret() -> None:
    def flip(first: str, second: str, label: str) -> comparison.Flip:
        return comparison.Flip(1, "part", label, first, second, 0.0, 1.0)

    escape, overkill = flip("good", "bad", "bad"), flip("bad", "good", "good")
    caught = flip("bad", "good", "bad")
    doubtful = [flip("check", "bad", "bad"), flip("good", "check", "bad"), flip("bad", "check", "bad")]
    assert comparison.regrets([escape, overkill, caught, *doubtful]) == ([escape, overkill], [caught])
