"""In which order to label: lists of a project's images, and which of them go together as a stack.

What takes long (distances between a hundred thousand descriptors) is computed by a job and kept in one file,
`queues/<project>.npz`; a list is then read, filtered by the labels of this moment and sorted in a fraction of a second.
"""

from __future__ import annotations

import io
import logging
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select

from ssn_core import selection
from ssn_core.errors import SsnError
from ssn_core.label_errors import doubts
from storage import descriptors, files, images, number_columns, projects, registry
from storage.db import Database, no_garbage
from storage.tables import ImageRow, PredictionRow

_log = logging.getLogger(__name__)
ORDERS = ("oldest", "informative", "suspicious", "disagreement", "random")
HONEST = ("test", "calibration", "out_of_fold")  # roles of images that the scoring network was not trained on
_ONE_BY_ONE = 1000  # images chosen for their diversity; who has labelled so many trains again
_COLUMNS: Mapping[str, np.dtype[Any]] = {
    "ids": np.dtype(np.int64),
    "places": np.dtype(np.int32),
    "stacks": np.dtype(np.int32),
    "outliers": np.dtype(np.int32),
}
Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Listing:
    """Images in an order, or why it cannot be had."""

    ids: list[int]
    stacks: list[list[int]]  # at least two images each, all of them in `ids`, in that order
    reason: str | None  # why the order cannot be had and what to do; `ids` is empty then


@dataclass(frozen=True)
class _Kept:
    """What the file holds of N images, sorted by their numbers."""

    ids: Numbers  # (N,)
    places: NDArray[np.int32]  # (N,) place in the order of information; -1: not in it
    stacks: NDArray[np.int32]  # (N,) number of the stack, -1: alone
    outliers: NDArray[np.int32]  # (N,) place by outlier score, the most unlike the others first; -1: not described

    def look_up(self, column: NDArray[np.int32], wanted: Numbers) -> NDArray[np.int32]:
        """A column's values for these images; -1 for one that came after the file was written."""
        found = np.full(len(wanted), -1, dtype=np.int32)
        if len(self.ids) == 0:
            return found
        # By place in a table: a binary search for 100,000 images in a random order takes 25 ms.
        first, last = int(self.ids[0]), int(self.ids[-1])
        table = np.full(last - first + 1, -1, dtype=np.int32)
        table[self.ids - first] = column
        within = (wanted >= first) & (wanted <= last)
        found[within] = table[wanted[within] - first]
        return found


def listing(
    db: Database, *, project_id: int, order: str = "oldest", labels: tuple[str, ...] | None = None, seed: int = 0
) -> Listing:
    """The images with these labels, in an order, with their stacks.

    Args:
        order: "oldest" (as they came in); "informative" (uncertain and unlike what is labelled; without a model in
            turns the highest outlier score and the most unlike what is labelled); "suspicious" (highest score of the
            active model first, what it has not scored last; without a model by outlier score); "disagreement" (images
            whose label their held-out score supports least first, and only images with a label and such a score);
            "random".
        labels: as for :func:`storage.images.ids`.
        seed: of the random order, 0 or more.

    Raises:
        SsnError: there is no such project.
    """
    if order not in ORDERS:
        raise ValueError(f"an order is one of {ORDERS}, not {order!r}")
    found = images.numbers(db, project_id=project_id, labels=labels)
    kept = _read(db, project_id)
    try:
        ids = _ordered(db, project_id, order, found, kept, seed)
    except _NotYet as not_yet:
        return Listing([], [], str(not_yet))
    return Listing(ids.tolist(), _stacks(ids, kept), None)


class _NotYet(Exception):  # noqa: N818  # an answer, not an error
    """An order cannot be had now; says why and what to do."""


def _ordered(db: Database, project_id: int, order: str, ids: Numbers, kept: _Kept | None, seed: int) -> Numbers:
    match order:
        case "informative":
            if kept is None:
                raise _NotYet(
                    "The images have not been compared with each other yet. It happens by itself after an import and "
                    "after each training; on Home you see how far it is, and can start it."
                )
            return _by_place(kept.look_up(kept.places, ids), ids)
        case "suspicious":
            if projects.get(db, project_id=project_id).active_model_id is not None:
                return _by_score(db, _active(db, project_id), ids)
            if kept is None:
                raise _NotYet(
                    "There is no model yet that could give scores, and the images have not been compared with each "
                    "other yet, which happens by itself after an import. Train one first, or take another order."
                )
            return _by_place(kept.look_up(kept.outliers, ids), ids)
        case "disagreement":
            return _by_doubt(db, _active(db, project_id), ids)
        case "random":
            return selection.shuffled(ids, seed=seed)
        case _:
            return ids


