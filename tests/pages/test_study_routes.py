"""The route for verdicts of a study: who may post, what is stored, and what arrives late."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from page_seed import project_with_images
from starlette.applications import Starlette
from starlette.testclient import TestClient

from pages.components import resources, study_routes
from pages.components.study_routes import STUDY_ROUTES
from storage import labels, projects, studies, study_verdicts
from storage.db import Database

ORIGIN = "http://inspector.local:8501"


@dataclass
class Site:
    """One study of six parts, its project's token, and a browser on the app's own page."""

    db: Database
    client: TestClient
    study: studies.Study
    token: str

    @property
    def order(self) -> list[int]:
        return studies.orders(self.db, study=self.study, inspector="Ada")[0]

    def event(self, seq: int, **more: Any) -> dict[str, Any]:
        place = seq - 1
        return {"seq": seq, "trial": 1, "image_id": self.order[place], "verdict": "good", "seconds": 1.0, **more}

    def post(self, *events: Any, headers: dict[str, str] | None = None, **more: Any) -> Any:
        body = {
            "token": self.token, "study": self.study.id, "inspector": "Ada", "client": "outbox-1",
            "events": list(events), **more,
        }  # fmt: skip
        return self.client.post("/ssn/study", json=body, headers=headers)

    def verdicts(self) -> list[str]:
        return [one.verdict for one in study_verdicts.all_verdicts(self.db, study_id=self.study.id)]


@pytest.fixture
def site(db: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(study_routes, "_newest", {})
    project = project_with_images(db, ["good", "bad"] * 3)
    study = studies.create(db, project_id=project.id, name="First", inspector="Ada", n_parts=6, seed=1)
    with TestClient(Starlette(routes=STUDY_ROUTES), base_url=ORIGIN, headers={"Origin": ORIGIN}) as client:
        yield Site(db, client, study, resources.token(project.id, "session"))


def test_a_verdict_is_stored_acknowledged_and_no_label(site: Site) -> None:
    before = labels.project_history(site.db, project_id=site.study.project_id, limit=100)
    answer = site.post(site.event(1), site.event(2, verdict="bad")).json()
    assert answer == {"done": 2, "refused": [], "given": [2, 0], "closed": False}
    assert site.verdicts() == ["good", "bad"]
    assert labels.project_history(site.db, project_id=site.study.project_id, limit=100) == before


def test_asking_without_verdicts_tells_how_far_the_inspector_is(site: Site) -> None:
    site.post(site.event(1))
    assert site.post().json() == {"done": 0, "refused": [], "given": [1, 0], "closed": False}
    assert site.post(inspector="Bo").json()["given"] == [0, 0]


def test_the_same_request_twice_stores_once(site: Site) -> None:
    assert site.post(site.event(1)).json() == site.post(site.event(1)).json()
    assert site.verdicts() == ["good"]


def test_a_request_that_arrives_after_its_verdict_was_taken_back_changes_nothing(site: Site) -> None:
    late = site.event(1)
    site.post(late)
    site.post(site.event(2, image_id=site.order[0], verdict="undo"))
    answer = site.post(late).json()
    assert (answer["given"], answer["refused"]) == ([0, 0], [])
    assert site.verdicts() == []
    site.post(site.event(3, image_id=site.order[0], verdict="bad"))
    assert site.verdicts() == ["bad"]


def test_the_memory_of_browsers_does_not_grow_for_ever(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_routes, "MAX_CLIENTS", 2)
    for number in range(4):
        site.post(site.event(1), client=f"outbox-{number}")
    assert list(study_routes._newest) == ["outbox-2", "outbox-3"]


def test_a_refused_verdict_is_named_and_does_not_block_the_next(site: Site) -> None:
    answer = site.post(site.event(1, verdict="unsure"), site.event(2, image_id=site.order[0])).json()
    assert [seq for seq, _reason in answer["refused"]] == [1]
    assert (answer["done"], answer["given"]) == (2, [1, 0])


def test_a_closed_study_says_so(site: Site) -> None:
    studies.close(site.db, study_id=site.study.id)
    answer = site.post(site.event(1)).json()
    assert answer["closed"]
    assert "closed" in answer["refused"][0][1]
    assert site.verdicts() == []


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({"token": "1.1.x.00"}, 403),
        ({"token": None}, 403),
        ({"headers": {"Origin": "https://evil.example"}}, 403),
        ({"headers": {"Origin": ""}}, 403),
        ({"study": 999}, 400),
        ({"study": "1"}, 400),
        ({"study": True}, 400),
        ({"study": 2**40}, 400),
        ({"inspector": ""}, 400),
        ({"inspector": None}, 400),
        ({"client": ""}, 400),
        ({"client": "tab é"}, 400),
        ({"client": 7}, 400),
        ({"events": "x"}, 400),
        ({"events": [1]}, 400),
        ({"events": [{"seq": 0}]}, 400),
        ({"events": [{"seq": 2**60}]}, 400),
    ],
)
def test_anything_else_is_refused_and_stores_nothing(site: Site, more: dict[str, Any], status: int) -> None:
    answer = site.post(site.event(1), **more)
    assert answer.status_code == status
    assert answer.json()["error"]
    assert site.verdicts() == []


def test_a_token_of_another_project_opens_no_study_of_this_one(site: Site) -> None:
    other = projects.create(site.db, name="Other")
    assert site.post(site.event(1), token=resources.token(other.id)).status_code == 400
    assert site.verdicts() == []


def test_a_database_that_does_not_answer_makes_the_browser_keep_its_verdicts(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sqlalchemy.exc import OperationalError

    def locked(*_args: object, **_kwargs: object) -> None:
        raise OperationalError("INSERT", {}, Exception("database is locked"))

    with monkeypatch.context() as broken:
        broken.setattr(study_verdicts, "record", locked)
        assert site.post(site.event(1)).status_code == 503
    assert site.post(site.event(1)).json()["given"] == [1, 0]  # the number was not taken as dealt with
