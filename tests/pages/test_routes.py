"""The HTTP routes: who gets an answer, and what it is."""

from __future__ import annotations

import base64
import errno
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from page_seed import add_images, project_with_images
from PIL import Image
from starlette.applications import Starlette
from starlette.testclient import TestClient

from pages.components import resources
from pages.components.routes import MAX_BODY, ROUTES
from ssn_core import image_files
from ssn_core.evidence import pooled_mean
from storage import files, images, labels, map_verdicts, maps, projects
from storage.db import Database
from tests.model_seed import add_model

ORIGIN = "http://inspector.local:8501"


@dataclass
class Site:
    """One project with three images, its token, and a browser on the app's own page."""

    db: Database
    client: TestClient
    project: projects.Project
    ids: list[int]
    token: str

    def event(self, seq: int, image_id: int | None = None, **more: Any) -> dict[str, Any]:
        base = {"client": "tab-1", "seq": seq, "image_id": self.ids[0] if image_id is None else image_id}
        return {**base, "verdict": "good", "inspector": "Ada", "origin": "board", **more}

    def post(self, events: list[Any], **more: Any) -> Any:
        return self.client.post("/ssn/labels", json={"token": self.token, "events": events, **more})

    def get(self, path: str, token: str | None = None, **query: str) -> Any:
        return self.client.get(path, params={"t": self.token if token is None else token, **query})


@pytest.fixture
def site(db: Database) -> Iterator[Site]:
    project = project_with_images(db, [None, None, None])
    headers = {"Origin": ORIGIN}
    with TestClient(Starlette(routes=ROUTES), base_url=ORIGIN, headers=headers) as client:
        ids = images.ids(db, project_id=project.id)
        yield Site(db, client, project, ids, resources.token(project.id, "session"))


def test_a_verdict_is_stored_and_acknowledged_with_the_new_counts(site: Site) -> None:
    answer = site.post([site.event(1), site.event(2, site.ids[1], verdict="bad")], watch=site.ids).json()
    assert answer["acks"] == {"tab-1": 2}
    assert answer["rejected"] == []
    assert answer["counts"] == {"total": 3, "good": 1, "bad": 1, "unsure": 0, "unlabelled": 1}
    assert answer["labels"] == {str(site.ids[0]): "good", str(site.ids[1]): "bad", str(site.ids[2]): None}
    assert images.get(site.db, image_id=site.ids[1]).label == "bad"


def test_the_same_verdict_sent_twice_is_stored_once(site: Site) -> None:
    assert site.post([site.event(1)]).json()["acks"] == site.post([site.event(1)]).json()["acks"] == {"tab-1": 1}
    assert len(labels.history(site.db, image_id=site.ids[0])) == 1


def test_news_without_verdicts_store_nothing(site: Site) -> None:
    answer = site.post([], watch=site.ids)
    assert answer.status_code == 200
    assert answer.json()["acks"] == {}
    assert labels.project_history(site.db, project_id=site.project.id, limit=10) == []


@pytest.mark.parametrize(
    "broken",
    [
        {"image_id": 999_999},
        {"image_id": "1"},
        {"image_id": None},
        {"verdict": "excellent"},
        {"verdict": ["good"]},
        {"inspector": ""},
        {"inspector": "x" * 101},
        {"origin": "elsewhere"},
    ],
)
def test_a_verdict_that_can_never_be_stored_is_refused_alone_and_does_not_block_the_next(
    site: Site, broken: dict[str, Any]
) -> None:
    answer = site.post([{**site.event(1), **broken}, site.event(2, site.ids[1])]).json()
    assert [(client, seq) for client, seq, _reason in answer["rejected"]] == [("tab-1", 1)]
    assert answer["acks"] == {"tab-1": 2}
    assert images.get(site.db, image_id=site.ids[1]).label == "good"