def _by_place(places: NDArray[np.int32], ids: Numbers) -> Numbers:
    """By their places; those without one at the end, as they came in."""
    return ids[np.argsort(np.where(places < 0, np.iinfo(np.int32).max, places), kind="stable")]


def _active(db: Database, project_id: int) -> registry.Model:
    model_id = projects.get(db, project_id=project_id).active_model_id
    if model_id is None:
        raise _NotYet("There is no model yet that could give scores. Train one first, or take another order.")
    return registry.get(db, model_id=model_id)


def _by_score(db: Database, model: registry.Model, ids: Numbers) -> Numbers:
    """Highest score first; those without a score at the end, as they came in."""
    statement = select(PredictionRow.image_id).where(PredictionRow.model_id == model.id)
    scored = number_columns.read(
        db,
        statement,
        order_by=[PredictionRow.score.desc(), PredictionRow.image_id.desc()],  # as the index has them: no sorting
    )
    if len(scored) == 0:
        raise _NotYet("The active model has not scored any image yet. Score the images on the Review page.")
    return np.concatenate([scored[np.isin(scored, ids)], ids[~np.isin(ids, scored)]])


def _by_doubt(db: Database, model: registry.Model, ids: Numbers) -> Numbers:
    statement = (
        select(ImageRow.id, PredictionRow.score, ImageRow.label == "bad")
        .join(PredictionRow, PredictionRow.image_id == ImageRow.id)
        .where(PredictionRow.model_id == model.id, PredictionRow.role.in_(HONEST), ImageRow.label.in_(("good", "bad")))
        .order_by(ImageRow.id)
    )
    with db.read() as session, no_garbage():
        rows = session.connection().execute(statement).all()  # of the driver: the session's take three times as long
        numbers, scores, bad = (np.array(column) for column in zip(*rows, strict=True)) if rows else (np.zeros(0),) * 3
        del rows
    try:
        found = doubts(bad, scores)
    except SsnError as error:
        raise _NotYet(
            "Labels can be compared with scores where both good and bad images have a score of a network that was not "
            f"trained on them. {error}"
        ) from error
    ordered: Numbers = numbers[found.order].astype(np.int64)
    wanted: Numbers = ordered[np.isin(ordered, ids)]
    if len(wanted) == 0:
        raise _NotYet(
            "Only images labelled good or bad, with a score of a network that was not trained on them, can be compared "
            "with the model: there are none among the images that are listed. Show all images, or take another order."
        )
    return wanted


def _stacks(ids: Numbers, kept: _Kept | None) -> list[list[int]]:
    """The stacks among images, in their order."""
    numbers = np.zeros(0, np.int32) if kept is None else kept.look_up(kept.stacks, ids)
    stacked = np.flatnonzero(numbers >= 0)
    if len(stacked) == 0:
        return []
    stacked = stacked[np.argsort(numbers[stacked], kind="stable")]  # stack by stack, each in the order of the list
    starts = np.flatnonzero(np.diff(numbers[stacked], prepend=-1))
    ends = np.append(starts[1:], len(stacked))
    several = np.flatnonzero(ends - starts > 1)
    several = several[np.argsort(stacked[starts[several]])]  # by their first images
    members = ids[stacked].tolist()
    return [members[start:end] for start, end in zip(starts[several].tolist(), ends[several].tolist(), strict=True)]


def is_built(db: Database, *, project_id: int) -> bool:
    """Whether the project's images have been compared, so that the informative ones are known."""
    return _read(db, project_id) is not None


