"""The log of the Audit page: who said what and when, filtered, one image at a time, and as CSV."""

from __future__ import annotations

import html
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta

import pandas as pd
import streamlit as st

from pages.components import label_totals, palette, resources, state
from pages.components.errors import show_errors
from pages.components.study_results import CSS, picture_cell, table
from pages.components.text import count, csv_bytes, literal, moment, percent, plain, prose
from ssn_core.rates import rate_interval
from storage import audit, images, projects
from storage.audit import Entry, Filter, Moment

ROWS = 100  # events on one page of the log
ANY = "Anything"
ORIGINS = {
    "board": "Board",
    "single": "Single view",
    "review": "Review",
    "opinion": "Third verdict",
    "import": "Import",
}
VERDICTS = {"good": "Good", "bad": "Bad", "unsure": "Unsure", "cleared": "Cleared"}
MAPS = {True: "After the map", False: "Before the map"}
MAP_VERDICTS = {"on_defect": "On the defect", "elsewhere": "Elsewhere"}
VERDICT_FIRST = (
    "Verdict before the model: Review hides the model's map and score of an image until it has a verdict, so that the "
    "first verdict is the inspector's own. On the Label page the map can be looked at after the verdict only."
)
MIND = (
    "Of those who gave a verdict before they had seen the model's map of the image, and another one after: how many "
    "said something else. Each inspector counts once for each image, with the last verdict before and the first after."
)
CSV_HEADER = ("time", "image", "verdict", "inspector", "where", "undo", "map_seen", "seconds", "file", "decides_label")


def draw(project: projects.Project) -> None:
    """The log, what it adds up to, and the setting that decides what people see before their verdict."""
    db = resources.database()
    _summary(project)
    wanted = _filter(project)
    turned = state.audit_pages(project.id, wanted)
    total = audit.count(db, project_id=project.id, wanted=wanted)
    shown = audit.events(db, project_id=project.id, wanted=wanted, limit=ROWS, before_id=turned[-1] if turned else None)
    if not shown:
        st.info("Nobody has said anything that fits." if wanted != Filter() else "Nobody has given a verdict yet.")
        return
    log, one = st.columns([3, 1], gap="medium")
    with log:
        chosen = _table(project, wanted, shown, len(turned))
        _pages(project, wanted, shown, turned, total)
    with one:
        _image(project, chosen or shown[0])


def _summary(project: projects.Project) -> None:
    people, mind, setting = st.columns([3, 6, 3], gap="medium", vertical_alignment="top")
    by_inspector = label_totals.labels_by_inspector.of(project.id)
    names = " · ".join(f"{prose(who)} {n:,}" for who, n in list(by_inspector.items())[:8])
    more = f" · and {len(by_inspector) - 8} more" if len(by_inspector) > 8 else ""
    people.markdown(
        f"**Labels by inspector**  \n{names or 'none yet'}{more}", help="Images that bear this inspector's label now."
    )
    mind.markdown(
        f"**Changed their mind after seeing the map**  \n{_mind(label_totals.mind_changes.of(project.id))}",
        help=MIND,
    )
    setting.toggle(
        "Verdict first",
        key=state.show_verdict_first(project.id, project.verdict_first),
        on_change=_set_verdict_first,
        args=(project.id,),
        help=VERDICT_FIRST,
    )


def _set_verdict_first(project_id: int) -> None:
    with show_errors():
        projects.set_verdict_first(
            resources.database(), project_id=project_id, value=state.verdict_first_asked(project_id)
        )


def _mind(found: audit.MindChanges) -> str:
    interval = rate_interval(found.changed, found.looked)
    if interval is None:
        return "n/a: nobody has given a verdict both before and after seeing a map"
    rate = f"{found.changed:,} of {found.looked:,}, {percent(found.changed / found.looked, 0)}"
    spread = f"95 %: {100 * interval.low:.0f} to {100 * interval.high:.0f} %"
    other = f", {found.other:,} unsure" if found.other else ""
    return f"{rate} ({spread}): {found.good_to_bad:,} good → bad, {found.bad_to_good:,} bad → good{other}"


def _filter(project: projects.Project) -> Filter:
    known = audit.inspectors(resources.database(), project_id=project.id)
    key = f"{state.Key.AUDIT_FILTER}-{project.id}"
    who, what, where, seen, name, since, until = st.columns([3, 2, 2, 2, 3, 3, 3], gap="xsmall")

    def choose(place: st.delta_generator.DeltaGenerator, label: str, options: dict[object, str]) -> object:
        return place.selectbox(
            label, [None, *options], format_func=lambda one: ANY if one is None else options[one], key=f"{key}-{label}"
        )

    inspector = choose(who, "Inspector", {one: f"{plain(one)} ({n:,})" for one, n in known.items()})
    verdict = choose(what, "Verdict", dict(VERDICTS))
    origin = choose(where, "Where", dict(ORIGINS))
    map_seen = choose(seen, "Map", dict(MAPS))
    part = name.text_input("Image", placeholder="part of its name", key=f"{key}-name")
    first = since.date_input("From", value=None, format="YYYY-MM-DD", key=f"{key}-since")
    last = until.date_input("To", value=None, format="YYYY-MM-DD", key=f"{key}-until")
    return Filter(
        inspector=inspector,  # type: ignore[arg-type]  # as the options are
        verdict=verdict,  # type: ignore[arg-type]
        origin=origin,  # type: ignore[arg-type]
        name=part.strip() or None,
        since=_midnight(first),
        until=_midnight(last, days=1),
        map_seen=map_seen,  # type: ignore[arg-type]
    )


