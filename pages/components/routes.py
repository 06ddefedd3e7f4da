"""Our own HTTP routes beside Streamlit's: pictures out, verdicts in.

They bypass Streamlit's session, so each request carries a token that opens one project (resources.token), is refused
when another site made it, and reaches files only through an image's number, never through a path.
"""

from __future__ import annotations

import base64
import errno
import json
import logging
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import wraps
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy.exc import DBAPIError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Route

from pages.components import picture_job, resources
from ssn_core import rendering
from ssn_core.errors import ImageError, SsnError
from storage import (
    files,
    images,
    label_queues,
    labels,
    map_evidence,
    map_verdicts,
    maps,
    projects,
    registry,
    thumbnails,
)

log = logging.getLogger("ssn.routes")

MAX_BODY = 1_000_000  # bytes; 200 verdicts take some 40,000
MAX_IDS = 500
MAX_NUMBER = 2**31  # rows are numbered below it
PICTURE_HEADERS = {
    "Cache-Control": "private, max-age=31536000, immutable",  # an image's number never means another picture
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
}
JSON_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class RefusedError(Exception):
    """A request that gets no answer, with its HTTP status and a reason for people."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


def answer_get(answer: Callable[[Request, int], Response]) -> Callable[[Request], Response]:
    """A GET route: checks who asks, then answers for the token's project. Runs in a thread."""

    @wraps(answer)
    def endpoint(request: Request) -> Response:
        try:
            if request.headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
                raise RefusedError(403, "This address is for the app's own pages")
            return answer(request, _project_of(request.query_params.get("t", "")))
        except RefusedError as refused:
            return _refusal(refused.status, refused.reason)
        except ImageError as error:
            if _may_pass(error.__cause__):
                log.warning("a picture cannot be had at the moment: %s", error)
                return _refusal(503, str(error))
            return _refusal(404, f"The stored file of this picture is missing or damaged. {error}")
        except SsnError as error:
            return _refusal(404, str(error))
        except FileNotFoundError:
            log.exception("a stored file is missing")
            return _refusal(404, "The file is missing in the data folder")
        except DBAPIError:
            log.exception("the database did not answer")
            return _refusal(503, "The database did not answer; please try again")

    return endpoint


def _may_pass(cause: BaseException | None) -> bool:
    """Whether an image could not be read because of the machine (memory, open files, a disk), not of the file."""
    if isinstance(cause, OSError):
        return cause.errno not in (None, errno.ENOENT)  # Pillow's own errors carry no number
    return isinstance(cause, MemoryError)


def _refusal(status: int, reason: str) -> JSONResponse:
    return JSONResponse({"error": reason}, status_code=status, headers=JSON_HEADERS)


def _project_of(token: object) -> int:
    project_id = resources.check_token(token) if isinstance(token, str) else None
    if project_id is None:
        raise RefusedError(403, "This page is too old; please reload it")
    return project_id


def _image(project_id: int, image_id: int) -> images.Image:
    found = images.get_many(resources.database(), image_ids=[image_id]) if image_id < MAX_NUMBER else []
    if not found or found[0].project_id != project_id:
        raise RefusedError(404, "There is no such image in this project")
    return found[0]


def _image_and_model(request: Request, project_id: int) -> tuple[images.Image, registry.Model]:
    """The image and the model of an address, both of this project."""
    image = _image(project_id, request.path_params["image_id"])
    model_id = request.path_params["model_id"]
    model = registry.get(resources.database(), model_id=model_id) if model_id < MAX_NUMBER else None
    if model is None or model.project_id != project_id:
        raise RefusedError(404, "There is no such model in this project")
    return image, model


def _check_verdict_first(image: images.Image) -> None:
    """No map, and no share of the score, may sway the first verdict where the project says so."""
    if image.label is None and projects.get(resources.database(), project_id=image.project_id).verdict_first:
        raise RefusedError(
            403, "The map is shown after the first verdict: the project asks for verdicts before the model"
        )


@answer_get
def thumb(request: Request, project_id: int) -> Response:
    """A small picture of an image, at most 320 px wide and high."""
    image = _image(project_id, request.path_params["image_id"])
    data_dir = resources.database().data_dir
    if not thumbnails.thumbnail_path(data_dir, sha256=image.sha256).exists():
        picture_job.start_once(project_id)
    return _picture(thumbnails.thumbnail(data_dir, sha256=image.sha256, extension=image.extension))


@answer_get
def full_image(request: Request, project_id: int) -> Response:
    """The image as it was brought in (or a lossless rendition where browsers cannot show its format)."""
    image = _image(project_id, request.path_params["image_id"])
    data_dir = resources.database().data_dir
    if not thumbnails.display_path(data_dir, sha256=image.sha256, extension=image.extension).exists():
        picture_job.start_once(project_id)
    return _picture(thumbnails.display(data_dir, sha256=image.sha256, extension=image.extension))


