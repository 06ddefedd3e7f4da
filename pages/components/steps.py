"""A list of steps with the next one marked, as the checklist and the tour draw it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

from pages.components.project import go


@dataclass(frozen=True)
class Step:
    """One line of the list."""

    view: str
    title: str
    state: str  # what is there already, or what is missing
    done: bool


def draw_steps(lines: Sequence[Step]) -> None:
    """The steps, the first open one marked as next."""
    following = next((line for line in lines if not line.done), None)
    for number, line in enumerate(lines, start=1):
        is_next = line is following
        with st.container(border=True, horizontal=True, vertical_alignment="center"):
            st.markdown(":blue[:material/check_circle:]" if line.done else f"**{number}**", width=28)
            with st.container(gap=None, width="stretch"):
                st.markdown(f"**{line.title}** :blue-badge[Next]" if is_next else f"**{line.title}**")
                st.caption(line.state)
            with st.container(width=110):
                go(line.view, line.view.capitalize())
