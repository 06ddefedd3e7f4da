"""The whole report: cover, sections in order, the block of dates, and the page around them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from ssn_core.report import about_context, about_data, about_figures, about_maps
from ssn_core.report.about_figures import NO_BAD, NO_GOOD, basis
from ssn_core.report.facts import Dated, Facts
from ssn_core.report.html import Html, join, tag
from ssn_core.report.measured import Measured, measure
from ssn_core.report.words import figure, missing, range_of_figure, rate, threshold

_STYLE = (Path(__file__).parent / "report.css").read_text(encoding="utf-8")
# No script, no network: a browser that obeys this loads nothing but what is in the file.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_BEGIN, _END = "<!-- dates: begin -->", "<!-- dates: end -->"
_DATES = re.compile(re.escape(_BEGIN) + ".*?" + re.escape(_END), re.DOTALL)


def render(facts: Facts, dates: Sequence[Dated]) -> bytes:
    """The report as an HTML file in UTF-8. Equal facts give equal bytes, the block of dates aside.

    Raises:
        SsnError: a score is not finite.
    """
    measured = measure(facts)
    page = join(
        Html("<!DOCTYPE html>\n"),
        tag(
            "html",
            tag(
                "head",
                tag("meta", charset="utf-8"),
                tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
                tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
                tag("title", f"Report on model {facts.model}"),
                tag("style", Html(_STYLE)),
            ),
            tag("body", tag("main", _cover(facts, measured), _sections(facts, measured), _signatures())),
            lang="en",
        ),
    )
    fingerprint = hashlib.sha256(_encoded(page)).hexdigest()
    return _encoded(_DATES.sub(lambda _found: _block(dates, fingerprint), page, count=1))


def without_dates(report: bytes) -> bytes:
    """A report without its block of dates: what two reports on the same facts have in common, byte for byte."""
    return _DATES.sub(f"{_BEGIN}{_END}", report.decode("utf-8"), count=1).encode("utf-8")


def _cover(facts: Facts, measured: Measured) -> Html:
    limits = (
        f"threshold {threshold(facts.threshold)}"
        if facts.threshold_low is None
        else f"thresholds {threshold(facts.threshold_low)} and {threshold(facts.threshold)}"
    )
    return tag(
        "header",
        tag("p", "SSN Inspector · report on a model", class_="kicker"),
        tag("h1", facts.model),
        tag("p", "Project: ", tag("strong", facts.project), f" · recipe {facts.recipe} · {facts.backbone}"),
        tag("div", _tiles(facts, measured), class_="tiles"),
        tag("p", f"On {basis(facts, measured)}; {limits}. Brackets: 95\N{NO-BREAK SPACE}% intervals.", class_="note"),
        tag("p", f"Escapes and overkill: {facts.counted.note}", class_="note") if measured.n else None,
        Html(_BEGIN + _END),
    )


def _tiles(facts: Facts, measured: Measured) -> list[Html]:
    done = measured.outcome
    tiles = [
        _rate_tile("Escape rate", "bad parts that pass", done.escapes, done.n_bad, NO_BAD),
        _rate_tile("Overkill rate", "good parts rejected", done.overkill, done.n_good, NO_GOOD),
    ]
    if facts.threshold_low is not None or measured.has_to_person:
        tiles.append(_rate_tile("To a person", "share of all parts", done.to_person, measured.n, measured.lacking))
    for name, words, value, interval in (
        ("I-AUROC", "bad above good", measured.auroc, measured.auroc_interval),
        ("AP-det", "average precision", measured.ap, measured.ap_interval),
    ):
        if value is None:
            tiles.append(_tile(name, words, "n/a", measured.lacking))
        else:
            shown = f"({range_of_figure(interval)})" if interval is not None else missing("no interval")
            tiles.append(_tile(name, words, figure(value), shown))
    return tiles


def _rate_tile(name: str, words: str, events: int, n: int, nothing: str) -> Html:
    shown, interval = rate(events, n, nothing=nothing)
    if not n:
        return _tile(name, words, "n/a", nothing)
    value, counted = shown.split(" (")
    return _tile(name, words, value, f"({interval})", f"{counted.rstrip(')')}")


def _tile(name: str, words: str, value: str, *below: str) -> Html:
    return tag(
        "div",
        tag("p", name, class_="name"),
        tag("p", value, class_="value"),
        (tag("p", line) for line in below),
        tag("p", words, class_="note"),
        class_="tile",
    )


def _sections(facts: Facts, measured: Measured) -> Html:
    sections: list[tuple[str, Callable[[], Html]]] = [
        ("Purpose", lambda: about_data.purpose(facts)),
        ("Data and labels", lambda: about_data.data(facts)),
        ("What was trained on, and what was measured on", lambda: about_data.split(facts)),
        ("Method and settings", lambda: about_data.method(facts)),
        ("Figures", lambda: about_figures.figures(facts, measured)),
        ("Thresholds", lambda: about_figures.thresholds(facts, measured)),
        ("Curves", lambda: about_figures.curves(facts, measured)),
        ("Where the model looks", lambda: about_maps.localisation(facts)),
        ("Worst and best maps", lambda: about_maps.galleries(facts)),
        ("Agreement between inspectors", lambda: about_context.agreement(facts)),
        ("Comparison with the parent", lambda: about_context.parent(facts)),
        ("Limits of validity", lambda: about_context.limits(facts, measured)),
        ("Versions and hashes", lambda: about_context.provenance(facts)),
    ]
    return join(
        tag("section", tag("h2", f"{number}  {title}"), body(), id=f"section-{number}")
        for number, (title, body) in enumerate(sections, start=1)
    )


def _signatures() -> Html:
    lines = ("Written by", "Checked by", "Released by")
    return tag(
        "section",
        tag(
            "div",
            (tag("div", tag("p", ""), tag("p", f"{line}: name, date, signature", class_="note")) for line in lines),
            class_="signatures",
        ),
    )


def _block(dates: Sequence[Dated], fingerprint: str) -> Html:
    """The only place with dates, and with what depends on who writes the report and when."""
    rows = [tag("tr", tag("th", one.what, scope="row"), tag("td", one.when)) for one in dates]
    mark = tag("code", fingerprint)
    rows.append(tag("tr", tag("th", "Fingerprint of all else in this file", scope="row"), tag("td", mark)))
    return join(
        Html(_BEGIN + "\n"),
        tag("section", tag("h2", "Dates"), tag("table", tag("tbody", rows), class_="pairs"), class_="dates"),
        Html(_END),
    )


def _encoded(page: str) -> bytes:
    return page.encode("utf-8")
