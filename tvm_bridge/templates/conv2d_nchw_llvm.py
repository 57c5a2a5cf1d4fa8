"""Dense convolution in NCHW on a CPU: summed directly or, in the enlarged space, in NHWC inside or by Winograd's algorithm."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tvm_bridge.templates import cpu_algorithms
from tvm_bridge.templates.cpu_direct import DirectPredicate, space

if TYPE_CHECKING:
    from search import KnobSpace
    from search.knobs import Config
    from tvm_bridge.convolution import Conv2d
    from tvm_bridge.target import Target

__all__ = ["enlarged_space", "rewritten", "schedule", "space"]


def enlarged_space(workload: Conv2d, target: Target) -> KnobSpace:
    """The same, `winograd` and `layout`: both layouts of the data inside compete in one space, and so does another algorithm.

    `layout` is that of the data tiles of a direct convolution, 0 for NCHW or 1 for NHWC, and what it costs is part of the
    kernel.
    """
    nchw = DirectPredicate.of(workload, target)
    return cpu_algorithms.space(workload, target, [nchw, replace(nchw, copies=True)])


def rewritten(function: Any, choice: Config) -> Any:
    """The function that the schedule of a choice starts from."""
    return cpu_algorithms.rewritten(function, choice, "NCHW")


def schedule(function: Any, choice: Config, target: Target) -> Any:
    """Schedule a convolution, alone or with an elementwise epilogue; `packing.split` takes the packing of its weights out."""
    return cpu_algorithms.schedule(function, choice, target, "NCHW")
