"""Where the map looks, as people judged it: the buttons beside the picture in Review, and the hit rate they give."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from pages.components import resources, state
from pages.components.map_verdict import Judged, map_verdict
from pages.components.text import NOT_AVAILABLE, count, percent
from ssn_core.rates import rate_interval
from storage import images, map_verdicts, registry

MEANING = (
    "How often the map's strongest place is on the defect, as people judged it: no mask is needed. Only images that "
    "the scoring network had not seen and that are labelled bad count; those that nobody could tell count apart. "
    "The rate speaks for the images that were judged, so judge them in order, not only those that look good."
)


def draw_map_verdict(
    model: registry.Model, listed: Sequence[tuple[images.Image, str]], *, current: int, read_at: float
) -> None:
    """The buttons for the current image of the worklist, and the hit rate so far.

    Args:
        listed: the worklist: each image and its role for the model.
    """
    db = resources.database()
    said = map_verdicts.newest(db, model_id=model.id, image_ids=[image.id for image, _ in listed])
    map_verdict(
        [
            Judged(image.id, image.name, image.label, said.get(image.id), counts=role == model.held_out)
            for image, role in listed
        ],
        project_id=model.project_id,
        model_id=model.id,
        current=current,
        read_at=read_at,
        key=state.review_verdict_key(model.id),
    )
    rate, basis = hit_rate(
        map_verdicts.localisation_rate(db, model.id), map_verdicts.held_out_bad(db, model_id=model.id)
    )
    st.caption(f"**On the defect: {rate}**  \n{basis}", help=MEANING)


def hit_rate(found: map_verdicts.Localisation, n_bad: int) -> tuple[str, str]:
    """The localisation hit rate in words: the figure, and what it rests on.

    Args:
        found: what people said.
        n_bad: how many held-out images are labelled bad.
    """
    judged = found.decided + found.unsure
    of = f"{judged:,} of {count(n_bad, 'held-out bad image')} judged"
    not_sure = f", {found.unsure:,} not sure" if found.unsure else ""
    interval = rate_interval(found.hits, found.decided)
    if interval is None:
        return f"{NOT_AVAILABLE}", f"{of}{not_sure}" if n_bad else "no held-out image is labelled bad"
    figure = f"{found.hits:,} of {found.decided:,}, {percent(found.hits / found.decided, 0)}"
    return figure, f"95 %: {100 * interval.low:.0f} to {100 * interval.high:.0f} % · {of}{not_sure}"