def build(db: Database, *, project_id: int, described: Path) -> int:
    """Compute what lists need and keep it; returns the number of images. Minutes with 100,000 images: for a job.

    Args:
        described: folder of the project's descriptors (:mod:`storage.descriptors`).
    """
    columns = select(ImageRow.id, ImageRow.sha256, ImageRow.group_key, ImageRow.label)
    with db.read() as session:
        rows = session.execute(columns.where(ImageRow.project_id == project_id).order_by(ImageRow.id)).all()
    ids = np.array([row.id for row in rows], dtype=np.int64)
    labelled = np.array([row.label is not None for row in rows], dtype=bool)
    values, unlike = _in_order(descriptors.read(described), [row.sha256 for row in rows])
    usable = np.isfinite(values).all(axis=1)
    scores, threshold = _scores_of(db, project_id, ids)
    has_score = np.isfinite(scores)

    points = np.zeros((len(ids), 0), np.float32)
    if usable.any():
        points = np.zeros((len(ids), selection.AXES), np.float32)
        reduced = selection.reduced(values[usable])
        points[np.ix_(usable, np.arange(reduced.shape[1]))] = reduced
    candidates = np.flatnonzero(usable & ~labelled & (has_score | (threshold is None)))
    weights = None if threshold is None else selection.uncertainty(scores[candidates], threshold=threshold)
    known = np.flatnonzero(usable & labelled)
    order = selection.informative(points, known, candidates, weights, n=_ONE_BY_ONE)
    by_outlier = np.flatnonzero(usable)[np.argsort(-unlike[usable], kind="stable")]
    if threshold is None:  # half to find bad parts, half to see all kinds of good ones
        order = selection.in_turns(by_outlier[np.isin(by_outlier, candidates)], order)
    places = np.full(len(ids), -1, dtype=np.int32)
    places[order] = np.arange(len(order), dtype=np.int32)

    sides = None if threshold is None else np.where(has_score, scores, -np.inf) >= threshold
    stacks = selection.stacks(values, [row.group_key for row in rows], sides)
    outliers = np.full(len(ids), -1, dtype=np.int32)
    outliers[by_outlier] = np.arange(len(by_outlier), dtype=np.int32)
    _write(db, project_id, _Kept(ids, places, stacks, outliers))
    return len(ids)


def _in_order(found: descriptors.Table, wanted: list[str]) -> tuple[NDArray[np.float16], NDArray[np.float32]]:
    """Descriptors (N, D) and outlier scores (N,) of images by their SHA-256; NaN for one without."""
    rows = {name: row for row, name in enumerate(found.names)}
    ordered = np.full((len(wanted), found.values.shape[1] or 1), np.nan, dtype=np.float16)
    outliers = np.full(len(wanted), np.nan, dtype=np.float32)
    for place, name in enumerate(wanted):
        if name in rows:
            ordered[place], outliers[place] = found.values[rows[name]], found.outliers[rows[name]]
    return ordered, outliers


def _scores_of(db: Database, project_id: int, ids: Numbers) -> tuple[NDArray[np.float64], float | None]:
    """Scores of the active model, (N,), NaN without one, and its threshold; (all NaN, None) without a model."""
    scores = np.full(len(ids), np.nan)
    model_id = projects.get(db, project_id=project_id).active_model_id
    if model_id is None:
        return scores, None
    statement = select(PredictionRow.image_id, PredictionRow.score).where(PredictionRow.model_id == model_id)
    with db.read() as session:
        found = dict(session.execute(statement.order_by(PredictionRow.image_id)).all())
    scores[np.isin(ids, list(found))] = list(found.values())
    return scores, registry.get(db, model_id=model_id).threshold


def _path(db: Database, project_id: int) -> Path:
    return db.data_dir / "queues" / f"{project_id}.npz"


def _write(db: Database, project_id: int, kept: _Kept) -> None:
    target = io.BytesIO()
    np.savez(target, ids=kept.ids, places=kept.places, stacks=kept.stacks, outliers=kept.outliers)
    files.write_atomically(_path(db, project_id), target.getvalue(), durable=False)


def _read(db: Database, project_id: int) -> _Kept | None:
    path = _path(db, project_id)
    try:
        return _kept(path, path.stat().st_mtime_ns)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, EOFError, OSError, zipfile.BadZipFile) as error:
        _log.warning("The file of queues %s is damaged; the next training or scoring makes it anew: %s", path, error)
        return None


@lru_cache(maxsize=8)  # 1.6 MB for 100,000 images
def _kept(path: Path, _stamp: int) -> _Kept:
    with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as kept:
        columns = {name: kept[name] for name in _COLUMNS}
    if any(column.dtype != _COLUMNS[name] or column.ndim != 1 for name, column in columns.items()):
        raise ValueError("not columns of whole numbers")
    if len({len(column) for column in columns.values()}) != 1:
        raise ValueError("columns of different lengths")
    if (np.diff(columns["ids"]) <= 0).any():
        raise ValueError("images out of order")
    return _Kept(**columns)
