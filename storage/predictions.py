"""What a model said about the images: scores with the role each image played, lists for review, honest figures."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, ScalarSelect, SQLColumnExpression, and_, case, func, or_, select, tuple_

from ssn_core.crossfit import deal_blocks
from ssn_core.errors import SsnError
from storage import images, registry
from storage.db import Database, insert_for, no_garbage
from storage.maps import load as load_map
from storage.maps import save as save_map
from storage.tables import ImageRow, ModelRow, PredictionRow

__all__ = [
    "FILTERS",
    "ORDERS",
    "ROLES",
    "HeldOut",
    "Scored",
    "count_unscored",
    "held_out",
    "load_map",
    "missing",
    "save_map",
    "scored",
    "store",
    "with_role",
]

ROLES = ("train", "calibration", "test", "out_of_fold", "unseen")
FILTERS = ("all", "misses", "false_alarms", "to_person", "suspicious", "bad", "good", "unsure")
_BY_LABEL = ("misses", "false_alarms", "suspicious", "bad", "good", "unsure")
ORDERS = ("score_desc", "score_asc", "closest")
_BATCH = 1000  # rows in one transaction


@dataclass(frozen=True)
class Scored:
    """One image with what the model said."""

    image: images.Image
    score: float  # logit; positive = bad
    role: str  # train | calibration | test | out_of_fold | unseen


@dataclass(frozen=True)
class HeldOut:
    """Images that the model (or, out-of-fold, its fold's model) was not trained on, with their labels of today."""

    image_ids: tuple[int, ...]
    names: tuple[str, ...]
    groups: tuple[str, ...]  # images of one physical part share theirs
    labels: NDArray[np.int8]  # (N,) 0 good, 1 bad
    scores: NDArray[np.float64]  # (N,)
    kind: str  # their role: test | out_of_fold; calibration, where thresholds are chosen

    @cached_property
    def n_bad(self) -> int:
        """How many are labelled bad."""
        return int(self.labels.sum())

    @property
    def n_good(self) -> int:
        """How many are labelled good."""
        return len(self.labels) - self.n_bad

    @cached_property
    def digest(self) -> str:
        """The same for the same labels, scores and groups of the same images: what figures are kept by."""
        found = hashlib.blake2b(self.kind.encode(), digest_size=16)
        for values in (np.array(self.image_ids, dtype=np.int64), self.labels, self.scores):
            found.update(values.tobytes())
        found.update(repr(self.groups).encode("utf-8", "surrogatepass"))
        return found.hexdigest()

    @cached_property
    def blocks(self) -> NDArray[np.int64] | None:
        """What a rule is counted crosswise in (:func:`ssn_core.crossfit.deal_blocks`)."""
        dealt = deal_blocks(self.labels, self.groups)
        if dealt is not None:
            dealt.flags.writeable = False  # shared, as it is
        return dealt


def store(db: Database, *, model_id: int, rows: Iterable[tuple[int, float, str]]) -> int:
    """Store (image id, score, role) of a model; what is there already is replaced. Returns how many.

    Rows are taken from the iterable outside any transaction, so a slow one holds up nobody.

    Raises:
        SsnError: a score is not finite; the batches before it are stored.
        ValueError: an unknown role.
    """
    stored = 0
    waiting = iter(rows)
    while batch := list(islice(waiting, _BATCH)):
        # The last word on an image counts; one statement may not touch a row twice.
        values = {image_id: _checked(model_id, image_id, score, role) for image_id, score, role in batch}
        with db.write() as session:
            statement = insert_for(session, PredictionRow)
            statement = statement.on_conflict_do_update(
                index_elements=["model_id", "image_id"],
                set_={"score": statement.excluded.score, "role": statement.excluded.role},
            )
            session.execute(statement, list(values.values()))
        stored += len(values)
    return stored


def missing(db: Database, *, model_id: int, after_id: int | None = None, limit: int) -> list[images.Image]:
    """The next of the project's images that this model has not scored yet, in the order they came in.

    Args:
        after_id: the last image of the page before; None for the first page.
        limit: at most so many.
    """
    statement = images.select_images().where(*_unscored(model_id)).order_by(ImageRow.id).limit(limit)
    if after_id is not None:
        statement = statement.where(ImageRow.id > after_id)
    with db.read() as session:
        return [images.from_row(row, who) for row, who in session.execute(statement)]


def count_unscored(db: Database, *, model_id: int) -> int:
    """How many images `missing` would give in all."""
    # All less the scored ones, each counted in one index: to look up the score of each image takes five times as long.
    # A model scores images of its own project alone.
    n = select(func.count())
    of_project = n.select_from(ImageRow).where(ImageRow.project_id == _project_of(model_id)).scalar_subquery()
    of_model = n.select_from(PredictionRow).where(PredictionRow.model_id == model_id).scalar_subquery()
    with db.read() as session:
        return session.scalar(select(of_project - of_model)) or 0


def scored(
    db: Database,
    *,
    model_id: int,
    filter: str = "all",
    order: str = "score_desc",
    threshold: float | None = None,
    threshold_low: float | None = None,
    limit: int,
    after: tuple[float, int] | None = None,
) -> list[Scored]:
    """Scored images for review, with their labels of today.

    Args:
        filter: "all"; "misses" (labelled bad, called good); "false_alarms" (labelled good, called bad); "to_person"
            (neither: a score from the lower threshold up to the upper one); "suspicious" (no label yet); or a label:
            "bad", "good", "unsure".
        order: "score_desc", "score_asc", or "closest" to a threshold; equal ones by image id.
        threshold: None for the model's own, both of them.
        threshold_low: the lower one beside `threshold`; None: there is one threshold alone.
        limit: at most so many.
        after: (score, image id) of the last one of the page before.

    Raises:
        SsnError: there is no such model (only where its thresholds are needed).
    """
    if filter not in FILTERS or order not in ORDERS:
        raise ValueError(f"filter is one of {FILTERS} and order one of {ORDERS}, not {filter!r} and {order!r}")
    if threshold is None:
        model = registry.get(db, model_id=model_id)
        threshold, threshold_low = model.threshold, model.threshold_low
    cuts = (float(threshold if threshold_low is None else threshold_low), float(threshold))
    # Chosen from scores and labels alone: with all columns of 100,000 images a sort takes a second.
    page = select(PredictionRow.image_id, PredictionRow.score).where(
        PredictionRow.model_id == model_id, *_filtered(filter, cuts), *_after(order, cuts, after)
    )
    if filter in _BY_LABEL:
        page = page.join(ImageRow, ImageRow.id == PredictionRow.image_id)
    one = page.order_by(*_order(order, cuts, PredictionRow.score, PredictionRow.image_id)).limit(limit).subquery()
    statement = (
        images.select_images()
        .add_columns(PredictionRow.score, PredictionRow.role)
        .join(one, one.c.image_id == ImageRow.id)
        .join(PredictionRow, and_(PredictionRow.model_id == model_id, PredictionRow.image_id == one.c.image_id))
        .order_by(*_order(order, cuts, one.c.score, one.c.image_id))
    )
    with db.read() as session:
        found = session.execute(statement).all()
    return [Scored(image=images.from_row(row, who), score=score, role=role) for row, who, score, role in found]


def held_out(db: Database, *, model_id: int) -> HeldOut:
    """The honest scores of a model: of its test images, or out-of-fold, and only those labelled good or bad now.

    Raises:
        SsnError: there is no such model.
    """
    return with_role(db, model_id=model_id, role=registry.get(db, model_id=model_id).held_out)


def with_role(db: Database, *, model_id: int, role: str, among: Sequence[int] | None = None) -> HeldOut:
    """Scores of the images that played this role for the model ("calibration": thresholds are chosen on them).

    Only those labelled good or bad now; without any, the arrays are empty. In the order of the images' numbers.

    Args:
        among: numbers of images, at most :data:`storage.db.CHUNK_SIZE`: no others than these; None: all.
    """
    statement = (
        select(ImageRow.id, ImageRow.name, ImageRow.group_key, ImageRow.label, PredictionRow.score)
        .join(PredictionRow, PredictionRow.image_id == ImageRow.id)
        .where(PredictionRow.model_id == model_id, PredictionRow.role == role, ImageRow.label.in_(("good", "bad")))
        .order_by(ImageRow.id)
    )
    if among is not None:
        statement = statement.where(ImageRow.id.in_(among))
    with db.read() as session, no_garbage():
        # Rows of the driver, column by column: a comparison of two models reads two hundred thousand of them at worst.
        found = session.connection().execute(statement).all()
        ids, names, groups, said, scores = zip(*found, strict=True) if found else ((),) * 5
        return HeldOut(
            image_ids=ids,
            names=names,
            groups=groups,
            labels=np.array([label == "bad" for label in said], dtype=np.int8),
            scores=np.array(scores, dtype=np.float64),
            kind=role,
        )


def _checked(model_id: int, image_id: int, score: float, role: str) -> dict[str, Any]:
    if role not in ROLES:
        raise ValueError(f"A role is one of {ROLES}, not {role!r}")
    if not math.isfinite(score):
        raise SsnError(
            f"The score of image {image_id} is not finite",
            value=float(score),
            expected="a finite number",
            action="Train the model again, with another seed or fewer epochs",
        )
    return {"model_id": model_id, "image_id": image_id, "score": float(score), "role": role}


def _unscored(model_id: int) -> Sequence[ColumnElement[bool]]:
    has_score = (
        select(PredictionRow.image_id)
        .where(PredictionRow.model_id == model_id, PredictionRow.image_id == ImageRow.id)
        .exists()
    )
    return [ImageRow.project_id == _project_of(model_id), ~has_score]


def _project_of(model_id: int) -> ScalarSelect[int]:
    return select(ModelRow.project_id).where(ModelRow.id == model_id).scalar_subquery()


def _filtered(filter_name: str, cuts: tuple[float, float]) -> Sequence[ColumnElement[bool]]:
    good_below, bad_from = cuts
    match filter_name:
        case "all":
            return []
        case "misses":
            return [ImageRow.label == "bad", PredictionRow.score < good_below]
        case "false_alarms":
            return [ImageRow.label == "good", PredictionRow.score >= bad_from]
        case "to_person":
            return [PredictionRow.score >= good_below, PredictionRow.score < bad_from]
        case "suspicious":
            return [ImageRow.label.is_(None)]
        case label:
            return [ImageRow.label == label]


def _order(
    order: str, cuts: tuple[float, float], score: SQLColumnExpression[float], image_id: SQLColumnExpression[int]
) -> Sequence[SQLColumnExpression[Any]]:
    if order == "closest":
        return (_distance(cuts, score), image_id)
    return (score, image_id) if order == "score_asc" else (score.desc(), image_id.desc())


def _after(order: str, cuts: tuple[float, float], after: tuple[float, int] | None) -> Sequence[ColumnElement[bool]]:
    """What comes after (score, image id) in that order."""
    if after is None:
        return []
    score, image_id = PredictionRow.score, PredictionRow.image_id
    if order == "closest":
        distance, reached = _distance(cuts, score), min(abs(after[0] - cut) for cut in cuts)
        return [or_(distance > reached, and_(distance == reached, image_id > after[1]))]
    if order == "score_asc":
        return [tuple_(score, image_id) > tuple_(*after)]
    return [tuple_(score, image_id) < tuple_(*after)]


def _distance(cuts: tuple[float, float], score: SQLColumnExpression[float]) -> ColumnElement[float]:
    """To the nearer of the two thresholds."""
    to_low, to_high = (func.abs(score - cut) for cut in cuts)
    return case((to_low < to_high, to_low), else_=to_high)
