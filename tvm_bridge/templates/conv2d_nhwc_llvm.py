"""Dense convolution in NHWC on a CPU: as in NCHW, where data and results have channels innermost."""

from __future__ import annotations

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
    """The same, `winograd` and `lanes`: other algorithms compete in one space."""
    return cpu_algorithms.space(workload, target, [DirectPredicate.of(workload, target)])


def rewritten(function: Any, choice: Config) -> Any:
    """The function that the schedule of a choice starts from."""
    return cpu_algorithms.rewritten(function, choice, "NHWC")


def schedule(function: Any, choice: Config, target: Target) -> Any:
    """Schedule a convolution, alone or with an elementwise epilogue; `packing.split` takes the packing of its weights out."""
    return cpu_algorithms.schedule(function, choice, target, "NHWC")
