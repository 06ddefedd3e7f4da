"""What a study of agreement tells: each rater against the limits, inspectors against each other, parts in dispute."""

from __future__ import annotations

import html
from collections.abc import Sequence

import streamlit as st

from pages.components import palette, resources
from pages.components.text import NOT_AVAILABLE, count, csv_bytes, figure, percent, plain, prose
from ssn_core.agreement import Kappa, Share
from ssn_core.rates import Interval
from storage import images, studies, study_results
from storage.study_parts import Part
from storage.study_results import Rater, Results, standing

MAX_PARTS_SHOWN = 100
STANDINGS = {  # -> (sign, words, colour)
    "meets": ("✓", "meets", palette.GOOD),
    "fails": ("✕", "does not meet", palette.BAD),
    "open": ("?", "too few to tell", palette.UNSURE),
}


def draw_results(study: studies.Study) -> None:
    """All results; only for those who may see them (storage.studies.may_see_results)."""
    found = study_results.results(resources.database(), study=study)
    title, button = st.columns([4, 1], vertical_alignment="center")
    title.subheader("Results", anchor=False)
    button.download_button(
        "Download CSV",
        data=lambda: csv_bytes(*study_results.export(resources.database(), study=study)),
        file_name=f"agreement-{study.id}.csv",
        mime="text/csv",
        on_click="ignore",
        icon=":material/download:",
        width="stretch",
        key=f"study-csv-{study.id}",
    )
    if found.left_out:
        names = ", ".join(f"{prose(one.inspector)} ({sum(one.given)} verdicts)" for one in found.left_out)
        st.caption(f"Not counted, for no trial is complete: {names}.")
    if not found.raters:
        st.info("Nobody completed a trial in this study, so there is nothing to compare.", icon=":material/info:")
        return
    st.html(f"<style>{CSS}</style>{_raters(found)}")
    _between(found)
    _disputed(found)
    st.caption(_method(found))


def _raters(found: Results) -> str:
    limits = found.study.limits
    header = (
        "Rater",
        f"Effectiveness<small>right in every trial<br>at least {_limit(limits.effectiveness)}</small>",
        f"Miss rate<small>bad called good (escape)<br>at most {_limit(limits.miss_rate)}</small>",
        f"False-alarm rate<small>good called bad (overkill)<br>at most {_limit(limits.false_alarm_rate)}</small>",
        "Agrees with oneself<small>same verdict in every trial</small>",
        "Kappa<small>with the reference</small>",
    )
    return table(header, [_rater_row(rater, found) for rater in found.raters])


def _rater_row(rater: Rater, found: Results) -> list[str]:
    limits, figures = found.study.limits, rater.figures
    about = count(figures.n_trials, "trial")
    if rater.is_model:
        seen = len(found.parts) - figures.n_parts
        about = f"model; {count(seen, 'part')} not held out from it, left out here" if seen else "model"
    effective = standing(figures.versus_reference, limits.effectiveness, at_least=True)
    miss = standing(figures.miss, limits.miss_rate, at_least=False)
    alarm = standing(figures.false_alarm, limits.false_alarm_rate, at_least=False)
    return [
        f"<b>{_name(rater)}</b><small>{about}</small>",
        share_cell(figures.versus_reference, effective, "parts"),
        share_cell(figures.miss, miss, "verdicts", missing="no bad part among them"),
        share_cell(figures.false_alarm, alarm, "verdicts", missing="no good part among them"),
        _within(rater),
        kappa_cell(figures.reference_kappa),
    ]


def _within(rater: Rater) -> str:
    if rater.figures.within is None:
        why = "a model always says the same of the same image" if rater.is_model else "one trial only"
        return f"{NOT_AVAILABLE}<small>{why}</small>"
    kappa = rater.figures.within_kappa
    value = (
        NOT_AVAILABLE if kappa is None or kappa.value is None else f"{figure(kappa.value, 2)}{_range(kappa.interval)}"
    )
    reason = "" if kappa is None or kappa.value is not None else f": {html.escape(kappa.reason or '')}"
    return f"{share_cell(rater.figures.within, None, 'parts')}<small>kappa {value}{reason}</small>"


