"""The algorithms of a dense convolution on a CPU in one space: direct, and by Winograd's minimal filtering."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Array, Bool

from search import KnobSpace
from search.knobs import Config, Option
from search.space import Choice
from tvm_bridge.convolution import Conv2d
from tvm_bridge.target import Target
from tvm_bridge.templates import cpu_direct, winograd
from tvm_bridge.templates.cpu import VectorUnit
from tvm_bridge.templates.winograd_predicate import WinogradPredicate, tile_extents


def space(workload: Conv2d, target: Target, direct: Sequence[cpu_direct.DirectPredicate]) -> KnobSpace:
    """AutoTVM's knobs of a dense convolution, `winograd` and, if there are several ways to be direct, `layout`.

    `winograd` is the extent m of a tile of Winograd's algorithm, or 0 for a direct convolution; `layout` is the number of a
    direct one's predicate. Direct configurations of the first come first, so that they have the index that they have in the
    space of AutoTVM's knobs.
    """
    plain = cpu_direct.space(workload, target)
    unit = VectorUnit.of(target)
    extents = tile_extents(workload, unit)
    minimal = tuple(WinogradPredicate(workload, unit, target.threads, m) for m in extents)
    layouts = tuple(range(len(direct)))
    knobs = (*plain.knobs, Option("winograd", (0, *extents), absent=0))
    more = (Option("layout", layouts, absent=0),) if len(direct) > 1 else ()
    every = tuple(map(range, plain.shape))
    parts = [*((*every, (0,), *((layout,) for _ in more)) for layout in layouts)]
    parts += [(*each.part(knobs), *((0,) for _ in more)) for each in minimal]
    return KnobSpace((*knobs, *more), _Predicate(tuple(direct), minimal), parts=parts)


def rewritten(function: Any, choice: Config, layout: str) -> Any:
    """The function that the schedule of a choice starts from."""
    return winograd.rewritten(function, choice, layout) if choice.get("winograd") else function


def schedule(function: Any, choice: Config, target: Target, layout: str) -> Any:
    """Schedule a convolution, alone or with an elementwise epilogue; `packing.split` takes the packing of its weights out."""
    by = winograd.schedule if choice.get("winograd") else cpu_direct.direct
    return by(function, choice, target, layout)


@dataclass(frozen=True)
class _Predicate:
    """Asks the predicate of a configuration's algorithm and layout."""

    direct: tuple[cpu_direct.DirectPredicate, ...]
    winograd: tuple[WinogradPredicate, ...]

    def __call__(self, choice: Choice) -> Bool[Array, " n"]:
        algorithm = choice["winograd"]
        layout = choice.get("layout", 0 * algorithm)
        admitted: Any = False
        for number, each in enumerate(self.direct):
            admitted = admitted | ((algorithm == 0) & (layout == number) & each(choice))
        for minimal in self.winograd:
            admitted = admitted | ((algorithm == minimal.m) & (layout == 0) & minimal(choice))
        return admitted