def test_half_a_sign_gets_an_answer(site: Site) -> None:
    def send(**changes: Any) -> Any:
        body = json.dumps({"token": site.token, "events": [site.event(1, **changes), site.event(2, site.ids[1])]})
        return site.client.post("/ssn/labels", content=body, headers={"Content-Type": "application/json"})

    refused = send(inspector="Ada \ud83d").json()["rejected"]
    assert [(client, seq) for client, seq, _reason in refused] == [("tab-1", 1)]
    assert images.get(site.db, image_id=site.ids[1]).label == "good"
    assert send(client="tab \ud83d").status_code == 400


def test_an_image_of_another_project_cannot_be_labelled_or_seen(site: Site) -> None:
    other = projects.create(site.db, name="Other")
    theirs = add_images(site.db, other.id, [None])[0]
    answer = site.post([site.event(1, theirs)], watch=[theirs]).json()
    assert len(answer["rejected"]) == 1
    assert answer["labels"] == {}
    assert site.get(f"/ssn/thumb/{theirs}").status_code == 404
    assert site.get(f"/ssn/image/{theirs}").status_code == 404
    assert site.get("/ssn/details", ids=str(theirs)).json()["items"] == []
    assert images.get(site.db, image_id=theirs).label is None


@pytest.mark.parametrize("token", ["", "1.1.x.00", "%", "1.99999999.read.0", "é.1.x.y", "...", None, 7, ["a"]])
def test_a_wrong_token_opens_nothing(site: Site, token: Any) -> None:
    refused = site.client.post("/ssn/labels", json={"token": token, "events": [site.event(1)]})
    assert refused.status_code == 403
    assert "reload" in refused.json()["error"]
    if isinstance(token, str):
        for path in (f"/ssn/thumb/{site.ids[0]}", f"/ssn/image/{site.ids[0]}", "/ssn/list", "/ssn/details"):
            assert site.get(path, token=token).status_code == 403
    assert labels.history(site.db, image_id=site.ids[0]) == []


def test_a_token_cannot_be_turned_to_another_project_or_week(site: Site) -> None:
    project, week, session, signature = site.token.split(".")
    forged = [
        f"{int(project) + 1}.{week}.{session}.{signature}",
        f"{project}.{int(week) + 1}.{session}.{signature}",
        f"{project}.{week}.{session}x.{signature}",
        f"{project}.{week}.{session}.{signature[:-1]}0{'' if signature[-1] != '0' else '1'}",
    ]
    assert [resources.check_token(text) for text in forged] == [None] * 4
    assert resources.check_token(site.token) == site.project.id


def test_a_token_holds_for_this_week_and_the_next(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    now = resources.time.time()
    for weeks, expected in ((0, site.project.id), (1, site.project.id), (2, None), (-1, None)):
        monkeypatch.setattr(resources.time, "time", lambda weeks=weeks: now + weeks * resources.WEEK_SECONDS)
        assert resources.check_token(site.token) == expected


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "http://localhost:9999", "null", "", f"{ORIGIN}.evil.example"]
)
def test_verdicts_from_another_site_are_refused(site: Site, origin: str) -> None:
    body = {"token": site.token, "events": [site.event(1)]}
    assert site.client.post("/ssn/labels", json=body, headers={"Origin": origin}).status_code == 403
    assert labels.history(site.db, image_id=site.ids[0]) == []


def test_pictures_asked_for_by_another_site_are_refused(site: Site) -> None:
    path = f"/ssn/image/{site.ids[0]}?t={site.token}"
    for site_kind, status in (("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)):
        assert site.client.get(path, headers={"Sec-Fetch-Site": site_kind}).status_code == status


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"{}", "text/plain", 415),
        (b"token=x", "application/x-www-form-urlencoded", 415),
        (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b" " * (MAX_BODY + 1), "application/json", 413),
    ],
)
def test_anything_but_a_small_json_object_is_refused(site: Site, content: bytes, kind: str, status: int) -> None:
    answer = site.client.post("/ssn/labels", content=content, headers={"Content-Type": kind})
    assert answer.status_code == status
    assert answer.json()["error"]


