"""Asking for the inspector's name before the first verdict."""

from __future__ import annotations

import streamlit as st

from pages.components import state


def require_inspector() -> str:
    """The inspector's name. Without one, asks for it and ends the page run: no verdict without a name."""
    if not state.inspector():
        _ask()
        st.stop()
    return state.inspector()


def _ask() -> None:
    with st.container(width=460, border=True):
        st.subheader("Who is looking?")
        st.write("Your name is kept with each verdict. This browser remembers it.")
        with st.form(state.Key.NAME_FORM, border=False):
            typed = st.text_input("Your name", max_chars=state.MAX_NAME, placeholder="for example Ada")
            if st.form_submit_button("Start", type="primary"):
                state.set_inspector(typed)
                if state.inspector():
                    st.rerun()
                st.warning("Please type a name first.")