def _between(found: Results) -> None:
    st.markdown("**Between inspectors**")
    left, right = st.columns([1, 1], gap="large")
    with left:
        if len(found.inspectors) < 2:
            st.caption("n/a: it takes two inspectors with a complete trial each.")
        else:
            rows = [
                ["All say the same<small>in all trials</small>", share_cell(found.between, None, "parts")],
                [
                    "All say the same as the reference<small>in all trials</small>",
                    share_cell(found.all_right, None, "parts"),
                ],
                ["Kappa of all<small>Fleiss, all trials</small>", kappa_cell(found.between_kappa)],
            ]
            st.html(table((), rows))
    with right:
        if found.pairs:
            header = ("Kappa of two<small>Cohen, first trials</small>", *(_name(rater) for rater in found.raters[1:]))
            st.html(table(header, _pair_rows(found)))


def _pair_rows(found: Results) -> list[list[str]]:
    kappas = {(id(pair.first), id(pair.second)): pair.kappa for pair in found.pairs}
    rows = []
    for first in found.raters[:-1]:
        cells = [
            kappa_cell(kappas[id(first), id(second)]) if (id(first), id(second)) in kappas else ""
            for second in found.raters[1:]
        ]
        rows.append([f"<b>{_name(first)}</b>", *cells])
    return rows


def _disputed(found: Results) -> None:
    st.markdown("**Parts in dispute**")
    if not found.inspectors:
        st.caption("n/a: no inspector completed a trial.")
        return
    if not found.disputed:
        st.caption("None: every inspector said the same as the reference in every trial.")
        return
    shown = found.disputed[:MAX_PARTS_SHOWN]
    st.caption(
        f"{count(len(found.disputed), 'part')} of {len(found.parts)} on which an inspector differs from another one or "
        "from the reference, most dissent first. One sign for each trial, framed where it differs from the reference."
        + (f" The first {len(shown)} are shown; the CSV holds all." if len(shown) < len(found.disputed) else "")
    )
    stored = images.get_many(resources.database(), image_ids=[part.image_id for part in shown])
    names = {image.id: html.escape(plain(image.name)) for image in stored}
    token = resources.token(found.study.project_id)
    header = ("Picture", "Image", "Reference", *(_name(rater) for rater in found.raters))
    rows = [
        [
            picture_cell(part.image_id, names[part.image_id], token),
            f"{names[part.image_id]}<small>{'borderline' if part.borderline else ''}</small>",
            verdict_cell(part.reference, words=True),
            *(_verdicts(rater, part) for rater in found.raters),
        ]
        for part in shown
    ]
    st.html(table(header, rows, kind="parts"))


def _verdicts(rater: Rater, part: Part) -> str:
    given = rater.verdicts.get(part.image_id)
    if given is None:
        return f"{NOT_AVAILABLE}<small>not held out</small>"
    return " ".join(verdict_cell(verdict, wrong=verdict != part.reference) for verdict in given)


def picture_cell(image_id: int, name: str, token: str) -> str:
    """A thumbnail that opens the image; `name` is HTML already."""
    return (
        f'<a href="/ssn/image/{image_id}?t={token}" target="_blank" rel="noopener">'
        f'<img src="/ssn/thumb/{image_id}?t={token}" alt="{name}" loading="lazy"></a>'
    )


def verdict_cell(verdict: str, *, words: bool = False, wrong: bool = False) -> str:
    """A verdict's sign, with its word, framed where it is `wrong`."""
    look = palette.style_of(verdict)
    word = f" {look.word}" if words else ""
    kind = ' class="wrong"' if wrong else ""
    return f'<span{kind} style="color:{look.colour}" title="{look.word}">{look.sign}{word}</span>'


