"""Studies of agreement on their page: chosen, set up, begun or gone on with, closed; results where they may be seen.

While somebody judges, the page shows nothing else (study_board); the address says which study, so that a reload goes
on there.
"""

from __future__ import annotations

import html

import streamlit as st

from pages.components import resources, state
from pages.components.errors import show_errors
from pages.components.study_board import study_board
from pages.components.study_results import draw_results
from pages.components.study_setup import draw_setup
from pages.components.text import count, moment, plain, prose
from storage import projects, registry, studies

PARAMETER = "study"  # in the page's address: the study that is being judged
STATES = {"new": "not begun", "running": "running", "finished": "finished", "closed": "closed"}


def being_judged(project: projects.Project) -> studies.Study | None:
    """The study that the address names, where it belongs to the project and still takes verdicts."""
    text = st.query_params.get(PARAMETER, "")
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        return None
    found = [one for one in studies.list_studies(resources.database(), project_id=project.id) if one.id == int(text)]
    return found[0] if found and not found[0].is_closed else None


def judge(study: studies.Study, inspector: str) -> None:
    """The blind board, and nothing else."""
    study_board(study, inspector=inspector, on_leave=_leave)


def draw(project: projects.Project) -> None:
    """The page while nobody judges here."""
    listed = studies.list_studies(resources.database(), project_id=project.id)
    left, right = st.columns([1, 1], vertical_alignment="center")
    left.title("Agreement", anchor=False)
    if not listed or state.new_study(project.id):
        if listed:
            with right, st.container(horizontal=True, horizontal_alignment="right"):
                st.button("Back", on_click=state.set_new_study, args=(project.id, False), key="study-back")
        draw_setup(project, len(listed) + 1)
        return
    with right:
        chosen = _choose(project, listed)
    _study(chosen)


def _choose(project: projects.Project, listed: list[studies.Study]) -> studies.Study:
    lines = {study.id: _line(study) for study in listed}
    told = list(lines.values())
    for study in listed:  # two that look the same could not be told apart
        if told.count(lines[study.id]) > 1:
            lines[study.id] += f" · no. {study.id}"
    ids = list(lines)
    before = state.chosen_study(project.id)
    select, button = st.columns([3, 1], vertical_alignment="center")
    chosen = select.selectbox(
        "Study",
        ids,
        index=ids.index(before) if before in ids else 0,
        format_func=lines.__getitem__,
        key=state.study_key(project.id, str(lines)),
        label_visibility="collapsed",
    )
    state.choose_study(project.id, chosen)
    button.button("New study", on_click=state.set_new_study, args=(project.id, True), width="stretch", key="study-new")
    return next(study for study in listed if study.id == chosen)


def _line(study: studies.Study) -> str:
    begun = studies.progress(resources.database(), study=study)
    done = sum(one.finished for one in begun)
    people = f", {done} of {count(len(begun), 'inspector')} done" if begun else ""
    return f"{plain(study.name)} · {STATES[studies.state_of(study, begun)]}{people}"


def _study(study: studies.Study) -> None:
    db = resources.database()
    begun = studies.progress(db, study=study)
    who = state.inspector()
    mine = next((one for one in begun if one.inspector == who), None)
    st.caption(_facts(study))
    if not study.is_closed:
        _desk(study, begun, mine)
    if studies.may_see_results(study, begun, who):
        draw_results(study)
    elif begun:
        st.info(_why_not(begun, who), icon=":material/visibility_off:")


def _facts(study: studies.Study) -> str:
    facts = [
        f"{study.n_parts} parts, {study.n_borderline} borderline",
        count(study.trials, "trial"),
    ]
    if study.model_id is not None:
        facts.append(
            f"model {prose(registry.get(resources.database(), model_id=study.model_id).name)} as one more rater"
        )
    facts.append(f"set up by {prose(study.created_by)}, {moment(study.created_at)}")
    if study.closed_at is not None:
        facts.append(f"closed {moment(study.closed_at)}")
    return " · ".join(facts)


