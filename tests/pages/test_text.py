from __future__ import annotations

import csv
import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pages.components import text


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.png", "`a.png`"),
        ("**bold**.png", "`**bold**.png`"),
        ("<script>x</script>", "`<script>x</script>`"),
        (":smile: $x$ :red[y]", "`:smile: $x$ :red[y]`"),
        ("tick`tock", "``tick`tock``"),
        ("`all`", "`` `all` ``"),
        ("line\nbreak\u202egnp", "`line�break�gnp`"),
        ("", "` `"),
    ],
)
def test_a_hostile_name_becomes_one_code_span(name: str, expected: str) -> None:
    assert text.literal(name) == expected


@given(st.text(st.characters(exclude_categories=())))
def test_no_name_can_close_its_code_span_or_break_the_transport(name: str) -> None:
    span = text.literal(name)
    fence = len(span) - len(span.lstrip("`"))
    inner = span[fence:-fence]
    assert all(len(run) != fence for run in _runs(inner))
    span.encode("utf-8")
    assert "\n" not in span


def _runs(inner: str) -> list[str]:
    return [run for run in "".join(c if c == "`" else " " for c in inner).split() if run]


def test_a_sentence_with_a_hostile_name_obeys_none_of_its_signs() -> None:
    shown = text.prose("Bad name: **a** <b> :smile: $x$ [l](http://h) www.h.de a@b.de\n# h")
    assert not re.search(r"(?<!\\)[!-/:-@\[\]^-`{-~]", shown)  # each sign has its backslash
    assert not re.search(r"[:@](?!\u2060)|www\\\.(?!\u2060)|\n", shown)
    assert re.sub(r"\\(.)", r"\1", shown).replace("\u2060", "").startswith("Bad name: **a** <b> :smile: $x$ [l](http")


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-cmd", "@SUM(A1)", " =1", "\t=1", "\r=1", "＝1"])
def test_a_cell_that_looks_like_a_formula_is_made_harmless(cell: str) -> None:
    assert text.safe_cell(cell) == "'" + cell


@pytest.mark.parametrize("cell", [-1.5, 0, "a=b", "part-3.png", ""])
def test_numbers_and_ordinary_names_stay_as_they_are(cell: object) -> None:
    assert text.safe_cell(cell) == cell


def test_a_csv_download_reads_back_with_every_cell_in_its_place() -> None:
    data = text.csv_bytes(["name", "score"], [['a,"b".png', -0.5], ["=HYPERLINK(1)", None], ["ü.png", 1]])
    assert data.startswith(b"\xef\xbb\xbf")
    rows = list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline="")))
    assert rows == [["name", "score"], ['a,"b".png', "-0.5"], ["'=HYPERLINK(1)", ""], ["ü.png", "1"]]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(None, "–"), (-1, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")],
)
def test_durations_read_as_people_say_them(seconds: float | None, expected: str) -> None:
    assert text.duration(seconds) == expected


def test_a_missing_figure_is_not_available_and_never_zero() -> None:
    assert text.percent(None) == text.figure(None) == "n/a"
    assert text.percent(0.0) == "0.0 %"
    assert text.figure(0.0) == "0.000"


def test_one_is_singular() -> None:
    assert text.count(1, "image") == "1 image"
    assert text.count(1234, "image") == "1,234 images"
    assert text.count(0, "entry", "entries") == "0 entries"
