"""The scores that figures rest on, read once and shared by all pages until they change."""

from __future__ import annotations

import streamlit as st

from storage import labels, predictions, registry
from storage.db import Database


def held_out_scores(db: Database, model: registry.Model, role: str | None = None) -> predictions.HeldOut:
    """A model's scores of images that are labelled now, read again only when they changed; for reading alone.

    Args:
        role: that the images played for the model; None: that of the held-out ones.
    """
    newest = labels.project_history(db, project_id=model.project_id, limit=1)
    scored = predictions.count_scored(db, model_id=model.id)
    return _read(db, str(db.engine.url), model.id, role or model.held_out, newest[0].id if newest else 0, scored)


# A resource, not data: a copy of 100,000 names at each run of a page would take longer than what is computed from them.
@st.cache_resource(max_entries=8, show_spinner=False)
def _read(
    _db: Database,
    url: str,  # noqa: ARG001
    model_id: int,
    role: str,
    newest_label: int,  # noqa: ARG001
    scored: int,  # noqa: ARG001
) -> predictions.HeldOut:
    # Reading 100,000 scores takes a second: they change with a label, and while a training stores them; never with a
    # threshold.
    found = predictions.with_role(_db, model_id=model_id, role=role)
    for shared in (found.labels, found.scores):
        shared.flags.writeable = False
    return found