@pytest.mark.parametrize("events", [{"a": 1}, "x", [1], [{}], [{"client": "a"}], [{"client": 1, "seq": 1}]])
def test_events_without_client_and_number_are_refused_as_a_whole(site: Site, events: Any) -> None:
    assert site.client.post("/ssn/labels", json={"token": site.token, "events": events}).status_code == 400


def test_pictures_are_private_cacheable_and_never_run_as_a_page(site: Site) -> None:
    for path, kind in ((f"/ssn/thumb/{site.ids[0]}", "image/webp"), (f"/ssn/image/{site.ids[0]}", "image/png")):
        answer = site.get(path)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == kind
        assert answer.headers["cache-control"] == "private, max-age=31536000, immutable"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in answer.headers
        Image.open(io.BytesIO(answer.content)).verify()


@pytest.mark.parametrize(
    "path",
    [
        "/ssn/image/..%2F..%2Fsigning.key",
        "/ssn/image/../../signing.key",
        "/ssn/image/-1",
        "/ssn/image/1.png",
        "/ssn/image/99999999999999999999999",
        "/ssn/thumb/999999",
        "/ssn/map/1/1.png",
        "/ssn/map/99999999999999999999999/1.png",
        "/ssn/cells/1/1",
        "/ssn/mask/1.png",
    ],
)
def test_only_known_numbers_lead_to_a_file(site: Site, path: str) -> None:
    assert site.get(path).status_code == 404


def test_a_missing_file_is_said_and_not_a_crash(site: Site) -> None:
    image = images.get(site.db, image_id=site.ids[0])
    for path in site.db.data_dir.rglob(f"{image.sha256}*"):
        path.unlink()
    answer = site.get(f"/ssn/image/{image.id}")
    assert answer.status_code == 404
    assert answer.json()["error"]
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "damage", [b"", b"no picture", b"\x89PNG\r\n\x1a\n" + b"\x00" * 40], ids=["empty", "text", "header"]
)
def test_a_damaged_file_is_said_and_not_a_crash(site: Site, damage: bytes) -> None:
    image = images.get(site.db, image_id=site.ids[0])
    path = files.image_path(site.db.data_dir, sha256=image.sha256, extension=image.extension)
    path.chmod(0o644)
    path.write_bytes(damage)
    for made in (site.db.data_dir / "thumbnails").rglob(f"{image.sha256}*"):
        made.unlink()
    for address in (f"/ssn/image/{image.id}", f"/ssn/thumb/{image.id}"):
        answer = site.get(address)
        assert answer.status_code == 404
        assert path.name in answer.json()["error"]


def test_a_file_that_is_cut_short_has_no_small_picture_and_says_so(site: Site) -> None:
    image = images.get(site.db, image_id=site.ids[0])
    path = files.image_path(site.db.data_dir, sha256=image.sha256, extension=image.extension)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-40])
    for made in (site.db.data_dir / "thumbnails").rglob(f"{image.sha256}*"):
        made.unlink()
    answer = site.get(f"/ssn/thumb/{image.id}")
    assert answer.status_code == 404
    assert "damaged or cut short" in answer.json()["error"]


@pytest.mark.parametrize("trouble", [MemoryError(), OSError(errno.EMFILE, "Too many open files")])
def test_trouble_of_the_machine_is_no_damage_and_may_be_tried_again(
    site: Site, monkeypatch: pytest.MonkeyPatch, trouble: Exception
) -> None:
    image = images.get(site.db, image_id=site.ids[0])
    for made in (site.db.data_dir / "thumbnails").rglob(f"{image.sha256}*"):
        made.unlink()
    monkeypatch.setattr(image_files.Image, "open", Mock(side_effect=trouble))
    answer = site.get(f"/ssn/thumb/{image.id}")
    assert answer.status_code == 503
    assert "missing or damaged" not in answer.json()["error"]