def _desk(study: studies.Study, begun: list[studies.Progress], mine: studies.Progress | None) -> None:
    """What this inspector can do, and how far everybody is."""
    with st.container(border=True):
        words, people, buttons = st.columns([5, 5, 2], gap="large", vertical_alignment="center")
        with words:
            st.markdown(f"**{_next_step(study, mine)}**")
            st.caption(_advice(mine))
        with people:
            _people(study, begun)
        with buttons:
            if mine is None or not mine.finished:
                label = (
                    "Start"
                    if mine is None
                    else f"Start trial {mine.complete_trials + 1}"
                    if _between(mine)
                    else "Go on"
                )
                st.button(label, type="primary", on_click=_begin, args=(study,), width="stretch", key="study-begin")
            if begun:
                _close(study, begun)


def _between(mine: studies.Progress) -> bool:
    return sum(mine.given) == mine.complete_trials * mine.n_parts


def _next_step(study: studies.Study, mine: studies.Progress | None) -> str:
    if mine is None:
        return f"Judge {study.n_parts} parts, {count(study.trials, 'time')}"
    if mine.finished:
        return ":blue[:material/check_circle:] You have judged every part"
    if _between(mine):
        return f"Trial {mine.complete_trials} of {study.trials} is done"
    trial = mine.complete_trials
    return f"You are at part {mine.given[trial] + 1} of {study.n_parts}, trial {trial + 1} of {study.trials}"


def _advice(mine: studies.Progress | None) -> str:
    if mine is not None and mine.finished:
        return "Others can still begin: each under their own name, in the sidebar."
    if mine is not None and _between(mine):
        return "Pause before the next trial, best until another day: the second look should not remember the first."
    return (
        "One picture after the other, G for good and B for bad. You can pause at any part. No verdict becomes a label."
    )


def _people(study: studies.Study, begun: list[studies.Progress]) -> None:
    if not begun:
        st.caption("Nobody has begun. Two or three inspectors make the study tell most.")
        return
    rows = []
    for one in begun:
        total = study.n_parts * study.trials
        share = 100 * sum(one.given) / total
        done = "✓ done" if one.finished else f"{sum(one.given)} of {total}"
        rows.append(
            f'<tr><td class="who">{html.escape(plain(one.inspector))}</td>'
            f'<td class="bar"><div><i style="width:{share:.1f}%"></i></div></td><td class="n">{done}</td></tr>'
        )
    st.html(f'<style>{_PEOPLE_CSS}</style><table class="ssn-people">{"".join(rows)}</table>')


_PEOPLE_CSS = """
.ssn-people { width: 100%; border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; }
.ssn-people td { padding: 3px 0; border: 0; }
.ssn-people .who { max-width: 9em; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; padding-right: 1em; }
.ssn-people .bar { width: 45%; }
.ssn-people .bar div { height: 6px; border-radius: 3px; background: #dfe4e9; overflow: hidden; }
.ssn-people .bar i { display: block; height: 100%; background: #1f5f8b; }
.ssn-people .n { text-align: right; padding-left: 14px; white-space: nowrap; color: #5b6774; }
"""


def _close(study: studies.Study, begun: list[studies.Progress]) -> None:
    with st.popover("Close study", width="stretch"):
        open_ones = [one.inspector for one in begun if not one.finished]
        st.markdown(
            "No verdict is taken any more, and everybody sees the results. This cannot be undone."
            + (f" Not done yet: {', '.join(prose(name) for name in open_ones)}." if open_ones else "")
        )
        st.button("Close now", on_click=_close_now, args=(study.id,), key="study-close")


def _close_now(study_id: int) -> None:
    with show_errors():
        studies.close(resources.database(), study_id=study_id)


def _why_not(begun: list[studies.Progress], who: str) -> str:
    waiting = [
        f"{prose(one.inspector)} ({sum(one.given)} of {len(one.given) * one.n_parts})"
        for one in begun
        if not one.finished
    ]
    if waiting and any(one.inspector == who and one.finished for one in begun):
        return f"Results appear when everybody who has begun is done. Still judging: {', '.join(waiting)}."
    return "Results appear after your own last trial, so that they cannot sway you; or when the study is closed."


def _begin(study: studies.Study) -> None:
    st.query_params[PARAMETER] = str(study.id)


def _leave() -> None:
    st.query_params.pop(PARAMETER, None)
