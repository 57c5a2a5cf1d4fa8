"""Depthwise convolution in NCHW on a CPU: AutoTVM's five knobs, with vectors along channels or along columns.

    parallel (n f0 y0 x0)    chunks, shared out among the cores
      f1 y1 x1               data tiles of a chunk; each is padded into a compact buffer first
        y2 x2                walks the pixels of a data tile
          ry rx              the kernel's taps, unrolled if `unroll_explicit`
            y3 f2 ...        the register tile

Nothing is summed over channels, so that moving data costs as much as computing, and what vectors run along decides. With f3 > 1
they hold f3 channels, x3 is unrolled, and data tiles, accumulators and weights are transposed to have channels innermost: it
suits small images and strides. With f3 = 1 they hold x3 columns and nothing is transposed: it suits long rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from jaxtyping import Array, Bool, Int

from search import KnobSpace
from search.knobs import Config, Option, Split
from search.space import Choice
from tvm_bridge.packing import LAYOUT_REWRITE
from tvm_bridge.target import Target
from tvm_bridge.templates.cpu import Operator, vectorize_channels
from tvm_bridge.templates.cpu_predicate import CpuPredicate
from tvm_bridge.workload import Conv2d

OWN = 50
"""The percentage of a padded data tile, at least, that is not padded again for its neighbours."""


def space(workload: Conv2d, target: Target) -> KnobSpace:
    """AutoTVM's knobs of a depthwise convolution, with a predicate that knows the target's vector unit and cores."""
    _, channels, rows, columns = workload.output
    knobs = (
        Split("tile_f", channels, 4),
        Split("tile_y", rows, 4),
        Split("tile_x", columns, 4),
        Option("auto_unroll_max_step", (0, _Predicate.unroll_step, 1500)),
        Option("unroll_explicit", (0, 1)),
    )
    return KnobSpace(knobs, _Predicate.of(workload, target))


def schedule(function: Any, choice: Config, target: Target) -> Any:
    """Schedule a convolution, alone or with an elementwise epilogue; `packing.split` takes the packing of its weights out."""
    from tvm import s_tir

    sch = s_tir.Schedule(function)
    operator = Operator.of(sch)
    anchor, data, write_back = operator.anchor, operator.padding, operator.write_back
    lanes = choice["tile_f"][3]
    by_channel = lanes > 1

    if by_channel:
        packing = sch.cache_read(anchor, 1, "global")
        sch.annotate(packing, LAYOUT_REWRITE, True)
        data = data or sch.cache_read(anchor, 0, "global")
        sch.transform_layout(anchor, ("read", 0), lambda n, c, y, x: (n, c // lanes, y, x, c % lanes))
        sch.transform_layout(anchor, ("read", 1), lambda f, c, ky, kx: (f // lanes, c, ky, kx, f % lanes))
        sch.transform_layout(anchor, ("write", 0), lambda n, f, y, x: (n, f // lanes, y, x, f % lanes))

    n, f, y, x, rc, ry, rx = sch.get_loops(anchor)
    f0, f1, f2, f3 = sch.split(f, choice["tile_f"])
    y0, y1, y2, y3 = sch.split(y, choice["tile_y"])
    x0, x1, x2, x3 = sch.split(x, choice["tile_x"])
    register_tile = (y3, x3, f2, f3) if by_channel else (y3, f2, f3, x3)
    sch.reorder(n, f0, y0, x0, f1, y1, x1, y2, x2, rc, ry, rx, *register_tile)
    sch.parallel(sch.fuse(n, f0, y0, x0))
    for loop in (*register_tile[:-1], *((ry, rx) if choice["unroll_explicit"] else ())):
        sch.unroll(loop)
    sch.vectorize(register_tile[-1])

    if data is not None:
        sch.compute_at(data, x1, preserve_unit_loops=True)
        if by_channel:
            vectorize_channels(sch, data, lanes)
    sch.reverse_compute_at(write_back, x2, preserve_unit_loops=True)
    if by_channel:
        outer: tuple[Any, ...] = vectorize_channels(sch, write_back, lanes)
    else:
        *_, f, y, vector = sch.get_loops(write_back)
        sch.vectorize(vector)
        outer = (f, y)
    for loop in outer:
        sch.unroll(loop)
    sch.decompose_reduction(anchor, rc)
    return sch


@dataclass(frozen=True)
class _Predicate(CpuPredicate):
    unroll_step: ClassVar[int] = 256

    def lanes(self, choice: Choice) -> Int[Array, " n"]:
        by_channel = choice["tile_f"][..., 3] > 1
        return by_channel * choice["tile_f"][..., 3] + ~by_channel * choice["tile_x"][..., 3]

    def fills_vectors(self, choice: Choice) -> Bool[Array, " n"]:
        by_channel = choice["tile_f"][..., 3] > 1
        _, channels, _, columns = (self.unit.widest(extent) for extent in self.workload.output)
        widest, lanes = by_channel * channels + ~by_channel * columns, self.lanes(choice)
        return (lanes <= widest) & (2 * lanes > widest) & (2 * lanes >= max(channels, columns))

    def measures(self, choice: Choice) -> dict[str, tuple[Int[Array, " n"], int]]:
        own: Any = 1
        padded: Any = 1
        for axis, name in enumerate(("tile_y", "tile_x")):
            extent, stride = choice[name][..., 2] * choice[name][..., 3], self.workload.stride[axis]
            own = own * extent * stride
            padded = padded * ((extent - 1) * stride + (self.workload.weight[2 + axis] - 1) * self.workload.dilation[axis] + 1)
        return super().measures(choice) | {"own": (100 * own // padded, OWN)}

    def distinct(self, choice: Choice) -> Bool[Array, " n"]:
        f, y, x = choice["tile_f"], choice["tile_y"], choice["tile_x"]
        # Where data is neither padded nor transposed there is no data tile, and y1 and x1 do what y2 and x2 do.
        data_tile = (f[..., 3] > 1) | any(self.workload.padding)
        return data_tile | (y[..., 1] * x[..., 1] == 1)

    def steps(self, choice: Choice) -> int:
        return self.workload.weight[2] * self.workload.weight[3]
