"""Depthwise convolution in NHWC on a CPU: the knobs and loops of `cpu_depthwise`, with vectors along channels.

Data, weights and results have channels innermost already: nothing is transposed or packed. Unrolled taps (`unroll_explicit`)
read the data where it lies, and those at the edges of a register tile test whether they are on the padding; the others cannot
be. Taps in a loop read data tiles that were padded before.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from jaxtyping import Array, Bool

from search import KnobSpace
from search.knobs import Config
from search.space import Choice
from tvm_bridge.convolution import Conv2d
from tvm_bridge.target import Target
from tvm_bridge.templates.alternatives import alone
from tvm_bridge.templates.cpu import Operator
from tvm_bridge.templates.cpu_depthwise import DepthwisePredicate, knobs, tile


def space(workload: Conv2d, target: Target) -> KnobSpace:
    """AutoTVM's knobs of a depthwise convolution, with a predicate that knows the target's vector unit and cores."""
    return alone(knobs(workload), _Predicate.of(workload, target))


def schedule(function: Any, choice: Config, target: Target) -> Any:
    """Schedule a convolution, alone or with an elementwise epilogue."""
    from tvm import s_tir

    sch = s_tir.Schedule(function)
    operator = Operator.of(sch)
    if choice["unroll_explicit"] and operator.padding is not None:
        sch.compute_inline(operator.padding)
        operator = replace(operator, padding=None)
    tile(sch, operator, choice, "NHWC", by_channel=True)
    return sch


@dataclass(frozen=True)
class _Predicate(DepthwisePredicate):
    def distinct(self, choice: Choice) -> Bool[Array, " n"]:
        y, x = choice["tile_y"], choice["tile_x"]
        data_tile = any(self.workload.padding) & (choice["unroll_explicit"] == 0)
        # Without a data tile, the loops y1 x1 y2 x2 are those of fewer factors unless they walk the pixels block by block.
        return data_tile | (y[..., 1] * x[..., 1] == 1) | ((x[..., 1] > 1) & (y[..., 2] > 1))
