"""The label board's own routes: limit samples, and the job that makes pictures ahead."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from page_seed import project_with_images
from starlette.applications import Starlette
from starlette.testclient import TestClient

from pages.components import picture_job, resources
from pages.components.label_routes import LABEL_ROUTES
from pages.components.routes import ROUTES
from storage import images, jobs, projects, thumbnails
from storage.db import Database

ORIGIN = "http://inspector.local:8501"


@pytest.fixture
def project(db: Database) -> projects.Project:
    return project_with_images(db, [None, None, None])


@pytest.fixture
def client(db: Database) -> Iterator[TestClient]:
    headers = {"Origin": ORIGIN}
    with TestClient(Starlette(routes=[*ROUTES, *LABEL_ROUTES]), base_url=ORIGIN, headers=headers) as opened:
        yield opened


def pin(client: TestClient, project: projects.Project, **more: Any) -> Any:
    body = {"token": resources.token(project.id), "inspector": "Ada", "verdict": "good", **more}
    as_sent = json.dumps(body)  # half a sign (\ud800) has no UTF-8, but JSON can spell it
    return client.post("/ssn/limit-samples", content=as_sent, headers={"Content-Type": "application/json"})


def test_a_pin_is_kept_listed_and_taken_away(db: Database, client: TestClient, project: projects.Project) -> None:
    first, second, _third = images.ids(db, project_id=project.id)
    assert pin(client, project, image=first, verdict="bad").status_code == 200
    answer = pin(client, project, image=second).json()
    assert [(s["image"], s["verdict"], s["inspector"]) for s in answer["samples"]] == [
        (second, "good", "Ada"),
        (first, "bad", "Ada"),
    ]
    assert answer["samples"][0].keys() == {"image", "verdict", "inspector", "name", "w", "h"}
    assert client.get("/ssn/limit-samples", params={"t": resources.token(project.id)}).json() == answer
    left = pin(client, project, image=second, verdict=None).json()
    assert [s["image"] for s in left["samples"]] == [first]


@pytest.mark.parametrize(
    "said",
    [
        {"image": "1"},
        {"image": True},
        {"image": 0},
        {"image": 2**40},
        {"image": 999},
        {"verdict": "unsure"},
        {"verdict": 3},
        {"inspector": ""},
        {"inspector": None},
        {"inspector": "half a sign \ud800"},
    ],
)
def test_what_cannot_be_pinned_is_refused_with_a_reason(
    db: Database, client: TestClient, project: projects.Project, said: dict[str, Any]
) -> None:
    first = images.ids(db, project_id=project.id)[0]
    answer = pin(client, project, **{"image": first, **said})
    assert answer.status_code == 400
    assert answer.json()["error"]
    assert client.get("/ssn/limit-samples", params={"t": resources.token(project.id)}).json() == {"samples": []}


def test_another_site_and_a_forged_token_pin_nothing(
    db: Database, client: TestClient, project: projects.Project
) -> None:
    first = images.ids(db, project_id=project.id)[0]
    body = {"token": resources.token(project.id), "image": first, "verdict": "good", "inspector": "Ada"}
    assert client.post("/ssn/limit-samples", json=body, headers={"Origin": "http://evil.test"}).status_code == 403
    assert pin(client, project, image=first, token=f"{resources.token(project.id)}0").status_code == 403
    assert client.get("/ssn/limit-samples", params={"t": "1.2.3"}).status_code == 403


def test_a_picture_that_had_to_be_made_starts_one_job_for_the_rest_of_a_large_project(
    db: Database, client: TestClient, project: projects.Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picture_job, "_started", set())
    first, second, _third = images.ids(db, project_id=project.id)
    for path in (db.data_dir / "thumbnails").rglob("*.webp"):
        path.unlink()
    token = {"t": resources.token(project.id)}
    assert client.get(f"/ssn/thumb/{first}", params=token).status_code == 200
    assert jobs.list_jobs(db, project_id=project.id, kinds=(thumbnails.JOB,)) == []  # three images: nobody waits long
    monkeypatch.setattr(picture_job, "LEAST_IMAGES", 3)
    monkeypatch.setattr(picture_job, "_started", set())
    for image in (second, second, first):
        assert client.get(f"/ssn/thumb/{image}", params=token).status_code == 200
    assert [job.status for job in jobs.list_jobs(db, project_id=project.id, kinds=(thumbnails.JOB,))] == ["queued"]
