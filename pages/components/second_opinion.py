"""Second opinions on their page: a round is set up, judged blind, its agreement shown, disagreements settled."""

from __future__ import annotations

import html

import streamlit as st

from pages.components import resources, state
from pages.components.errors import show_errors
from pages.components.inspector import require_inspector
from pages.components.project import go
from pages.components.study_board import Desk, blind_board
from pages.components.study_results import CSS, kappa_cell, picture_cell, share_cell, table, verdict_cell
from pages.components.text import count, moment, plain, prose
from storage import images, labels, opinion_results, projects, second_opinions
from storage.opinion_results import OpinionResults, summarise
from storage.second_opinions import MAX_IMAGES, MAX_WANTED, MIN_IMAGES, SECOND, THIRD, Case, Round

PARAMETER, STAGE = "opinions", "stage"  # in the page's address: the round that is being judged
USUAL_IMAGES = 40
MAX_SHOWN = 60  # disagreements on the page
EXPLANATION = (
    "**What it tells:** how reliable your labels are, before a model learns from them.",
    "**How:** images that somebody labelled are shown again to somebody else: blind, one by one, half good, half bad.",
    "**Result:** agreement beyond chance (kappa), and the images on which people differ. A third inspector settles "
    "those, blind as well; that verdict becomes the label.",
)
METHOD = (
    "Kappa is agreement beyond chance: 1 = always, 0 = as by chance. Cohen's compares two inspectors on the images "
    "that both judged, Fleiss' all verdicts of the complete images. 95 % intervals. Good and bad images are drawn half "
    "and half, so neither the share of disagreements nor kappa is that of the whole project."
)


def being_judged(project: projects.Project) -> tuple[Round, str] | None:
    """The round and the stage that the address names, where the round belongs to the project and is open."""
    text, stage = st.query_params.get(PARAMETER, ""), st.query_params.get(STAGE, SECOND)
    if not (text.isascii() and text.isdigit() and len(text) < 10) or stage not in (SECOND, THIRD):
        return None
    listed = second_opinions.list_rounds(resources.database(), project_id=project.id)
    return next(((one, stage) for one in listed if one.id == int(text) and not one.is_closed), None)


def judge(judged: tuple[Round, str], inspector: str) -> None:
    """The blind board, and nothing else."""
    found, stage = judged
    desk = Desk(
        kind=f"opinion-{stage}",
        address="/ssn/opinions",
        what="round",
        done=("Nothing more to judge", "Thank you. There is no image left here for you."),
        more={"stage": stage},
    )
    order = second_opinions.to_judge(resources.database(), found=found, inspector=inspector, stage=stage)
    blind_board(desk, found.id, [order], project_id=found.project_id, inspector=inspector, on_leave=_leave)


def draw(project: projects.Project) -> None:
    """The rounds while nobody judges here."""
    listed = second_opinions.list_rounds(resources.database(), project_id=project.id)
    if not listed or state.new_round(project.id):
        _setup(project, len(listed) + 1, back=bool(listed))
        return
    found = _choose(project, listed)
    cases = second_opinions.cases(resources.database(), round_id=found.id)
    who = state.inspector()
    results = summarise(cases)
    st.caption(_facts(found))
    if not found.is_closed:
        _desk(found, cases, results, who)
    if found.is_closed or (who and not any(case.is_for(who, SECOND) for case in cases)):
        _figures(results)
        _disputes(found, results, who)
    else:
        st.info(
            "Results appear when you have no image left to judge here, or when the round is closed.",
            icon=":material/visibility_off:",
        )


