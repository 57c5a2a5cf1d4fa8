"""The pieces that charts are made of: scales, ticks, lines and words. Coordinates are pixels of the view box."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from tvm_bridge.report.markup import Child, Markup, element

Scale = Callable[[float], float]


def chart(width: float, height: float, description: str, *parts: Child, kind: str, **data: str) -> Markup:
    """A chart of a kind, which is its class, with its content in words for those who cannot see it."""
    view = f"0 0 {width:g} {height:g}"
    return element("svg", parts, class_=f"chart {kind}", viewBox=view, role="img", aria_label=description, **data)


def linear(start: float, end: float, left: float, right: float) -> Scale:
    """Map start .. end onto left .. right."""
    return lambda value: left + (right - left) * (value - start) / (end - start)


def logarithmic(start: float, end: float, left: float, right: float) -> Scale:
    """Map start .. end, both positive, onto left .. right by their logarithms."""
    straight = linear(math.log(start), math.log(end), left, right)
    return lambda value: straight(math.log(value))


def ticks(largest: float, most: int = 4) -> list[float]:
    """Round numbers from 0 to the first at or above the largest, at most so many steps apart."""
    power = 10.0 ** math.floor(math.log10(largest / most))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10, 20) if power * factor * most >= largest * (1 - 1e-9))
    return [step * place for place in range(math.ceil(largest / step - 1e-9) + 1)]


def decades(smallest: float, largest: float) -> list[float]:
    """Round numbers within a range for a logarithmic scale: powers of ten, with 2 and 5 times them where those are few."""
    powers = range(math.floor(math.log10(smallest)), math.ceil(math.log10(largest)) + 1)
    factors = (1,) if largest / smallest > 500 else (1, 2, 5)
    return [value for power in powers for factor in factors if smallest <= (value := factor * 10.0**power) <= largest]


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    """A straight line."""
    return element("path", d=f"M{x1:.1f},{y1:.1f}L{x2:.1f},{y2:.1f}", class_=kind)


def path(commands: Iterable[str], kind: str) -> Markup | None:
    """A path, None of no commands."""
    drawn = "".join(commands)
    return element("path", d=drawn, class_=kind) if drawn else None


def box(x: float, y: float, width: float, height: float, kind: str) -> Markup:
    """A rectangle."""
    return element("rect", x=f"{x:.1f}", y=f"{y:.1f}", width=f"{max(width, 0):.1f}", height=f"{height:.1f}", class_=kind)


def words(x: float, y: float, text: str, kind: str = "", *, anchor: str = "start") -> Markup:
    """A line of text that starts, ends or has its middle at x."""
    return element("text", text, x=f"{x:.1f}", y=f"{y:.1f}", class_=kind or None, text_anchor=anchor)


def shortened(text: str, longest: int) -> str:
    """A text of so many characters at most."""
    return text if len(text) <= longest else text[: longest - 1] + "…"
