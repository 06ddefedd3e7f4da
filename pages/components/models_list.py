"""The models of a project, newest first: where each comes from, how good it is, and what can be done with it."""

from __future__ import annotations

from typing import Any, Literal

import pandas as pd
import streamlit as st

from pages.components import resources, state
from pages.components.errors import show_errors
from pages.components.model_figures import IN_WORDS, SPLITS, draw_figures
from pages.components.report_panel import report_button
from pages.components.text import count, moment, plain, prose
from ssn_core.errors import ModelFolderError, SsnError
from storage import lineage, projects, registry, snapshots

SHOWN_CHANGES = 200  # images of one kind of change that are listed by name
WEIGHTS = {"imagenet": "ImageNet weights", "bundled": "bundled weights", "random": "random weights"}
LONGEST_VALUE = 32  # characters of a setting's value; a hash has more, a recipe's name has not
CHANGED, ARCHIVE, DELETE = "What changed", "Archive", "Delete …"
SETTING_WORDS = {
    "held_out": "held-out images",
    "scales": "image scales",
    "weights": "backbone weights",
    "weights_sha256": "backbone weights (SHA-256)",
    "ssn_core": "version of the method",
    "torch": "version of torch",
}
TRAINING = {True: "In training", False: "Training cut off"}
UNFINISHED = (
    "It becomes the active model when its training is done. One that was cut off goes on where it was: resume it on "
    "the Train page."
)
ACTIVATE_HELP = "Review and Inspect start with it at once. Nothing is lost: the way back is the same button."


def draw_list(project: projects.Project) -> None:
    """All models; archived ones folded away at the end."""
    db = resources.database()
    if (notice := state.take_deletion_notice()) is not None:
        words, failed = notice
        st.toast(words, icon=":material/error:" if failed else ":material/delete:", duration="long")
    entries = lineage.entries(db, project_id=project.id)
    offered = [entry for entry in entries if entry.model.archived_at is None]
    archived = [entry for entry in entries if entry.model.archived_at is not None]
    st.caption(
        "Figures: held-out images, labels of today, thresholds in force; in brackets, intervals of 95 %.", help=IN_WORDS
    )
    for entry in offered:
        _card(entry, project, offered)
    if archived:
        with st.expander(f"Archived: {count(len(archived), 'model')}", icon=":material/inventory_2:"):
            st.caption("No page offers them. Their scores, figures and files are kept.")
            for entry in archived:
                _card(entry, project, offered)


def _card(entry: lineage.Entry, project: projects.Project, offered: list[lineage.Entry]) -> None:
    model = entry.model
    with st.container(border=True, key=f"model-card-{model.id}"):
        facts, good, buttons = st.columns([11, 9, 4], gap="medium")
        with facts, st.container(gap="xxsmall"):
            badge = " :blue-badge[:material/check_circle: Active]" if entry.active else ""
            if entry.training is not None:
                badge += f" :orange-badge[:material/hourglass: {TRAINING[entry.in_training]}]"
            st.markdown(f"**{prose(model.name)}**{badge}", help=None if entry.training is None else UNFINISHED)
            st.caption(" · ".join(_facts(model)))
            st.markdown(_learned_from(model))
            st.caption(_origin(entry))
        with good, st.container(gap="xxsmall"):
            draw_figures(model)
        with buttons, st.container(gap="xsmall"):
            _buttons(entry, project, offered)


def _facts(model: registry.Model) -> list[str]:
    summary = model.summary or {}
    settings = summary.get("settings") or {}
    size, scales = settings.get("image_size"), settings.get("scales")
    weights = WEIGHTS.get(summary.get("weights", ""))
    return [
        moment(model.created_at),
        prose(model.recipe),
        prose(model.backbone),
        *([weights] if weights else []),
        *([f"{size[0]} × {size[1]} px"] if isinstance(size, list) and len(size) == 2 else []),
        *([f"{scales}\u00a0image scales"] if isinstance(scales, int) and scales > 1 else []),
    ]


def _learned_from(model: registry.Model) -> str:
    try:
        n_good, n_bad = snapshots.learned_from(resources.database(), model)
    except ModelFolderError as error:
        return f"Learned from: n/a. {prose(error)}"
    return f"Learned from **{n_good:,} good** and **{n_bad:,} bad** labels"


