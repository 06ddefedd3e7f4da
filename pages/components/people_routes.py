"""The routes for several inspectors at work: leases, who is here, and second opinions given blind."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from pages.components import label_totals, resources
from pages.components.routes import RefusedError, answer_post, list_in
from pages.components.study_routes import store_blind
from storage import label_queues, leases, opinion_verdicts, second_opinions
from storage.delivery import wrong_inspector
from storage.study_verdicts import Message, Recorded


async def post_leases(request: Request) -> Response:
    """Ask ahead for images: {token, inspector, client, images, release} -> {granted, held, seconds} and the news.

    `granted`: the images that nobody else is served for `seconds`; ask again before they are over. `held`: image ->
    the inspector who is served it. `inspectors`: inspector -> images that bear their label. `at_work`: inspector ->
    images leased now. `compared`: whether the order "informative" can be had. Without images it only tells the news.
    """
    return await answer_post(request, _lease)


def _lease(project_id: int, body: dict[str, Any]) -> dict[str, Any]:
    db = resources.database()
    wanted, back = _numbers(list_in(body, "images")), _numbers(list_in(body, "release"))
    taken = leases.Leases([], {})
    if wanted or back:  # news alone must not take the write lock
        inspector, client = body.get("inspector"), body.get("client")
        reason = leases.wrong_client(client) or wrong_inspector(inspector)
        if reason is not None or not isinstance(client, str) or not isinstance(inspector, str):
            raise RefusedError(400, reason or "Expected an inspector and a client")
        taken = leases.take(
            db, project_id=project_id, inspector=inspector, client=client, image_ids=wanted, release=back
        )
    return {
        "granted": taken.granted,
        "held": taken.held,
        "seconds": leases.SECONDS,
        "inspectors": label_totals.labels_by_inspector.of(project_id),
        "at_work": leases.at_work(db, project_id=project_id),
        "compared": label_queues.is_built(db, project_id=project_id),
    }


def _numbers(values: list[Any]) -> list[int]:
    if any(not isinstance(value, int) or isinstance(value, bool) for value in values):
        raise RefusedError(400, "Expected the numbers of images")
    return values


async def post_opinions(request: Request) -> Response:
    """Take second opinions of one inspector, or third ones ("stage"); otherwise as study_routes.post_study."""
    return await answer_post(request, _store_opinions)


def _store_opinions(project_id: int, body: dict[str, Any]) -> dict[str, Any]:
    stage = body.get("stage")
    if stage not in (second_opinions.SECOND, second_opinions.THIRD):
        raise RefusedError(400, "Expected a stage: second or third")

    def record(round_id: int, messages: list[Message]) -> Recorded:
        return opinion_verdicts.record(
            resources.database(),
            project_id=project_id,
            round_id=round_id,
            inspector=body.get("inspector"),  # type: ignore[arg-type]  # checked where it is stored
            stage=stage,
            messages=messages,
        )

    return store_blind(body, record)


PEOPLE_ROUTES: list[BaseRoute] = [
    Route("/ssn/leases", post_leases, methods=["POST"]),
    Route("/ssn/opinions", post_opinions, methods=["POST"]),
]
