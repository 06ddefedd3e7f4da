"""How good is a model on images it has never seen: figures with intervals, and thresholds that move them all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray

from pages.components import resources, state
from pages.components.errors import show_errors
from pages.components.held_out import held_out_scores
from pages.components.project import go
from pages.components.suggestions import Suggestion, Targets, suggest
from pages.components.text import NOT_AVAILABLE, count, csv_bytes, figure, moment, plain, prose
from pages.components.threshold_board import LEVEL, Area, Chance, Claims, Operating, operating, threshold_board
from ssn_core import honest, intervals, metrics, operating_point, probability, rates, rules
from ssn_core.errors import SsnError
from storage import predictions, registry, thresholds
from storage.db import Database

SHOWN_ROWS = 500
SHOWN_VERSIONS = 5
CLAIMED_RATES = (0.05, 0.01, 0.001)
ORIGINS = {
    "test": "The scores come from a fixed test split: images whose group was set aside for ever, never used to train, "
    "nor by a rule to choose its threshold, nor to set the colour scale.",
    "out_of_fold": "The scores are out-of-fold: the labelled images were divided by group, and each was scored by a "
    "model trained without its fold.",
}
CROSSWISE = (
    "A rule has no other scores to choose its threshold on, so it is counted crosswise: the parts are dealt into up to "
    "five blocks, and each block is counted at the threshold that the rule chooses on the others. That is the honest "
    "figure; at the rule's one threshold the tiles flatter."
)
ORIGIN_TITLES = {"test": "fixed test split", "out_of_fold": "out-of-fold scores"}


@st.fragment
def draw_evaluation(model_id: int) -> None:
    """Everything on the page that follows the thresholds; a fragment, so that the rest stands still."""
    with show_errors():
        db = resources.database()
        state.take_targets(model_id)
        _save_what_was_asked(model_id)
        model = registry.get(db, model_id=model_id)
        held_out = held_out_scores(db, model)
        if _explain_what_is_missing(held_out):
            _draw(db, model, held_out)


def _explain_what_is_missing(held_out: predictions.HeldOut) -> bool:
    """Say so when nothing can be measured; True when at least one class is there."""
    if held_out.n_good + held_out.n_bad == 0:
        st.info(
            "None of the images this model never saw has a Good or Bad label, so nothing can be measured yet.",
            icon=":material/label:",
        )
        go("label")
        return False
    for n, word, lost in ((held_out.n_good, "good", "overkill rate"), (held_out.n_bad, "bad", "escape rate")):
        if n == 0:
            st.warning(
                f"There is no {word} image among the held-out ones: the {lost}, the curves and the areas are n/a. "
                f"Label more {word} images and train again.",
                icon=":material/label:",
            )
    return True


def _draw(db: Database, model: registry.Model, held_out: predictions.HeldOut) -> None:
    versions = thresholds.history(db, model_id=model.id)
    chosen = _chosen_on(db, model, held_out)
    targets = state.targets()
    st.caption(
        f"On {held_out.n_good:,} good and {held_out.n_bad:,} bad images that the model never saw · "
        f"{ORIGIN_TITLES[held_out.kind]} · labels as they are now"
    )
    threshold_board(
        model.id,
        held_out.labels,
        held_out.scores,
        saved=versions[0],
        areas=areas(held_out.labels, held_out.scores),
        claims=Claims(
            most=rates.most_compatible_rate(held_out.n_bad, level=LEVEL),
            needed=tuple((rate, rates.needed_without_event(rate, level=LEVEL)) for rate in CLAIMED_RATES),
        ),
        chance=_chance(chosen.labels, chosen.scores),
        suggestions=_suggested_on(chosen, targets),
        counted=_counted(
            held_out.labels,
            held_out.scores,
            held_out.blocks,
            held_out.kind,
            versions[0].threshold,
            versions[0].threshold_low,
            versions[0].how,
        ),
        chosen_on=_where_chosen(chosen),
        targets=targets,
    )
    st.caption(" ".join([ORIGINS[held_out.kind], *([CROSSWISE] if _dealt(chosen) else [])]))
    _versions(versions)
    draw_pixel_figures(model.summary or {})
    _images_table(model, held_out, operating(state.board_told(model.id, "operating"), versions[0]))


def _chosen_on(db: Database, model: registry.Model, held_out: predictions.HeldOut) -> predictions.HeldOut:
    """The scores that thresholds may be chosen on: never those of test images."""
    return held_out_scores(db, model, "calibration") if held_out.kind == "test" else held_out


def _dealt(chosen: predictions.HeldOut) -> bool:
    """Whether rules are counted crosswise on these scores."""
    return chosen.kind == "out_of_fold" and chosen.blocks is not None


def _where_chosen(chosen: predictions.HeldOut) -> str:
    basis = f"{chosen.n_good:,} good, {chosen.n_bad:,} bad"
    if chosen.kind == "calibration":
        return f"Chosen on calibration images ({basis}); counted on the test images"
    if not _dealt(chosen):
        return f"Chosen and counted on the same out-of-fold scores ({basis})"
    return f"Chosen on out-of-fold scores ({basis}); counted on parts that had no say"


def _suggested_on(chosen: predictions.HeldOut, targets: Targets) -> list[Suggestion]:
    out_of_fold = chosen.kind != "calibration"
    return _suggestions(chosen.labels, chosen.scores, targets, out_of_fold, chosen.blocks if out_of_fold else None)


@st.cache_data(max_entries=32, show_spinner=False)
def _counted(
    labels: NDArray[np.int8],
    scores: NDArray[np.float64],
    blocks: NDArray[np.int64] | None,
    held_out: str,
    threshold: float,
    threshold_low: float | None,
    how: str,
) -> honest.Counted:
    # Not of a version and HeldOut as they are: to see whether it is known, 100,000 names would be hashed.
    cuts = honest.cuts(
        labels, scores, blocks, held_out=held_out, threshold=threshold, threshold_low=threshold_low, how=how
    )
    return cuts.count(labels, scores)


@st.cache_data(max_entries=32, show_spinner=False)
def areas(labels: NDArray[np.int8], scores: NDArray[np.float64]) -> dict[str, Area | None]:
    """I-AUROC ("auroc") and AP-det ("ap") with their intervals; None: n/a."""
    return {
        "auroc": _area(metrics.i_auroc(labels, scores), intervals.auroc_interval(labels, scores, level=LEVEL)),
        "ap": _area(metrics.ap(labels, scores), intervals.ap_interval(labels, scores, level=LEVEL)),
    }


def _area(value: float | None, interval: rates.Interval | None) -> Area | None:
    if value is None:
        return None
    if interval is None:
        return Area(value, None, None, "")
    return Area(value, interval.low, interval.high, interval.method)


@st.cache_data(max_entries=32, show_spinner=False)
def _suggestions(
    labels: NDArray[np.int8],
    scores: NDArray[np.float64],
    targets: Targets,
    out_of_fold: bool,  # hashed by its place
    blocks: NDArray[np.int64] | None,
) -> list[Suggestion]:
    return suggest(labels, scores, targets, out_of_fold=out_of_fold, blocks=blocks)


@st.cache_data(max_entries=32, show_spinner=False)
def _chance(labels: NDArray[np.int8], scores: NDArray[np.float64]) -> Chance:
    try:
        platt = probability.fit_platt(labels, scores)
    except SsnError as error:
        return Chance(0.0, 0.0, 0, 0, reason=f"Chance of being bad: n/a. {error.what}.")
    return Chance(platt.slope, platt.intercept, platt.n_good, platt.n_bad)


def _save_what_was_asked(model_id: int) -> None:
    """Save the thresholds that the board asked to save, once.

    They are saved before the request is ticked off: a page run that is cut off between the two finds them in force.
    """
    asked = state.board_save(model_id)
    if asked is None:
        return
    with show_errors():
        db = resources.database()
        model = registry.get(db, model_id=model_id)
        newest = thresholds.history(db, model_id=model_id)[0]
        wanted = operating({**asked, "version": newest.id}, newest)
        if (wanted.high, wanted.low) != (newest.threshold, newest.threshold_low) and state.inspector():
            chosen = _chosen_on(db, model, held_out_scores(db, model))
            thresholds.save(
                db,
                model_id=model_id,
                threshold=wanted.high,
                threshold_low=wanted.low,
                how=_how(wanted, _suggested_on(chosen, state.targets()), chosen.kind),
                inspector=state.inspector(),
            )
            st.toast(f"Saved with the model: {_values(wanted.high, wanted.low)}", icon=":material/check_circle:")
    state.set_board_saved(model_id, asked)


def _how(wanted: Operating, suggestions: list[Suggestion], kind: str) -> str:
    """How thresholds were found, in words that stay with them."""
    for suggestion in suggestions:
        if suggestion.id == wanted.rule and (suggestion.high, suggestion.low) == (wanted.high, wanted.low):
            return rules.chosen_on(suggestion.rule, kind)
    return rules.BY_HAND


def _values(high: float, low: float | None) -> str:
    text = f"{high:.3f}" if low is None else f"{low:.3f} / {high:.3f}"
    return text.replace("-", "−")  # as the board writes it


def _versions(versions: list[thresholds.Version]) -> None:
    """The saved thresholds, newest first, each of which can be put in force again."""
    st.subheader("Saved thresholds", anchor=False)
    shown = versions[:SHOWN_VERSIONS]
    for version in shown:
        _version(version, in_force=version is versions[0])
    if len(versions) > len(shown):
        with st.expander(f"{count(len(versions) - len(shown), 'earlier version')}"):
            for version in versions[SHOWN_VERSIONS:]:
                _version(version, in_force=False)


def _version(version: thresholds.Version, *, in_force: bool) -> None:
    number, values, how, who, when, act = st.columns([4, 4, 10, 4, 5, 4], vertical_alignment="center")
    number.markdown(f":gray[Version {version.number}]")
    values.markdown(f"**{prose(_values(version.threshold, version.threshold_low))}**")
    how.markdown(prose(version.how))
    who.markdown(prose(version.inspector) if version.inspector else "training")
    when.markdown(moment(version.created_at))
    if in_force:
        act.markdown(":blue-badge[In force]")
        return
    clicked = act.button(
        "Restore",
        key=f"evaluate-restore-{version.id}",
        disabled=not state.inspector(),
        help=None if state.inspector() else "Type your name in the sidebar first.",
        width="stretch",
    )
    if clicked:  # no callback: in a fragment it may not show an error
        with show_errors():
            thresholds.restore(resources.database(), version_id=version.id, inspector=state.inspector())
            st.rerun()


def draw_pixel_figures(summary: dict[str, Any]) -> None:
    """Pixel figures from the model's summary; without masks "n/a", never zero."""
    st.subheader("Where it looks: pixel figures", anchor=False)
    pixel = summary.get("pixel")
    if not pixel:
        st.markdown(f"**{NOT_AVAILABLE}: no masks.** Held-out images with defect masks are needed to measure the maps.")
        return
    basis = f"on {count(pixel['n_images'], 'image')}, {count(pixel['n_masks'], 'mask')}"
    for column, (title, key, explanation) in zip(
        st.columns(3),
        [
            ("P-AUROC", "p_auroc", "Chance that a defect pixel scores above a good pixel, over all pixels."),
            ("AP-loc", "ap_loc", "Average precision over all pixels; strict with maps larger than the defect."),
            ("AUPRO", "aupro", "Mean overlap per defect region up to 30 % false-positive pixels."),
        ],
        strict=True,
    ):
        with column.container(border=True, gap=None):
            st.metric(title, figure(pixel.get(key)), help=explanation)
            st.caption(basis)