def _origin(entry: lineage.Entry) -> str:
    """The parent, and what changed against it, in one line."""
    if entry.parent is None:
        return "No parent on record: it is the first model, or its parent was deleted."
    try:
        changes = snapshots.changes(resources.database(), before=entry.parent, after=entry.model)
    except ModelFolderError as error:
        return f"After {prose(entry.parent.name)}; what changed is n/a. {prose(error)}"
    return f"After **{prose(entry.parent.name)}**: {changes_line(changes)}"


def changes_line(changes: snapshots.Changes) -> str:
    """What changed, in words: "12 labels added (8 good, 4 bad), 2 flipped; epochs 0 → 40"."""
    if changes.nothing:
        return "same labels, same settings"
    parts = []
    for found, word in ((changes.added, "added"), (changes.removed, "removed")):
        if found:
            bad = sum("bad" in (change.before, change.after) for change in found)
            parts.append(f"{count(len(found), 'label')} {word} ({len(found) - bad:,} good, {bad:,} bad)")
    if changes.flipped:
        parts.append(f"{count(len(changes.flipped), 'label')} flipped")
    words = [", ".join(parts) or "same labels"]
    if changes.settings:
        recipe = [change for change in changes.settings if change.name == "recipe"]
        named = [
            f"{prose(_setting(c.name))} {prose(_value(c, 'before'))} → {prose(_value(c, 'after'))}"
            for c in recipe or changes.settings[:2]  # another recipe brings settings of its own
        ]
        more = len(changes.settings) - len(named)
        words.append(", ".join(named) + (f" and {count(more, 'more setting')}" if more else ""))
    else:
        words.append("same settings")
    return "; ".join(words)


def _setting(name: str) -> str:
    return SETTING_WORDS.get(name, name.replace("_", " "))


def _value(change: snapshots.SettingChange, side: Literal["before", "after"]) -> str:
    value: Any = getattr(change, side)
    if change.name == "epochs" and value == 0:
        return "automatic"
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list):
        return " × ".join(str(part) for part in value)
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return SPLITS.get(text, text if len(text) <= LONGEST_VALUE else f"{text[:12]}…")


def _buttons(entry: lineage.Entry, project: projects.Project, offered: list[lineage.Entry]) -> None:
    model = entry.model
    if model.archived_at is not None:
        st.button("Bring back", key=f"model-back-{model.id}", on_click=_bring_back, args=(model.id,), width="stretch")
    elif not entry.active and entry.training is None:
        older = model.id < (project.active_model_id or 0)
        st.button(
            "Roll back to it" if older else "Activate",
            key=f"model-activate-{model.id}",
            on_click=_activate,
            args=(model.id, model.name),
            width="stretch",
            help=ACTIVATE_HELP,
        )
    other = _compare_with(entry, offered)
    if other is not None:
        st.button(
            "Compare",
            key=f"model-compare-{model.id}",
            on_click=state.show_comparison,
            args=(project.id, other, model.id),
            width="stretch",
            help="On the same images, with the active model (or, where this is it, with its parent).",
        )
    report_button(model)
    chosen = st.menu_button("More", _actions(entry), key=f"model-more-{model.id}", width="stretch")
    if chosen == CHANGED:
        _changes_dialog(entry)
    elif chosen == ARCHIVE:
        _archive(model.id, model.name)
    elif chosen == DELETE:
        _delete_dialog(entry)


def _compare_with(entry: lineage.Entry, offered: list[lineage.Entry]) -> int | None:
    """The model that this one is compared against first: the active one; the active one itself against its parent."""
    if entry.model.archived_at is not None:
        return None
    others = [other for other in offered if other.model.id != entry.model.id]
    if not entry.active:
        active = next((other.model.id for other in others if other.active), None)
        if active is not None:
            return active
    elif entry.parent is not None and any(other.model.id == entry.parent.id for other in others):
        return entry.parent.id
    return others[0].model.id if others else None


def _actions(entry: lineage.Entry) -> list[str]:
    """What the menu of a model offers. Deleting is always there: where it is not possible, its dialog says why."""
    return [
        *([CHANGED] if entry.parent is not None else []),
        *([ARCHIVE] if entry.model.archived_at is None and not (entry.active or entry.in_training) else []),
        DELETE,
    ]


