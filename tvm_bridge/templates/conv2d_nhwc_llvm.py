"""Dense convolution in NHWC on a CPU: the knobs and loops of `cpu_direct`, where data and results have channels innermost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tvm_bridge.templates.cpu_direct import direct, space

if TYPE_CHECKING:
    from search.knobs import Config
    from tvm_bridge.target import Target

__all__ = ["schedule", "space"]


def schedule(function: Any, choice: Config, target: Target) -> Any:
    """Schedule a convolution, alone or with an elementwise epilogue; `packing.split` takes the packing of its weights out."""
    return direct(function, choice, target, "NHWC")
