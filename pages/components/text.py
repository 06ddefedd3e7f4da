"""Words and numbers as people read them; names from outside made harmless."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from datetime import datetime

NOT_AVAILABLE = "n/a"
_FORMULA_STARTS = ("=", "+", "-", "@", "＝", "＋", "－", "＠")  # spreadsheets also accept the full-width signs
# Control characters, line separators, direction overrides and lone surrogates (undecodable bytes of a file name).
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def plain(name: object) -> str:
    """A name from outside in one printable line, for places that show text as it is (tables, select boxes)."""
    return _UNPRINTABLE.sub("�", str(name))


def literal(name: object) -> str:
    """A name from outside as a Markdown code span, which Streamlit shows letter by letter.

    Escaping with backslashes is not enough: emoji short codes, icons and bare links are recognised after escapes are
    resolved. Nothing is recognised inside a code span. Line breaks and direction marks become a visible sign.
    """
    text = plain(name) or " "
    fence = "`" * (max((len(run) for run in re.findall(r"`+", text)), default=0) + 1)
    pad = " " if text.startswith("`") or text.endswith("`") or (text[0] == text[-1] == " " and text.strip()) else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def prose(message: object) -> str:
    """A sentence that may hold names from outside, for Markdown: every sign is shown, none is obeyed.

    Besides the backslashes, an invisible word joiner breaks up what is recognised after escapes are resolved: emoji
    and icon codes, addresses.
    """
    escaped = re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", plain(message))
    return re.sub(r"(:|@|(?<=www)\\\.)", "\\1\u2060", escaped, flags=re.IGNORECASE)


def percent(rate: float | None, digits: int = 1) -> str:
    """A rate 0..1 as "12.3 %"; None as "n/a"."""
    return NOT_AVAILABLE if rate is None else f"{100 * rate:.{digits}f} %"


def figure(value: float | None, digits: int = 3) -> str:
    """A figure such as an AUROC or a score, with a minus sign instead of a hyphen; None as "n/a"."""
    return NOT_AVAILABLE if value is None else f"{value:.{digits}f}".replace("-", "−")


def count(n: int, singular: str, plural: str | None = None) -> str:
    """ "1 image", "1,234 images"."""
    return f"{n:,} {singular if n == 1 else plural or singular + 's'}"


def duration(seconds: float | None) -> str:
    """Seconds as "45 s", "3 min 20 s" or "2 h 05 min"; None as a dash."""
    if seconds is None:
        return "–"
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def moment(when: datetime | None) -> str:
    """A moment in this computer's own time zone as "2026-03-01 14:05"; None as a dash."""
    return "–" if when is None else when.astimezone().strftime("%Y-%m-%d %H:%M")


def safe_cell(value: object) -> object:
    """A CSV cell that no spreadsheet takes for a formula: text that begins with = + - @ gets an apostrophe in front.

    Numbers stay numbers, negative ones too.
    """
    if isinstance(value, str) and value.lstrip().startswith(_FORMULA_STARTS):
        return "'" + value
    return "" if value is None else value


def csv_bytes(header: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    """A CSV file in UTF-8 with a byte-order mark, which spreadsheets need to read it as UTF-8."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(header)
    writer.writerows([safe_cell(cell) for cell in row] for row in rows)
    return b"\xef\xbb\xbf" + buffer.getvalue().encode("utf-8", "replace")
