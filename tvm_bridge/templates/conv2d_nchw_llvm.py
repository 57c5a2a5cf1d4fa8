"""Dense convolution in NCHW on a CPU: summed directly or, in the enlarged space, by Winograd's algorithm where it applies."""

from __future__ import annotations

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
from tvm_bridge.templates.cpu_predicate import CpuPredicate


def space(workload: Conv2d, target: Target) -> KnobSpace:
    """AutoTVM's knobs of a dense convolution, read as a direct one."""
    return cpu_direct.space(workload, target)


def enlarged_space(workload: Conv2d, target: Target) -> KnobSpace:
    """The same and `winograd`: the extent m of a tile of Winograd's algorithm, or 0 for a direct convolution.

    Direct configurations come first, so that they have the index that they have in the space of AutoTVM's knobs.
    """
    direct = cpu_direct.space(workload, target)
    unit = VectorUnit.of(target)
    extents = [m for m in winograd.TILES if winograd.applies(workload, unit, m)]
    minimal = tuple(winograd.WinogradPredicate(workload, unit, target.threads, m) for m in extents)
    predicate = _Predicate(cpu_direct.DirectPredicate.of(workload, target), minimal)
    knobs = (*direct.knobs, Option("winograd", (0, *extents), absent=0))
    parts = [(*map(range, direct.shape), (0,)), *(each.part(knobs) for each in minimal)]
    return KnobSpace(knobs, predicate, parts=parts)


def schedule(function: Any, choice: Config, target: Target) -> Any:
    """Schedule a convolution, alone or with an elementwise epilogue; `packing.split` takes the packing of its weights out."""
    if choice.get("winograd"):
        return winograd.schedule(function, choice, target)
    return cpu_direct.direct(function, choice, target, "NCHW")


@dataclass(frozen=True)
class _Predicate:
    """Asks the predicate of a configuration's algorithm."""

    direct: CpuPredicate
    winograd: tuple[winograd.WinogradPredicate, ...]

    def __call__(self, choice: Choice) -> Bool[Array, " n"]:
        admitted = (choice["winograd"] == 0) & self.direct(choice)
        for minimal in self.winograd:
            admitted = admitted | ((choice["winograd"] == minimal.m) & minimal(choice))
        return admitted
