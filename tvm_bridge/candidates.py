"""Candidates of one's own for a template's knobs: what the CUHK report calls incrementation (Choi, 2021, section 3.3).

A space is that of its template with other options for some knobs, `{"auto_unroll_max_step": (0, 512, 1500, 2000)}`. They number
the configurations otherwise, but a configuration means the same in every space that has it.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Int

from search import KnobSpace, Option, Split
from search.knobs import Config, Knob
from search.space import Part

Candidates = Mapping[str, Sequence[Any]]
"""`{knob: its options in order}`: numbers or, of a split, tuples of factors."""

LEAST = {
    "auto_unroll_max_step": 0,
    **dict.fromkeys(("tile_n", "tile_c", "num_thread_n", "num_thread_c", "vthread_n", "vthread_c", "step"), 1),
}
"""The options that take any whole number from this one on. Others stand for what a template can do, and cannot do more."""

ASKED_FOR = {"tensor_cores": (0,)}
"""What a space has of knobs whose other options have to be asked for by naming them: those compute in less than float32."""

MOST = (1 << 31) - 1
"""The largest number that a knob's table holds."""


@dataclass(frozen=True)
class SomeSplits(Split):
    """A split of which only some ways are left.

    - `left`: their numbers among all ways of the split.
    """

    left: tuple[int, ...] = ()

    @cached_property
    def table(self) -> Int[np.ndarray, "options ways"]:
        """The factors of every option, one row an option."""
        return super().table[list(self.left)]


def replaced(space: KnobSpace, candidates: Candidates) -> KnobSpace:
    """The space with other options for the knobs that are named.

    **Raises:** `ValueError` naming the knob that the space does not have, or the candidate that a knob cannot take.
    """
    if not isinstance(candidates, Mapping):
        raise ValueError(f"candidates: {candidates!r} is not a dictionary of a knob's name to its options.")
    if foreign := [name for name in candidates if name not in space.names]:
        raise ValueError(f"candidates: {foreign[0]!r} is not a knob of this space; it has {', '.join(space.names)}.")
    knobs = [_with(knob, candidates[knob.name]) if knob.name in candidates else knob for knob in space.knobs]
    if space.parts is None:
        return KnobSpace(knobs, space.predicate, encoding=space.encoding)
    renumbered = [(_renumbered(part, space.knobs, knobs), share) for part, share in zip(space.parts, space.shares, strict=True)]
    left = [(part, share) for part, share in renumbered if all(part)]
    if not left:
        raise ValueError(
            f"candidates: no configuration can have any of the options given for {', '.join(candidates)}; name more."
        )
    parts, shares = zip(*left, strict=True)
    return KnobSpace(knobs, space.predicate, encoding=space.encoding, parts=parts, shares=shares)


def given(space: KnobSpace, candidates: Candidates) -> dict[str, tuple[Any, ...]]:
    """The candidates as the space of `replaced` has them, without those that `space` has in the same order."""
    after = zip(space.knobs, replaced(space, candidates).knobs, strict=True)
    options = {new.name: (_values(old), _values(new)) for old, new in after if new.name in candidates}
    return {name: new for name, (old, new) in options.items() if new != old}


def unasked(space: KnobSpace, candidates: Candidates) -> dict[str, tuple[Any, ...]]:
    """What is left of the knobs of `ASKED_FOR` that the space has and the candidates do not name."""
    return {name: left for name, left in ASKED_FOR.items() if name in space.names and name not in candidates}


def covering(space: KnobSpace, configs: Iterable[Config]) -> dict[str, tuple[Any, ...]]:
    """The candidates with which a template's space has these configurations: its own options, then the others in turn."""
    more: dict[str, dict[Any, None]] = {}
    for config in configs:
        for knob in space.knobs:
            value = config.get(knob.name, ASKED_FOR.get(knob.name, (None,))[0])
            lacking = value not in ASKED_FOR.get(knob.name, getattr(knob, "values", ()))
            if isinstance(knob, Option) and lacking and may_have(knob, value):
                more.setdefault(knob.name, dict.fromkeys(knob.values))[value] = None
    return {name: tuple(values) for name, values in more.items()}


def has(knob: Knob, value: Any) -> bool:
    """Whether a value is one of a knob's options."""
    try:
        return knob.option(value) >= 0
    except (ValueError, TypeError):
        return False


def may_have(knob: Knob, value: Any) -> bool:
    """Whether a value is one of a knob's options, or could be one of its candidates."""
    return has(knob, value) or (
        isinstance(knob, Option) and knob.name in LEAST and type(value) is int and LEAST[knob.name] <= value <= MOST
    )


def _with(knob: Knob, options: Sequence[Any]) -> Knob:
    """The knob with these options."""
    if not isinstance(options, Iterable) or isinstance(options, (str, Mapping)) or not (values := list(options)):
        raise ValueError(f"candidates: {knob.name} needs a list of at least one option, not {options!r}.")
    values = [_number(value) for value in values] if isinstance(knob, Option) else values
    for value in values:
        if not may_have(knob, value):
            raise ValueError(f"candidates: {knob.name} cannot be {value!r}; it can be {_offer(knob)}.")
    if isinstance(knob, Split):
        values = [knob.option(value) for value in values]
    if len(set(values)) < len(values):
        raise ValueError(f"candidates: {knob.name} is given an option twice in {options!r}; name it once.")
    if isinstance(knob, Split):
        return SomeSplits(knob.name, knob.extent, knob.ways, tuple(values))
    return replace(knob, values=tuple(values), absent=knob.absent if knob.absent in values else None)


def _number(value: Any) -> Any:
    """A whole number of any kind as Python's own; anything else as it is."""
    return operator.index(value) if hasattr(value, "__index__") and not isinstance(value, bool) else value


def _offer(knob: Knob) -> str:
    if isinstance(knob, Split):
        return f"a way to write {knob.extent} as a product of {knob.ways} factors"
    if knob.name in LEAST:
        return f"a whole number from {LEAST[knob.name]} to {MOST}"
    return f"one of {list(knob.values)}"


def _values(knob: Knob) -> tuple[Any, ...]:
    return tuple(knob.value(option) for option in range(len(knob.table)))


def _renumbered(part: Part, before: Sequence[Knob], after: Sequence[Knob]) -> Part:
    """A part of the space before, as a part of the space after; options that are new are in every part."""

    def kept(options: Sequence[int], old: Knob, new: Knob) -> tuple[int, ...]:
        if new is old:
            return tuple(options)
        numbers = {value: option for option, value in enumerate(_values(old))}
        return tuple(option for option, value in enumerate(_values(new)) if numbers.get(value, options[0]) in options)

    return tuple(kept(*each) for each in zip(part, before, after, strict=True))
