"""Advice on labelling: whether to train again, and what more labels are likely to bring."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select

from ssn_core.errors import SsnError
from ssn_core.label_gain import WORTHWHILE, Forecast, Measured, curves
from storage import jobs, registry
from storage.db import Database
from storage.tables import ImageRow, PredictionRow

KNEW_LABEL = ("train", "calibration", "test", "out_of_fold")  # roles of images whose label the training knew
LEARNING = "Learning from fewer labels"  # phase of an estimate that counts networks; the others count images
_MORE = (50, 100, 200, 500)  # labels, of which those are told that are no more than three times as many as there are
_LIKELY = 0.5  # more labels are called likely to help from this probability on


@dataclass(frozen=True)
class Retraining:
    """How many labels came since the active model was trained."""

    n_known: int  # labels that its training knew
    n_new: int  # good or bad labels that it did not know
    enough: bool  # so many that training again is worth while


@dataclass(frozen=True)
class Gain:
    """What more labels are likely to bring to AP-det, or why that is not known."""

    measured: tuple[Measured, ...]  # the curve's points; the last one is the model's own figure
    forecasts: tuple[Forecast, ...]
    likely: bool | None  # whether more labels are likely to help; None: not known
    chance: float | None  # the probability of a gain of at least WORTHWHILE with the most labels that are told
    reason: str | None  # why nothing is known
    job: jobs.Job | None = None  # the newest estimate of this model, where it is not done
    can_estimate: bool = True  # another estimate could say more


def prepare(db: Database, *, project_id: int) -> int | None:
    """Queue a job that compares the project's images and renews its queues, unless one waits already; its id."""
    return _submit_once(db, "describe", project_id, {})


def estimate(db: Database, *, model: registry.Model) -> int | None:
    """Queue an estimate of what more labels bring to a model, unless one waits or runs already; its id.

    One that was cut off or failed goes on with the points that it has measured.
    """
    newest = _newest_estimate(db, model)
    if newest is None or newest.status == "succeeded":
        return _submit_once(db, "gain", model.project_id, {"model_id": model.id})
    try:
        return jobs.resume(db, job_id=newest.id).id
    except jobs.TransitionError:
        return None  # it waits or runs


def _newest_estimate(db: Database, model: registry.Model) -> jobs.Job | None:
    listed = jobs.list_jobs(db, project_id=model.project_id, kinds=("gain",), limit=20)
    return next((job for job in listed if job.payload.get("model_id") == model.id), None)


def after_training(db: Database, *, model: registry.Model) -> None:
    """What is worth doing once a model is there, at low priority and waited for by nobody."""
    prepare(db, project_id=model.project_id)
    estimate(db, model=model)


def _submit_once(db: Database, kind: str, project_id: int, payload: dict[str, Any]) -> int | None:
    waiting = jobs.active(db, project_id=project_id, kinds=(kind,))
    if any(job.status == "queued" and job.payload == payload for job in waiting):
        return None
    return jobs.submit(db, kind=kind, project_id=project_id, payload=payload)


def retraining(db: Database, *, model: registry.Model) -> Retraining:
    """Whether enough labels came since a model was trained: a fifth more than it knew, and at least ten."""
    known = (
        select(PredictionRow.image_id)
        .where(
            PredictionRow.model_id == model.id,
            PredictionRow.image_id == ImageRow.id,
            PredictionRow.role.in_(KNEW_LABEL),
        )
        .exists()
    )
    n = func.count()
    new = select(n).where(ImageRow.project_id == model.project_id, ImageRow.label.in_(("good", "bad")), ~known)
    learned = select(n).where(PredictionRow.model_id == model.id, PredictionRow.role.in_(KNEW_LABEL))
    with db.read() as session:
        n_new, n_known = session.scalar(new.select_from(ImageRow)) or 0, session.scalar(learned) or 0
    return Retraining(n_known, n_new, enough=n_new >= max(10, n_known / 5))


def gain(db: Database, *, model: registry.Model) -> Gain:
    """The newest estimate of what more labels bring to a model."""
    job = _newest_estimate(db, model)
    if job is None or job.status != "succeeded":
        reason = "It has not been estimated yet what more labels would bring."
        if job is not None and job.status in ("failed", "interrupted"):
            reason = f"The estimate of what more labels would bring did not come to its end. {job.error or ''}".strip()
        return Gain((), (), None, None, reason, job)
    result = job.result or {}
    if result.get("reason"):
        return Gain((), (), None, None, str(result["reason"]), can_estimate=False)
    try:
        measured = tuple(Measured(int(n), float(figure)) for n, figure in result["measured"])
        fitted = curves(measured)
    except (KeyError, TypeError, ValueError, SsnError):
        return Gain((), (), None, None, "The estimate cannot be read; make a new one.")
    more = [number for number in _MORE if number <= 3 * fitted.n] or [_MORE[0]]
    forecasts = tuple(fitted.forecast(fitted.n + number) for number in more)
    chance = fitted.chance_of(WORTHWHILE, n=fitted.n + more[-1])
    return Gain(measured, forecasts, chance >= _LIKELY, chance, None)
