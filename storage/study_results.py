"""The figures of a study of agreement: of each rater, between the inspectors, and the parts in dispute.

Only complete trials count, so that every rater is judged on the same parts. The model is one more rater with one trial,
on the parts that it had not seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from ssn_core.agreement import (
    Appraiser,
    Kappa,
    Share,
    all_versus_reference,
    appraise,
    between_appraisers,
    cohen_kappa,
    fleiss_kappa,
    verdict_counts,
)
from storage import images, registry, studies, study_verdicts
from storage.db import Database
from storage.study_parts import Part
from storage.study_verdicts import StoredVerdict

Standing = Literal["meets", "fails", "open"]


@dataclass(frozen=True)
class Rater:
    """One inspector with at least one complete trial, or the model."""

    name: str
    is_model: bool
    verdicts: dict[int, tuple[str, ...]]  # image -> good | bad in each complete trial
    figures: Appraiser


@dataclass(frozen=True)
class Pair:
    """How far two raters agree beyond chance, in the first trial of each."""

    first: Rater
    second: Rater
    kappa: Kappa


@dataclass(frozen=True)
class Results:
    """Everything that a study tells."""

    study: studies.Study
    parts: tuple[Part, ...]
    raters: tuple[Rater, ...]  # inspectors in the order in which they began, then the model
    left_out: tuple[studies.Progress, ...]  # began, and completed no trial
    between: Share | None  # parts on which all inspectors agree in all trials; None with fewer than two
    between_kappa: Kappa | None
    all_right: Share | None  # parts that every inspector judged as the reference in all trials; None without any
    pairs: tuple[Pair, ...]
    disputed: tuple[Part, ...]  # an inspector differs from another one or from the reference; most dissent first

    @property
    def inspectors(self) -> tuple[Rater, ...]:
        """The raters that are people."""
        return tuple(rater for rater in self.raters if not rater.is_model)


def results(db: Database, *, study: studies.Study) -> Results:
    """All figures of a study, whether or not it is finished: ask `studies.may_see_results` before showing them."""
    parts = studies.parts(db, study_id=study.id)
    said = study_verdicts.all_verdicts(db, study_id=study.id)
    people: list[Rater] = []
    left_out: list[studies.Progress] = []
    for one in studies.progress(db, study=study):
        if one.complete_trials:
            people.append(_inspector(one, parts, said))
        else:
            left_out.append(one)
    raters = [*people, *_model(db, study, parts)]
    columns = [_column(rater, parts) for rater in people]
    several = len(people) > 1
    return Results(
        study=study,
        parts=tuple(parts),
        raters=tuple(raters),
        left_out=tuple(left_out),
        between=between_appraisers(columns) if several else None,
        between_kappa=fleiss_kappa(verdict_counts(columns)) if several else None,
        all_right=all_versus_reference(columns, _bad(part.reference for part in parts)) if people else None,
        pairs=tuple(_pair(first, second, parts) for first, second in combinations(raters, 2)),
        disputed=_disputed(people, parts),
    )


def standing(share: Share | None, limit: float, *, at_least: bool) -> Standing | None:
    """Whether a rate meets its limit; "open" where its interval includes the limit; None where there is no rate."""
    if share is None or share.interval is None:
        return None
    interval = share.interval
    if interval.low <= limit <= interval.high:
        return "open"
    return "meets" if (interval.low > limit) == at_least else "fails"


def export(db: Database, *, study: studies.Study) -> tuple[list[str], list[list[object]]]:
    """Every verdict of a study as a table: header and rows, the model's verdicts last."""
    parts = {part.image_id: part for part in studies.parts(db, study_id=study.id)}
    names = {image.id: image for image in images.get_many(db, image_ids=list(parts))}
    said = study_verdicts.all_verdicts(db, study_id=study.id)
    places = {
        who: [
            {image: at + 1 for at, image in enumerate(order)}
            for order in studies.orders(db, study=study, inspector=who)
        ]
        for who in {one.inspector for one in said}
    }
    header = [
        "study", "rater", "kind", "trial", "place", "image", "sha256", "reference", "borderline", "verdict", "seconds",
        "time",
    ]  # fmt: skip

    def row(image_id: int, *given: object) -> list[object]:
        part, image = parts[image_id], names[image_id]
        rater, kind, trial, place, verdict, seconds, when = given
        return [
            study.name, rater, kind, trial, place, image.name, image.sha256, part.reference,
            "yes" if part.borderline else "no", verdict, seconds, when,
        ]  # fmt: skip

    rows = [
        row(
            one.image_id, one.inspector, "inspector", one.trial, places[one.inspector][one.trial - 1][one.image_id],
            one.verdict, one.seconds, one.created_at.isoformat(timespec="seconds"),
        )
        for one in said
    ]  # fmt: skip
    if study.model_id is not None:
        model = registry.get(db, model_id=study.model_id)
        when = study.created_at.isoformat(timespec="seconds")
        rows += [
            row(part.image_id, model.name, "model", 1, None, part.model_verdict, None, when)
            for part in parts.values()
            if part.model_verdict is not None
        ]
    return header, rows


def _inspector(progress: studies.Progress, parts: Sequence[Part], said: Sequence[StoredVerdict]) -> Rater:
    complete = [trial for trial, n in enumerate(progress.given, start=1) if n == progress.n_parts]
    found = {(one.image_id, one.trial): one.verdict for one in said if one.inspector == progress.inspector}
    verdicts = {part.image_id: tuple(found[part.image_id, trial] for trial in complete) for part in parts}
    return _rater(progress.inspector, verdicts, parts, is_model=False)


def _model(db: Database, study: studies.Study, parts: Sequence[Part]) -> list[Rater]:
    verdicts: dict[int, tuple[str, ...]] = {
        part.image_id: (part.model_verdict,) for part in parts if part.model_verdict is not None
    }
    if study.model_id is None or not verdicts:
        return []
    return [_rater(registry.get(db, model_id=study.model_id).name, verdicts, parts, is_model=True)]


def _rater(name: str, verdicts: dict[int, tuple[str, ...]], parts: Sequence[Part], *, is_model: bool) -> Rater:
    judged = [part for part in parts if part.image_id in verdicts]
    figures = appraise(
        name, [_bad(verdicts[part.image_id]) for part in judged], _bad(part.reference for part in judged)
    )
    return Rater(name, is_model, verdicts, figures)


def _column(rater: Rater, parts: Sequence[Part]) -> list[list[bool]]:
    return [_bad(rater.verdicts[part.image_id]) for part in parts]


def _pair(first: Rater, second: Rater, parts: Sequence[Part]) -> Pair:
    both = [part.image_id for part in parts if part.image_id in first.verdicts and part.image_id in second.verdicts]
    one, two = (_bad(rater.verdicts[image][0] for image in both) for rater in (first, second))
    return Pair(first, second, cohen_kappa(one, two))


def _disputed(people: Sequence[Rater], parts: Sequence[Part]) -> tuple[Part, ...]:
    def dissent(part: Part) -> int:
        return sum(verdict != part.reference for one in people for verdict in one.verdicts[part.image_id])

    return tuple(sorted((part for part in parts if dissent(part)), key=lambda part: (-dissent(part), part.image_id)))


def _bad(verdicts: Iterable[str]) -> list[bool]:
    return [verdict == "bad" for verdict in verdicts]
