"""How good a model is on images that it never saw, in words: on its card, and what a comparison shares with it."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from pages.components import resources
from pages.components.held_out import held_out_scores, held_out_stamp
from pages.components.text import NOT_AVAILABLE, figure, percent, prose
from ssn_core import metrics
from ssn_core.honest import Counted
from ssn_core.intervals import ap_interval, auroc_interval
from ssn_core.rates import Interval, rate_interval
from storage import predictions, registry, thresholds
from storage.live_scores import Stamp

SPLITS = {"test": "fixed test split", "out_of_fold": "out-of-fold"}
MEANING = {
    "I-AUROC": "the chance that a bad part scores above a good one; 1 is always, 0.5 a coin toss. No threshold.",
    "AP-det": "average precision: of the parts that would be rejected, the share that is really bad, averaged over all "
    "thresholds; 1 is the best, and the rarer bad parts are, the harder it is to reach.",
    "Escapes": "bad parts that pass, of all bad ones (false negatives).",
    "Overkill": "good parts that are rejected, of all good ones (false positives).",
}
IN_WORDS = "  \n".join(f"**{name}**: {meaning}" for name, meaning in MEANING.items())


@dataclass(frozen=True)
class Figures:
    """How good a model is on its held-out images, with the labels of today."""

    n_good: int
    n_bad: int
    auroc: float | None
    auroc_interval: Interval | None
    ap: float | None
    ap_interval: Interval | None
    counted: Counted


def draw_figures(model: registry.Model) -> None:
    """A model's figures with intervals, on the labels of now."""
    db = resources.database()
    version = thresholds.in_force(db, model_id=model.id)
    found = _figures(str(db.data_dir), model.id, version, held_out_stamp(db, model))
    if found.n_good + found.n_bad == 0:
        st.caption("No figures: no image that it never saw has a score and a Good or Bad label.")
        return
    done = found.counted.outcome
    lines = [
        ("I-AUROC", figure(found.auroc), area_words(found.auroc_interval, found.n_good, found.n_bad)),
        ("AP-det", figure(found.ap), area_words(found.ap_interval, found.n_good, found.n_bad)),
        ("Escapes", *rate_words(done.escapes, done.n_bad, "bad")),
        ("Overkill", *rate_words(done.overkill, done.n_good, "good")),
    ]
    if model.threshold_low is not None or done.to_person:  # crosswise a pair of rates may need two where all need one
        lines.append(("To a person", *rate_words(done.to_person, found.n_good + found.n_bad, "such")))
    st.markdown("  \n".join(f"{name} **{value}** {interval}" for name, value, interval in lines))
    split = SPLITS.get(model.held_out, model.held_out)
    st.caption(
        f"On {found.n_good:,} good, {found.n_bad:,} bad held-out images ({split}).  \n"
        f"Escapes and overkill. {prose(found.counted.note)}"
    )


@st.cache_data(max_entries=500, show_spinner=False)
def _figures(data_dir: str, model_id: int, version: thresholds.Version, stamp: Stamp) -> Figures:  # noqa: ARG001
    # Figures of more models are kept than scores: the page shows all of them, archived ones too.
    db = resources.database()
    held_out = held_out_scores(db, registry.get(db, model_id=model_id))
    return _measured(held_out, held_out.digest, version)


# Most labels that come are of images that the model is not measured on.
@st.cache_data(max_entries=500, show_spinner=False)
def _measured(_held_out: predictions.HeldOut, digest: str, version: thresholds.Version) -> Figures:  # noqa: ARG001
    truth, scores = _held_out.labels, _held_out.scores
    return Figures(
        n_good=_held_out.n_good,
        n_bad=_held_out.n_bad,
        auroc=metrics.i_auroc(truth, scores),
        auroc_interval=auroc_interval(truth, scores),
        ap=metrics.ap(truth, scores),
        ap_interval=ap_interval(truth, scores),
        counted=thresholds.cuts(version, _held_out).count(truth, scores),
    )


def interval_words(interval: Interval | None, digits: int = 3) -> str:
    """An interval in brackets, without a unit; empty where there is none."""
    return "" if interval is None else f"({interval.low:.{digits}f} to {interval.high:.{digits}f})"


def area_words(interval: Interval | None, n_good: int, n_bad: int) -> str:
    """The interval of an area in brackets; where the area is n/a, which images are missing."""
    missing = "good" if not n_good else "bad" if not n_bad else None
    return interval_words(interval) if missing is None else f"(no {missing} image held out)"


def rate_words(events: int, n: int, kind: str) -> tuple[str, str]:
    """A rate and, in brackets, its interval, with the counts: "2.0 %", "(0.4 % to 10.5 %), 1 of 50".

    Args:
        kind: of the images that are counted, "bad"; where there is none, that is why the rate is "n/a".
    """
    interval = rate_interval(events, n)
    if interval is None:
        return NOT_AVAILABLE, f"(no {kind} image held out)"
    return f"{percent(events / n)}", f"({percent(interval.low)} to {percent(interval.high)}), {events:,} of {n:,}"
