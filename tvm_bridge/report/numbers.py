"""Numbers as people read them: three digits that count, units that fit, thousands apart."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import UTC, datetime

_THIN = "\u202f"  # a narrow space that does not break
_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))


def figure(value: float, digits: int = 3) -> str:
    """A number with so many significant digits: 0.0123, 4.56, 789, 12 345; "–" for one that is not finite."""
    if not math.isfinite(value):
        return "–"
    if value != 0 and not 1e-4 <= abs(value) < 1e9:
        return f"{value:.{digits - 1}e}"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value)))) if value else 0
    return fixed(value, decimals)


def fixed(value: float, decimals: int) -> str:
    """A number with so many decimals, thousands apart."""
    return f"{value:,.{decimals}f}".replace(",", _THIN)


def times(ratio: float) -> str:
    """A ratio of times: "3.42×"."""
    return f"{figure(ratio)}×"


def percent(share: float) -> str:
    """A share between 0 and 1: "4.3 %"; what is there never shows as nothing."""
    text = f"{100 * share:.1f}" if share < 0.1 else f"{100 * share:.0f}"
    return f"{'< 0.1' if share > 0 and text == '0.0' else text}{_THIN}%"


def number(count: int, noun: str) -> str:
    """A count and what is counted: "1 run", "600 runs"."""
    return f"{fixed(count, 0)} {noun}{'' if count == 1 else 's'}"


def unit(smallest: float) -> tuple[float, str]:
    """The unit, as seconds and name, in which the smallest of some times still has a digit or two before the point."""
    return next((each for each in _UNITS if smallest >= each[0]), _UNITS[-1])


def latency(seconds: float, digits: int = 3) -> str:
    """A short time with so many significant digits: "511 µs", "12.1 ms"."""
    size, name = unit(seconds)
    return f"{figure(seconds / size, digits)}{_THIN}{name}"


def spread(mean: float, deviation: float) -> str:
    """A mean and its standard deviation in one unit: "12.1 ± 0.4 ms"."""
    size, name = unit(mean)
    decimals = max(0, 2 - math.floor(math.log10(mean / size)))
    return f"{fixed(mean / size, decimals)} ± {fixed(deviation / size, decimals)}{_THIN}{name}"


def column(seconds: Iterable[float]) -> tuple[float, str, int]:
    """The unit, as seconds and name, and the decimals in which a column of times lines up."""
    smallest = min(seconds, default=1.0)
    for (size, name), least in zip(_UNITS, (1.0, 1e-5, 1e-8), strict=False):
        if smallest >= least:
            return size, name, 3
    return *_UNITS[-1], 1


def duration(seconds: float) -> str:
    """A long time: "0.8 s", "42 s", "14 min 20 s", "2 h 05 min"."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{fixed(whole // 3600, 0)} h {whole % 3600 // 60:02d} min"


def date(timestamp: float) -> str:
    """Seconds since the epoch as a day and a time."""
    return f"{datetime.fromtimestamp(timestamp, UTC):%Y-%m-%d %H:%M} UTC"
