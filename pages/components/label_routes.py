"""The routes of the label board beside pictures, lists and verdicts: limit samples."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from pages.components import resources
from pages.components.routes import JSON_HEADERS, RefusedError, answer_get, answer_post
from ssn_core.errors import SsnError
from storage import limit_samples
from storage.delivery import is_count


@answer_get
def get_limit_samples(_request: Request, project_id: int) -> Response:
    """What is pinned: {samples: [{image, verdict, inspector, name, w, h}]}, the good ones first."""
    return JSONResponse(_samples(project_id), headers=JSON_HEADERS)


async def post_limit_sample(request: Request) -> Response:
    """Pin an image, or take its pin away: {token, inspector, image, verdict} -> the samples as they are now.

    `verdict` is "good" or "bad", or null to take the pin away.
    """
    return await answer_post(request, _pin)


def _pin(project_id: int, body: dict[str, Any]) -> dict[str, Any]:
    image, verdict, inspector = body.get("image"), body.get("verdict"), body.get("inspector")
    if not isinstance(image, int) or not is_count(image):
        raise RefusedError(400, "Expected the number of an image")
    if not isinstance(inspector, str) or not (verdict is None or isinstance(verdict, str)):
        raise RefusedError(400, "Expected an inspector, and a verdict or null")
    db = resources.database()
    try:
        if verdict is None:
            limit_samples.unpin(db, project_id=project_id, image_id=image, inspector=inspector)
        else:
            limit_samples.pin(db, project_id=project_id, image_id=image, verdict=verdict, inspector=inspector)
    except SsnError as error:  # asking again will not help
        raise RefusedError(400, str(error)) from error
    return _samples(project_id)


def _samples(project_id: int) -> dict[str, Any]:
    return {
        "samples": [
            {
                "image": sample.image_id,
                "verdict": sample.verdict,
                "inspector": sample.inspector,
                "name": sample.name,
                "w": sample.width,
                "h": sample.height,
            }
            for sample in limit_samples.of_project(resources.database(), project_id=project_id)
        ]
    }


LABEL_ROUTES: list[BaseRoute] = [
    Route("/ssn/limit-samples", get_limit_samples, methods=["GET"]),
    Route("/ssn/limit-samples", post_limit_sample, methods=["POST"]),
]
