"""A model's scores with the labels of now: read once, then only what was said since."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from itertools import compress

import numpy as np
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from storage import predictions
from storage.db import CHUNK_SIZE, Database
from storage.predictions import HeldOut
from storage.tables import LabelEventRow, PredictionRow


@dataclass(frozen=True)
class Stamp:
    """What the scores of a role follow from: what was said in the project, and what a job stored of the model."""

    newest: int  # label event
    events: int  # up to it
    scores: int
    sum_of_scores: float

    def differs_in_labels_alone(self, other: Stamp) -> bool:
        """Whether the same scores lie beneath both, as far as their number and their sum tell."""
        return (self.scores, self.sum_of_scores) == (other.scores, other.sum_of_scores)


class LiveScores:
    """Scores of the images that played one role for a model, shared by all who ask; safe in threads.

    Reading 100,000 scores takes a second, and an inspector at work changes a few labels between two looks. What is
    given is for reading alone; as long as nothing changed it is the same object.

    Args:
        model_id, project_id: of the model, and of the images.
        role: that the images played for it (:data:`storage.predictions.ROLES`).
    """

    def __init__(self, *, model_id: int, project_id: int, role: str) -> None:
        self._model_id, self._project_id, self._role = model_id, project_id, role
        self._lock = threading.Lock()  # who comes while it is read waits for it, instead of reading it too
        self._known: tuple[Stamp, HeldOut] | None = None

    def now(self, db: Database) -> HeldOut:
        """What :func:`storage.predictions.with_role` would read now."""
        with self._lock:
            stamp = self.stamp(db)  # before reading: what is said meanwhile is read twice, never missed
            if self._known is None or self._known[0] != stamp:
                held = self._read(db, stamp)
                for shared in (held.labels, held.scores):
                    shared.flags.writeable = False
                self._known = stamp, held
            return self._known[1]

    def stamp(self, db: Database) -> Stamp:
        """The same as long as nothing was said or stored; in milliseconds."""
        said = select(func.max(LabelEventRow.id), func.count()).where(LabelEventRow.project_id == self._project_id)
        of_role = PredictionRow.model_id == self._model_id, PredictionRow.role == self._role
        stored = select(func.count(), func.sum(PredictionRow.score)).where(*of_role)
        with db.read() as session:
            newest, events = session.execute(said).one()
            scores, sum_of_scores = session.execute(stored).one()
        return Stamp(newest or 0, events, scores, round(sum_of_scores or 0.0, 6))  # a database may sum in any order

    def _read(self, db: Database, stamp: Stamp) -> HeldOut:
        if self._known is not None and stamp.differs_in_labels_alone(self._known[0]):
            before, held = self._known
            with db.read() as session:
                few = self._said_since(session, before)
            if few is not None:
                now = predictions.with_role(db, model_id=self._model_id, role=self._role, among=few)
                return _changed(held, few, now)
        return predictions.with_role(db, model_id=self._model_id, role=self._role)

    def _said_since(self, session: Session, before: Stamp) -> list[int] | None:
        """The images of all events that are new, in order; None: they are many, or not all newer than the known ones.

        On PostgreSQL a transaction takes its numbers before it ends, so that an event comes to light after newer ones.
        """
        of_project = LabelEventRow.project_id == self._project_id
        older = select(func.count()).where(of_project, LabelEventRow.id <= before.newest)
        if session.scalar(older) != before.events:
            return None
        images = select(LabelEventRow.image_id).where(of_project, LabelEventRow.id > before.newest).distinct()
        found = list(session.scalars(images.order_by(LabelEventRow.image_id).limit(CHUNK_SIZE + 1)))
        return found if len(found) <= CHUNK_SIZE else None


def _changed(held: HeldOut, images: list[int], now: HeldOut) -> HeldOut:
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

    return HeldOut(
        image_ids=held.image_ids if same_images else tuple(sorted([*ids[~old].tolist(), *now.image_ids])),
        names=texts(held.names, now.names),
        groups=texts(held.groups, now.groups),
        labels=np.concatenate([held.labels[~old], now.labels])[order],
        scores=np.concatenate([held.scores[~old], now.scores])[order],
        kind=held.kind,
    )