def share_cell(share: Share | None, stands: str | None, unit: str, missing: str = "") -> str:
    """A rate with its counts and interval; `missing`: why there is none."""
    if share is None or share.rate is None:
        return f"{NOT_AVAILABLE}<small>{missing}</small>"
    sign = ""
    if stands is not None:
        mark, words, colour = STANDINGS[stands]
        sign = f'<span class="stands" style="color:{colour}">{mark} {words}</span>'
    interval = share.interval
    spread = "" if interval is None else f" · {100 * interval.low:.1f}–{100 * interval.high:.1f}\u00a0%"
    counted = f"{share.count:,} of {share.of:,} {unit}"
    return f'<div class="value">{percent(share.rate)} {sign}</div><small>{counted}{spread}</small>'


def kappa_cell(kappa: Kappa | None) -> str:
    """A kappa with its interval, or why there is none."""
    if kappa is None or kappa.value is None:
        return f"{NOT_AVAILABLE}<small>{html.escape((kappa and kappa.reason) or '')}</small>"
    spread = _range(kappa.interval).strip(", ") or html.escape(kappa.reason or "")
    return f"{figure(kappa.value, 2)}<small>{spread}</small>"


def _range(interval: Interval | None) -> str:
    return "" if interval is None else f", {figure(interval.low, 2)} to {figure(interval.high, 2)}"


def _limit(rate: float) -> str:
    return f"{100 * rate:g}\u00a0%"


def _name(rater: Rater) -> str:
    return html.escape(plain(rater.name))


def table(header: Sequence[str], rows: Sequence[Sequence[str]], kind: str = "figures") -> str:
    """An HTML table; the cells are HTML already, with everything from outside escaped."""
    head = f"<tr>{''.join(f'<th>{cell}</th>' for cell in header)}</tr>" if header else ""
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<table class="ssn-agreement {kind}"><thead>{head}</thead><tbody>{body}</tbody></table>'


def _method(found: Results) -> str:
    study = found.study
    words = (
        "95 % intervals; each part counts once, however often it was looked at. “Too few to tell”: the interval "
        "includes the limit. Kappa is agreement beyond chance: 1 = always, 0 = as by chance; AIAG takes 0.75 and "
        f"more as good, less than 0.40 as poor. Reference: the labels when the study began. Seed {study.seed}."
    )
    if close := sum(part.borderline for part in found.parts):
        words += (
            f" {count(close, 'part')} of {len(found.parts)} were chosen as borderline, so rates are worse here than on "
            "the line, the model's most of all: they lie at its own threshold."
        )
    if any(rater.is_model for rater in found.raters):
        words += (
            " The model's verdicts are those at its thresholds of that moment; “to a person” counts as bad. Where its "
            "scores are out-of-fold its line is slightly optimistic: thresholds are placed on scores of the same parts."
        )
    return words


CSS = f"""
.ssn-agreement {{ width: 100%; border-collapse: collapse; font-size: 15px; font-variant-numeric: tabular-nums;
  color: {palette.INK}; }}
.ssn-agreement th {{ text-align: left; font-weight: 600; vertical-align: top; padding: 6px 14px 6px 0;
  border: 0; border-bottom: 2px solid {palette.LINE}; }}
.ssn-agreement td {{ padding: 8px 14px 8px 0; vertical-align: top; border: 0; border-bottom: 1px solid {palette.LINE};
  max-width: 16em; overflow-wrap: anywhere; }}
.ssn-agreement small {{ display: block; font-size: 12.5px; font-weight: 400; color: {palette.MUTED}; }}
.ssn-agreement.figures td:first-child {{ min-width: 9em; }}
.ssn-agreement .value {{ white-space: nowrap; }}
.ssn-agreement .stands {{ margin-left: 0.6em; font-weight: 600; }}
.ssn-agreement.parts td {{ vertical-align: middle; padding: 5px 14px 5px 0; }}
.ssn-agreement.parts img {{ display: block; width: 84px; height: 60px; object-fit: contain;
  background: {palette.SURFACE}; border-radius: 4px; }}
.ssn-agreement.parts span {{ font-weight: 600; padding: 2px 5px; margin-right: 2px; border-radius: 4px; }}
.ssn-agreement.parts .wrong {{ outline: 1.5px solid currentcolor; }}
"""
