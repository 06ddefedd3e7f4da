"""Judging the parts of a study in the browser: blind, one large picture after the other (board.js, outbox.js).

Streamlit hands over the order once and is not asked again while someone judges. Nothing but the parts' numbers goes
along: no name, label, score or verdict. Verdicts travel through pages/components/study_routes.py.
"""

from __future__ import annotations

from collections.abc import Callable
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


def study_board(study: studies.Study, *, inspector: str, on_leave: Callable[[], None]) -> None:
    """Mount the board for one inspector.

    Args:
        on_leave: called before the page runs again when the inspector pauses or is done.
    """
    data = {
        "installation": resources.installation(),
        "study": study.id,
        "inspector": inspector,
        "token": resources.token(study.project_id, state.session_id()),
        "pictures": resources.token(study.project_id),  # the same in every session: pictures stay in the cache
        "orders": studies.orders(resources.database(), study=study, inspector=inspector),
        "palette": {verdict: look for verdict, look in palette.as_data().items() if verdict in ("good", "bad")},
    }
    _component(key=f"{state.Key.STUDY_BOARD}-{study.id}", data=data, on_leave_change=on_leave)
