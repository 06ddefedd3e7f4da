"""The route that lists images in an order, with their stacks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from page_seed import project_with_images
from starlette.applications import Starlette
from starlette.testclient import TestClient

from pages.components import resources
from pages.components.routes import ROUTES
from storage import descriptors, images, label_queues, projects
from storage.db import Database
from tests.model_seed import add_model

ORIGIN = "http://inspector.local:8501"


@pytest.fixture
def client() -> Iterator[TestClient]:
    with TestClient(Starlette(routes=ROUTES), base_url=ORIGIN) as found:
        yield found


@pytest.fixture
def project(db: Database) -> projects.Project:
    return project_with_images(db, [None, "good", None, None])


def ask(client: TestClient, project: projects.Project, **query: str) -> Any:
    return client.get("/ssn/list", params={"t": resources.token(project.id, "session"), **query})


def test_without_an_order_images_come_as_they_came_in(
    db: Database, client: TestClient, project: projects.Project
) -> None:
    ids = images.ids(db, project_id=project.id)
    assert ask(client, project).json() == {"ids": ids, "stacks": [], "reason": None}
    assert ask(client, project, filter="none", order="oldest").json()["ids"] == [ids[0], ids[2], ids[3]]


def test_orders_come_from_scores_descriptors_and_seeds(
    db: Database, client: TestClient, project: projects.Project
) -> None:
    ids = images.ids(db, project_id=project.id)
    where = descriptors.folder(db, project_id=project.id, setup="made-up")
    values = [[0.0, 0.0], [50.0, 0.0], [0.0, 80.0], [0.0, 80.001]]
    found = images.get_many(db, image_ids=ids)
    unlike = [0.0, 1.0, 5.0, 4.0]
    rows = zip(found, values, unlike, strict=True)
    descriptors.add(where, [(image.sha256, np.array(value, np.float16), score) for image, value, score in rows])
    label_queues.build(db, project_id=project.id, described=where)
    informative = ask(client, project, filter="none", order="informative").json()
    assert informative["ids"][0] in (ids[2], ids[3])
    assert sorted(informative["stacks"][0]) == [ids[2], ids[3]]
    assert ask(client, project, order="suspicious").json()["ids"] == [ids[2], ids[3], ids[1], ids[0]]
    add_model(db, project.id, [(ids[3], 2.0, "unseen"), (ids[0], 1.0, "unseen")])
    assert ask(client, project, order="suspicious").json()["ids"] == [ids[3], ids[0], ids[1], ids[2]]
    shuffled = [ask(client, project, order="random", seed=seed).json()["ids"] for seed in ("0", "1", "2", "3", "0")]
    assert shuffled[0] == shuffled[-1]
    assert len({tuple(one) for one in shuffled}) > 1


def test_an_order_that_cannot_be_had_says_why(client: TestClient, project: projects.Project) -> None:
    answer = ask(client, project, order="suspicious").json()
    assert answer["ids"] == []
    assert "no model yet" in answer["reason"]


@pytest.mark.parametrize(
    "query", [{"order": "score"}, {"filter": "ugly"}, {"seed": "-1"}, {"seed": "x"}, {"seed": "9" * 20}]
)
def test_nonsense_is_refused_with_what_was_expected(
    client: TestClient, project: projects.Project, query: dict[str, str]
) -> None:
    answer = ask(client, project, **query)
    assert answer.status_code == 400
    assert "expected" in answer.json()["error"]


def test_a_list_holds_images_of_the_tokens_project_alone(
    db: Database, client: TestClient, project: projects.Project
) -> None:
    project_with_images(db, ["bad", None], name="Others")
    listed = ask(client, project, order="random").json()["ids"]
    assert set(listed) == set(images.ids(db, project_id=project.id))
