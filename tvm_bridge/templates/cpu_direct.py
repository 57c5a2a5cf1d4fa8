"""Direct dense convolution on a CPU, in NCHW and NHWC alike: AutoTVM's eight knobs, read as a blocked matrix product.

    parallel (n f0 y0 x0)                chunks, shared out among the cores
      y1 x1                              data tiles of a chunk; each is padded into a compact buffer first
        f1                               walks the filters over a data tile that stays in cache
          y2 x2                          walks the pixels of the data tile with the weights of f2 vectors
            rc0 ry0 rx0 rc1 ry1 rx1      the reduction; `unroll_explicit` unrolls its inner tile (rc1 ry1 rx1)
              y3 x3 f2, lanes f3         the register tile: f2*y3*x3 vectors of f3 filters

Accumulators lie as [f / f3][y][x][f3] and weights as [f / f3][c][ky][kx][f3], so that a step of the reduction loads f2 vectors
of weights, broadcasts y3*x3 numbers of data and does f2*y3*x3 fused multiply-adds between registers: the kernel of Georganas et
al. ("Anatomy of High-Performance Deep Learning Convolutions on SIMD Architectures", SC 2018). The result is written in the
layout of the data after the reduction, epilogue included.

In NCHW the enlarged space has data tiles in the layout of NHWC as well (`layout` is 1, not 0): channels are innermost, so that
the steps of a reduction over channels read neighbours. Tiles are then copies where nothing is padded, too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Array, Bool, Int, Num

from search import KnobSpace
from search.knobs import Config, Knob, Option, Split, factorisations
from search.space import Choice
from tvm_bridge.convolution import Conv2d, array_axes, reordered
from tvm_bridge.packing import LAYOUT_REWRITE
from tvm_bridge.target import Target
from tvm_bridge.templates.alternatives import alone
from tvm_bridge.templates.cpu import Operator, VectorUnit, convolution_loops, vectorize_channels
from tvm_bridge.templates.cpu_predicate import CpuPredicate

WRITTEN = 2
"""In NHWC, a pixel whose numbers are sums of no more products than so many vectors hold is written by one core.

Cores that share a pixel's filters write neighbouring lines of the cache, and get in each other's way if they do little else.
"""


def space(workload: Conv2d, target: Target) -> KnobSpace:
    """AutoTVM's knobs of a dense convolution, with a predicate that knows the target's vector unit, cores and caches."""
    return alone(knobs(workload), DirectPredicate.of(workload, target))


def knobs(workload: Conv2d) -> tuple[Knob, ...]:
    """AutoTVM's knobs of a dense convolution."""
    _, _, rows, columns = workload.output
    filters, channels, kernel_height, kernel_width = workload.weight
    return (
        Split("tile_f", filters, 4),
        Split("tile_y", rows, 4),
        Split("tile_x", columns, 4),
        Split("tile_rc", channels, 2),
        Split("tile_ry", kernel_height, 2),
        Split("tile_rx", kernel_width, 2),
        Option("auto_unroll_max_step", (0, DirectPredicate.unroll_step, 1500)),
        Option("unroll_explicit", (0, 1)),
    )