@answer_get
def anomaly_map(request: Request, project_id: int) -> Response:
    """The anomaly map under a model as a grey PNG on its fixed scale (0 = low end, 255 = high end), smoothed."""
    image, model = _image_and_model(request, project_id)
    _check_verdict_first(image)
    found = maps.load(resources.database(), model_id=model.id, sha256=image.sha256)
    if found is None:
        raise RefusedError(404, "There is no map of this image yet")
    grey = rendering.quantise(maps.as_shown(found, model), low=model.scale_low, high=model.scale_high)
    png = rendering.png_bytes(grey)
    return Response(png, media_type="image/png", headers=PICTURE_HEADERS)


@answer_get
def map_cells(request: Request, project_id: int) -> Response:
    """The map's own cells, neither resized nor smoothed, and which of them make the score (ssn_core.evidence).

    `cells` is base64 of float32, little-endian, row by row; `counted` are the places of the k highest cells in it.
    """
    image, model = _image_and_model(request, project_id)
    _check_verdict_first(image)
    found = map_evidence.explain(resources.database(), model=model, image=image)
    evidence = found.evidence
    content = {
        "rows": evidence.cells.shape[0],
        "columns": evidence.cells.shape[1],
        "cells": base64.b64encode(evidence.cells.astype("<f4").tobytes()).decode("ascii"),
        "counted": evidence.counted.ravel().nonzero()[0].tolist(),
        "k": evidence.k,
        "pooled": evidence.pooled,
        "bias": evidence.bias,
        "score": found.score,
        "rounded": found.rounded,
        "bias_read": found.bias_read,
    }
    return JSONResponse(content, headers=JSON_HEADERS)


@answer_get
def mask(request: Request, project_id: int) -> Response:
    """The defect mask as a PNG: 0 = good, any other value = defect."""
    image = _image(project_id, request.path_params["image_id"])
    if image.mask_sha256 is None:
        raise RefusedError(404, "This image has no mask")
    return _picture(files.mask_path(resources.database().data_dir, sha256=image.mask_sha256))


@answer_get
def image_list(request: Request, project_id: int) -> Response:
    """The images to label: {ids, stacks, reason}.

    Query: `filter`, "all" or a label (good, bad, unsure, none); `order`, one of storage.label_queues.ORDERS; `seed` of
    the random order. `stacks` are sets of at least two of the images that show the same view of a part or are
    near-duplicates; `reason` says why the order cannot be had and what to do, and is null where it can.
    """
    wanted = request.query_params.get("filter", "all")
    if wanted != "all" and wanted not in images.LABEL_FILTERS:
        raise RefusedError(400, f"Unknown filter; expected all or one of {', '.join(images.LABEL_FILTERS)}")
    order = request.query_params.get("order", "oldest")
    if order not in label_queues.ORDERS:
        raise RefusedError(400, f"Unknown order; expected one of {', '.join(label_queues.ORDERS)}")
    seed = _ids([request.query_params.get("seed", "0")])
    if not seed:
        raise RefusedError(400, "Unknown seed; expected a whole number from 0 to 999999999")
    found = label_queues.listing(
        resources.database(),
        project_id=project_id,
        order=order,
        labels=None if wanted == "all" else (wanted,),
        seed=seed[0],
    )
    return _json({"ids": found.ids, "stacks": found.stacks, "reason": found.reason})  # asdict would copy each number


@answer_get
def image_details(request: Request, project_id: int) -> Response:
    """Name, size in pixels and label of up to 500 images (`ids`, joined by commas)."""
    now = time.time()  # before the reading: what is stored later counts as newer
    found = images.get_many(resources.database(), image_ids=_ids(request.query_params.get("ids", "").split(",")))
    items = [
        {"id": image.id, "name": image.name, "w": image.width, "h": image.height, "label": image.label}
        for image in found
        if image.project_id == project_id
    ]
    return _json({"items": items, "now": now})


async def post_labels(request: Request) -> Response:
    """Take verdicts: {token, events: [...], watch: [image, ...]} -> {acks, rejected, counts, labels, now}.

    Without events it only tells the news: the project's counts and the labels of the watched images. The answer
    comes after the verdicts are stored; any status but 200 means that the sender has to send them again.
    """
    return await answer_post(request, _store_labels)


async def post_map_verdicts(request: Request) -> Response:
    """Take verdicts on maps: {token, events: [...]} -> {acks, rejected, now}; answers as :func:`post_labels` does."""
    return await answer_post(request, _store_map_verdicts)


