"""Images that two models judge differently, as tiles: picture, both verdicts, and one click to Review with either."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from pages.components import palette, resources, state
from pages.components.map_viewer import data_url
from pages.components.project import VIEWS
from pages.components.text import figure, literal, plain
from ssn_core.errors import SsnError
from storage import images, projects, thumbnails
from storage.comparison import Comparison, Flip

EDGE = 128  # px, of a picture
TILE_WIDTH = 364  # px; two fit beside each other at 1366, four at 1920
SHOWN = 8  # flips of one kind with picture; Review goes through all of them
WORKLIST = 200  # images that Review is sent at most


def draw_tiles(
    project: projects.Project, compared: Comparison, group: Sequence[Flip], *, names: tuple[str, str]
) -> None:
    """Draw the first tiles of a group of flips.

    Args:
        group: at least one; Review gets the whole group as its worklist.
        names: what the first and the second model of the comparison are called on the tiles.
    """
    shown = group[:SHOWN]
    stored = {image.id: image for image in images.get_many(resources.database(), image_ids=[f.image_id for f in shown])}
    tiles = st.container(horizontal=True, gap="small")  # as many in a row as there is room for
    for flip in shown:
        with tiles.container(border=True, horizontal=True, vertical_alignment="center", width=TILE_WIDTH):
            if flip.image_id in stored:
                _thumbnail(stored[flip.image_id])
            with st.container(gap="xxsmall"):
                st.markdown(literal(flip.name))
                first, second = _said(flip.first, flip.first_score), _said(flip.second, flip.second_score)
                st.caption(f"{names[0]} {first} → {names[1]} {second}")
                with st.container(horizontal=True, gap="small"):
                    for place in (1, 0):
                        if st.button(
                            f"Review with {names[place]}",
                            key=f"flip-review-{names[place].lower()}-{flip.image_id}",
                            type="tertiary",
                            icon=":material/visibility:",
                        ):
                            _review(project, compared, group, flip, with_first=place == 0)
    if len(group) > len(shown):
        st.caption(f"And {len(group) - len(shown):,} more: Review goes through all of them.")


def _said(verdict: str, score: float) -> str:
    style = palette.style_of(verdict)
    return f"{style.sign} {style.word} {figure(score)}"


def _thumbnail(image: images.Image) -> None:
    try:
        path = thumbnails.thumbnail(
            resources.database().data_dir, sha256=image.sha256, extension=image.extension, edge=EDGE
        )
    except SsnError:
        st.caption("The picture cannot be read.")
        return
    # As it is: Streamlit would write its bytes anew, as another format.
    st.image(data_url(path.read_bytes(), "image/webp"), alt=plain(image.name))


def _review(
    project: projects.Project, compared: Comparison, group: Sequence[Flip], flip: Flip, *, with_first: bool
) -> None:
    """Open Review at this image, with the whole group as its worklist."""
    model = compared.first if with_first else compared.second
    entries = [
        state.ReviewEntry(one.image_id, one.first_score if with_first else one.second_score, model.held_out)
        for one in group[:WORKLIST]
    ]
    state.open_review(project.id, project.active_model_id, model.id, entries, flip.image_id)
    st.switch_page(VIEWS / "review.py")
