"""Algorithms in a space: one alone, or several that compete, which options choose among and whose demands are their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from jaxtyping import Array, Bool

from search import KnobSpace
from search.knobs import Knob, Option
from search.space import Choice, Part


class Demands(Protocol):
    """What an algorithm demands of its knobs: a predicate that is a value.

    - `able`: which options of a knob it can have, by the knob's table, for knobs of which it cannot have all.
    - `share`: how many turns the algorithm has when configurations are drawn.
    """

    @property
    def able(self) -> Mapping[str, Callable[[np.ndarray], np.ndarray]]: ...  # noqa: D102 - the class says it

    @property
    def share(self) -> int: ...  # noqa: D102

    def __call__(self, choice: Choice) -> Bool[Array, " n"]:
        """Tell which configurations suit the algorithm."""
        ...


def merged(
    knobs: Sequence[Knob], options: Sequence[Option], alternatives: Sequence[tuple[Mapping[str, int], Demands]]
) -> KnobSpace:
    """The space of knobs that algorithms share and of the options that choose among them, a part for each algorithm.

    **Arguments:**

    - `options`: each is 0 for an algorithm that does not name it, and for a configuration that does not.
    - `alternatives`: the options that choose an algorithm, and its predicate. Those that name none have the index that they
      have in the space of `knobs` alone.
    """
    names = [option.name for option in options]
    every = tuple(
        Alternative(tuple((name, chosen.get(name, 0)) for name in names), predicate) for chosen, predicate in alternatives
    )
    parts, shares = zip(*((each.part((*knobs, *options)), each.predicate.share) for each in every), strict=True)
    return KnobSpace((*knobs, *options), AnyOf(every), parts=parts, shares=shares)


def alone(knobs: Sequence[Knob], predicate: Demands) -> KnobSpace:
    """The space of one algorithm's knobs, drawn from those of their options that it can have."""
    return merged(knobs, [], [({}, predicate)])


@dataclass(frozen=True)
class Alternative:
    """An algorithm of a space.

    - `chosen`: the value of every option that chooses it.
    - `predicate`: what it demands of its knobs.
    """

    chosen: tuple[tuple[str, int], ...]
    predicate: Demands

    def __call__(self, choice: Choice) -> Bool[Array, " n"]:
        """Tell which configurations choose this algorithm and suit it."""
        admitted = self.predicate(choice)
        for name, value in self.chosen:
            admitted = admitted & (choice[name] == value)
        return admitted

    def part(self, knobs: Sequence[Knob]) -> Part:
        """The options of each knob that a configuration of this algorithm can have; all of a knob that neither restricts."""
        chosen = dict(self.chosen)

        def admitted(knob: Knob) -> Any:
            if knob.name in chosen:
                return knob.table[:, 0] == chosen[knob.name]
            able = self.predicate.able.get(knob.name)
            return np.ones(len(knob.table), bool) if able is None else able(knob.table)

        return tuple(tuple(np.flatnonzero(admitted(knob)).tolist()) for knob in knobs)


@dataclass(frozen=True)
class AnyOf:
    """Admits what suits the algorithm that it chooses."""

    alternatives: tuple[Alternative, ...]

    def __call__(self, choice: Choice) -> Bool[Array, " n"]:
        """Tell which configurations are admitted."""
        admitted: Any = False
        for alternative in self.alternatives:
            admitted = admitted | alternative(choice)
        return admitted