def _midnight(day: date | None, days: int = 0) -> datetime | None:
    """The beginning of a day (or of one after it) in this computer's own time zone."""
    return None if day is None else datetime.combine(day + timedelta(days=days), time()).astimezone()


def _table(project: projects.Project, wanted: Filter, shown: Sequence[Entry], page: int) -> Entry | None:
    rows = [
        {
            "Time": moment(one.created_at),
            "Image": plain(one.name),
            "Verdict": _verdict(one),
            "Inspector": plain(one.inspector),
            "Where": plain(one.file) if one.file else ORIGINS.get(one.origin, one.origin),
            "Map": {True: "seen", False: "not seen", None: ""}[one.map_seen],
            "Label": "●" if one.is_current else "",
        }
        for one in shown
    ]
    event = st.dataframe(
        pd.DataFrame(rows),
        hide_index=True,
        height=392,
        on_select="rerun",
        selection_mode="single-row",
        key=state.audit_table_key(project.id, wanted, page),
        column_config={
            "Time": st.column_config.TextColumn(width=130),
            "Verdict": st.column_config.TextColumn(width=110),
            "Map": st.column_config.TextColumn(width=70, help="Was the model's map on the screen before the verdict?"),
            "Label": st.column_config.TextColumn(width=60, help="● This verdict is the image's label."),
        },
    )
    chosen = event["selection"]["rows"]
    return shown[chosen[0]] if chosen and chosen[0] < len(shown) else None


def _pages(project: projects.Project, wanted: Filter, shown: Sequence[Entry], turned: list[int], total: int) -> None:
    first = len(turned) * ROWS + 1
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button("Newer", disabled=not turned, on_click=turned.pop, key="audit-newer")
        more = first + len(shown) - 1 < total
        st.button("Older", disabled=not more, on_click=turned.append, args=(shown[-1].id,), key="audit-older")
        st.caption(f"{first:,} to {first + len(shown) - 1:,} of {count(total, 'verdict')}, newest first")
        st.download_button(
            "CSV of all that fit",
            data=lambda: _csv(project.id, wanted),
            file_name=f"audit-project-{project.id}.csv",
            mime="text/csv",
            key="audit-csv",
        )


def _csv(project_id: int, wanted: Filter) -> bytes:
    rows = (
        (
            one.created_at.isoformat(),
            one.name,
            one.verdict,
            one.inspector,
            one.origin,
            str(one.is_undo).lower(),
            None if one.map_seen is None else str(one.map_seen).lower(),
            one.seconds,
            one.file,
            str(one.is_current).lower(),
        )
        for one in audit.all_events(resources.database(), project_id=project_id, wanted=wanted)
    )
    return csv_bytes(CSV_HEADER, rows)


def _image(project: projects.Project, chosen: Entry) -> None:
    """Everything said about one image."""
    db = resources.database()
    st.markdown(literal(images.get(db, image_id=chosen.image_id).name))
    told = audit.about_image(db, image_id=chosen.image_id, asking=state.inspector())
    name = html.escape(plain(chosen.name))
    st.html(
        f"<style>{CSS}{_CSS}</style>"
        f'<div class="ssn-said">{picture_cell(chosen.image_id, name, resources.token(project.id))}</div>'
        + table((), [_line(one) for one in told], kind="said")
    )


def _line(one: Moment) -> list[str]:
    look = palette.style_of(one.verdict)
    word = MAP_VERDICTS.get(one.verdict) or VERDICTS.get(one.verdict, look.word)
    sign = "" if one.verdict in MAP_VERDICTS else look.sign
    where = f"{one.kind}: {one.detail}" if one.kind != "label" else ORIGINS.get(one.detail, one.detail)
    return [
        f'<span style="color:{look.colour};font-weight:600">{sign} {word}</span>{" (undo)" if one.is_undo else ""}'
        f"<small>{html.escape(plain(where))}</small>",
        f"{html.escape(plain(one.inspector))}<small>{moment(one.created_at)}</small>",
    ]


def _verdict(one: Entry) -> str:
    look = palette.style_of(one.verdict)
    return f"{look.sign} {VERDICTS.get(one.verdict, look.word)}{' (undo)' if one.is_undo else ''}"


_CSS = """
.ssn-said img { display: block; width: 100%; max-height: 220px; object-fit: contain; border-radius: 4px; }
"""