def _choose(project: projects.Project, listed: list[Round]) -> Round:
    select, button = st.columns([4, 1], vertical_alignment="center")
    by_id = {one.id: one for one in listed}
    before = state.chosen_round(project.id)
    lines = {one.id: f"{plain(one.name)} · {'closed' if one.is_closed else 'open'} · no. {one.id}" for one in listed}
    chosen = select.selectbox(
        "Round",
        list(by_id),
        index=list(by_id).index(before) if before in by_id else 0,
        format_func=lines.__getitem__,
        key=f"{state.Key.OPINION_ROUND}-select-{project.id}-{len(listed)}-{sum(one.is_closed for one in listed)}",
        label_visibility="collapsed",
    )
    state.choose_round(project.id, chosen)
    button.button(
        "New round", on_click=state.set_new_round, args=(project.id, True), width="stretch", key="opinion-new"
    )
    return by_id[chosen]


def _facts(found: Round) -> str:
    facts = [
        count(found.n_images, "image"),
        f"{count(found.wanted, 'opinion')} each beside the label",
        f"set up by {prose(found.created_by)}, {moment(found.created_at)}",
        f"seed {found.seed}",
    ]
    if found.closed_at is not None:
        facts.append(f"closed {moment(found.closed_at)}")
    return " · ".join(facts)


def _setup(project: projects.Project, number: int, *, back: bool) -> None:
    db = resources.database()
    if back:
        st.button("Back", on_click=state.set_new_round, args=(project.id, False), key="opinion-back")
    counts = projects.label_counts(db, project_id=project.id)
    free = second_opinions.count_candidates(db, project_id=project.id)
    if not counts.good or not counts.bad or free < MIN_IMAGES:
        st.markdown("  \n".join(EXPLANATION))
        st.info(
            "A round needs images labelled good and images labelled bad that no open round has taken. "
            f"There are {count(free, 'such image')}.",
            icon=":material/label:",
        )
        go("label")
        return
    inspector = require_inspector()
    form, words = st.columns([5, 3], gap="large")
    with words:
        for line in EXPLANATION:
            st.markdown(line)
    with form, st.form(f"opinion-form-{project.id}"):
        name = st.text_input("Name", value=f"Round {number}", max_chars=200)
        first, second, third = st.columns(3, gap="medium")
        most = min(MAX_IMAGES, free)
        n_images = first.number_input("Images", MIN_IMAGES, most, min(USUAL_IMAGES, most))
        wanted = second.number_input(
            "Opinions on each", 1, MAX_WANTED, 1, help="Verdicts by others, beside the label that is there."
        )
        people = list(labels.count_by_inspector(db, project_id=project.id))
        labelled_by = third.selectbox(
            "Labelled by", [None, *people], format_func=lambda one: "Anybody" if one is None else plain(one)
        )
        if st.form_submit_button("Set up the round", type="primary"):
            with show_errors():
                made = second_opinions.create(
                    db,
                    project_id=project.id,
                    name=name,
                    inspector=inspector,
                    n_images=int(n_images),
                    wanted=int(wanted),
                    labelled_by=labelled_by,
                )
                state.choose_round(project.id, made.id)
                state.set_new_round(project.id, False)
                st.rerun()


def _desk(found: Round, cases: list[Case], results: OpinionResults, who: str) -> None:
    """What this inspector can do, and how far the round is."""
    mine = sum(case.is_for(who, SECOND) for case in cases)
    thirds = opinion_results.to_settle(cases, who)
    with st.container(border=True):
        words, buttons = st.columns([5, 3], gap="large", vertical_alignment="center")
        with words:
            st.markdown(f"**{results.complete:,} of {count(results.n_images, 'image')} judged**")
            st.progress(results.complete / max(results.n_images, 1))
            st.caption(_advice(mine, thirds, results, who))
        with buttons, st.container(horizontal=True):
            if mine:
                st.button(
                    f"Judge {count(mine, 'image')}", type="primary", on_click=_begin, args=(found.id, SECOND),
                    key="opinion-begin",
                )  # fmt: skip
            if thirds:
                st.button(
                    f"Settle {count(thirds, 'disagreement')}", type="secondary" if mine else "primary",
                    on_click=_begin, args=(found.id, THIRD), key="opinion-settle",
                )  # fmt: skip
            with st.popover("Close round"):
                st.markdown("No verdict is taken any more, and everybody sees the results. This cannot be undone.")
                st.button("Close now", on_click=_close, args=(found.id,), key="opinion-close")


