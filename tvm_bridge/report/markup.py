"""HTML and SVG that is escaped by construction: text becomes markup only by way of `element`."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from typing import TypeAlias

VOID = frozenset({"meta", "br"})
"""The elements without content that pages here use."""

_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
"""Control characters, halves of surrogate pairs, and what turns the direction of writing around."""


class Markup(str):
    """Text that is markup already and is not escaped again."""

    __slots__ = ()


Child: TypeAlias = "str | Iterable[Child] | None"


def element(name: str, /, *children: Child, **attributes: object) -> Markup:
    """Write an element; strings among its children and in its attributes are escaped, iterables flattened, None left out.

    An attribute's name is written with hyphens for underscores and without a last one (`class_`, `stroke_width`).
    """
    written = (
        f' {key.rstrip("_").replace("_", "-")}="{escaped(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    opening = f"<{name}{''.join(written)}>"
    return Markup(opening if name in VOID else f"{opening}{joined(children)}</{name}>")


def joined(children: Child) -> Markup:
    """Write children one after another."""
    if children is None:
        return Markup()
    if isinstance(children, str):
        return escaped(children)
    return Markup("".join(map(joined, children)))


def escaped(text: str) -> Markup:
    """Text as markup that shows it; what cannot be shown becomes U+FFFD."""
    return text if isinstance(text, Markup) else Markup(html.escape(_UNPRINTABLE.sub("\ufffd", text)))
