"""What a report tells about a model, gathered from the database, the model's folder and its maps."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from sqlalchemy import func, select

import ssn_core
from ssn_core import intervals, metrics, operating_point
from ssn_core.calibration import ScaleCheck, check_of
from ssn_core.errors import ModelFolderError, SettingError
from ssn_core.recipes import RECIPES
from ssn_core.report import facts as told
from ssn_core.report.words import plain_value
from storage import (
    comparison,
    files,
    map_verdicts,
    predictions,
    projects,
    registry,
    report_pictures,
    snapshots,
    studies,
    study_results,
    thresholds,
)
from storage.db import Database
from storage.registry import Model
from storage.tables import ImageRow, LabelEventRow, PredictionRow

MAX_STUDIES = 5
MAX_FILES = 50
MAX_CHANGES = 20  # settings that differ from the parent's
MAX_VERSIONS = 30  # libraries that a training can name
_NAMES = {"ssn_core": "SSN Inspector"}
# That scores, figures and pictures rest on.
_LIBRARIES = ("torch", "torchvision", "numpy", "scipy", "pillow", "safetensors", "sqlalchemy")
_PARTS = ("train", "calibration", "test")
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class _Row:
    """One image of the project."""

    id: int
    sha256: str
    label: str | None  # good | bad | unsure | None
    group: str
    part: str
    role: str | None  # None: without a score of the model


def gather(db: Database, *, model: Model, purpose: str, progress: Progress) -> told.Facts:
    """Everything that a report on a model tells.

    Args:
        progress: called with (phase, done, total), total 0 where it is not known.

    Raises:
        SsnError: the model or its project is gone.
    """
    progress("Reading scores and labels", 0, 0)
    held_out = predictions.held_out(db, model_id=model.id)
    rows = _rows(db, model)  # after the scores: images come, and never go
    hashes = {row.id: row.sha256 for row in rows}
    recipe = RECIPES.get(model.recipe)
    summary = model.summary or {}
    settings: dict[str, Any] = dict(summary.get("settings") or {})
    versions = thresholds.history(db, model_id=model.id)
    progress("Comparing with the parent", 0, 0)
    parent = _parent(db, model)
    pictures = report_pictures.galleries(db, model=model, held_out=held_out, progress=progress)
    progress("Reading the model's files", 0, 0)
    return told.Facts(
        project=projects.get(db, project_id=model.project_id).name,
        model=model.name,
        purpose=purpose,
        recipe=model.recipe,
        recipe_title=recipe.title if recipe else "",
        recipe_description=recipe.description if recipe else "",
        backbone=model.backbone,
        weights=summary.get("weights"),
        settings=settings,
        device=summary.get("device"),
        held_out=model.held_out,
        labels=held_out.labels,
        scores=held_out.scores,
        counted=thresholds.cuts(versions[0], held_out).count(held_out.labels, held_out.scores),
        held_out_sha256=_fingerprint(
            (hashes[number], "bad" if bad else "good")
            for number, bad in zip(held_out.image_ids, held_out.labels.tolist(), strict=True)
        ),
        threshold=model.threshold,
        threshold_low=model.threshold_low,
        scale=(model.scale_low, model.scale_high),
        scale_check=_scale_check(summary),
        versions=tuple(
            told.Version(one.number, one.threshold, one.threshold_low, one.how, one.inspector) for one in versions
        ),
        data=_data(db, model, rows),
        trained=_trained(db, model, rows),
        localisation=_localisation(db, model),
        galleries=pictures,
        studies=_studies(db, model),
        parent=parent,
        files=_files(db, model),
        software=_software(),
        length=summary.get("length"),
    )


def dates(db: Database, *, model: Model) -> list[told.Dated]:
    """What happened when: the training, each version of the thresholds, each study that the report tells of."""
    saved = thresholds.history(db, model_id=model.id)[:12]
    return [
        told.Dated("Model trained", moment(model.created_at)),
        *(told.Dated(f"Thresholds, version {one.number}", moment(one.created_at)) for one in saved),
        *(
            told.Dated(f"Study “{one.name}”", f"{moment(one.created_at)}, closed {moment(one.closed_at)}")
            for one in _closed_studies(db, model)
        ),
    ]


def moment(when: datetime | None) -> str:
    """A moment in this computer's time zone, with its difference from UTC: "2026-03-01 14:05 +0100"."""
    return "–" if when is None else when.astimezone().strftime("%Y-%m-%d %H:%M %z")


def _rows(db: Database, model: Model) -> list[_Row]:
    statement = (
        select(ImageRow.id, ImageRow.sha256, ImageRow.label, ImageRow.group_key, ImageRow.part, PredictionRow.role)
        .outerjoin(PredictionRow, (PredictionRow.image_id == ImageRow.id) & (PredictionRow.model_id == model.id))
        .where(ImageRow.project_id == model.project_id)
        .order_by(ImageRow.id)
    )
    with db.read() as session:
        return [_Row(*row) for row in session.execute(statement)]


