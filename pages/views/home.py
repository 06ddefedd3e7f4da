"""Home: choose or create a project, and see what to do next in it."""

from __future__ import annotations

import streamlit as st

from pages.components import resources, state
from pages.components.checklist import draw_checklist
from pages.components.errors import show_errors
from pages.components.label_advice import draw_advice
from pages.components.text import prose
from pages.components.tour import draw_offer
from storage import projects

PRESETS = {
    "256 × 256 – square parts": (256, 256),
    "704 × 256 – tall, narrow parts": (704, 256),
    "Other": None,
}


def draw_creation(first: bool) -> None:
    name = st.text_input("Name", placeholder="Commutator, line 3", max_chars=200, key="home-name")
    preset = st.radio(
        "Image size for the model, height × width in pixels",
        list(PRESETS),
        key="home-preset",
        help="Images are scaled to this size for the model alone; the originals are kept. Keep the shape of your "
        "parts. A larger size shows finer defects and takes longer.",
    )
    size = PRESETS[preset]
    if size is None:
        left, right = st.columns(2)
        height = left.number_input("Height", 64, 2048, 256, step=32, key="home-height")
        width = right.number_input("Width", 64, 2048, 256, step=32, key="home-width")
        size = (int(height), int(width))
    if st.button("Create project", type="primary" if first else "secondary", disabled=not name.strip()):
        with show_errors():
            made = projects.create(resources.database(), name=name, image_height=size[0], image_width=size[1])
            state.set_project(made.id)
            st.rerun()


st.title("SSN Inspector", anchor=False)
known = projects.list_projects(resources.database())
chosen = next((project for project in known if project.id == state.project_id()), None)

if not known:
    st.markdown("Show it good and bad parts; it learns to tell them apart and shows where it looks.")
    own, demonstration = st.columns(2, gap="large")
    with own:
        st.subheader("Create the first project", anchor=False)
        with st.container(width=520):
            draw_creation(first=True)
    with demonstration:
        draw_offer()
    st.stop()

left, right = st.columns([3, 2], gap="large")
with left:
    if chosen is None:
        st.info("Choose a project on the right.")
    else:
        st.subheader(f"Next in {prose(chosen.name)}", anchor=False)
        with show_errors():
            draw_checklist(chosen)
            draw_advice(chosen, with_link=True)
with right:
    st.subheader("Projects", anchor=False)
    for project in known:
        with st.container(border=True, horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
            with st.container(gap=None):
                st.markdown(f"**{prose(project.name)}**")
                st.caption(f"{project.image_height} × {project.image_width} px")
            if chosen is not None and project.id == chosen.id:
                st.badge("Chosen", color="blue")
            else:
                st.button("Choose", key=f"home-open-{project.id}", on_click=state.set_project, args=(project.id,))
    with st.expander("New project"):
        draw_creation(first=False)
