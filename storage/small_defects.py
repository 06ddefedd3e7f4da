"""The small-defect alarm: images that the model passes, although one cell of their map alone would have rejected them.

The score is the mean of the k highest cells plus bias, so a defect smaller than k cells is diluted by its
surroundings. With the highest cell alone in place of that mean the score would be

    peak + bias = score + (peak - mean of the k highest cells)

An alarm is an image that is called good (its score is below the threshold; below the lower one where there are two)
and whose peak + bias reaches the threshold. Labels play no part in it: a good part with one hot cell is listed too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import select

from storage import images, map_peaks
from storage.db import Database
from storage.map_evidence import need_pooling_fraction
from storage.predictions import ORDERS, Scored
from storage.registry import Model
from storage.tables import ImageRow, PredictionRow


@dataclass(frozen=True)
class Alarms:
    """What was found."""

    listed: list[Scored]
    without_map: int  # images that are called good and whose map is missing: nothing is known of them


@dataclass(frozen=True)
class _Alarm:
    image_id: int
    score: float
    role: str


def alarms(
    db: Database,
    *,
    model: Model,
    order: str = "score_desc",
    limit: int,
    progress: Callable[[int, int], None] | None = None,
) -> Alarms:
    """The alarms of a model at its thresholds in force.

    Args:
        order: as in predictions.scored.
        limit: at most so many.
        progress: called with (done, total) while maps are read whose peaks are not known yet: once for each map, ever.

    Raises:
        SsnError: the model does not say how its cells are pooled.
    """
    if order not in ORDERS:
        raise ValueError(f"order is one of {ORDERS}, not {order!r}")
    found, without_map = _find(db, model, progress)
    cuts = [cut for cut in (model.threshold, model.threshold_low) if cut is not None]
    keys: dict[str, Callable[[_Alarm], tuple[float, int]]] = {
        "score_desc": lambda alarm: (-alarm.score, -alarm.image_id),
        "score_asc": lambda alarm: (alarm.score, alarm.image_id),
        "closest": lambda alarm: (min(abs(alarm.score - cut) for cut in cuts), alarm.image_id),
    }
    chosen = sorted(found, key=keys[order])[:limit]
    by_id = {image.id: image for image in images.get_many(db, image_ids=[alarm.image_id for alarm in chosen])}
    return Alarms([Scored(by_id[alarm.image_id], alarm.score, alarm.role) for alarm in chosen], without_map)


def _find(db: Database, model: Model, progress: Callable[[int, int], None] | None) -> tuple[list[_Alarm], int]:
    fraction = need_pooling_fraction(model)
    passed_below = model.threshold if model.threshold_low is None else model.threshold_low
    statement = (
        select(PredictionRow.image_id, PredictionRow.score, PredictionRow.role, ImageRow.sha256)
        .join(ImageRow, ImageRow.id == PredictionRow.image_id)
        .where(PredictionRow.model_id == model.id, PredictionRow.score < passed_below)
    )
    with db.read() as session:
        passed = session.execute(statement).all()
    known = map_peaks.peaks(
        db, model_id=model.id, fraction=fraction, sha256s=[row.sha256 for row in passed], progress=progress
    )
    with_map = [row for row in passed if row.sha256 in known]
    alarms = [
        _Alarm(row.image_id, row.score, row.role)
        for row in with_map
        if row.score + known[row.sha256].lift >= model.threshold
    ]
    return alarms, len(passed) - len(with_map)
