"""Colours and signs of the verdicts: the same on every page, in every chart, and safe for colour-blind people.

Colour never speaks alone: each verdict also has a sign and a word. The colours are Okabe and Ito's blue and vermilion
(a little darker, for contrast on white), with a neutral grey between them.
"""

from __future__ import annotations

from dataclasses import dataclass

GOOD = "#0b6fa4"
BAD = "#c8500a"
UNSURE = "#5f6b7a"
CHECK = "#3f4a58"  # neither: a dark grey, which nobody mistakes for blue or vermilion
NONE = "#aab3bd"  # not labelled yet

INK = "#1d2733"
MUTED = "#667280"
LINE = "#d9dee4"
SURFACE = "#f5f7f9"
ACCENT = "#1f5f8b"  # the theme's primary colour (.streamlit/config.toml)
WARNING = "#9a5b00"
MODEL = ACCENT  # curves and marks that belong to the model rather than to a verdict


@dataclass(frozen=True)
class VerdictStyle:
    """How one verdict looks: word for people, sign (one character), CSS colour."""

    word: str
    sign: str
    colour: str


# Keyed by the verdict as it is stored; "check" is a model's alone, "none" stands for an image without a verdict.
VERDICTS: dict[str, VerdictStyle] = {
    "good": VerdictStyle("Good", "✓", GOOD),
    "bad": VerdictStyle("Bad", "✕", BAD),
    "check": VerdictStyle("To a person", "◐", CHECK),
    "unsure": VerdictStyle("Unsure", "?", UNSURE),
    "none": VerdictStyle("Not labelled", "·", NONE),
}


def style_of(verdict: str | None) -> VerdictStyle:
    """The look of a verdict; None and "cleared" count as not labelled."""
    return VERDICTS.get(verdict or "none", VERDICTS["none"])


def as_data() -> dict[str, dict[str, str]]:
    """The table for a browser component: verdict -> {word, sign, colour}."""
    return {name: {"word": v.word, "sign": v.sign, "colour": v.colour} for name, v in VERDICTS.items()}
