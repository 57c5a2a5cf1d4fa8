"""Depthwise convolution in NCHW on a CPU: the knobs and loops of `cpu_depthwise`, with vectors along channels or along columns.

With f3 > 1 vectors hold f3 channels, x3 is unrolled, and data tiles, accumulators and weights are transposed to have channels
innermost: inside, the layout is that of NHWC. With f3 = 1 they hold x3 columns and nothing is transposed. In the enlarged space
they may also hold whole rows, read where they lie (`cpu_rows`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from jaxtyping import Array, Bool, Int

from search import KnobSpace
from search.knobs import Config, Option
from search.space import Choice
from tvm_bridge.convolution import Conv2d
from tvm_bridge.packing import LAYOUT_REWRITE
from tvm_bridge.target import Target
from tvm_bridge.templates import cpu_rows
from tvm_bridge.templates.alternatives import alone, merged
from tvm_bridge.templates.cpu import Operator
from tvm_bridge.templates.cpu_depthwise import DepthwisePredicate, knobs, tile
from tvm_bridge.templates.cpu_rows_algorithm import with_whole_rows

COLUMNS = 4
"""A tile that is transposed has so many columns at least, in the enlarged space: fewer use little of each line that is read."""


def space(workload: Conv2d, target: Target) -> KnobSpace:
    """AutoTVM's knobs of a depthwise convolution, with a predicate that knows the target's vector unit and cores."""
    return alone(knobs(workload), _Predicate.of(workload, target))


def enlarged_space(workload: Conv2d, target: Target) -> KnobSpace:
    """The same and `rows`: the lanes of vectors along whole rows, or 0 for the loops of `cpu_depthwise`.

    The latter come first, so that they have the index that they have in the space of AutoTVM's knobs.
    """
    offered = cpu_rows.offered(workload, target)
    rows = Option("rows", (0, *(each.width for each in offered)), absent=0)
    tiled = replace(_Predicate.of(workload, target), columns=COLUMNS)
    alternatives = [({}, tiled), *(({"rows": each.width}, each) for each in offered)]
    return merged(knobs(workload), [rows], alternatives)


def rewritten(function: Any, choice: Config) -> Any:
    """The function that the schedule of a choice starts from."""
    return with_whole_rows(function, choice["rows"]) if choice.get("rows") else function


def schedule(function: Any, choice: Config, target: Target) -> Any:
    """Schedule a convolution, alone or with an elementwise epilogue; `packing.split` takes the packing of its weights out."""
    from tvm import s_tir

    if choice.get("rows"):
        return cpu_rows.schedule(function, choice)
    sch = s_tir.Schedule(function)
    operator = Operator.of(sch)
    anchor, lanes = operator.anchor, choice["tile_f"][3]
    by_channel = lanes > 1
    if by_channel:
        packing = sch.cache_read(anchor, 1, "global")
        sch.annotate(packing, LAYOUT_REWRITE, True)
        operator = replace(operator, padding=operator.padding or sch.cache_read(anchor, 0, "global", [anchor]))
        sch.transform_layout(anchor, ("read", 0), lambda n, c, y, x: (n, c // lanes, y, x, c % lanes))
        sch.transform_layout(anchor, ("read", 1), lambda f, c, ky, kx: (f // lanes, c, ky, kx, f % lanes))
        sch.transform_layout(anchor, ("write", 0), lambda n, f, y, x: (n, f // lanes, y, x, f % lanes))
    tile(sch, operator, choice, "NCHW", by_channel=by_channel)
    return sch


@dataclass(frozen=True)
class _Predicate(DepthwisePredicate):
    @property
    def able(self) -> Mapping[str, Callable[[Any], Any]]:
        """By a knob's name, what tells from its table which options a configuration can have."""
        widest = self.unit.widest(self.workload.output[1])
        return {"tile_f": lambda f: (f[:, 3] == 1) | ((f[:, 3] <= widest) & (2 * f[:, 3] > widest))}

    def measures(self, choice: Choice) -> dict[str, tuple[Int[Array, " n"], int]]:
        # With a stride, a vector of columns is gathered number by number.
        by_channel = {"by_channel": (1 * (choice["tile_f"][..., 3] > 1), 1)} if self.workload.stride[1] > 1 else {}
        return super().measures(choice) | by_channel

    def lanes(self, choice: Choice) -> Int[Array, " n"]:
        by_channel = choice["tile_f"][..., 3] > 1
        return by_channel * choice["tile_f"][..., 3] + ~by_channel * choice["tile_x"][..., 3]

    def fills_vectors(self, choice: Choice) -> Bool[Array, " n"]:
        by_channel = choice["tile_f"][..., 3] > 1
        _, channels, _, columns = (self.unit.widest(extent) for extent in self.workload.output)
        widest, lanes = by_channel * channels + ~by_channel * columns, self.lanes(choice)
        return (lanes <= widest) & (2 * lanes > widest) & (2 * lanes >= max(channels, columns))

    def distinct(self, choice: Choice) -> Bool[Array, " n"]:
        f, y, x = choice["tile_f"], choice["tile_y"], choice["tile_x"]
        # Where data is neither padded nor transposed there is no data tile, and y1 and x1 do what y2 and x2 do.
        data_tile = (f[..., 3] > 1) | any(self.workload.padding)
        return data_tile | (y[..., 1] * x[..., 1] == 1)
