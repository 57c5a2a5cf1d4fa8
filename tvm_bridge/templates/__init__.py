"""Templates: what a configuration means for an operator on a target. One file each, and one line in `TEMPLATES`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    from search import KnobSpace
    from search.knobs import Config
    from tvm_bridge.target import Target
    from tvm_bridge.workload import Conv2d

TEMPLATES = {
    ("conv2d_nchw", "cuda"): "conv2d_nchw_cuda",
    ("conv2d_nchw", "llvm"): "conv2d_nchw_llvm",
    ("depthwise_conv2d_nchw", "cuda"): "depthwise_conv2d_nchw_cuda",
    ("depthwise_conv2d_nchw", "llvm"): "depthwise_conv2d_nchw_llvm",
}


class Template(Protocol):
    """What a template's file provides."""

    def space(self, workload: Conv2d, target: Target) -> KnobSpace:
        """The knobs of the workload, with the predicate that refuses what cannot work on the target."""
        ...

    def schedule(self, function: Any, choice: Config, target: Target) -> Any:
        """The function's `s_tir.Schedule` under a choice `{knob: factors or value}`.

        The function is the operator's PrimFunc, alone or with an elementwise epilogue; the template finds its anchor block.
        """
        ...


def find(operator: str, kind: str) -> Template:
    """The template of an operator on a kind of target.

    **Raises:** `ValueError` naming the templates there are.
    """
    try:
        name = TEMPLATES[operator, kind]
    except KeyError:
        known = ", ".join(f"{operator} on {kind}" for operator, kind in TEMPLATES)
        raise ValueError(f"No template for {operator!r} on {kind!r}; there are {known}.") from None
    return cast(Template, importlib.import_module(f"{__name__}.{name}"))
