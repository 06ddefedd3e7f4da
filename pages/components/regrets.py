"""The regret list: images that the fast model gets wrong and the slow one right, one click from Review."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from pages.components import state
from pages.components.compare import basis, compared_now, why_none
from pages.components.errors import show_errors
from pages.components.flip_tiles import draw_tiles
from pages.components.text import count, plain
from pages.components.tradeoff_points import Point, fast_and_slow
from storage import comparison, projects
from storage.comparison import Comparison, Flip

NAMES = ("Fast", "Slow")
NOT_MEASURED = "not measured"
TITLES = {"bad": "Bad parts that the fast model passes (escapes)", "good": "Good parts that it rejects (overkill)"}


def draw_regrets(project: projects.Project, points: Sequence[Point]) -> None:
    """The choice of two models, and what the fast one gets wrong."""
    time = state.tradeoff_time()
    pair = fast_and_slow(points, time)
    if pair is None:
        return
    st.subheader("What the fast model costs: the regret list", anchor=False)
    with show_errors():
        fast, slow = _choose(project, points, pair)
        compared = compared_now(fast.model_id, slow.model_id)
        if not compared.image_ids:
            st.info(why_none(compared, NAMES), icon=":material/info:")
            return
        lost, gained = comparison.regrets(comparison.flips(compared))
        st.markdown(_summary(lost, gained, fast, slow, time))
        st.caption(f"{basis(compared, NAMES)} {_judged(compared)}")
        for label, title in TITLES.items():
            group = [flip for flip in lost if flip.label == label]
            if group:
                st.markdown(f"**{title}: {len(group):,}**")
                draw_tiles(project, compared, group, names=NAMES)


def _choose(project: projects.Project, points: Sequence[Point], pair: tuple[int, int]) -> tuple[Point, Point]:
    by_id = {point.model_id: point for point in points if point.auroc is not None}
    fast_key, slow_key = state.regret_keys(project.id)

    def title(model_id: int) -> str:
        point = by_id[model_id]
        latency = point.latency(state.tradeoff_time())
        return f"{point.number}. {plain(point.name)} · {NOT_MEASURED if latency is None else f'{latency:.1f} ms'}"

    left, right = st.columns(2)
    state.settle_choice(fast_key, list(by_id), pair[0])
    with left:
        fast = st.selectbox("Fast", list(by_id), format_func=title, key=fast_key, persist_state="session")
    others = [number for number in by_id if number != fast]
    state.settle_choice(slow_key, others, pair[1] if pair[1] != fast else others[0])
    with right:
        slow = st.selectbox("Slow", others, format_func=title, key=slow_key, persist_state="session")
    return by_id[fast], by_id[slow]


def _judged(compared: Comparison) -> str:
    words = "Each judges at its own thresholds in force."
    if any(one.basis != "separate" for one in (compared.first_counted, compared.second_counted)):
        words += " A threshold that was chosen with these same scores in view flatters its model here."
    return words


def _summary(lost: Sequence[Flip], gained: Sequence[Flip], fast: Point, slow: Point, time: str) -> str:
    quick, long = fast.latency(time), slow.latency(time)
    saved = "" if quick is None or long is None else f" for {quick:.1f} ms instead of {long:.1f} ms an image"
    words = (
        f"**{count(len(lost), 'image')}** wrong with {fast.number} and right with {slow.number}{saved}. "
        f"The other way round: **{count(len(gained), 'image')}**."
    )
    return words if lost else f"No regrets: {words}"