def test_the_list_follows_the_filter_and_the_details_tell_the_label(site: Site) -> None:
    site.post([site.event(1, site.ids[1], verdict="unsure")])
    assert site.get("/ssn/list").json()["ids"] == site.ids
    assert site.get("/ssn/list", filter="none").json()["ids"] == [site.ids[0], site.ids[2]]
    assert site.get("/ssn/list", filter="unsure").json()["ids"] == [site.ids[1]]
    assert site.get("/ssn/list", filter="nonsense").status_code == 400
    details = site.get("/ssn/details", ids=f"{site.ids[1]},x,,-1,999999,{10**30}").json()["items"]
    assert details == [{"id": site.ids[1], "name": "part-1.png", "w": 16, "h": 24, "label": "unsure"}]


def test_a_map_is_grey_on_the_models_fixed_scale(site: Site) -> None:
    image = images.get(site.db, image_id=site.ids[0])
    model = add_model(site.db, site.project.id, [(image.id, 1.0, "train")])  # its scale is 0..1
    path = f"/ssn/map/{model.id}/{image.id}.png"
    assert site.get(path).status_code == 404
    for value, grey in ((-3.0, 0), (0.5, 128), (7.0, 255)):
        maps.save(site.db, model_id=model.id, sha256=image.sha256, cam=np.full((3, 2), value, dtype=np.float32))
        shown = np.asarray(Image.open(io.BytesIO(site.get(path).content)))
        assert shown.shape == (64, 96)  # the network's input
        assert shown.dtype == np.uint8
        assert np.unique(shown).tolist() == [grey]


def test_where_the_verdict_comes_first_no_map_is_handed_out_before_it(site: Site) -> None:
    image = images.get(site.db, image_id=site.ids[0])
    model = add_model(site.db, site.project.id, [(image.id, 1.0, "unseen")])
    maps.save(site.db, model_id=model.id, sha256=image.sha256, cam=np.zeros((3, 2), dtype=np.float32))
    projects.set_verdict_first(site.db, project_id=site.project.id, value=True)
    for path in (f"/ssn/map/{model.id}/{image.id}.png", f"/ssn/cells/{model.id}/{image.id}"):
        refused = site.get(path)
        assert (refused.status_code, refused.headers["cache-control"]) == (403, "no-store")
        assert "after the first verdict" in refused.json()["error"]
    site.post([site.event(1, image.id, map_seen=False)])
    assert site.get(f"/ssn/map/{model.id}/{image.id}.png").status_code == 200
    site.post([site.event(2, image.id, verdict="bad", map_seen=True)])
    assert [event.map_seen for event in labels.history(site.db, image_id=image.id)] == [False, True]


def test_a_map_of_another_projects_model_is_not_shown(site: Site) -> None:
    other = project_with_images(site.db, [None], name="Other")
    model = add_model(site.db, other.id, [])
    image = images.get(site.db, image_id=site.ids[0])
    maps.save(site.db, model_id=model.id, sha256=image.sha256, cam=np.zeros((3, 2), dtype=np.float32))
    assert site.get(f"/ssn/map/{model.id}/{image.id}.png").status_code == 404