@st.dialog("What changed against its parent", width="medium")
def _changes_dialog(entry: lineage.Entry) -> None:
    parent, model = entry.parent, entry.model
    if parent is None:
        return
    with show_errors():
        changes = snapshots.changes(resources.database(), before=parent, after=model)
        st.markdown(f"**{prose(parent.name)}** → **{prose(model.name)}**")
        if changes.nothing:
            st.info("Same labels and same settings: a repetition.", icon=":material/info:")
        for title, found in (
            ("Labels added", changes.added),
            ("Labels removed", changes.removed),
            ("Labels flipped", changes.flipped),
        ):
            if found:
                st.markdown(f"**{title}: {len(found):,}**")
                st.dataframe(_label_table(model.project_id, found), hide_index=True, height="content")
                if len(found) > SHOWN_CHANGES:
                    st.caption(f"The first {SHOWN_CHANGES} are shown.")
        if changes.settings:
            st.markdown(f"**Settings that differ: {len(changes.settings)}**")
            frame = pd.DataFrame(
                {
                    "Setting": [plain(_setting(change.name)) for change in changes.settings],
                    "Parent": [plain(_value(change, "before")) for change in changes.settings],
                    "This model": [plain(_value(change, "after")) for change in changes.settings],
                }
            )
            st.dataframe(frame, hide_index=True, height="content")


def _label_table(project_id: int, found: tuple[snapshots.LabelChange, ...]) -> pd.DataFrame:
    shown = found[:SHOWN_CHANGES]
    names = lineage.names(resources.database(), project_id=project_id, changes=shown)
    return pd.DataFrame(
        {
            "Image": [plain(names[c.sha256][1] if c.sha256 in names else c.sha256[:16]) for c in shown],
            "Before": [c.before or "–" for c in shown],
            "Now": [c.after or "–" for c in shown],
        }
    )


@st.dialog("Delete this model?")
def _delete_dialog(entry: lineage.Entry) -> None:
    model = entry.model
    if entry.kept_by is not None:
        st.markdown(f"**{prose(model.name)}** cannot be deleted.")
        st.info(f"{entry.kept_by}.", icon=":material/lock:")
        return
    if state.has_deletion_notice():  # the button below has done its work: close the dialog, let the page say it
        st.rerun()
    with show_errors():
        lost = lineage.loss(resources.database(), model_id=model.id)
        st.markdown(f"**{prose(model.name)}** is deleted for ever, and with it:")
        st.markdown("\n".join(f"- {line}" for line in lost_lines(lost)))
        st.caption("Images and labels stay. To hide a model and lose nothing, archive it instead.")
    left, right = st.columns(2)
    if left.button("Keep it", key="model-keep", width="stretch"):
        st.rerun()
    right.button(
        "Delete for ever",
        key="model-delete-confirm",
        type="primary",
        width="stretch",
        on_click=_delete,
        args=(model.id, model.name),
    )


def lost_lines(lost: lineage.Loss) -> list[str]:
    """What goes with a model, a line each; what is not there is not named."""
    lines = [f"the model's folder ({lost.n_bytes / 1e6:,.1f} MB)"]
    if lost.predictions:
        lines.append(f"the scores and maps of {count(lost.predictions, 'image')}")
    if lost.threshold_events:
        lines.append(count(lost.threshold_events, "version of its thresholds", "versions of its thresholds"))
    if lost.map_verdicts:
        lines.append(count(lost.map_verdicts, "verdict on its maps", "verdicts on its maps"))
    if lost.inspections:
        runs = count(lost.inspections, "run of Inspect", "runs of Inspect")
        lines.append(f"the results of {runs}, which can no longer be shown without it")
    if lost.children:
        models = count(lost.children, "later model")
        lines.append(f"the link from {models}: what changed against this one can no longer be told")
    return lines


def _activate(model_id: int, name: str) -> None:
    with show_errors():
        registry.activate(resources.database(), model_id=model_id)
        st.toast(f"{prose(name)} is the active model now.", icon=":material/check_circle:")


def _delete(model_id: int, name: str) -> None:
    try:
        lineage.delete(resources.database(), model_id=model_id, inspector=state.inspector())
    except SsnError as error:
        state.set_deletion_notice(prose(error), failed=True)
    else:
        state.set_deletion_notice(f"{prose(name)} is deleted.", failed=False)


def _archive(model_id: int, name: str) -> None:
    with show_errors():
        lineage.archive(resources.database(), model_id=model_id)
        st.toast(f"{prose(name)} is archived.", icon=":material/inventory_2:")
        st.rerun()


def _bring_back(model_id: int) -> None:
    with show_errors():
        lineage.bring_back(resources.database(), model_id=model_id)
