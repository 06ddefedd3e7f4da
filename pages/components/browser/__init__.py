"""The part of the page frame that lives in the browser: mounted in the sidebar of every page.

It remembers inspector and project in cookies (so that the next visit starts with them at once), sends what verdicts
are still in this browser, from this tab or from ones that are gone, and shows the project's progress live.
"""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from pages.components import palette, state
from pages.components.label_queue import queue_data, with_queue
from storage import projects

_HERE = Path(__file__).parent
_component = st.components.v2.component(
    "ssn_browser",
    html='<div class="ssn-progress"></div>',
    css=(_HERE / "browser.css").read_text(encoding="utf-8"),
    js=with_queue(_HERE / "browser.js"),
)


def browser_link(known: list[projects.Project]) -> None:
    """Mount it. `known`: all projects."""
    data = {"queue": queue_data(known), "palette": palette.as_data()}
    _component(key=state.Key.BROWSER, data=data)