def _fingerprint(images: Iterable[tuple[str, str | None]]) -> str:
    """SHA-256 of the sorted lines "<SHA-256> <label>", as the report says."""
    lines = sorted(f"{sha256} {label or 'none'}\n" for sha256, label in images)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _portion(name: str, rows: list[_Row]) -> told.Portion:
    good, bad = (sum(row.label == label for row in rows) for label in ("good", "bad"))
    return told.Portion(name, good, bad, len(rows) - good - bad, len({row.group for row in rows}))


def _portions(rows: list[_Row], order: Iterable[str], of: Callable[[_Row], str | None]) -> tuple[told.Portion, ...]:
    found: dict[str, list[_Row]] = {}
    for row in rows:
        found.setdefault(of(row) or "", []).append(row)
    return tuple(_portion(name, found[name]) for name in order if name in found)


def _data(db: Database, model: Model, rows: list[_Row]) -> told.Data:
    counts = projects.counts(db, project_id=model.project_id)
    return told.Data(
        good=counts.good,
        bad=counts.bad,
        unsure=counts.unsure,
        unlabelled=counts.unlabelled,
        groups=counts.groups,
        with_mask=counts.with_mask,
        by_inspector=_by_inspector(db, model.project_id),
        parts=_portions(rows, _PARTS, lambda row: row.part),
        roles=_portions(rows, predictions.ROLES, lambda row: row.role),
        without_score=sum(row.role is None for row in rows),
        sha256=_fingerprint((row.sha256, row.label) for row in rows),
    )


def _by_inspector(db: Database, project_id: int) -> tuple[told.LabelledBy, ...]:
    statement = (
        select(LabelEventRow.inspector, ImageRow.label, func.count())
        .join(ImageRow, ImageRow.label_event_id == LabelEventRow.id)
        .where(ImageRow.project_id == project_id, ImageRow.label.is_not(None))
        .group_by(LabelEventRow.inspector, ImageRow.label)
    )
    found: dict[str, dict[str | None, int]] = {}
    with db.read() as session:
        for inspector, label, n in session.execute(statement):
            found.setdefault(inspector, {})[label] = n
    counted = [
        told.LabelledBy(who, *(given.get(label, 0) for label in ("good", "bad", "unsure")))
        for who, given in found.items()
    ]
    return tuple(sorted(counted, key=lambda one: (-one.good - one.bad - one.unsure, one.inspector)))


def _trained(db: Database, model: Model, rows: list[_Row]) -> told.Trained | str:
    try:
        snapshot = snapshots.read(db, model)
    except ModelFolderError as error:
        return error.what
    now = {row.sha256: row.label for row in rows}
    settings = snapshot.settings
    labelled = [sha256 for sha256, label in now.items() if label in ("good", "bad")]
    return told.Trained(
        n_good=snapshot.n_good,
        n_bad=snapshot.n_bad,
        relabelled=sum(now.get(sha256) != label for sha256, label in snapshot.labels.items()),
        labelled_since=sum(sha256 not in snapshot.labels for sha256 in labelled),
        sha256=_fingerprint(snapshot.labels.items()),
        versions=_versions(db, model),
        weights_sha256=settings.get("weights_sha256"),
    )


def _versions(db: Database, model: Model) -> tuple[tuple[str, str], ...]:
    """The libraries of the training, as model.json names them; whoever could write there could write anything."""
    try:
        card = json.loads((registry.model_path(db, model) / "model.json").read_text(encoding="utf-8"))
        found = {str(name): str(value) for name, value in card["versions"].items()}
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return ()  # snapshots.read has just said what is wrong with it
    return tuple((_NAMES.get(name, name), found[name]) for name in sorted(found)[:MAX_VERSIONS])


def _scale_check(summary: Mapping[str, Any]) -> ScaleCheck | None:
    try:
        return check_of((summary.get("calibration") or {}).get("scale_check"))
    except SettingError:
        return None  # a report says "n/a" to what cannot be read


def _localisation(db: Database, model: Model) -> told.Localisation:
    pixel: Mapping[str, Any] = (model.summary or {}).get("pixel") or {}
    judged = map_verdicts.localisation_rate(db, model_id=model.id)
    return told.Localisation(
        p_auroc=pixel.get("p_auroc"),
        ap_loc=pixel.get("ap_loc"),
        aupro=pixel.get("aupro"),
        n_images=int(pixel.get("n_images") or 0),
        n_masks=int(pixel.get("n_masks") or 0),
        hits=judged.hits,
        elsewhere=judged.elsewhere,
        unsure=judged.unsure,
        to_judge=map_verdicts.held_out_bad(db, model_id=model.id),
    )


