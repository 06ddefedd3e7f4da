"""Judging images in the browser: blind, one large picture after the other (board.js, outbox.js).

Streamlit hands over the order once and is not asked again while someone judges. Nothing but the images' numbers goes
along: no name, label, score or verdict. Verdicts of studies travel through pages/components/study_routes.py, second
opinions through people_routes.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import streamlit as st

from pages.components import palette, resources, state
from pages.components.label_queue import with_queue
from storage import studies

_HERE = Path(__file__).parent
_component = st.components.v2.component(
    "ssn_study_board",
    html='<div class="ssn-study"></div>',
    css=(_HERE / "board.css").read_text(encoding="utf-8"),
    js=with_queue(_HERE / "outbox.js", _HERE / "board.js"),
)


@dataclass(frozen=True)
class Desk:
    """Where verdicts go, and the words at the end."""

    kind: str  # names the outbox in the browser
    address: str  # of the route
    what: str  # "study" or "round", for people
    done: tuple[str, str]  # title and text after the last image
    more: dict[str, str] = field(default_factory=dict)  # goes along in every request


STUDY = Desk(
    kind="study",
    address="/ssn/study",
    what="study",
    done=("All your trials are done", "Thank you. Nothing more to judge in this study."),
)


def study_board(study: studies.Study, *, inspector: str, on_leave: Callable[[], None]) -> None:
    """Mount the board for one inspector of a study.

    Args:
        on_leave: called before the page runs again when the inspector pauses or is done.
    """
    orders = studies.orders(resources.database(), study=study, inspector=inspector)
    blind_board(STUDY, study.id, orders, project_id=study.project_id, inspector=inspector, on_leave=on_leave)


def blind_board(
    desk: Desk,
    number: int,
    orders: Sequence[Sequence[int]],
    *,
    project_id: int,
    inspector: str,
    on_leave: Callable[[], None],
) -> None:
    """Mount the board.

    Args:
        number: of the study or round, which the route takes as `study`.
        orders: for each trial, the images in their order.
        on_leave: called before the page runs again when the inspector pauses or is done.
    """
    data = {
        "desk": asdict(desk),
        "installation": resources.installation(),
        "study": number,
        "inspector": inspector,
        "token": resources.token(project_id, state.session_id()),
        "pictures": resources.token(project_id),  # the same in every session: pictures stay in the cache
        "orders": orders,
        "palette": {verdict: look for verdict, look in palette.as_data().items() if verdict in ("good", "bad")},
    }
    _component(key=f"{state.Key.STUDY_BOARD}-{desk.kind}-{number}", data=data, on_leave_change=on_leave)