def _images_table(model: registry.Model, held_out: predictions.HeldOut, at: Operating) -> None:
    with st.expander(f"The {count(len(held_out.names), 'image')} behind these figures"):
        st.dataframe(held_out_frame(held_out, at.high, at.low, rows=SHOWN_ROWS), hide_index=True, height=320)
        if len(held_out.names) > SHOWN_ROWS:
            st.caption(f"The first {SHOWN_ROWS} are shown; the CSV holds all.")
        st.download_button(
            "Download CSV",
            data=lambda: _csv(held_out_frame(held_out, at.high, at.low)),
            file_name=f"held-out-model-{model.id}.csv",
            mime="text/csv",
            on_click="ignore",
            icon=":material/download:",
            key="evaluate-csv",
        )


def _csv(frame: pd.DataFrame) -> bytes:
    return csv_bytes([name.lower() for name in frame.columns], frame.itertuples(index=False))


def held_out_frame(
    held_out: predictions.HeldOut, threshold: float, threshold_low: float | None = None, *, rows: int | None = None
) -> pd.DataFrame:
    """The held-out images with score, label, verdict and outcome, most suspicious first; the first `rows` of them."""
    order = np.argsort(-np.asarray(held_out.scores), kind="stable")[:rows]
    scores, bad = np.asarray(held_out.scores)[order], np.asarray(held_out.labels)[order] == 1
    said = operating_point.verdicts(scores, threshold, threshold_low)
    called_bad, doubtful = said == "bad", said == "check"
    outcome = np.select(
        [doubtful, bad & ~called_bad, ~bad & called_bad, bad], ["to a person", "escape", "overkill", "caught"], "passed"
    )
    return pd.DataFrame(
        {
            "Image": [plain(held_out.names[place]) for place in order],
            "Label": np.where(bad, "bad", "good"),
            "Score": scores,
            "Verdict": np.where(doubtful, "to a person", said),
            "Outcome": outcome,
        }
    )
