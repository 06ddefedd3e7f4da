"""Two models on the same images: is one better, by how much at least, and which images does it turn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import streamlit as st

from pages.components import resources, state
from pages.components.compare_charts import Curve, roc_pair
from pages.components.flip_tiles import draw_tiles
from pages.components.held_out import held_out_scores
from pages.components.model_figures import MEANING, SPLITS, interval_words, rate_words
from pages.components.project import go, model_title
from pages.components.text import NOT_AVAILABLE, count, figure, prose
from ssn_core import metrics
from ssn_core.honest import Counted, counted_how
from ssn_core.intervals import Difference, ap_difference, ap_interval, auroc_difference, auroc_interval
from ssn_core.rates import Interval
from storage import comparison, projects, registry
from storage.comparison import Comparison

HEADINGS = {"wrong": "Became wrong", "right": "Became right", "check": "Now to a person"}  # what harms comes first
GROUPS = {  # (label, what B makes of it) -> title
    ("bad", "wrong"): "Became wrong: bad parts that B passes (new escapes)",
    ("good", "wrong"): "Became wrong: good parts that B rejects (new overkill)",
    ("bad", "right"): "Became right: bad parts that B catches",
    ("good", "right"): "Became right: good parts that B passes",
    ("bad", "check"): "Bad parts that now go to a person",
    ("good", "check"): "Good parts that now go to a person",
}


@dataclass(frozen=True)
class Measured:
    """What the shared images say about both models; None = n/a."""

    auroc: tuple[float | None, float | None]  # A, B
    auroc_intervals: tuple[Interval | None, Interval | None]
    auroc_difference: Difference | None  # B less A
    ap: tuple[float | None, float | None]
    ap_intervals: tuple[Interval | None, Interval | None]
    ap_difference: Difference | None
    counted: tuple[Counted, Counted]  # each at its own thresholds


def draw_compare(project: projects.Project) -> None:
    """The choice of two models and everything that their shared images say."""
    models = registry.list_models(resources.database(), project_id=project.id)
    if len(models) < 2:
        st.info("Comparing needs two models that are not archived.", icon=":material/info:")
        go("train", "Train another model")
        return
    first, second = _choose(project, models)
    compared = compared_now(first.id, second.id)
    if not compared.image_ids:
        st.info(why_none(compared), icon=":material/info:")
        return
    st.markdown(basis(compared))
    _draw_figures(compared)
    _draw_flips(project, compared)
    with st.expander("How the two are compared"):
        st.markdown(how(compared))


def compared_now(first_id: int, second_id: int) -> Comparison:
    """Two models on the images that both were honest about, with the labels of today."""
    db = resources.database()
    return comparison.compare(
        db, first_id=first_id, second_id=second_id, held_out=lambda model: held_out_scores(db, model)
    )


def _choose(project: projects.Project, models: list[registry.Model]) -> tuple[registry.Model, registry.Model]:
    by_id = {model.id: model for model in models}
    ids = list(by_id)
    active = project.active_model_id if project.active_model_id in by_id else ids[0]
    first_key, second_key = state.comparison_keys(project.id)
    left, right = st.columns(2)

    def title(model_id: int) -> str:
        return model_title(by_id[model_id], active=model_id == project.active_model_id)

    state.settle_choice(first_key, ids, active)
    with left:
        first = st.selectbox("A, the reference", ids, format_func=title, key=first_key, persist_state="session")
    others = [number for number in ids if number != first]
    state.settle_choice(second_key, others, others[0])
    with right:
        second = st.selectbox("B, the other one", others, format_func=title, key=second_key, persist_state="session")
    return by_id[first], by_id[second]


def basis(compared: Comparison, names: tuple[str, str] = ("A", "B")) -> str:
    """On which images everything below rests; `names` is what the page calls the two models."""
    words = (
        f"Both on the same **{compared.n_good:,} good** and **{compared.n_bad:,} bad** images, which neither model had "
        "seen, with the labels of today."
    )
    if compared.first_held_out == compared.second_held_out == len(compared.image_ids):
        return words
    return (
        f"{words} ({names[0]} alone has {compared.first_held_out:,} such images, {names[1]} "
        f"{compared.second_held_out:,}.)"
    )


def why_none(compared: Comparison, names: tuple[str, str] = ("A", "B")) -> str:
    """Why there is no image to compare on; `names` as for :func:`basis`."""
    pairs = (
        (names[0], compared.first, compared.first_held_out),
        (names[1], compared.second, compared.second_held_out),
    )
    for letter, model, n in pairs:
        if n == 0:
            return (
                f"Nothing to compare on: none of the images that {letter} ({prose(model.name)}) had never seen has a "
                "score and a Good or Bad label today. If it is still being scored, wait for it; else label more images "
                "and train again."
            )
    kinds = " and ".join(f"{letter} on {count(n, 'image')} ({SPLITS[model.held_out]})" for letter, model, n in pairs)
    reason = (
        "They hold out images in different ways, and no image is held out in both"
        if compared.first.held_out != compared.second.held_out
        else "Their held-out images are different ones: the images or labels changed between the two trainings"
    )
    return (
        f"Nothing to compare on: the two were measured on different images, {kinds}. {reason}. Train the older one's "
        "settings again on the labels of today to compare them."
    )


def how(compared: Comparison) -> str:
    """Methods and limits, in words."""
    lines = [
        "An image counts when it was held out for both models; its label is the one it has today.",
        "Difference of I-AUROC: DeLong's paired variance. Difference of AP: from what each image adds to the AP of "
        "either model. Both take the images as independent, and allow for what so few images cannot show. Intervals of "
        "95 %.",
        "Each model judges at its own thresholds in force, which can be changed on the Evaluate page. The marks on the "
        "curves (at the threshold from which on it calls a part bad) and the changed verdicts are at these thresholds.",
    ]
    kinds = (compared.first.held_out, compared.second.held_out)
    if kinds[0] != kinds[1]:
        letter = "A" if kinds[0] == "out_of_fold" else "B"
        lines.append(
            f"{letter}'s scores are out-of-fold: they come from networks trained on a part of its images, which can "
            "make it look slightly worse than it is. The other one's come from the model itself."
        )
    elif kinds[0] == "out_of_fold":
        lines.append("Both models' scores are out-of-fold: each image was scored by a network trained without it.")
    if any(one.basis == "crosswise" for one in (compared.first_counted, compared.second_counted)):
        lines.append(
            "Out-of-fold, a rule has no other scores to choose its threshold on. Escapes and overkill are then counted "
            "crosswise: the images held out for the model are dealt into up to five blocks by part, and each block is "
            "counted at the threshold that the rule chooses on the others. So the table can differ from the marks."
        )
    return "\n".join(f"- {line}" for line in lines)


@st.cache_data(max_entries=50, show_spinner=False)
def _areas(
    truth: bytes, first: bytes, second: bytes
) -> tuple[Difference | None, Difference | None, list[Interval | None]]:
    """Differences of I-AUROC and AP (B less A), and the single intervals: I-AUROC of A and B, AP of A and B."""
    bad = np.frombuffer(truth, dtype=np.int8)
    scores = [np.frombuffer(values, dtype=np.float64) for values in (first, second)]
    single = [interval(bad, values) for interval in (auroc_interval, ap_interval) for values in scores]
    return auroc_difference(bad, scores[1], scores[0]), ap_difference(bad, scores[1], scores[0]), single


def measure(compared: Comparison) -> Measured:
    """Everything that is computed from the shared scores."""
    scores = (compared.first_scores, compared.second_scores)
    of_auroc, of_ap, single = _areas(compared.labels.tobytes(), *(values.tobytes() for values in scores))
    auroc = [metrics.i_auroc(compared.labels, values) for values in scores]
    ap = [metrics.ap(compared.labels, values) for values in scores]
    return Measured(
        auroc=(auroc[0], auroc[1]),
        auroc_intervals=(single[0], single[1]),
        auroc_difference=of_auroc,
        ap=(ap[0], ap[1]),
        ap_intervals=(single[2], single[3]),
        ap_difference=of_ap,
        counted=(compared.first_counted, compared.second_counted),
    )


def meaning(difference: Difference | None) -> str:
    """What a difference, B less A, says: two sentences in Markdown, the first one bold."""
    if difference is None or difference.interval is None:
        return "**n/a:** needs good and bad images."
    interval = difference.interval
    if interval.low > 0:
        return f"**B is better:** the interval lies above 0. At least {interval.low:.3f} is shown."
    if interval.high < 0:
        return f"**B is worse:** the interval lies below 0. At least {-interval.high:.3f} is shown."
    sentence = "**No difference shown:** the interval includes 0."
    if interval.low == interval.high:
        return sentence
    return f"{sentence} B may still be up to {-interval.low:.3f} worse or up to {interval.high:.3f} better."


def _draw_figures(compared: Comparison) -> None:
    measured = measure(compared)
    missing = next((word for word, n in (("good", compared.n_good), ("bad", compared.n_bad)) if n == 0), None)
    if missing is not None:
        st.warning(
            f"There is no {missing} image among the shared ones: the areas, their differences and the curves are n/a.",
            icon=":material/label:",
        )
    figures, chart = st.columns([3, 2], gap="medium")
    with figures:
        tiles = st.columns(2)
        for tile, (name, difference) in zip(
            tiles,
            (("I-AUROC", measured.auroc_difference), ("AP-det", measured.ap_difference)),
            strict=True,
        ):
            with tile.container(border=True, gap="xxsmall", height="stretch"):
                st.metric(f"{name}: B minus A", _signed(difference), help=f"{name}: {MEANING[name]}")
                st.caption(_signed_interval(difference))
                st.markdown(meaning(difference))
        st.table(figure_table(measured))
        st.caption(prose(counted_how(*measured.counted, ("A", "B"))))
    with chart:
        if missing is None:
            drawing = roc_pair(*_curves(compared, measured))
            st.plotly_chart(drawing, key="compare-roc", config={"displayModeBar": False})


def _signed(difference: Difference | None) -> str:
    return NOT_AVAILABLE if difference is None else f"{_minus(difference.value)}"


def _signed_interval(difference: Difference | None) -> str:
    if difference is None or difference.interval is None:
        return "no interval"
    return f"95 % interval: {_minus(difference.interval.low)} to {_minus(difference.interval.high)}"


def _minus(value: float) -> str:
    text = f"{value:+.3f}"
    return "0.000" if text in ("+0.000", "-0.000") else text.replace("-", "−")


def figure_table(measured: Measured) -> pd.DataFrame:
    """Both models side by side, in words; rows are figures."""
    outcomes = [one.outcome for one in measured.counted]
    rows = {
        "I-AUROC": [
            f"{figure(value)} {interval_words(interval)}"
            for value, interval in zip(measured.auroc, measured.auroc_intervals, strict=True)
        ],
        "AP-det": [
            f"{figure(value)} {interval_words(interval)}"
            for value, interval in zip(measured.ap, measured.ap_intervals, strict=True)
        ],
        "Escape rate": [" ".join(rate_words(done.escapes, done.n_bad, "bad")) for done in outcomes],
        "Overkill rate": [" ".join(rate_words(done.overkill, done.n_good, "good")) for done in outcomes],
    }
    to_person = [done.to_person for done in outcomes]
    if any(to_person):
        rows["To a person"] = [
            " ".join(rate_words(n, done.n_good + done.n_bad, "such"))
            for n, done in zip(to_person, outcomes, strict=True)
        ]
    return pd.DataFrame.from_dict(rows, orient="index", columns=["A", "B"])


def _curves(compared: Comparison, measured: Measured) -> list[Curve]:
    curves = []
    for letter, scores, area, counted in zip(
        "AB", (compared.first_scores, compared.second_scores), measured.auroc, measured.counted, strict=True
    ):
        done = counted.as_they_are  # a mark lies on its curve
        roc = metrics.roc_curve(compared.labels, scores)
        caught = 1 - (done.escapes + done.to_person_bad) / done.n_bad  # at or above the upper threshold
        curves.append(Curve(letter, roc.fpr, roc.tpr, area or 0.0, (done.overkill / done.n_good, caught)))
    return curves


def _draw_flips(project: projects.Project, compared: Comparison) -> None:
    found = comparison.flips(compared)
    n = len(compared.image_ids)
    st.subheader(f"Where the verdict changes: {len(found):,} of {count(n, 'image')}", anchor=False)
    if not found:
        st.caption("Each at its own thresholds in force, the two models judge every shared image the same.")
        return
    by_outcome = {name: [flip for flip in found if flip.outcome == name] for name in HEADINGS}
    words = [f"{HEADINGS[name]}: **{len(flips):,}**" for name, flips in by_outcome.items() if flips or name != "check"]
    st.markdown(" · ".join(words))
    for flips in by_outcome.values():
        for label in ("bad", "good"):
            group = [flip for flip in flips if flip.label == label]
            if group:
                st.markdown(f"**{GROUPS[label, group[0].outcome]}: {len(group):,}**")
                draw_tiles(project, compared, group, names=("A", "B"))
