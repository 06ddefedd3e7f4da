"""The scores that figures rest on, read once and shared by all pages until they change."""

from __future__ import annotations

import streamlit as st

from storage import predictions, registry
from storage.db import Database
from storage.live_scores import LiveScores


def held_out_scores(db: Database, model: registry.Model, role: str | None = None) -> predictions.HeldOut:
    """A model's scores of images that are labelled now, the same object until they change; for reading alone.

    Args:
        role: that the images played for the model; None: that of the held-out ones.
    """
    return _live(model, str(db.engine.url), model.id, role or model.held_out).now(db)


# A resource, not data: a copy of 100,000 names at each run of a page would take longer than what is computed from them.
@st.cache_resource(max_entries=8, show_spinner=False)
def _live(_model: registry.Model, url: str, model_id: int, role: str) -> LiveScores:  # noqa: ARG001
    return LiveScores(_model, role)