async def answer_post(request: Request, store: Callable[[int, dict[str, Any]], dict[str, Any]]) -> Response:
    """Check who sends what, then store it for the token's project, in a thread."""
    try:
        _check_origin(request)
        body = await _json_body(request)
        project_id = _project_of(body.get("token"))
        return _json(await run_in_threadpool(store, project_id, body))
    except RefusedError as refused:
        return _refusal(refused.status, refused.reason)
    except (DBAPIError, SsnError):
        log.exception("verdicts could not be stored; the browser keeps them and tries again")
        return _refusal(503, "The verdicts could not be stored; the browser keeps them and tries again")


def _store_labels(project_id: int, body: dict[str, Any]) -> dict[str, Any]:
    db = resources.database()
    events = [_event(item) for item in list_in(body, "events")]
    watch = _ids(list_in(body, "watch"))
    acks: dict[str, int] = {}
    rejected: list[tuple[str, int, str]] = []
    if events:  # news alone must not take the write lock
        recorded = labels.record(db, project_id=project_id, events=events)
        acks, rejected = recorded.acks, recorded.rejected
    now = time.time()  # after the storing, before the reading
    return {
        "acks": acks,
        "rejected": rejected,
        "counts": asdict(projects.label_counts(db, project_id=project_id)),
        "labels": {i.id: i.label for i in images.get_many(db, image_ids=watch) if i.project_id == project_id},
        "now": now,
    }


def _store_map_verdicts(project_id: int, body: dict[str, Any]) -> dict[str, Any]:
    events = [_map_verdict(item) for item in list_in(body, "events")]
    recorded = map_verdicts.record(resources.database(), project_id=project_id, events=events)
    return {"acks": recorded.acks, "rejected": recorded.rejected, "now": time.time()}


def _check_origin(request: Request) -> None:
    origin = urlsplit(request.headers.get("origin", ""))
    if not origin.netloc or origin.netloc.lower() != request.headers.get("host", "").lower():
        raise RefusedError(403, "Verdicts are taken from the app's own pages only")


async def _json_body(request: Request) -> dict[str, Any]:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise RefusedError(415, "Expected JSON")
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY:
            raise RefusedError(413, f"Expected at most {MAX_BODY:,} bytes at once")
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RefusedError(400, "Expected JSON") from error
    if not isinstance(parsed, dict):
        raise RefusedError(400, "Expected a JSON object")
    return parsed


def list_in(body: dict[str, Any], name: str) -> list[Any]:
    value = body.get(name, [])
    if not isinstance(value, list) or len(value) > MAX_IDS:
        raise RefusedError(400, f"Expected {name!r} to be a list of at most {MAX_IDS}")
    return value


def _numbered(item: object) -> dict[str, Any]:
    """An event that can be acknowledged; what it says is checked where it is stored, which refuses one alone."""
    if not isinstance(item, dict) or not isinstance(item.get("client"), str) or not isinstance(item.get("seq"), int):
        raise RefusedError(400, "Expected events with a client and a sequence number")
    if not item["client"].isascii():  # it comes back in the answer, which half a sign could not be part of
        raise RefusedError(400, "Expected clients of ASCII letters and digits")
    return item


def _event(item: object) -> labels.LabelEvent:
    said = _numbered(item)
    return labels.LabelEvent(
        client=said["client"],
        seq=said["seq"],
        image_id=said.get("image_id"),
        verdict=said.get("verdict"),
        inspector=said.get("inspector"),
        origin=said.get("origin"),
        is_undo=bool(said.get("is_undo", False)),
        seconds=said.get("seconds"),
        map_seen=said.get("map_seen"),
    )


def _map_verdict(item: object) -> map_verdicts.MapVerdict:
    said = _numbered(item)
    return map_verdicts.MapVerdict(
        client=said["client"],
        seq=said["seq"],
        model_id=said.get("model_id"),
        image_id=said.get("image_id"),
        verdict=said.get("verdict"),
        inspector=said.get("inspector"),
    )


def _ids(values: list[Any]) -> list[int]:
    texts = [str(value) for value in values[:MAX_IDS] if not isinstance(value, bool)]
    return [int(text) for text in texts if text.isascii() and text.isdigit() and len(text) < 10]


def _json(content: dict[str, Any]) -> JSONResponse:
    return JSONResponse(content, headers=JSON_HEADERS)


def _picture(path: Path) -> FileResponse:
    return FileResponse(path, headers=PICTURE_HEADERS)


ROUTES: list[BaseRoute] = [
    Route("/ssn/labels", post_labels, methods=["POST"]),
    Route("/ssn/map-verdicts", post_map_verdicts, methods=["POST"]),
    Route("/ssn/list", image_list),
    Route("/ssn/details", image_details),
    Route("/ssn/thumb/{image_id:int}", thumb),
    Route("/ssn/image/{image_id:int}", full_image),
    Route("/ssn/map/{model_id:int}/{image_id:int}.png", anomaly_map),
    Route("/ssn/cells/{model_id:int}/{image_id:int}", map_cells),
    Route("/ssn/mask/{image_id:int}.png", mask),
]