def test_a_database_that_does_not_answer_makes_the_browser_keep_its_verdicts(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sqlalchemy.exc import OperationalError

    def locked(*_args: object, **_kwargs: object) -> None:
        raise OperationalError("INSERT", {}, Exception("database is locked"))

    monkeypatch.setattr(labels, "record", locked)
    answer = site.post([site.event(1)])
    assert answer.status_code == 503
    assert "tries again" in answer.json()["error"]


SETTINGS = {"image_size": [64, 96], "map_sigma": 4.0, "pooling_fraction": 0.2}


def _scored(site: Site, cells: np.ndarray, bias: float) -> tuple[int, images.Image]:
    """A model with one scored image, whose score the map and the bias give."""
    image = images.get(site.db, image_id=site.ids[0])
    score = pooled_mean(cells, fraction=SETTINGS["pooling_fraction"]) + bias
    model = add_model(site.db, site.project.id, [(image.id, score, "out_of_fold")], settings=SETTINGS)
    maps.save(site.db, model_id=model.id, sha256=image.sha256, cam=cells)
    return model.id, image


def test_the_cells_of_a_map_and_what_they_add_up_to(site: Site) -> None:
    cells = np.random.default_rng(3).normal(0, 4, (6, 4)).astype(np.float32)
    model_id, image = _scored(site, cells, bias=-2.5)
    answer = site.get(f"/ssn/cells/{model_id}/{image.id}")
    assert answer.headers["cache-control"] == "no-store"
    told = answer.json()
    values = np.frombuffer(base64.b64decode(told["cells"]), dtype="<f4")
    assert values.tobytes() == cells.tobytes()
    assert (told["rows"], told["columns"], told["k"], told["rounded"]) == (6, 4, 5, False)
    assert sorted(told["counted"]) == sorted(np.argsort(-values)[:5].tolist())
    assert sum(values[told["counted"]] / told["k"]) + told["bias"] == pytest.approx(told["score"], abs=1e-5)
    assert told["bias"] == pytest.approx(-2.5, abs=1e-5)


def test_without_a_map_the_reason_is_given(site: Site) -> None:
    model = add_model(site.db, site.project.id, [(site.ids[0], 1.0, "test")], settings=SETTINGS)
    answer = site.get(f"/ssn/cells/{model.id}/{site.ids[0]}")
    assert answer.status_code == 404
    assert "no map of this image" in answer.json()["error"]


def test_a_map_verdict_is_stored_once_however_often_it_is_sent(site: Site) -> None:
    model_id, image = _scored(site, np.zeros((2, 2), dtype=np.float32), bias=0.0)
    event = {"client": "tab-1", "seq": 1, "model_id": model_id, "image_id": image.id}
    event |= {"verdict": "elsewhere", "inspector": "Ada"}
    for _ in range(2):
        answer = site.client.post("/ssn/map-verdicts", json={"token": site.token, "events": [event]}).json()
        assert (answer["acks"], answer["rejected"]) == ({"tab-1": 1}, [])
    assert map_verdicts.newest(site.db, model_id=model_id, image_ids=site.ids) == {image.id: "elsewhere"}
    unknown = {**event, "seq": 2, "model_id": 999}
    answer = site.client.post("/ssn/map-verdicts", json={"token": site.token, "events": [unknown]}).json()
    assert (answer["acks"], len(answer["rejected"])) == ({"tab-1": 2}, 1)


def test_map_verdicts_are_guarded_as_labels_are(site: Site) -> None:
    model_id, image = _scored(site, np.zeros((2, 2), dtype=np.float32), bias=0.0)
    event = {"client": "t", "seq": 1, "model_id": model_id, "image_id": image.id, "verdict": "unsure"}
    event |= {"inspector": "Ada"}
    body = {"token": site.token, "events": [event]}
    post = site.client.post
    other = resources.token(projects.create(site.db, name="Other").id, "session")
    assert post("/ssn/map-verdicts", json=body, headers={"Origin": "https://evil.example"}).status_code == 403
    assert post("/ssn/map-verdicts", json={**body, "token": "1.1.x.00"}).status_code == 403
    assert (
        post("/ssn/map-verdicts", content=json.dumps(body), headers={"Content-Type": "text/plain"}).status_code == 415
    )
    assert post("/ssn/map-verdicts", json={**body, "events": [{"seq": 1}]}).status_code == 400
    assert len(post("/ssn/map-verdicts", json={**body, "token": other}).json()["rejected"]) == 1
    assert map_verdicts.newest(site.db, model_id=model_id, image_ids=site.ids) == {}
