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


# Streamlit leaves wide margins and a tall, empty header; the pictures need the room.
st.html("""<style>
[data-testid=stHeader] { height: 2.5rem; min-height: 2.5rem; }
[data-testid=stMainBlockContainer] { padding: 2.75rem 2.5rem 1.5rem; }
</style>""")


TITLES = {"tradeoffs": "Trade-offs"}  # where the view's name does not make a title


def _page(name: str, *, default: bool = False) -> st.Page:
    title = TITLES.get(name, name.capitalize())
    return st.Page(VIEWS / f"{name}.py", title=title, url_path=None if default else name, default=default)


# The order of the work: bring images in, label, train, look, measure, use.
PAGES = [
    _page("home", default=True),
    _page("data"),
    _page("label"),
    _page("train"),
    _page("review"),
    _page("evaluate"),
    _page("models"),
    _page("tradeoffs"),
    _page("agreement"),
    _page("inspect"),
    _page("audit"),
]

page = st.navigation(PAGES)
with show_errors():
    startup.once_per_process()
    sidebar.show()
    page.run()
