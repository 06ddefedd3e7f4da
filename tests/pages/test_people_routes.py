"""The routes for several inspectors: leases and the news of who is at work."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from page_seed import project_with_images
from starlette.applications import Starlette
from starlette.testclient import TestClient

from pages.components import label_totals, resources, study_routes
from pages.components.people_routes import PEOPLE_ROUTES
from storage import images, labels, leases, projects, second_opinions
from storage.db import Database

ORIGIN = "http://inspector.local:8501"


@dataclass
class Site:
    """One project, its token, and a browser on the app's own page."""

    db: Database
    client: TestClient
    project: int
    images: list[int]
    token: str

    def lease(self, who: str = "Ada", headers: dict[str, str] | None = None, **more: Any) -> Any:
        body = {"token": self.token, "inspector": who, "client": f"tab of {who}", "images": self.images, **more}
        return self.client.post("/ssn/leases", json=body, headers=headers)


@pytest.fixture
def site(db: Database) -> Iterator[Site]:
    project = project_with_images(db, ["good", "bad", None])
    ids = images.ids(db, project_id=project.id)
    with TestClient(Starlette(routes=PEOPLE_ROUTES), base_url=ORIGIN, headers={"Origin": ORIGIN}) as client:
        yield Site(db, client, project.id, ids, resources.token(project.id, "session"))


def test_the_second_who_asks_is_told_who_holds_the_images(site: Site) -> None:
    assert site.lease("Ada").json() == {
        "granted": site.images,
        "held": {},
        "seconds": leases.SECONDS,
        "inspectors": {"Ada": 2},
        "at_work": {"Ada": 3},
        "compared": False,
    }
    answer = site.lease("Bo").json()
    assert (answer["granted"], answer["held"]) == ([], {str(image): "Ada" for image in site.images})
    site.lease("Ada", images=[], release=site.images)
    assert site.lease("Bo").json()["granted"] == site.images


def test_news_alone_need_neither_a_name_nor_the_write_lock(site: Site) -> None:
    with site.db.write():  # somebody else writes
        answer = site.lease(images=[], inspector=None)
    assert (answer.status_code, answer.json()["inspectors"]) == (200, {"Ada": 2})


def test_the_counts_by_inspector_follow_new_labels_and_are_counted_for_nothing_else(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[int] = []
    count = labels.count_by_inspector

    def watched(db: Database, *, project_id: int) -> dict[str, int]:
        counted.append(project_id)
        return count(db, project_id=project_id)

    monkeypatch.setattr(labels, "count_by_inspector", watched)
    assert site.lease().json()["inspectors"] == {"Ada": 2}
    said = [labels.LabelEvent("other tab", 1, site.images[2], "bad", "Bo", "board")]
    labels.record(site.db, project_id=site.project, events=said)
    assert site.lease().json()["inspectors"] == {"Ada": 2}  # a moment old
    monkeypatch.setattr(label_totals, "SECONDS", 0.0)
    assert site.lease().json()["inspectors"] == {"Ada": 2, "Bo": 1}
    assert site.lease().json()["inspectors"] == {"Ada": 2, "Bo": 1}
    assert counted == [site.project, site.project]


@pytest.mark.parametrize(
    "wrong",
    [{"images": "all"}, {"images": [True]}, {"images": ["1"]}, {"images": [1] * 501}, {"release": {}},
     {"inspector": ""}, {"inspector": 7}, {"inspector": "\0"}, {"client": ""}, {"client": "x" * 65}, {"client": None}],
)  # fmt: skip
def test_what_no_browser_of_ours_sends_is_refused(site: Site, wrong: dict[str, Any]) -> None:
    refused = site.lease(**wrong)
    assert refused.status_code == 400
    assert refused.json()["error"]
    assert leases.at_work(site.db, project_id=site.project) == {}


def test_another_site_and_another_project_are_refused(site: Site) -> None:
    assert site.lease(headers={"Origin": "http://elsewhere"}).status_code == 403
    assert site.lease(token="1.2.forged.signature").status_code == 403  # noqa: S106
    other = projects.create(site.db, name="Others")
    answer = site.lease(token=resources.token(other.id, "session")).json()
    assert (answer["granted"], answer["held"], answer["inspectors"]) == ([], {}, {})


def test_a_second_opinion_is_stored_once_and_a_third_verdict_becomes_the_label(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_routes, "_newest", {})
    found = second_opinions.create(site.db, project_id=site.project, name="Round", inspector="Ada", n_images=2, seed=1)
    image = site.images[1]  # Ada called it bad

    def post(who: str, stage: object = "second", **event: Any) -> Any:
        events = [{"seq": 1, "trial": 1, "image_id": image, "verdict": "good", "seconds": 1.0, **event}]
        body = {"token": site.token, "study": found.id, "inspector": who, "client": f"outbox of {who}", "stage": stage}
        return site.client.post("/ssn/opinions", json={**body, "events": events})

    stored = {"done": 1, "refused": [], "given": [1], "closed": False}
    assert post("Bo").json() == post("Bo").json() == stored
    assert images.get(site.db, image_id=image).label == "bad"
    assert post("Ada").json()["refused"] == [[1, "You gave the first verdict on this image yourself"]]
    assert post("Cem", "third").json() == stored
    assert images.get(site.db, image_id=image).label == "good"
    for stage in ("fourth", None, ["second"]):
        assert post("Dee", stage).status_code == 400
    assert post("").status_code == 400
    other = projects.create(site.db, name="Others")
    site.token = resources.token(other.id, "session")
    assert post("Dee").status_code == 400
