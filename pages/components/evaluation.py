"""How good is a model on images it has never seen: figures, curves and one threshold that moves them all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from pages.components import charts, resources, state
from pages.components.errors import show_errors
from pages.components.project import go
from pages.components.text import NOT_AVAILABLE, count, csv_bytes, figure, percent, plain
from ssn_core import metrics, thresholds
from storage import predictions, registry
from storage import thresholds as saved_thresholds

STEPS = 400  # of the threshold slider over the range of the scores
SHOWN_ROWS = 500

ORIGINS = {
    "test": "The scores come from a fixed test split: images whose group was set aside for ever, never used to train, "
    "to choose the threshold or the colour scale.",
    "out_of_fold": "The scores are out-of-fold: the labelled images were divided by group, and each was scored by a "
    "model trained without its fold. The suggested threshold was chosen on these same scores, so the rates at it are "
    "slightly optimistic.",
}
ORIGIN_TITLES = {"test": "fixed test split", "out_of_fold": "out-of-fold scores"}


@st.fragment
def draw_evaluation(model_id: int) -> None:
    """Everything on the page that moves with the threshold; a fragment, so that the rest stands still."""
    with show_errors():
        db = resources.database()
        model = registry.get(db, model_id=model_id)
        held_out = predictions.held_out(db, model_id=model_id)
        if _explain_what_is_missing(held_out):
            _draw(model, held_out)


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


def _draw(model: registry.Model, held_out: predictions.HeldOut) -> None:
    labels, scores = np.asarray(held_out.labels), np.asarray(held_out.scores, dtype=np.float64)
    basis = f"on {held_out.n_good:,} good and {held_out.n_bad:,} bad images"
    tiles = st.container()
    threshold = _threshold_controls(model, labels, scores)
    confusion = metrics.confusion(labels, scores, threshold)
    auroc, ap = metrics.i_auroc(labels, scores), metrics.ap(labels, scores)
    with tiles:
        _tiles(confusion, auroc, ap, basis, held_out)
    wide, narrow = st.columns([3, 2])
    good, bad = scores[labels == 0], scores[labels == 1]
    _chart(wide, charts.score_histogram(good, bad, threshold=threshold), "evaluate-histogram")
    _chart(narrow, charts.confusion_matrix(confusion), "evaluate-confusion")
    if held_out.n_good and held_out.n_bad:
        _curves(labels, scores, confusion, auroc, ap)
    st.caption(f"Every figure above rests {basis} that the model never saw. {ORIGINS[held_out.kind]}")
    draw_pixel_figures(model.summary or {})
    _images_table(model, held_out, threshold)


def _threshold_controls(model: registry.Model, labels: Any, scores: Any) -> float:
    low, high = float(scores.min()), float(scores.max())
    pad = 0.02 * (high - low) or 0.5
    low, high = min(low - pad, model.threshold), max(high + pad, model.threshold)
    key = state.threshold_key(model.id)
    state.settle_threshold(model.id, model.threshold, low, high)
    slider, suggest, save = st.columns([6, 2, 2], vertical_alignment="bottom")
    both = 0 < int(labels.sum()) < len(labels)
    youden = thresholds.youden(labels, scores) if both else None
    with suggest:
        st.button(
            f"Youden's J at {youden:.3f}" if youden is not None else "Youden's J: n/a",
            on_click=state.set_threshold,
            args=(model.id, youden),
            disabled=youden is None,
            width="stretch",
            key="evaluate-youden",
            help="The threshold with the largest share of bad parts caught minus share of good parts rejected. "
            "It weighs both errors the same.",
        )
    with slider:
        threshold = st.slider(
            "Threshold: a score at or above it means bad",
            min_value=low,
            max_value=high,
            step=(high - low) / STEPS,
            format="%.3f",
            key=key,
        )
    with save:
        st.button(
            "Save as threshold",
            type="primary",
            on_click=_save,
            args=(model.id, threshold),
            disabled=abs(threshold - model.threshold) < 1e-9,
            width="stretch",
            key="evaluate-save",
            help="Review and Inspect use the saved threshold.",
        )
    st.caption(f"Saved with the model: {model.threshold:.3f} · suggested at training: {model.suggested_threshold:.3f}")
    return float(threshold)


def _save(model_id: int, threshold: float) -> None:
    with show_errors():
        saved_thresholds.save(
            resources.database(), model_id=model_id, threshold=threshold, how="By hand", inspector=state.inspector()
        )
        st.toast(f"Threshold {threshold:.3f} saved with the model.", icon=":material/check_circle:")


def _tiles(
    confusion: metrics.Confusion, auroc: float | None, ap: float | None, basis: str, held_out: predictions.HeldOut
) -> None:
    escapes = f"{confusion.fn:,} of {count(held_out.n_bad, 'bad image')} passed"
    overkill = f"{confusion.fp:,} of {count(held_out.n_good, 'good image')} rejected"
    for column, (title, value, under, explanation) in zip(
        st.columns(4),
        [
            ("Escape rate", percent(confusion.escape_rate), escapes, "Bad parts passed, FN / (FN + TP)."),
            ("Overkill rate", percent(confusion.overkill_rate), overkill, "Good parts rejected, FP / (FP + TN)."),
            ("I-AUROC", figure(auroc), basis, "Chance that a bad image scores above a good one. No threshold."),
            ("AP-det", figure(ap), basis, "Average precision of finding bad images. No threshold."),
        ],
        strict=True,
    ):
        with column.container(border=True, gap=None):
            st.metric(title, value, help=explanation)
            st.caption(under)


def _curves(labels: Any, scores: Any, confusion: metrics.Confusion, auroc: float | None, ap: float | None) -> None:
    left, right = st.columns(2)
    roc, pr = metrics.roc_curve(labels, scores), metrics.pr_curve(labels, scores)
    caught = 1 - (confusion.escape_rate or 0.0)
    _chart(
        left,
        charts.roc(roc.fpr, roc.tpr, point=(confusion.overkill_rate or 0.0, caught), area=auroc),
        "evaluate-roc",
    )
    flagged = confusion.tp + confusion.fp
    point = (caught, confusion.tp / flagged) if flagged else None  # nothing flagged: precision does not exist
    base_rate = float(np.mean(labels))
    _chart(
        right,
        charts.precision_recall(pr.precision, pr.recall, point=point, area=ap, base_rate=base_rate),
        "evaluate-pr",
    )


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


def _images_table(model: registry.Model, held_out: predictions.HeldOut, threshold: float) -> None:
    with st.expander(f"The {count(len(held_out.names), 'image')} behind these figures"):
        frame = held_out_frame(held_out, threshold)
        st.dataframe(frame.head(SHOWN_ROWS), hide_index=True, height=320)
        if len(frame) > SHOWN_ROWS:
            st.caption(f"The first {SHOWN_ROWS} are shown; the CSV holds all.")
        st.download_button(
            "Download CSV",
            data=lambda: csv_bytes([name.lower() for name in frame.columns], frame.itertuples(index=False)),
            file_name=f"held-out-model-{model.id}.csv",
            mime="text/csv",
            on_click="ignore",
            icon=":material/download:",
            key="evaluate-csv",
        )


def held_out_frame(held_out: predictions.HeldOut, threshold: float) -> pd.DataFrame:
    """The held-out images with score, label, verdict and outcome, most suspicious first."""
    scores, labels = np.asarray(held_out.scores), np.asarray(held_out.labels)
    called_bad = scores >= threshold
    outcome = np.select(
        [(labels == 1) & ~called_bad, (labels == 0) & called_bad, labels == 1],
        ["escape", "overkill", "caught"],
        "passed",
    )
    frame = pd.DataFrame(
        {
            "Image": [plain(name) for name in held_out.names],
            "Label": np.where(labels == 1, "bad", "good"),
            "Score": scores,
            "Verdict": np.where(called_bad, "bad", "good"),
            "Outcome": outcome,
        }
    )
    return frame.sort_values("Score", ascending=False, kind="stable")


def _chart(where: Any, drawing: Any, key: str) -> None:
    where.plotly_chart(drawing, key=key, config={"displayModeBar": False})


def origin_title(model: registry.Model) -> str:
    """Where the held-out scores come from, in two words."""
    return ORIGIN_TITLES.get(model.held_out, model.held_out)
