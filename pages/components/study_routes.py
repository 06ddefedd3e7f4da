"""The route that takes verdicts of a study; pictures come through the same routes as everywhere (routes.py)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from pages.components import resources
from pages.components.routes import RefusedError, answer_post, list_in
from ssn_core.errors import SsnError
from storage import study_verdicts
from storage.study_verdicts import Message, Recorded

MAX_CLIENTS = 1000  # whose newest numbers are remembered
_lock = threading.Lock()
_newest: dict[str, int] = {}  # client -> highest number dealt with since this process started


async def post_study(request: Request) -> Response:
    """Take verdicts of one inspector: {token, study, inspector, client, events} -> {done, refused, given, closed}.

    Events are {seq, trial, image_id, verdict, seconds}, numbered 1, 2, 3 ... by the client (one outbox of a browser).
    `done`: the highest number dealt with. `given`: how many verdicts of this inspector are stored, for each trial.
    Any status but 200 means that the sender has to send them again.
    """
    return await answer_post(request, _store)


def _store(project_id: int, body: dict[str, Any]) -> dict[str, Any]:
    def record(study_id: int, messages: list[Message]) -> Recorded:
        return study_verdicts.record(
            resources.database(),
            project_id=project_id,
            study_id=study_id,
            inspector=body.get("inspector"),  # type: ignore[arg-type]  # checked where it is stored
            messages=messages,
        )

    return store_blind(body, record)


def store_blind(body: dict[str, Any], record: Callable[[int, list[Message]], Recorded]) -> dict[str, Any]:
    """The answer to numbered blind verdicts, stored by `record` (of a study's or a round's number) where they are new.

    Raises:
        RefusedError: the request cannot come from the board.
    """
    study_id, client = body.get("study"), body.get("client")
    if not isinstance(study_id, int) or isinstance(study_id, bool) or not 0 < study_id < 2**31:
        raise RefusedError(400, "Expected the number of a study")
    if not isinstance(client, str) or not client.isascii() or not 1 <= len(client) <= 64:
        raise RefusedError(400, "Expected a client of 1 to 64 ASCII letters and digits")
    events = [_event(item) for item in list_in(body, "events")]
    try:
        return _record(client, events, partial(record, study_id))
    except SsnError as error:  # no such study, no name: sending again will not help
        raise RefusedError(400, str(error)) from error


def _record(
    client: str, events: list[tuple[int, Message]], record: Callable[[list[Message]], Recorded]
) -> dict[str, Any]:
    # A request that was given up by the browser may still arrive after a later one: its verdict may have been taken
    # back since. A restart of the server ends such requests, so this memory need not outlive the process.
    with _lock:
        fresh = [(seq, message) for seq, message in events if seq > _newest.get(client, 0)]
        recorded = record([message for _seq, message in fresh])
        done = max((seq for seq, _message in events), default=0)
        if done > _newest.get(client, 0):
            _newest.pop(client, None)  # so that the newest client comes last
            _newest[client] = done
        while len(_newest) > MAX_CLIENTS:
            del _newest[next(iter(_newest))]
    return {
        "done": done,
        "refused": [[fresh[place][0], reason] for place, reason in recorded.refused],
        "given": recorded.given,
        "closed": recorded.closed,
    }


def _event(item: object) -> tuple[int, Message]:
    """One event as it arrived; study_verdicts.record checks its values and refuses one alone."""
    if not isinstance(item, dict) or not isinstance(item.get("seq"), int) or not 0 < item["seq"] < 2**53:
        raise RefusedError(400, "Expected events with a number")
    return item["seq"], Message(
        trial=item.get("trial"),  # type: ignore[arg-type]
        image_id=item.get("image_id"),  # type: ignore[arg-type]
        verdict=item.get("verdict"),  # type: ignore[arg-type]
        seconds=item.get("seconds"),
    )


STUDY_ROUTES: list[BaseRoute] = [Route("/ssn/study", post_study, methods=["POST"])]
