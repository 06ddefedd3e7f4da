"""The frame around every page: navigation, project, inspector and the label queue's messenger.

`app.py` names this script as the app's page script, so it runs first whichever address was opened.
"""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from pages.components import sidebar, startup
from pages.components.errors import show_errors

VIEWS = Path(__file__).resolve().parent / "views"

st.set_page_config(page_title="SSN Inspector", page_icon="🔎", layout="wide", initial_sidebar_state="expanded")


def _page(name: str, title: str, icon: str, *, default: bool = False) -> st.Page | None:
    if not (VIEWS / f"{name}.py").exists():
        return None
    return st.Page(VIEWS / f"{name}.py", title=title, icon=icon, url_path=None if default else name, default=default)


# The order of the work: bring images in, label, train, look, measure, use.
PAGES = [
    _page("home", "Home", "🏠", default=True),
    _page("data", "Data", "🗂️"),
    _page("label", "Label", "🏷️"),
    _page("train", "Train", "🎓"),
    _page("review", "Review", "🔥"),
    _page("evaluate", "Evaluate", "📈"),
    _page("inspect", "Inspect", "🔎"),
]

page = st.navigation([known for known in PAGES if known is not None])
with show_errors():
    startup.once_per_process()
    sidebar.show()
    page.run()
