"""Dense convolution in NCHW on a CPU; the enlarged space also has NHWC inside, overhanging vectors, Winograd's algorithm."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tvm_bridge.templates import cpu_algorithms
from tvm_bridge.templates.cpu import VectorUnit
from tvm_bridge.templates.cpu_direct import DirectPredicate, space
from tvm_bridge.templates.winograd_predicate import tile_extents

if TYPE_CHECKING:
    from search import KnobSpace
    from search.knobs import Config
    from tvm_bridge.convolution import Conv2d
    from tvm_bridge.target import Target

COLUMNS = 2
"""So many columns at least: of a tile of one column, every number that is read or written lies in another line of the cache."""

COPIED = 2
"""NHWC inside is offered where every number that is copied enters at least so many vectors of products."""

__all__ = ["enlarged_space", "rewritten", "schedule", "space"]


def enlarged_space(workload: Conv2d, target: Target) -> KnobSpace:
    """The same, `winograd`, `layout` and `lanes`: both layouts of the data inside compete, and so do other algorithms.

    `layout` is that of the data tiles of a direct convolution, 0 for NCHW or 1 for NHWC, and what it costs is part of the
    kernel. NHWC is left out where another algorithm saves more, and where too little is computed from what it copies.
    """
    nchw, unit = replace(DirectPredicate.of(workload, target), columns=COLUMNS), VectorUnit.of(target)
    work = workload.flop / 2 / math.prod(workload.data)
    copied = work >= COPIED * unit.lanes and not tile_extents(workload, unit)
    return cpu_algorithms.space(workload, target, [nchw, replace(nchw, copies=True)] if copied else [nchw], layouts=(0, 1))


def rewritten(function: Any, choice: Config) -> Any:
    """The function that the schedule of a choice starts from."""
    return cpu_algorithms.rewritten(function, choice, "NCHW")


def schedule(function: Any, choice: Config, target: Target) -> Any:
    """Schedule a convolution, alone or with an elementwise epilogue; `packing.split` takes the packing of its weights out."""
    return cpu_algorithms.schedule(function, choice, target, "NCHW")
