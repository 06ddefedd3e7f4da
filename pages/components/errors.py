"""Errors on pages: those meant for people are shown as they are, everything else stays a bug with a traceback."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st

from pages.components.text import prose
from ssn_core.errors import SsnError

log = logging.getLogger("ssn.pages")


@contextmanager
def show_errors() -> Iterator[None]:
    """Show an :class:`SsnError` raised inside the block as a message and go on after the block.

    Anything else passes through: Streamlit logs it with its traceback and shows a generic message.
    """
    try:
        yield
    except SsnError as error:
        log.info("shown to the user: %s", error)
        st.error(prose(error), icon=":material/error:")  # messages hold names from outside