def direct(function: Any, choice: Config, target: Target, layout: str) -> Any:
    """Schedule a convolution, alone or with an elementwise epilogue; `packing.split` takes the packing of its weights out."""
    from tvm import s_tir

    sch = s_tir.Schedule(function)
    operator = Operator.of(sch)
    anchor, write_back = operator.anchor, operator.write_back
    data, inside = operator.padding, "NHWC" if choice.get("layout") else layout
    lanes = choice["tile_f"][3]
    data_axes, weight_axes = array_axes(layout, groups=1)

    def packed(*place: Any) -> tuple[Any, ...]:
        f, c, ky, kx = reordered(place, weight_axes, "OIHW")
        return f // lanes, c, ky, kx, f % lanes

    def accumulator(*place: Any) -> tuple[Any, ...]:
        n, f, y, x = reordered(place, data_axes, "NCHW")
        return n, f // lanes, y, x, f % lanes

    packing = sch.cache_read(anchor, 1, "global")
    sch.annotate(packing, LAYOUT_REWRITE, True)
    if operator.filling is not None:
        sch.compute_inline(operator.filling)
    if inside != layout:
        data = data or sch.cache_read(anchor, 0, "global", [anchor])
        sch.transform_layout(anchor, ("read", 0), lambda *place: reordered(place, data_axes, "NHWC"))
    sch.transform_layout(anchor, ("read", 1), packed)
    sch.transform_layout(anchor, ("write", 0), accumulator)

    n, f, y, x, rc, ry, rx = convolution_loops(sch, anchor, layout)
    f0, f1, f2, f3 = sch.split(f, choice["tile_f"])
    y0, y1, y2, y3 = sch.split(y, choice["tile_y"])
    x0, x1, x2, x3 = sch.split(x, choice["tile_x"])
    rc0, rc1 = sch.split(rc, choice["tile_rc"])
    ry0, ry1 = sch.split(ry, choice["tile_ry"])
    rx0, rx1 = sch.split(rx, choice["tile_rx"])
    sch.reorder(n, f0, y0, x0, y1, x1, f1, y2, x2, rc0, ry0, rx0, rc1, ry1, rx1, y3, x3, f2, f3)
    sch.parallel(sch.fuse(n, f0, y0, x0))
    for loop in (y3, x3, f2, *((rc1, ry1, rx1) if choice["unroll_explicit"] else ())):
        sch.unroll(loop)
    sch.vectorize(f3)

    if data is not None:
        sch.compute_at(data, x1, preserve_unit_loops=True)
        if inside == "NHWC":
            channels = int(sch.get(sch.get_loops(data)[layout.index("C") - 4]).extent)
            vectorize_channels(sch, data, VectorUnit.of(target).widest(channels), layout)
    filters = int(sch.get(sch.get_loops(write_back)[layout.index("C")]).extent)
    sch.reverse_compute_at(write_back, x2, preserve_unit_loops=True)
    # Where vectors overhang the filters, these lie within them or beyond.
    for loop in vectorize_channels(sch, write_back, math.gcd(filters, lanes), layout):
        sch.unroll(loop)
    sch.decompose_reduction(anchor, rc0)
    return sch


@dataclass(frozen=True)
class DirectPredicate(CpuPredicate):
    """What a direct convolution demands of its knobs.

    - `copies`: whether data tiles are copies even where nothing is padded.
    """

    copies: bool = False

    unroll_step: ClassVar[int] = 512

    def measures(self, choice: Choice) -> dict[str, tuple[Int[Array, " n"], int]]:
        """The measures of every template, and two that are met or not.

        - `pixels`: cores do not share pixels where they do little but write.
        - `cached`: a data tile that is read again stays in the second cache. Weights that are read again may come from further
          away: each vector serves a whole register tile.
        """
        f = choice["tile_f"]
        pixels = {"pixels": (1 * (f[..., 0] == 1), 1)} if self._writes else {}
        cached = (f[..., 1] == 1) | self._cached(self._read(choice), 1)
        return super().measures(choice) | pixels | {"cached": (1 * cached, 1)}

    @property
    def _writes(self) -> bool:
        """Whether cores do little but write lines of pixels."""
        return self.workload.layout == "NHWC" and math.prod(self.workload.weight[1:]) <= WRITTEN * self.unit.lanes

    def _factors(self) -> list[Int[np.ndarray, "_ 4"]]:
        filters, *others = super()._factors()
        if self._writes:  # a core has all filters, and walks them
            walked = factorisations(self.workload.output[1], 4)
            filters = walked[walked[:, 0] == 1]
        return [filters, *others]

    def distinct(self, choice: Choice) -> Bool[Array, " n"]:
        """Whether the loops are not those of another configuration."""
        f, y, x, rc, ry, rx = (choice[f"tile_{axis}"] for axis in ("f", "y", "x", "rc", "ry", "rx"))
        # An inner tile of the reduction that is neither unrolled nor splits the channels repeats the loops around it.
        reduction = (choice["unroll_explicit"] == 1) | (rc[..., 1] > 1) | (ry[..., 1] * rx[..., 1] == 1)
        # Without a padded tile, only a walk over filters between them tells y1 and x1 from y2 and x2.
        data_tile = (f[..., 1] > 1) | any(self.workload.padding) | self.copies
        return reduction & (data_tile | (y[..., 1] * x[..., 1] == 1))

    def _read(self, choice: Choice) -> Num[Array, " n"]:
        """Numbers of a data tile."""
        read: Any = 1.0 * self.workload.weight[1]  # a float: products overflow 32 bits
        for axis, name in enumerate(("tile_y", "tile_x")):
            extent, taps = choice[name][..., 2] * choice[name][..., 3], self.workload.weight[2 + axis]
            read = read * ((extent - 1) * self.workload.stride[axis] + (taps - 1) * self.workload.dilation[axis] + 1)
        return read

    def steps(self, choice: Choice) -> Int[Array, " n"]:
        """How many steps of the reduction `unroll_explicit` unrolls."""
        return choice["tile_rc"][..., 1] * choice["tile_ry"][..., 1] * choice["tile_rx"][..., 1]
