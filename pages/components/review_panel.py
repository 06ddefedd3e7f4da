"""Review: a worklist of scored images, the large picture with its heat-map, the verdict corrected in place."""

from __future__ import annotations

import time
from collections.abc import Sequence

import streamlit as st

from pages.components import palette, resources, state
from pages.components.errors import show_errors
from pages.components.job_progress import job_panel, start
from pages.components.localisation import draw_map_verdict
from pages.components.map_viewer import map_viewer, stored_picture
from pages.components.project import choose_model, models_or_stop
from pages.components.text import count, figure, literal, prose
from pages.components.thumb_strip import Thumb, thumb_strip
from storage import images, jobs, map_evidence, predictions, projects, registry, small_defects

PAGE = 200  # images in one worklist: more than anybody looks through before asking again
AHEAD = 3  # pictures that the browser fetches before they are asked for
SIDES = (4, 1)  # shares of the width: the picture, and the facts beside it
STRIP_HEIGHT = 172  # px, of the verdict bar and the thumbnails below the picture
REFRESH_HELP = "The list stays as it is while you correct verdicts. This reads it again with the labels of now."

FILTERS = {
    "all": "All",
    "misses": "Escapes",
    "false_alarms": "Overkill",
    "to_person": "To a person",
    "small_defects": "Small defects",
    "suspicious": "Unlabelled",
    "bad": "Bad",
    "good": "Good",
    "unsure": "Unsure",
}
EMPTY = {
    "all": "This model has not scored any image yet.",
    "misses": "No escapes: the model calls no image good that is labelled bad.",
    "false_alarms": "No overkill: the model calls no image bad that is labelled good.",
    "to_person": "No score lies between two thresholds; a second, lower one is set on the Evaluate page.",
    "small_defects": "No alarm: no image that the model calls good has a single cell that would call it bad.",
    "suspicious": "Every scored image has a label.",
    "bad": "No scored image is labelled bad.",
    "good": "No scored image is labelled good.",
    "unsure": "No scored image is labelled unsure.",
}
ALARM = (
    "Small-defect alarm: the model calls the image good, for the mean of its highest cells is too low; but the highest "
    "cell alone, with the same bias, reaches the threshold. A defect smaller than the cells that count is diluted like "
    "that. A good part with one hot cell is listed too."
)
NO_ALARM = {  # why there are no alarms, where that is the recipe's doing
    "second head": "Small-defect alarm: n/a. A second head makes this model's score from the whole map, so no single "
    "cell can be held against the threshold.",
    "highest": "This model's score is the highest cell itself: nothing is diluted, so this alarm has nothing to find.",
    "mean of all": "Small-defect alarm: n/a. This model's score is the mean of the whole map; the highest cell alone "
    "would reject nearly every part, good or bad. Small defects call for a recipe that counts the highest cells only.",
}
_SUMS = {  # pooling fraction -> what the score is; any other: the mean of the highest cells
    0: "is the map's highest cell plus a bias**, exactly. Any other cell adds nothing.",
    1: "is the mean of all cells of the map plus a bias**, exactly. Each cell adds its value divided by their number.",
}
_SOME = (
    "is the mean of its highest cells plus a bias**, exactly. Each of those cells adds its value divided by their "
    "number, any other cell adds nothing."
)
_KEYS = """
**H** hides the map, **M** the mask's outline. **D**, **E**, **N** say where the map looks; **Z** takes that back too.
"""
_SHARES = (
    """
The map is the evidence: the **score {}
The colours are smoothed for the eye; the numbers below the picture are not. A cell sees more than the place it covers.

**Drag over the picture** to cover cells: each gets the median of all the others, and the score is taken again. That is
the effect on this map alone, not a new look of the network at a changed photo: cells beside the covered ones saw that
place too.

**K** outlines the cells that count, **Esc** clears the cover. With the keyboard: Tab to the picture, then arrow keys,
and Shift with arrow keys to cover.
"""
    + _KEYS
)
_SECOND_HEAD = (
    """
The map shows where the network sees a defect. The **score comes from a second head**, which looks at the features and
at the whole map: no cell has a share of its own in it, so none can be covered. The colours are smoothed for the eye.
"""
    + _KEYS
)
WITHHELD = "The map appears after your verdict"
VERDICT_FIRST = (
    "This project asks for verdicts before the model: whoever has seen a map is swayed by it. You may change the "
    "verdict afterwards; such changes of mind are counted on the Audit page. The setting is there too."
)
ORDERS = {
    "score_desc": "Most suspicious first",
    "score_asc": "Least suspicious first",
    "closest": "Closest to a threshold",
}
ROLES = {  # role -> (a few words, what it means for the score)
    "test": ("Held out", "The model never saw this image: an honest score."),
    "out_of_fold": ("Held out (out-of-fold)", "Scored by a model trained without this image: an honest score."),
    "train": ("Trained on", "The model learned from this image: its score flatters."),
    "calibration": ("Calibration", "Used to set threshold and colour scale, not trained on."),
    "unseen": ("Not trained on", "Had no label when the model was trained: an honest score."),
}


