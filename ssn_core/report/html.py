"""HTML by functions: what is text is escaped, what is markup says so by its type.

There is no way to put a string into a page unescaped but to make an :class:`Html` of it, which only this package's own
words and drawings are. Names from outside are shown letter by letter; signs that cannot be seen, or that turn the
direction of what follows, become a visible one.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from typing import TypeAlias

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff\ufffe\uffff]")
_VOID = {"br", "col", "img", "meta"}
# A line break after each of these: the file can be read, and compared line by line.
_OWN_LINE = {
    "body", "br", "col", "div", "dl", "dd", "dt", "figcaption", "figure", "footer", "h1", "h2", "h3", "head", "header",
    "html", "li", "main", "meta", "ol", "p", "section", "style", "svg", "table", "tbody", "thead", "title", "tr", "ul",
}  # fmt: skip


class Html(str):
    """Markup, to be put into a page as it is."""

    __slots__ = ()


Content: TypeAlias = "str | Iterable[Content] | None"  # None: nothing


def text(value: str) -> Html:
    """A text from anywhere, harmless in an element and in a quoted attribute; line breaks become a visible sign."""
    return Html(html.escape(_UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", value), quote=True))


def shortened(name: str, longest: int = 120) -> str:
    """A name of at most `longest` characters: its middle is left out, as its end says what kind of file it is."""
    if len(name) <= longest:
        return name
    return f"{name[: longest - 21]}…{name[-20:]}"


def tag(name: str, /, *content: Content, **attributes: str | int | None) -> Html:
    """An element. `class_` means class, other underscores in attribute names become hyphens; None leaves one out."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{text(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    end = "\n" if name in _OWN_LINE else ""
    if name in _VOID:
        return Html(f"<{name}{written}>{end}")
    return Html(f"<{name}{written}>{join(*content)}</{name}>{end}")


def join(*content: Content) -> Html:
    """Content one after the other; strings that are no markup are escaped."""
    parts: list[str] = []
    for one in content:
        if one is None:
            continue
        if isinstance(one, str):
            parts.append(one if isinstance(one, Html) else text(one))
        else:
            parts.append(join(*one))
    return Html("".join(parts))


def paragraphs(value: str) -> Html:
    """A text of several lines as a person typed it: each line that says something is a paragraph."""
    return join(tag("p", line) for line in value.splitlines() if line.strip())


def table(head: Iterable[Content], rows: Iterable[Iterable[Content]], *, class_: str | None = None) -> Html:
    """A table whose first column names the rows; its head is repeated on each page of print."""
    return tag(
        "table",
        tag("thead", tag("tr", (tag("th", cell, scope="col") for cell in head))),
        tag("tbody", (_row(row) for row in rows)),
        class_=class_,
    )


def _row(cells: Iterable[Content]) -> Html:
    first, *others = cells
    return tag("tr", tag("th", first, scope="row"), (tag("td", cell) for cell in others))


def pairs(rows: Iterable[tuple[Content, Content]]) -> Html:
    """A table of two columns without a head: what it is, and its value."""
    return tag("table", tag("tbody", (_row(row) for row in rows)), class_="pairs")
