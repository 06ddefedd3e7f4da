"""Messages that a browser numbers 1, 2, 3 ... and sends until each is acknowledged: what all kinds have in common.

What arrives twice is stored once, through UNIQUE (client, seq). A message that can never be stored is acknowledged too,
and reported as rejected, so that it does not block those behind it. Its values come from outside: types are checked.
"""

from __future__ import annotations

from dataclasses import dataclass

MAX_INT = 2**31 - 1
MAX_CLIENT_LENGTH, MAX_INSPECTOR_LENGTH = 64, 100
NUMBER_TAKEN = "Another event of this browser tab has this number already"
BAD_NUMBER = "The client or the number of the event is not usable"


@dataclass(frozen=True)
class Recorded:
    """What became of the events of one call."""

    acks: dict[str, int]  # client -> highest seq dealt with in this call
    rejected: list[tuple[str, int, str]]  # client, seq, reason; acknowledged too
    stored: int  # new events; what was there already is not counted


def is_numbered(client: object, seq: object) -> bool:
    """Whether an event can be acknowledged at all: a client of 1 to 64 characters and a number from 1."""
    return isinstance(client, str) and 1 <= len(client) <= MAX_CLIENT_LENGTH and is_storable(client) and is_count(seq)


def is_storable(text: str) -> bool:
    """No NUL, which PostgreSQL refuses, and no lone surrogate, which has no UTF-8."""
    return "\0" not in text and not any("\ud800" <= sign <= "\udfff" for sign in text)


def is_count(value: object) -> bool:
    """A whole number from 1 that fits the column."""
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_INT


def wrong_inspector(name: object) -> str | None:
    """Why a name cannot be stored, or None."""
    if not isinstance(name, str) or not 1 <= len(name.strip()) <= MAX_INSPECTOR_LENGTH:
        return f"The inspector's name must have 1 to {MAX_INSPECTOR_LENGTH} characters"
    if not is_storable(name):
        return "The inspector's name holds characters that cannot be stored"
    return None
