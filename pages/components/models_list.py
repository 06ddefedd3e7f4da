"""The models of a project, newest first: where each comes from, how good it is, and what can be done with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd
import streamlit as st

from pages.components import resources, state
from pages.components.errors import show_errors
from pages.components.report_panel import report_button
from pages.components.text import count, figure, moment, percent, plain, prose
from ssn_core import metrics
from ssn_core.errors import ModelFolderError, SsnError
from ssn_core.honest import Counted
from ssn_core.intervals import Interval, ap_interval, auroc_interval, rate_interval
from storage import labels, lineage, predictions, projects, registry, snapshots, thresholds

SHOWN_CHANGES = 200  # images of one kind of change that are listed by name
WEIGHTS = {"imagenet": "ImageNet weights", "bundled": "bundled weights", "random": "random weights"}
CHANGED, ARCHIVE, DELETE = "What changed", "Archive", "Delete …"
SPLITS = {"test": "fixed test split", "out_of_fold": "out-of-fold"}
SETTING_WORDS = {
    "held_out": "held-out images",
    "weights": "backbone weights",
    "weights_sha256": "backbone weights (SHA-256)",
    "ssn_core": "version of the method",
    "torch": "version of torch",
}
MEANING = {
    "I-AUROC": "the chance that a bad part scores above a good one; 1 is always, 0.5 a coin toss. No threshold.",
    "AP-det": "average precision: of the parts that would be rejected, the share that is really bad, averaged over all "
    "thresholds; 1 is the best, and the rarer bad parts are, the harder it is to reach.",
    "Escapes": "bad parts that pass, of all bad ones (false negatives).",
    "Overkill": "good parts that are rejected, of all good ones (false positives).",
}
IN_WORDS = "  \n".join(f"**{name}**: {meaning}" for name, meaning in MEANING.items())
ACTIVATE_HELP = "Review and Inspect start with it at once. Nothing is lost: the way back is the same button."


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


def draw_list(project: projects.Project) -> None:
    """All models; archived ones folded away at the end."""
    db = resources.database()
    if (notice := state.take_deletion_notice()) is not None:
        words, failed = notice
        st.toast(words, icon=":material/error:" if failed else ":material/delete:", duration="long")
    entries = lineage.entries(db, project_id=project.id)
    offered = [entry for entry in entries if entry.model.archived_at is None]
    archived = [entry for entry in entries if entry.model.archived_at is not None]
    newest = labels.project_history(db, project_id=project.id, limit=1)
    stamp = newest[0].id if newest else 0
    st.caption(
        "Figures: held-out images, labels of today, thresholds in force; in brackets, intervals of 95 %.", help=IN_WORDS
    )
    for entry in offered:
        _card(entry, project, offered, stamp)
    if archived:
        with st.expander(f"Archived: {count(len(archived), 'model')}", icon=":material/inventory_2:"):
            st.caption("No page offers them. Their scores, figures and files are kept.")
            for entry in archived:
                _card(entry, project, offered, stamp)


def _card(entry: lineage.Entry, project: projects.Project, offered: list[lineage.Entry], stamp: int) -> None:
    model = entry.model
    with st.container(border=True, key=f"model-card-{model.id}"):
        facts, good, buttons = st.columns([11, 9, 4], gap="medium")
        with facts, st.container(gap="xxsmall"):
            badge = " :blue-badge[:material/check_circle: Active]" if entry.active else ""
            badge += " :orange-badge[:material/hourglass: In training]" if entry.in_training else ""
            st.markdown(f"**{prose(model.name)}**{badge}")
            st.caption(" · ".join(_facts(model)))
            st.markdown(_learned_from(model))
            st.caption(_origin(entry))
        with good, st.container(gap="xxsmall"):
            _figures_of(entry, stamp)
        with buttons, st.container(gap="xsmall"):
            _buttons(entry, project, offered)


def _facts(model: registry.Model) -> list[str]:
    summary = model.summary or {}
    size = (summary.get("settings") or {}).get("image_size")
    weights = WEIGHTS.get(summary.get("weights", ""))
    return [
        moment(model.created_at),
        prose(model.recipe),
        prose(model.backbone),
        *([weights] if weights else []),
        *([f"{size[0]} × {size[1]} px"] if isinstance(size, list) and len(size) == 2 else []),
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
        named = [
            f"{prose(_setting(c.name))} {prose(_value(c, 'before'))} → {prose(_value(c, 'after'))}"
            for c in changes.settings[:2]
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
    return SPLITS.get(text, text if len(text) <= 24 else f"{text[:12]}…")


def _figures_of(entry: lineage.Entry, stamp: int) -> None:
    model = entry.model
    db = resources.database()
    found = model_figures(str(db.data_dir), model.id, thresholds.in_force(db, model_id=model.id), stamp, entry.scored)
    if found.n_good + found.n_bad == 0:
        st.caption("No figures: no image that it never saw has a score and a Good or Bad label.")
        return
    done = found.counted.outcome
    lines = [
        ("I-AUROC", figure(found.auroc), interval_words(found.auroc_interval)),
        ("AP-det", figure(found.ap), interval_words(found.ap_interval)),
        ("Escapes", *rate_words(done.escapes, done.n_bad)),
        ("Overkill", *rate_words(done.overkill, done.n_good)),
    ]
    if model.threshold_low is not None:
        n = found.n_good + found.n_bad
        lines.append(("To a person", *rate_words(done.to_person_good + done.to_person_bad, n)))
    st.markdown("  \n".join(f"{name} **{value}** {interval}" for name, value, interval in lines))
    split = SPLITS.get(model.held_out, model.held_out)
    st.caption(
        f"On {found.n_good:,} good, {found.n_bad:,} bad held-out images ({split}).  \n"
        f"Escapes and overkill: {prose(found.counted.note)}"
    )


@st.cache_data(max_entries=500, show_spinner=False)
def model_figures(
    data_dir: str,  # noqa: ARG001  # which installation
    model_id: int,
    version: thresholds.Version,
    newest_label: int,  # noqa: ARG001
    scored: int,  # noqa: ARG001
) -> Figures:
    """The figures of a model; kept until the thresholds, the project's newest label or the number of scores changes."""
    held_out = predictions.held_out(resources.database(), model_id=model_id)
    truth, scores = held_out.labels, held_out.scores
    return Figures(
        n_good=held_out.n_good,
        n_bad=held_out.n_bad,
        auroc=metrics.i_auroc(truth, scores),
        auroc_interval=auroc_interval(truth, scores),
        ap=metrics.ap(truth, scores),
        ap_interval=ap_interval(truth, scores),
        counted=thresholds.cuts(version, held_out).count(truth, scores),
    )


def interval_words(interval: Interval | None, digits: int = 3) -> str:
    """An interval in brackets, without a unit; empty where there is none."""
    return "" if interval is None else f"({interval.low:.{digits}f} to {interval.high:.{digits}f})"


def rate_words(events: int, n: int) -> tuple[str, str]:
    """A rate as "2.0 %, 1 of 50" and its interval in brackets; "n/a" where there was nothing to count."""
    interval = rate_interval(events, n)
    if interval is None:
        return "n/a", "(no such image)"
    return f"{percent(events / n)}", f"({percent(interval.low)} to {percent(interval.high)}), {events:,} of {n:,}"


def _buttons(entry: lineage.Entry, project: projects.Project, offered: list[lineage.Entry]) -> None:
    model = entry.model
    if model.archived_at is not None:
        st.button("Bring back", key=f"model-back-{model.id}", on_click=_bring_back, args=(model.id,), width="stretch")
    elif not entry.active and not entry.in_training:
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