def draw_scoring(project: projects.Project, model: registry.Model) -> None:
    """The scoring of new images while it runs, and how it ended where it did not succeed."""
    listed = jobs.list_jobs(resources.database(), project_id=project.id, kinds=("score",), limit=10)
    newest = next((job for job in listed if job.payload.get("model_id") == model.id), None)
    if newest is None or newest.status == "succeeded":
        return
    if newest.is_active or predictions.count_unscored(resources.database(), model_id=model.id):
        job_panel(newest.id)


def _offer_scoring(model: registry.Model) -> None:
    """Offer to score images that came in after the model."""
    db = resources.database()
    waiting = predictions.count_unscored(db, model_id=model.id)
    if not waiting:
        return
    busy = any(
        job.payload.get("model_id") == model.id
        for job in jobs.active(db, project_id=model.project_id, kinds=("score", "train"))
    )
    st.caption(f"{count(waiting, 'image')} without a score from this model.")
    if st.button("Score new images", key="review-score", disabled=busy):
        start("score", {"model_id": model.id}, project_id=model.project_id)
        st.rerun()


@st.fragment
def draw_review(project: projects.Project) -> None:
    """The page; a fragment, so that going from image to image runs nothing else.

    It has no title: the navigation says where one is, and the picture needs the room.
    """
    with show_errors():
        models = models_or_stop(project)
        show, which = st.columns(SIDES, gap="medium", vertical_alignment="bottom")
        with which:
            model = choose_model(project, models)
        with show:
            filter_name = _filter()
        draw_scoring(project, model)
        _draw(model, filter_name, verdict_first=project.verdict_first)


def _draw(model: registry.Model, filter_name: str, *, verdict_first: bool) -> None:
    large, side = st.columns(SIDES, gap="medium")
    with side:
        facts, listing = st.container(gap="xsmall"), st.container(gap="xsmall")
    with listing:
        order = _order()
    with large:
        if filter_name == "small_defects" and (reason := why_no_alarm(model)) is not None:
            st.info(reason, icon=":material/info:")
            return
        listed = _worklist(model, filter_name, order)
        if not listed:
            all_well = filter_name in ("misses", "false_alarms", "small_defects")
            st.info(EMPTY[filter_name], icon=":material/check_circle:" if all_well else ":material/info:")
            _offer_scoring(model)
            return
    state.take_review_pick(model.id)
    read_at = time.time()  # before the reading: what is stored later counts as newer
    current = state.review_image(model.id)
    if current not in {entry.image_id for entry in listed}:
        current = listed[0].image_id
    by_id = {image.id: image for image in images.get_many(resources.database(), image_ids=[e.image_id for e in listed])}
    chosen = next(entry for entry in listed if entry.image_id == current)
    position = listed.index(chosen)
    with facts:
        if _withheld(by_id[current], verdict_first):
            _draw_withheld(by_id[current])
        else:
            draw_facts(model, by_id[current], chosen)
        judged = [(by_id[entry.image_id], entry.role) for entry in listed]
        draw_map_verdict(model, judged, current=current, read_at=read_at)
    with listing:
        st.button("Refresh list", key="review-refresh", on_click=state.forget_worklist, help=REFRESH_HELP)
        if filter_name == "small_defects":
            st.caption("Alarm: the highest cell alone would reject.", help=ALARM)
        if state.worklist_was_sent():
            st.caption("Chosen on another page. Refresh the list, or choose a filter or an order, to see all.")
        elif len(listed) == PAGE:
            st.caption(f"The first {PAGE} of this choice and order.")
        _offer_scoring(model)
    with large:
        pictures = [
            stored_picture(by_id[e.image_id], model, withheld=_withheld(by_id[e.image_id], verdict_first))
            for e in listed[position : position + 1 + AHEAD]
        ]
        map_viewer(
            pictures[0],
            low=model.scale_low,
            high=model.scale_high,
            room=STRIP_HEIGHT,
            ahead=pictures[1:],
            thresholds=(model.threshold, model.threshold_low),
            key=state.review_viewer_key(model.id),
        )
        thumb_strip(
            [
                Thumb(
                    e.image_id,
                    by_id[e.image_id].name,
                    None if _withheld(by_id[e.image_id], verdict_first) else e.score,
                    by_id[e.image_id].label,
                )
                for e in listed
            ],
            project_id=model.project_id,
            model_id=model.id,
            current=current,
            read_at=read_at,
            advance=filter_name == "suspicious" and not verdict_first,  # first the map that the verdict has earned
            on_pick=lambda: state.take_review_pick(model.id),
            key=state.review_strip_key(model.id),
        )


