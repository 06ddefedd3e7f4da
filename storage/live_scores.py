"""A model's scores with the labels of now: read once, then only what was said since."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from itertools import compress

import numpy as np
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from storage import predictions, registry
from storage.db import Database
from storage.tables import LabelEventRow

MOST = 500  # images whose labels are looked up one by one; from there on reading everything is as fast


@dataclass(frozen=True)
class _Stamp:
    """What the scores of a role follow from: labels, and the scores that a training stores."""

    newest: int  # label event of the project
    scored: int  # images with a score of this model


class LiveScores:
    """Scores of the images that played one role for a model, shared by all who ask; safe in threads.

    Reading 100,000 scores takes a second, and an inspector at work changes a few labels between two looks. What is
    given is for reading alone; as long as nothing changed it is the same object.
    """

    def __init__(self, model: registry.Model, role: str | None = None) -> None:
        """`role`: that the images played for the model; None: that of the held-out ones."""
        self._model_id, self._project_id = model.id, model.project_id
        self._role = role or model.held_out
        self._lock = threading.Lock()  # who comes while it is read waits for it, instead of reading it too
        self._held: predictions.HeldOut | None = None
        self._stamp = _Stamp(0, 0)
        self._events = 0  # of the project, up to the newest one

    def now(self, db: Database) -> predictions.HeldOut:
        """Those labelled good or bad now, with their labels."""
        with self._lock:
            stamp = self._look(db)  # before reading: what is said meanwhile is read twice, never missed
            if self._held is None or stamp != self._stamp:
                held = self._read(db, stamp)
                for shared in (held.labels, held.scores):
                    shared.flags.writeable = False
                self._held, self._stamp = held, stamp
            return self._held

    def _look(self, db: Database) -> _Stamp:
        newest = select(func.max(LabelEventRow.id)).where(LabelEventRow.project_id == self._project_id)
        with db.read() as session:
            return _Stamp(session.scalar(newest) or 0, predictions.count_scored(db, model_id=self._model_id))

    def _read(self, db: Database, stamp: _Stamp) -> predictions.HeldOut:
        known, since = self._events, self._stamp.newest
        with db.read() as session:
            self._events = self._count(session, 0, stamp.newest)
            later = self._count(session, since, stamp.newest)
            # Where a transaction that took its numbers earlier ended later (PostgreSQL), an event is older than what
            # was the newest, and new all the same.
            in_order = known + later == self._events
            few = self._said(session, since) if in_order and stamp.scored == self._stamp.scored else None
        if self._held is None or few is None or len(few) > MOST:
            return predictions.with_role(db, model_id=self._model_id, role=self._role)
        return _changed(self._held, few, predictions.with_role(db, model_id=self._model_id, role=self._role, among=few))

    def _count(self, session: Session, after: int, up_to: int) -> int:
        of_project = LabelEventRow.project_id == self._project_id, LabelEventRow.id > after, LabelEventRow.id <= up_to
        return session.scalar(select(func.count()).select_from(LabelEventRow).where(*of_project)) or 0

    def _said(self, session: Session, since: int) -> list[int]:
        """Images about which something was said since this event, in order; at most one more than `MOST`."""
        of_project = LabelEventRow.project_id == self._project_id, LabelEventRow.id > since
        statement = select(LabelEventRow.image_id).where(*of_project).distinct().order_by(LabelEventRow.image_id)
        return list(session.scalars(statement.limit(MOST + 1)))


def _changed(held: predictions.HeldOut, images: list[int], now: predictions.HeldOut) -> predictions.HeldOut:
    """`held` with what is now known of these images; itself where that is what it says already.

    Args:
        images: numbers, rising.
        now: those of them that have a score of this role and are labelled good or bad.
    """
    ids = np.array(held.image_ids, dtype=np.int64)
    old = np.isin(ids, images)
    same_images = now.image_ids == tuple(ids[old].tolist())
    if same_images and np.array_equal(held.labels[old], now.labels) and np.array_equal(held.scores[old], now.scores):
        return held
    order = np.argsort(np.concatenate([ids[~old], np.array(now.image_ids, dtype=np.int64)]))

    def texts(before: tuple[str, ...], after: tuple[str, ...]) -> tuple[str, ...]:
        if same_images:
            return before
        both = [*compress(before, ~old), *after]
        return tuple(both[place] for place in order.tolist())

    return predictions.HeldOut(
        image_ids=held.image_ids if same_images else tuple(sorted([*ids[~old].tolist(), *now.image_ids])),
        names=texts(held.names, now.names),
        groups=texts(held.groups, now.groups),
        labels=np.concatenate([held.labels[~old], now.labels])[order],
        scores=np.concatenate([held.scores[~old], now.scores])[order],
        kind=held.kind,
    )
