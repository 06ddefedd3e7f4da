"""Setting up a study of agreement: which parts, how many trials, which limits."""

from __future__ import annotations

import streamlit as st

from pages.components import resources, state
from pages.components.errors import show_errors
from pages.components.inspector import require_inspector
from pages.components.project import go
from pages.components.text import count, figure, prose
from storage import predictions, projects, registry, studies
from storage.studies import MAX_BORDERLINE, MAX_NAME_LENGTH, MAX_PARTS, MAX_TRIALS, MIN_BORDERLINE, MIN_PARTS, Limits

USUAL_PARTS, USUAL_TRIALS, USUAL_BORDERLINE = 30, 2, 0.4
EXPLANATION = (
    "**What it tells:** how far a verdict depends on who gives it, and on the day.",
    "**How:** several inspectors judge the same parts, blind and in random order, two or three times. "
    "Your labels of today are the reference.",
    "**Result:** agreement with oneself, with each other and with the reference; missed bad parts and "
    "false alarms of each, the model included, against your limits.",
)


def draw_setup(project: projects.Project, number: int) -> None:
    """The form; with too few labels, what to do first. `number`: of the study, for its suggested name."""
    counts = projects.label_counts(resources.database(), project_id=project.id)
    labelled = counts.good + counts.bad
    if labelled < MIN_PARTS or not counts.good or not counts.bad:
        st.markdown("  \n".join(EXPLANATION))
        st.info(
            f"A study needs at least {MIN_PARTS} images labelled good or bad, of both kinds. "
            f"So far there are {counts.good:,} good and {counts.bad:,} bad.",
            icon=":material/label:",
        )
        go("label")
        return
    inspector = require_inspector()
    form, words = st.columns([5, 3], gap="large")
    with words:
        for line in EXPLANATION:
            st.markdown(line)
    with form:
        _form(project, number, inspector, labelled)


def _form(project: projects.Project, number: int, inspector: str, labelled: int) -> None:
    model = None
    if project.active_model_id is not None:
        model = registry.get(resources.database(), model_id=project.active_model_id)
    with st.form(f"{state.Key.STUDY_FORM}-{project.id}"):
        name = st.text_input("Name", value=f"Study {number}", max_chars=MAX_NAME_LENGTH)
        parts, share, trials = st.columns(3, gap="medium")
        most = min(MAX_PARTS, labelled)
        n_parts = parts.number_input("Parts", MIN_PARTS, most, min(USUAL_PARTS, most))
        n_trials = trials.number_input(
            "Trials", 1, MAX_TRIALS, USUAL_TRIALS, help="How often each inspector judges every part."
        )
        borderline = share.slider(
            "Borderline parts",
            round(100 * MIN_BORDERLINE),
            round(100 * MAX_BORDERLINE),
            round(100 * USUAL_BORDERLINE),
            format="%d %%",
            disabled=model is None,
            help="Parts with scores closest to the model's threshold. The others are half good, half bad.",
        )
        st.caption(_about_model(model))
        st.markdown("**Limits**, in per cent")
        usual = Limits()
        columns = st.columns(3, gap="medium")
        effectiveness = columns[0].number_input(
            "Effectiveness, at least", 0.0, 100.0, 100 * usual.effectiveness, format="%g",
            help="Parts judged like the reference in every trial.",
        )  # fmt: skip
        miss = columns[1].number_input(
            "Miss rate, at most", 0.0, 100.0, 100 * usual.miss_rate, format="%g",
            help="Bad parts called good (escape).",
        )  # fmt: skip
        alarm = columns[2].number_input(
            "False-alarm rate, at most", 0.0, 100.0, 100 * usual.false_alarm_rate, format="%g",
            help="Good parts called bad (overkill).",
        )  # fmt: skip
        if st.form_submit_button("Set up the study", type="primary"):
            with show_errors():
                study = studies.create(
                    resources.database(),
                    project_id=project.id,
                    name=name,
                    inspector=inspector,
                    n_parts=int(n_parts),
                    borderline=borderline / 100,
                    trials=int(n_trials),
                    limits=Limits(effectiveness / 100, miss / 100, alarm / 100),
                )
                state.choose_study(project.id, study.id)
                state.set_new_study(project.id, False)
                st.rerun()


def _about_model(model: registry.Model | None) -> str:
    if model is None:
        return (
            "There is no model yet: the parts are drawn at random, half good and half bad, and no model judges along."
        )
    unseen = predictions.held_out(resources.database(), model_id=model.id)
    n = unseen.n_good + unseen.n_bad
    if not n:
        return (
            f"Model {prose(model.name)} has seen every labelled image: the parts are drawn at random, and it does not "
            "judge along."
        )
    words = (
        f"Model {prose(model.name)} judges along, on parts it has not seen: "
        f"{count(unseen.n_good, 'good image')} and {unseen.n_bad:,} bad. "
    )
    if model.threshold_low is not None:
        return words + (
            f"Its thresholds: {figure(model.threshold_low)} and {figure(model.threshold)}. “To a person” counts as bad."
        )
    return words + f"Its threshold: {figure(model.threshold)}."
