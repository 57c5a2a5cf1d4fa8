"""Depthwise convolution in NCHW on a CPU with vectors along whole rows, nothing copied and nothing transposed.

    parallel (n f0 y0)    chunks, shared out among the cores
      f1 y2               walks the channels and rows of a chunk
        x/lanes           the vectors of a row, unrolled, since which of their lanes are masked must be known
          ry rx           the kernel's taps, unrolled
            y3, lanes     the register tile: a vector of y3 rows

A kernel that strides along its row first reads the vectors that a register tile needs into registers, and LLVM makes shuffles
of reading them with that stride.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from jaxtyping import Array, Bool, Int

from search.knobs import Config
from search.space import Choice
from tvm_bridge.convolution import Conv2d
from tvm_bridge.target import Target
from tvm_bridge.templates.cpu import VectorUnit, unrolled
from tvm_bridge.templates.cpu_depthwise import DepthwisePredicate
from tvm_bridge.templates.cpu_predicate import BUSY, STATEMENTS, VECTORS, busy
from tvm_bridge.templates.cpu_rows_algorithm import with_whole_rows

FAVOUR = 8
"""So many configurations are drawn for one that copies data, or transposes it, before it computes: those are seldom near."""

STACK = 256
"""TVM puts buffers of so many float32 numbers at most on the stack, where LLVM makes registers of them."""


def offered(workload: Conv2d, target: Target) -> tuple[RowsPredicate, ...]:
    """What vectors of one width demand, for each width that rows may be made of; none where no configuration would do.

    Vectors are as wide as the unit's, unless fewer lanes hold a whole row. Half of 16 lanes are offered too where fewer of them
    overhang: some cores do twice as many of those at a time.
    """
    unit, columns = VectorUnit.of(target), workload.output[3]
    widest = unit.covering(columns)
    widths = (widest, 8) if widest == 16 and -columns % 8 < -columns % 16 else (widest,)
    every = (RowsPredicate(workload, unit, target.threads, width=width) for width in widths)
    return tuple(each for each in every if each.applies())


def schedule(function: Any, choice: Config) -> Any:
    """Schedule a convolution, alone or with an elementwise epilogue, whose configuration has a vector's lanes as `rows`."""
    from tvm import s_tir

    lanes = choice["rows"]
    sch = s_tir.Schedule(with_whole_rows(function, lanes))
    total, output = (sch.get_sblock(f"rows_{name}") for name in ("sum", "output"))
    lines = sch.get_producers(total)
    (write_back,) = sch.get_consumers(output)
    sch.compute_inline(output)

    # Of the sums, all of a vector is needed at once.
    reads, summed = sch.get(write_back).reads, sch.get(total).writes[0].source
    place = next(i for i, region in enumerate(reads) if region.source.same_as(summed))
    sch.annotate_buffer_access(
        write_back, place, "read", lambda n, c, y, x: (n, c, y, (x // lanes * lanes, x // lanes * lanes + lanes))
    )

    overhangs = choice["tile_x"][3] % lanes > 0  # then a row is written as one vector, which LLVM takes apart
    n, f, y, x = sch.get_loops(write_back)
    f0, f1 = sch.split(f, [choice["tile_f"][0], None])
    y0, y2, y3 = sch.split(y, [choice["tile_y"][0], *choice["tile_y"][2:]])
    x0, columns = sch.split(x, [None, choice["tile_x"][3] if overhangs else lanes])
    sch.reorder(n, f0, y0, f1, y2, x0, y3, columns)
    sch.parallel(sch.fuse(n, f0, y0))
    sch.compute_at(total, x0, preserve_unit_loops=True)
    unrolled(sch, (x0, y3), columns)
    y, x, ry, rx = sch.get_loops(total)[-4:]
    x0, vector = sch.split(x, [None, lanes])
    sch.reorder(x0, ry, rx, y, vector)
    unrolled(sch, (x0, ry, rx, y), vector)
    for line in lines:
        sch.compute_at(line, x0, preserve_unit_loops=True)
        *loops, vector = sch.get_loops(line)[-3:]
        unrolled(sch, loops, vector)
    sch.decompose_reduction(total, ry)
    return sch


@dataclass(frozen=True)
class RowsPredicate(DepthwisePredicate):
    """What vectors along whole rows demand of the knobs: channels and columns are not tiled further.

    - `width`: the lanes of a vector.
    """

    width: int = 1

    @property
    def share(self) -> int:
        """How many configurations are drawn for one of `cpu_depthwise`."""
        return FAVOUR

    def applies(self) -> bool:
        """Whether images are longer than a row of vectors with what its taps add, and there is any configuration."""
        covered = -(-self.workload.output[3] // self.width) * self.width * self.workload.stride[1]
        row = covered + self.workload.weight[3] * self.workload.dilation[1] + self.width
        return math.prod(self.workload.data[2:]) >= row and bool(self._fits(self._tilings()).any())

    @property
    def able(self) -> Mapping[str, Callable[[Any], Any]]:
        """By a knob's name, what tells from its table which options a configuration can have."""
        return {
            "tile_f": self._walked,
            "tile_y": lambda y: y[:, 1] == 1,
            "tile_x": self._whole,
            "unroll_explicit": lambda explicit: explicit[:, 0] == 1,
        }

    def lanes(self, choice: Choice) -> Int[Array, " n"]:
        """The extent of the vectorised loop."""
        return self.width + 0 * choice["tile_x"][..., 3]

    def fills_vectors(self, choice: Choice) -> Bool[Array, " n"]:
        """Whether rows are whole, and tiles left to them."""
        return self._walked(choice["tile_f"]) & (choice["tile_y"][..., 1] == 1) & self._whole(choice["tile_x"])

    def distinct(self, choice: Choice) -> Bool[Array, " n"]:
        """Every configuration with unrolled taps is; others have no meaning."""
        return choice["unroll_explicit"] == 1

    def measures(self, choice: Choice) -> dict[str, tuple[Int[Array, " n"], int]]:
        """Accumulators, and how evenly chunks fill the cores."""
        chunks = self.workload.data[0] * choice["tile_f"][..., 0] * choice["tile_y"][..., 0]
        return {"vectors": (self._vectors(choice), VECTORS), "busy": (busy(chunks, self.threads), BUSY)}

    def steps(self, choice: Choice) -> int:
        """Every tap of every vector of a row."""
        return super().steps(choice) * -(-self.workload.output[3] // self.width)

    def _vectors(self, choice: Choice) -> Int[Array, " n"]:
        return choice["tile_y"][..., 3]

    def _fits(self, choice: Choice) -> Bool[Array, " n"]:
        """Whether all that a register tile needs becomes registers, and code is not too long."""
        tile, lanes = choice["tile_y"][..., 3], self.width
        (sy, sx), (dy, dx) = self.workload.stride, self.workload.dilation
        (_, _, kernel_height, kernel_width), columns = self.workload.weight, self.workload.output[3]
        written = lanes if columns % lanes == 0 else -(-columns // lanes) * lanes
        line = ((lanes - 1) * sx + (kernel_width - 1) * dx) // lanes * lanes + lanes if sx > 1 else 0
        rows = (tile - 1) * sy + (kernel_height - 1) * dy + 1
        stack = (tile * written <= STACK) & (rows * line <= STACK)
        return super()._fits(choice) & stack & (self.steps(choice) > 1) & (tile * self.steps(choice) <= STATEMENTS)

    def _whole(self, factors: Int[Array, "n 4"]) -> Bool[Array, " n"]:
        return factors[..., 3] == self.workload.output[3]

    @staticmethod
    def _walked(factors: Int[Array, "n 4"]) -> Bool[Array, " n"]:
        return factors[..., 2] * factors[..., 3] == 1