def _filter() -> str:
    chosen = st.segmented_control(
        "Show",
        list(FILTERS),
        format_func=FILTERS.__getitem__,
        default="all",
        required=True,
        key=state.Key.REVIEW_FILTER,
        persist_state="session",
        help="Escapes: labelled bad, but the model passes them (misses). Overkill: labelled good, but the model "
        "rejects them (false alarms). To a person: the score lies between the two thresholds. Small defects: see the "
        "alarm beside the list. Unlabelled: no verdict yet.",
        label_visibility="collapsed",
    )
    return chosen or "all"


def _order() -> str:
    return st.selectbox(
        "Order",
        list(ORDERS),
        format_func=ORDERS.__getitem__,
        key=state.Key.REVIEW_ORDER,
        persist_state="session",
        label_visibility="collapsed",
    )


def _worklist(model: registry.Model, filter_name: str, order: str) -> Sequence[state.ReviewEntry]:
    """The list as it was when the filter was chosen: correcting a verdict must not move the next image away."""
    question = (model.id, filter_name, order, model.threshold, model.threshold_low)
    kept = state.worklist(question)
    if kept is not None:
        return kept
    db = resources.database()
    if filter_name == "small_defects":
        with st.spinner("Reading the maps, once", show_time=True):
            alarms = small_defects.alarms(db, model=model, order=order, limit=PAGE)
        if alarms.without_map:
            unknown = f"{count(alarms.without_map, 'image')} without a map: nothing can be said of the highest cell."
            st.toast(unknown, icon=":material/warning:")
        found = alarms.listed
    else:
        found = predictions.scored(
            db,
            model_id=model.id,
            filter=filter_name,
            order=order,
            threshold=model.threshold,
            threshold_low=model.threshold_low,
            limit=PAGE,
        )
    return state.keep_worklist(question, [state.ReviewEntry(s.image.id, s.score, s.role) for s in found])


def _withheld(image: images.Image, verdict_first: bool) -> str | None:
    """Why the model's word on an image is not shown yet, or None."""
    return WITHHELD if verdict_first and image.label is None else None


def _draw_withheld(image: images.Image) -> None:
    st.markdown(literal(image.name))
    st.markdown("**Model: hidden**", help=VERDICT_FIRST)
    st.caption("Map and score appear after your verdict.")
    st.markdown(f"**Label: {_verdict(None)}**")


def draw_facts(model: registry.Model, image: images.Image, entry: state.ReviewEntry) -> None:
    """Name, score, both verdicts and the image's role, stated plainly."""
    said = model.verdict(entry.score)
    role, meaning = ROLES.get(entry.role, (entry.role, ""))
    st.markdown(literal(image.name))
    st.markdown(f"**Model: {_verdict(said)}**", help=evidence_help(model))
    st.caption(score_line(model, entry.score))
    by = f" by {prose(image.label_inspector)}" if image.label_inspector else ""
    st.markdown(f"**Label: {_verdict(image.label)}**{by}")
    if image.label in ("good", "bad") and said in ("good", "bad") and image.label != said:
        st.badge("Miss" if said == "good" else "False alarm", color="orange")
    st.markdown(f"**{role}**")
    st.caption(meaning)


def evidence_help(model: registry.Model) -> str:
    """How score and map belong together, which differs from recipe to recipe, and the keys."""
    if map_evidence.has_second_head(model):
        return _SECOND_HEAD
    fraction = map_evidence.pooling_fraction(model)
    return _SHARES.format(_SOME if fraction is None else _SUMS.get(fraction, _SOME))


def why_no_alarm(model: registry.Model) -> str | None:
    """Why the small-defect alarm says nothing about a model of this kind, or None."""
    if map_evidence.has_second_head(model):
        return NO_ALARM["second head"]
    fraction = map_evidence.pooling_fraction(model)
    return None if fraction is None else {0: NO_ALARM["highest"], 1: NO_ALARM["mean of all"]}.get(fraction)


def score_line(model: registry.Model, score: float) -> str:
    """Score and thresholds. A threshold just above the highest good score reads the same in three digits."""
    cuts = [cut for cut in (model.threshold_low, model.threshold) if cut is not None]
    just = any(score < cut and figure(score) == figure(cut) for cut in cuts)
    named = f"threshold{'s' if len(cuts) > 1 else ''} {' and '.join(map(figure, cuts))}"
    return f"score {figure(score)}{', just below' if just else ' ·'} {named}"


def _verdict(verdict: str | None) -> str:
    style = palette.style_of(verdict)
    return f"{style.sign} {style.word}"