def _closed_studies(db: Database, model: Model) -> list[studies.Study]:
    """Closed ones alone: whoever is still to judge parts must not read what others said of them."""
    known = studies.list_studies(db, project_id=model.project_id)
    return [study for study in known if study.is_closed][:MAX_STUDIES]


def _studies(db: Database, model: Model) -> tuple[told.Agreement, ...]:
    return tuple(_agreement(study_results.results(db, study=study), model) for study in _closed_studies(db, model))


def _agreement(found: study_results.Results, model: Model) -> told.Agreement:
    study = found.study
    limits = (study.limits.effectiveness, study.limits.miss_rate, study.limits.false_alarm_rate)
    # Another model's verdicts say nothing of this one.
    raters = [one for one in found.raters if not one.is_model or study.model_id == model.id]
    return told.Agreement(
        name=study.name,
        n_parts=study.n_parts,
        n_borderline=study.n_borderline,
        trials=study.trials,
        limits=limits,
        raters=tuple(
            told.Rater(
                one.is_model,
                one.figures,
                (
                    study_results.standing(one.figures.versus_reference, limits[0], at_least=True),
                    study_results.standing(one.figures.miss, limits[1], at_least=False),
                    study_results.standing(one.figures.false_alarm, limits[2], at_least=False),
                ),
            )
            for one in raters
        ),
        left_out=len(found.left_out),
        between=found.between,
        between_kappa=found.between_kappa,
    )


def _parent(db: Database, model: Model) -> told.Parent | None:
    if model.parent_id is None:
        return None
    parent = registry.get(db, model_id=model.parent_id)
    compared = comparison.compare(db, first_id=parent.id, second_id=model.id)
    labels, before, after = compared.labels, compared.first_scores, compared.second_scores
    both = compared.n_good > 0 and compared.n_bad > 0
    reason = None
    if not len(labels):
        reason = "no labelled image was held out for both models"
    flips = comparison.flips(compared)
    outcomes = [flip.outcome for flip in flips if flip.first != "check"]
    now_right, now_wrong = outcomes.count("right"), outcomes.count("wrong")
    return told.Parent(
        name=parent.name,
        reason=reason,
        n_good=compared.n_good,
        n_bad=compared.n_bad,
        auroc=_compared(metrics.i_auroc, intervals.auroc_difference, labels, before, after) if both else None,
        ap=_compared(metrics.ap, intervals.ap_difference, labels, before, after) if both else None,
        before=compared.first_counted,
        after=compared.second_counted,
        now_right=now_right,
        now_wrong=now_wrong,
        other_flips=len(flips) - now_right - now_wrong,
        changes=_changes(db, parent, model),
    )


def _compared(
    figure: Callable[..., float | None],
    difference: Callable[..., intervals.Difference | None],
    labels: Any,
    before: Any,
    after: Any,
) -> tuple[float, float, intervals.Difference] | None:
    first, second = figure(labels, before), figure(labels, after)
    found = difference(labels, after, before)
    return None if first is None or second is None or found is None else (first, second, found)


def _changes(db: Database, parent: Model, model: Model) -> tuple[str, ...]:
    try:
        found = snapshots.changes(db, before=parent, after=model)
    except ModelFolderError as error:
        return (f"n/a: {error.what}",)
    words = []
    for changed, what in ((found.added, "added"), (found.removed, "removed")):
        if changed:
            bad = sum("bad" in (one.before, one.after) for one in changed)
            words.append(f"Labels {what}: {len(changed):,} ({len(changed) - bad:,} good, {bad:,} bad)")
    if found.flipped:
        words.append(f"Labels turned from good to bad or back: {len(found.flipped):,}")
    named = [
        f"Setting {one.name.replace('_', ' ')}: {plain_value(one.before)} → {plain_value(one.after)}"
        for one in found.settings
    ]
    words += named[:MAX_CHANGES]
    if len(named) > MAX_CHANGES:
        words.append(f"{len(named) - MAX_CHANGES} more settings")
    return tuple(words)


def _files(db: Database, model: Model) -> tuple[tuple[str, int, str], ...] | str:
    try:
        folder = thresholds.folder_in_force(db, model)
        found = sorted(path for path in folder.iterdir() if path.is_file() and not path.is_symlink())
        # The copy of the thresholds holds the time of their saving, so its hash would be a date in disguise.
        found = [path for path in found if path.name != operating_point.FILE_NAME]
        return tuple((path.name, path.stat().st_size, files.hash_file(path)) for path in found[:MAX_FILES])
    except ModelFolderError as error:
        return error.what
    except OSError as error:
        return f"The model's folder cannot be read ({error.strerror or error})"


def _software() -> tuple[tuple[str, str], ...]:
    found = [("SSN Inspector", ssn_core.__version__), ("python", platform.python_version())]
    for name in _LIBRARIES:
        try:
            found.append((name, version(name)))
        except PackageNotFoundError:
            found.append((name, "not installed as a package"))
    return tuple(found)
