"""How far a rate that was counted can be trusted, and what no event in n images proves.

An interval is two-sided at `level` and names its method; where nothing was counted there is none: None.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy import special  # scipy.stats takes a second to import, and a page would wait for it

from ssn_core.errors import SettingError


@dataclass(frozen=True)
class Interval:
    """From `low` to `high`, both included; `method` says how it was found, for a page or report to print."""

    low: float
    high: float
    method: str
    level: float = 0.95


def rate_interval(events: int, n: int, *, level: float = 0.95) -> Interval | None:
    """The score interval for a rate of `events` in `n` (Wilson, J. Am. Stat. Assoc. 22 (1927) 209-212).

    None for n = 0. Unlike the textbook interval it stays inside [0, 1] and is not empty at 0 or n events. Its coverage
    swings about `level` with the true rate, and keeps it on average.

    Raises:
        ValueError: not 0 <= events <= n.
        SsnError: `level` is not between 0 and 1.
    """
    return repeated_rate_interval(events, n, units=n, level=level)


def repeated_rate_interval(events: int, n: int, *, units: int, level: float = 0.95) -> Interval | None:
    """The score interval of Wilson for a rate of `events` in `n` that were counted on only `units` things.

    Someone who judges 20 parts three times each makes 60 decisions, which are not 60 independent ones: who misses a
    part once tends to miss it again. The interval is that of `units` decisions, the widest that such repetition allows.
    None for n = 0.

    Raises:
        ValueError: not 0 <= events <= n, or not 0 < units <= n.
        SsnError: `level` is not between 0 and 1.
    """
    if not 0 <= events <= n:
        raise ValueError(f"{events} events in {n} is not a rate")
    z = normal_quantile(level)
    if n == 0:
        return None
    if not 0 < units <= n:
        raise ValueError(f"{n} decisions cannot be on {units} things")
    rate = events / n
    shrink = 1 + z * z / units
    centre = (rate + z * z / (2 * units)) / shrink
    half = z * math.sqrt(rate * (1 - rate) / units + z * z / (4 * units * units)) / shrink
    # Exact at the ends, where centre and half differ by rounding alone.
    low = 0.0 if events == 0 else max(0.0, centre - half)
    high = 1.0 if events == n else min(1.0, centre + half)
    return Interval(low, high, "Wilson" if units == n else "Wilson, each part counted once", level)


def most_compatible_rate(n: int, *, level: float = 0.95) -> float | None:
    """The largest rate that zero events in `n` leave possible: 1 - (1 - level)^(1/n), about 3/n at 95 %.

    At a higher rate, n images without an event would be seen in fewer than 1 - level of all cases (the exact one-sided
    bound of Clopper and Pearson, 1934). None for n = 0: nothing was seen.

    Raises:
        ValueError: n < 0.
        SsnError: `level` is not between 0 and 1.
    """
    check_level(level)
    if n < 0:
        raise ValueError(f"{n} images cannot be")
    return -math.expm1(math.log1p(-level) / n) if n else None


def needed_without_event(rate: float, *, level: float = 0.95) -> int:
    """How many images without a single event the claim "at most `rate`" needs at `level`: 59 for 5 %, 299 for 1 %.

    The smallest n whose :func:`most_compatible_rate` does not exceed `rate`.

    Raises:
        SsnError: `rate` or `level` is not between 0 and 1 (both excluded).
    """
    check_level(level)
    if not 0.0 < rate < 1.0:
        raise SettingError("The rate to claim is not usable", value=rate, expected="a number between 0 and 1")
    exact = math.log1p(-level) / math.log1p(-rate)
    # A claim that n images just carry must not need n + 1 because of rounding.
    return max(1, math.ceil(exact * (1 - 1e-12)))


def check_level(level: float) -> None:
    """Refuse a level that is not between 0 and 1 (both excluded), with an SsnError."""
    if not 0.0 < level < 1.0:
        raise SettingError("The level of an interval is not usable", value=level, expected="a number between 0 and 1")


def normal_quantile(level: float) -> float:
    """The standard deviations to either side that hold `level` of a normal distribution: 1.96 for 95 %."""
    check_level(level)
    return float(special.ndtri((1 + level) / 2))
