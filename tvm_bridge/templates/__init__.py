"""Templates: what a configuration means for an operator on a target. One file each, and one line in `TEMPLATES`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    from search import KnobSpace
    from search.knobs import Config
    from tvm_bridge.target import Target
    from tvm_bridge.workload import Workload

TEMPLATES = {
    ("conv2d_nchw", "cuda"): "conv2d_nchw_cuda",
    ("conv2d_nchw", "llvm"): "conv2d_nchw_llvm",
    ("conv2d_nhwc", "cuda"): "conv2d_nhwc_cuda",
    ("conv2d_nhwc", "llvm"): "conv2d_nhwc_llvm",
    ("dense", "cuda"): "dense_cuda",
    ("dense", "llvm"): "dense_llvm",
    ("depthwise_conv2d_nchw", "cuda"): "depthwise_conv2d_nchw_cuda",
    ("depthwise_conv2d_nchw", "llvm"): "depthwise_conv2d_nchw_llvm",
    ("depthwise_conv2d_nhwc", "cuda"): "depthwise_conv2d_nhwc_cuda",
    ("depthwise_conv2d_nhwc", "llvm"): "depthwise_conv2d_nhwc_llvm",
}


class Template(Protocol):
    """What a template's file provides.

    One that has more to choose than AutoTVM's knobs has `enlarged_space`, like `space`. One whose schedules
    may start from another function has `rewritten(function, choice)`: that function, or the very same. One whose schedules may
    multiply in TF32 has `tf32_terms(workload, choice)`: how many products a result is the sum of, 0 if all is float32.
    """

    def space(self, workload: Any, target: Target) -> KnobSpace:
        """The knobs of the workload, with the predicate that refuses what cannot work on the target."""
        ...

    def schedule(self, function: Any, choice: Config, target: Target) -> Any:
        """The function's `s_tir.Schedule` under a choice `{knob: factors or value}`.

        The function is the operator's PrimFunc, alone or with an elementwise epilogue; the template finds its anchor block.
        """
        ...


def space(workload: Workload, target: Target, *, enlarged: bool = False) -> KnobSpace:
    """The space of a workload's template: of AutoTVM's knobs or, `enlarged`, of more if the template has more to choose.

    **Raises:** `ValueError` naming the templates there are.
    """
    template = find(workload.operator, target.kind)
    larger = getattr(template, "enlarged_space", None) if enlarged else None
    return template.space(workload, target) if larger is None else larger(workload, target)


def rewritten(template: Template, function: Any, choice: Config) -> Any:
    """The function that a template's schedule of a choice starts from: the given one, unless the template rewrites it."""
    rewrite = getattr(template, "rewritten", None)
    return function if rewrite is None else rewrite(function, choice)


def tf32_terms(template: Template, workload: Workload, choice: Config) -> int:
    """How many products of numbers rounded to TF32 each result of a choice is the sum of; 0 if all is float32."""
    count = getattr(template, "tf32_terms", None)
    return 0 if count is None else count(workload, choice)


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
