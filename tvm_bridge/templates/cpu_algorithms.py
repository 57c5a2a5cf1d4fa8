"""The algorithms of a dense convolution on a CPU in one space: direct ones, and Winograd's minimal filtering."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from search import KnobSpace
from search.knobs import Config, Option
from tvm_bridge.convolution import Conv2d
from tvm_bridge.target import Target
from tvm_bridge.templates import cpu_direct, cpu_overhang, winograd
from tvm_bridge.templates.alternatives import merged
from tvm_bridge.templates.cpu import VectorUnit
from tvm_bridge.templates.winograd_predicate import WinogradPredicate, tile_extents


def space(
    workload: Conv2d, target: Target, direct: Sequence[cpu_direct.DirectPredicate], layouts: Sequence[int] = (0,)
) -> KnobSpace:
    """AutoTVM's knobs of a dense convolution, and options that choose an algorithm: `winograd`, `layout` and `lanes`.

    `winograd` is the extent m of a tile of Winograd's algorithm, or 0 for a direct convolution; `layout` is the number of a
    direct one's predicate; `lanes` are those of its vectors if they overhang the filters, or 0 if they divide them. All
    workloads of an operator have the same knobs, whatever there is to choose, so that they can learn from each other.

    **Arguments:**

    - `direct`: the predicates of direct convolutions.
    - `layouts`: the options of `layout`, which is left out if there is one.
    """
    unit = VectorUnit.of(target)
    extents, lanes = tile_extents(workload, unit), cpu_overhang.offered_lanes(workload, unit)
    choices: dict[str, Sequence[int]] = {"winograd": (0, *extents)}
    if len(layouts) > 1:
        choices["layout"] = layouts
    choices["lanes"] = (0, lanes) if lanes else (0,)
    options = [Option(name, tuple(values), absent=0) for name, values in choices.items()]
    alternatives: list[tuple[dict[str, int], Any]] = [({"layout": layout}, each) for layout, each in enumerate(direct)]
    if lanes:
        covering = [cpu_overhang.OverhangPredicate.like(each, lanes) for each in direct]
        alternatives += [({"layout": layout, "lanes": lanes}, each) for layout, each in enumerate(covering)]
    alternatives += [({"winograd": m}, replace(WinogradPredicate.of(workload, target), m=m)) for m in extents]
    return merged(cpu_direct.knobs(workload), options, alternatives)


def rewritten(function: Any, choice: Config, layout: str) -> Any:
    """The function that the schedule of a choice starts from."""
    if choice.get("winograd"):
        return winograd.rewritten(function, choice, layout)
    return cpu_overhang.rewritten(function, choice, layout) if choice.get("lanes") else function


def schedule(function: Any, choice: Config, target: Target, layout: str) -> Any:
    """Schedule a convolution, alone or with an elementwise epilogue; `packing.split` takes the packing of its weights out."""
    if choice.get("winograd"):
        return winograd.schedule(function, choice, target, layout)
    by = cpu_overhang.schedule if choice.get("lanes") else cpu_direct.direct
    return by(function, choice, target, layout)