def _advice(mine: int, thirds: int, results: OpinionResults, who: str) -> str:
    if not who:
        return "Type your name in the sidebar: nobody judges an image twice."
    if mine:
        return "G for good, B for bad. You see neither label nor others' verdicts, and no image that you labelled."
    if thirds:
        return "These you have not seen: settle them blind. Your verdict becomes the label."
    if results.unsettled:
        return f"{count(results.unsettled, 'disagreement')} left: an inspector who has not judged them can settle them."
    return "Nothing to judge for you here. Others can: each under their own name, in the sidebar."


def _figures(results: OpinionResults) -> None:
    left, right = st.columns([1, 1], gap="large")
    missing = "no image is complete yet"
    rows = [
        [
            "All said the same<small>complete images</small>",
            share_cell(results.agreed, None, "images", missing=missing),
        ],
        [
            "Kappa of all<small>Fleiss</small>",
            kappa_cell(results.kappa) if results.kappa else f"n/a<small>{missing}</small>",
        ],
        [
            "Disagreements<small>settled by a third verdict</small>",
            f"{len(results.disputed) - results.unsettled:,} of {len(results.disputed):,} settled",
        ],
    ]
    with left:
        st.html(f"<style>{CSS}</style>" + table((), rows))
    with right:
        pairs = [
            [
                f"<b>{html.escape(plain(pair.first))}</b> and <b>{html.escape(plain(pair.second))}</b>",
                f"{pair.same:,} of {pair.kappa.n:,}",
                kappa_cell(pair.kappa),
            ]
            for pair in results.pairs
        ]
        if pairs:
            st.html(table(("Two inspectors", "Same verdict", "Kappa<small>Cohen</small>"), pairs))
        else:
            st.caption("n/a: no image was judged by two inspectors yet.")
    st.caption(METHOD)


def _disputes(found: Round, results: OpinionResults, who: str) -> None:
    """The disagreements; those that this inspector can still settle are named without what was said."""
    st.markdown("**Disagreements**")
    if not results.disputed:
        st.caption("None so far." if results.complete else "None: no image is complete yet.")
        return
    shown = results.disputed[:MAX_SHOWN]
    stored = images.get_many(resources.database(), image_ids=[case.image_id for case in shown])
    names = {image.id: html.escape(plain(image.name)) for image in stored}
    token = resources.token(found.project_id)
    header = ("Picture", "Image", "Label then", "Others", "Settled")
    st.html(table(header, [_row(case, names[case.image_id], token, who, found) for case in shown], kind="parts"))
    if len(results.disputed) > MAX_SHOWN:
        st.caption(f"The first {MAX_SHOWN} of {len(results.disputed):,}.")


def _row(case: Case, name: str, token: str, who: str, found: Round) -> list[str]:
    picture = picture_cell(case.image_id, name, token)
    if not found.is_closed and case.is_for(who, THIRD):
        return [picture, name, "hidden", "<small>you can settle it, blind</small>", "not yet"]
    settled = "not yet"
    if case.settled is not None:
        settled = _said(case.settled.inspector, case.settled.verdict)
    others = "".join(
        _said(one.inspector, one.verdict, wrong=one.verdict != case.first_verdict) for one in case.opinions
    )
    return [picture, name, _said(case.first_inspector, case.first_verdict), others, settled]


def _said(inspector: str, verdict: str, *, wrong: bool = False) -> str:
    return f"<div>{verdict_cell(verdict, words=True, wrong=wrong)}<small>{html.escape(plain(inspector))}</small></div>"


def _begin(round_id: int, stage: str) -> None:
    st.query_params[PARAMETER] = str(round_id)
    st.query_params[STAGE] = stage


def _leave() -> None:
    for name in (PARAMETER, STAGE):
        st.query_params.pop(name, None)


def _close(round_id: int) -> None:
    with show_errors():
        second_opinions.close(resources.database(), round_id=round_id)
