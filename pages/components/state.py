"""Session state, typed: the only file that knows the names of session-state keys.

Views use the functions; widgets take their `key=` from :class:`Key`.
"""

from __future__ import annotations

import secrets
from enum import StrEnum
from urllib.parse import unquote

import streamlit as st

MAX_NAME = 100  # characters, as the database keeps


class Key(StrEnum):
    """Names in st.session_state, of our own values and of widgets. Views add theirs here."""

    # Shared by all pages
    SESSION = "ssn_session"
    PROJECT = "ssn_project"
    INSPECTOR = "ssn_inspector"
    PROJECT_SELECT = "ssn_project_select"
    NAME_INPUT = "ssn_name_input"
    NAME_FORM = "ssn_name_form"
    BROWSER = "ssn_browser"
    # Label
    LABEL_FILTER = "ssn_label_filter"
    LABEL_BOARD = "ssn_label_board"


def session_id() -> str:
    """A random name of this browser session (letters and digits)."""
    return st.session_state.setdefault(Key.SESSION, secrets.token_hex(8))


def project_id() -> int | None:
    """The chosen project, or None when there is none yet. The shell makes sure that it exists."""
    return st.session_state.get(Key.PROJECT)


def set_project(value: int | None) -> None:
    """Choose a project for this session; the browser remembers it for the next one."""
    st.session_state[Key.PROJECT] = value


def remembered_project() -> int | None:
    """The project this browser worked in last, from its cookie."""
    text = st.context.cookies.get("ssn_project", "")
    return int(text) if text.isascii() and text.isdigit() else None


def inspector() -> str:
    """The inspector's name; "" when nobody has said it yet in this browser."""
    if Key.INSPECTOR not in st.session_state:
        st.session_state[Key.INSPECTOR] = clean_name(unquote(st.context.cookies.get("ssn_inspector", "")))
    return st.session_state[Key.INSPECTOR]


def set_inspector(name: str) -> None:
    """Take a new name for this session; the browser remembers it for the next one."""
    st.session_state[Key.INSPECTOR] = clean_name(name)


def clean_name(name: str) -> str:
    """A name as it is stored: printable, single spaces, at most 100 characters."""
    printable = "".join(c if c.isprintable() else " " for c in name)
    return " ".join(printable.split())[:MAX_NAME].strip()
