"""Numbers as a report prints them. "n/a" never stands alone: the reason is with it."""

from __future__ import annotations

from ssn_core.rates import Interval, rate_interval

NOT_AVAILABLE = "n/a"
NARROW = "\N{NO-BREAK SPACE}"  # between a number and its unit: they stay on one line


def percent(rate: float, digits: int = 1) -> str:
    """A rate 0..1 as "12.3 %"."""
    return f"{100 * rate:.{digits}f}{NARROW}%"


def number(n: int) -> str:
    """ "1,234"."""
    return f"{n:,}"


def count(n: int, singular: str, plural: str | None = None) -> str:
    """ "1 image", "1,234 images"."""
    return f"{n:,} {singular if n == 1 else plural or singular + 's'}"


def figure(value: float) -> str:
    """A figure in [0, 1] such as an AUROC. What is not quite 1 is not printed as 1."""
    shown = f"{value:.3f}"
    return f"{value:.5f}" if shown == "1.000" and value < 1.0 else shown


def threshold(value: float) -> str:
    """A threshold, in units of the score (logit)."""
    return f"{value:.4f}".replace("-", "\N{MINUS SIGN}")


def missing(reason: str) -> str:
    """ "n/a", with the reason."""
    return f"{NOT_AVAILABLE}: {reason}"


def range_of_rate(interval: Interval) -> str:
    """The interval of a rate: "0.4 % to 10.5 %"."""
    return f"{percent(interval.low)} to {percent(interval.high)}"


def range_of_figure(interval: Interval) -> str:
    """The interval of a figure: "0.994 to 1.000"."""
    return f"{interval.low:.3f} to {interval.high:.3f}"


def rate(events: int, n: int, *, nothing: str) -> tuple[str, str]:
    """A rate and its interval; without anything to count "n/a", with `nothing` as the reason, and a dash."""
    interval = rate_interval(events, n)
    if interval is None:
        return missing(nothing), "–"
    return f"{percent(events / n)} ({events:,} of {n:,})", range_of_rate(interval)


def signed(value: float, *, digits: int = 3) -> str:
    """A difference with its sign, a true minus sign; what rounds to zero has none."""
    shown = f"{value:+.{digits}f}"
    return shown[1:] if not float(shown) else shown.replace("-", "\N{MINUS SIGN}")


def plain_number(value: float) -> str:
    """A score or an end of the colour scale: two decimals, a true minus sign."""
    return f"{value:.2f}".replace("-", "\N{MINUS SIGN}")


def plain_value(value: object) -> str:
    """A setting as people read it."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list | tuple):
        return (", " if any(isinstance(part, str) for part in value) else " × ").join(map(plain_value, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
