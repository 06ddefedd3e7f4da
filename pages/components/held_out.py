"""The scores that figures rest on, read once and shared by all pages until they change."""

from __future__ import annotations

import streamlit as st

from storage import predictions, registry
from storage.db import Database
from storage.live_scores import LiveScores, Stamp


def held_out_scores(db: Database, model: registry.Model, role: str | None = None) -> predictions.HeldOut:
    """A model's scores of images that are labelled now, the same object until they change; for reading alone.

    Args:
        role: that the images played for the model; None: that of the held-out ones.
    """
    return _live(str(db.engine.url), model.project_id, model.id, role or model.held_out).now(db)


def held_out_stamp(db: Database, model: registry.Model) -> Stamp:
    """The same as long as a model's held-out scores and their labels are; without reading them."""
    return _live(str(db.engine.url), model.project_id, model.id, model.held_out).stamp(db)


# A resource, not data: a copy of 100,000 names at each run of a page would take longer than what is computed from them.
# With 60,000 labels 15 MB for each model; with more models than this, all are read anew for the list of models.
@st.cache_resource(max_entries=32, show_spinner=False)
def _live(url: str, project_id: int, model_id: int, role: str) -> LiveScores:  # noqa: ARG001  # which installation
    return LiveScores(model_id=model_id, project_id=project_id, role=role)
