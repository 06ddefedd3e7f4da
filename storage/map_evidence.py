"""The evidence of a stored map: which cells made the score of an image under a model, checked against that score.

The bias belongs to the network that made map and score. That is the model's own network, whose bias is in its folder;
but for out-of-fold images it is the network of their fold, which is not kept: there the bias is what the score leaves
when the mean of the counting cells is taken away. (All images of a fold leave the same, as test_pipeline.py shows.)
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select

from ssn_core import evidence
from ssn_core.errors import ModelFolderError, SsnError
from ssn_core.evidence import Evidence
from storage import maps, registry
from storage.db import Database
from storage.images import Image
from storage.registry import Model
from storage.tables import PredictionRow

_OUT_OF_FOLD = "out_of_fold"
_AGAIN = "Train the model again: its scores and maps are then stored anew"


@dataclass(frozen=True)
class MapEvidence:
    """One image's score under a model, taken apart."""

    evidence: Evidence
    score: float  # as stored; evidence.score is the same, to rounding
    role: str  # of the image: train | calibration | test | out_of_fold | unseen
    bias_read: bool  # from the model's own network; else it is what the map leaves of the score
    rounded: bool  # the map was kept in 16 bits: each cell may be off by 0.05 %


def pooling_fraction(model: Model) -> float | None:
    """q, the share of a map's cells whose mean is the score (0: the highest cell alone); None where it is none, or the
    model does not say."""
    found = model.summary.get("settings", {}).get("pooling_fraction")
    return float(found) if isinstance(found, int | float) and 0 <= found <= 1 else None


def has_second_head(model: Model) -> bool:
    """Whether a head of its own computes the score, from the features and the whole map: no cell has a share in it."""
    settings = model.summary.get("settings", {})
    return "pooling_fraction" in settings and settings["pooling_fraction"] is None


def need_pooling_fraction(model: Model) -> float:
    """:func:`pooling_fraction`, where nothing can be said without it.

    Raises:
        SsnError: the model's score is no mean of cells, or the model does not say.
    """
    fraction = pooling_fraction(model)
    if has_second_head(model):
        raise SsnError(
            "A second head makes this score from the whole map: no cell has a share of its own",
            action="Look at the map itself, or train with a CAM recipe to see which cells count",
        )
    if fraction is None:
        raise SsnError("The model does not say how many cells make its score", value=model.name, action=_AGAIN)
    return fraction


def explain(db: Database, *, model: Model, image: Image) -> MapEvidence:
    """Take an image's score apart.

    Raises:
        SsnError: there is no score or no map; the model does not say how its cells are pooled; or score and map do not
            belong together.
    """
    fraction = need_pooling_fraction(model)
    with db.read() as session:
        found = session.execute(
            select(PredictionRow.score, PredictionRow.role).where(
                PredictionRow.model_id == model.id, PredictionRow.image_id == image.id
            )
        ).one_or_none()
    stored = maps.read(db, model_id=model.id, sha256=image.sha256)
    if found is None or stored is None:
        raise SsnError("There is no map of this image", value=image.name, action="Score the new images, in Review")
    score, role = found
    bias = None if role == _OUT_OF_FOLD else _own_bias(db, model)
    taken_apart = evidence.explain(stored.cells, fraction=fraction, bias=0.0)
    shown = evidence.explain(stored.cells, fraction=fraction, bias=score - taken_apart.pooled if bias is None else bias)
    if not abs(shown.score - score) <= evidence.tolerance(shown, rounded=stored.rounded):  # NaN is refused too
        raise SsnError(
            "The map and the score do not belong together",
            value=f"{shown.score:.4f} from the map",
            expected=f"the score, {score:.4f}",
            action=_AGAIN,
        )
    return MapEvidence(shown, float(score), role, bias_read=bias is not None, rounded=stored.rounded)


def _own_bias(db: Database, model: Model) -> float | None:
    try:
        return evidence.network_bias(registry.model_path(db, model))
    except ModelFolderError:  # the folder is gone; maps and scores are still there
        return None
