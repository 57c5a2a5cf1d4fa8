"""Dense convolution in NCHW on a CPU: summed directly or, in the enlarged space, in NHWC inside or by Winograd's algorithm."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from jaxtyping import Array, Bool

from search import KnobSpace
from search.knobs import Config, Option
from search.space import Choice
from tvm_bridge.convolution import Conv2d
from tvm_bridge.target import Target
from tvm_bridge.templates import cpu_direct, winograd
from tvm_bridge.templates.cpu import VectorUnit
from tvm_bridge.templates.cpu_predicate import CpuPredicate
from tvm_bridge.templates.winograd_predicate import WinogradPredicate, tile_extents


def space(workload: Conv2d, target: Target) -> KnobSpace:
    """AutoTVM's knobs of a dense convolution, read as a direct one."""
    return cpu_direct.space(workload, target)


def enlarged_space(workload: Conv2d, target: Target) -> KnobSpace:
    """The same, `winograd` and `layout`: both layouts of the data inside compete in one space, and so does another algorithm.

    `winograd` is the extent m of a tile of Winograd's algorithm, or 0 for a direct convolution; `layout` is that of the data
    tiles of a direct one, 0 for NCHW or 1 for NHWC, and what it costs is part of the kernel. Direct configurations in NCHW come
    first, so that they have the index that they have in the space of AutoTVM's knobs.
    """
    direct = cpu_direct.space(workload, target)
    unit = VectorUnit.of(target)
    extents = tile_extents(workload, unit)
    minimal = tuple(WinogradPredicate(workload, unit, target.threads, m) for m in extents)
    nchw = cpu_direct.DirectPredicate.of(workload, target)
    predicate = _Predicate((nchw, replace(nchw, copies=True)), minimal)
    knobs = (*direct.knobs, Option("winograd", (0, *extents), absent=0))
    every = tuple(map(range, direct.shape))
    parts = [*((*every, (0,), (layout,)) for layout in (0, 1)), *((*each.part(knobs), (0,)) for each in minimal)]
    return KnobSpace((*knobs, Option("layout", (0, 1), absent=0)), predicate, parts=parts)


def rewritten(function: Any, choice: Config) -> Any:
    """The function that the schedule of a choice starts from."""
    return winograd.rewritten(function, choice) if choice.get("winograd") else function


def schedule(function: Any, choice: Config, target: Target) -> Any:
    """Schedule a convolution, alone or with an elementwise epilogue; `packing.split` takes the packing of its weights out."""
    if choice.get("winograd"):
        return winograd.schedule(function, choice, target)
    return cpu_direct.direct(function, choice, target, "NCHW")


@dataclass(frozen=True)
class _Predicate:
    """Asks the predicate of a configuration's algorithm and layout."""

    direct: tuple[CpuPredicate, CpuPredicate]
    winograd: tuple[WinogradPredicate, ...]

    def __call__(self, choice: Choice) -> Bool[Array, " n"]:
        admitted: Any = False
        for layout, each in enumerate(self.direct):
            admitted = admitted | ((choice["winograd"] == 0) & (choice["layout"] == layout) & each(choice))
        for minimal in self.winograd:
            admitted = admitted | ((choice["winograd"] == minimal.m) & (choice["layout"] == 0) & minimal(choice))
        return admitted
