"""Matrix product on a CPU: data (N, K) by packed weights, a register tile at a time.

    parallel (y0 x0)          chunks, shared out among the cores
      x1                      walks the weights of the chunk
        y1                    walks the rows of the chunk with x2 panels of weights that stay in cache
          k0 k1               the reduction; k1 is unrolled
            y2 x2 x3, lanes   the register tile: y2 rows by x2*x3 vectors of columns

Weights lie in panels, as [M / (x3*lanes)][K][x3*lanes], so that a step of the reduction loads the next x3 vectors of x2
streams, broadcasts y2 numbers of data and does y2*x2*x3 fused multiply-adds between registers: the inner kernel of Goto and
van de Geijn ("Anatomy of High-Performance Matrix Multiplication", ACM TOMS 2008). A single row takes as long as reading the
weights does: one stream is fastest from cache, several from memory.

Where no good register tile divides rows or vectors of columns, say 197 or 61, they are rounded up and filled with zeros.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Array, Bool, Float, Num

from search import KnobSpace
from search.knobs import Config, Split
from search.space import Choice
from tvm_bridge.dense import Dense
from tvm_bridge.packing import LAYOUT_REWRITE
from tvm_bridge.target import Target
from tvm_bridge.templates.cpu import Operator, VectorUnit
from tvm_bridge.templates.cpu_predicate import BUSY, REUSE, STATEMENTS, VECTORS, busy, reachable_demands


def space(workload: Dense, target: Target) -> KnobSpace:
    """The splits of rows, of vectors of columns and of the reduction; how many lanes a vector has, the target says."""
    (rows, columns), unit = workload.output, VectorUnit.of(target)
    vectors = -(-columns // unit.covering(columns))
    tile_y, tile_x = Split("tile_y", _tileable(rows, unit), 3), Split("tile_x", _tileable(vectors, unit), 4)
    return KnobSpace((tile_y, tile_x, Split("tile_k", workload.data[1], 2)), _Predicate(tile_y, tile_x, unit, target.threads))


def schedule(function: Any, choice: Config, target: Target) -> Any:
    """Schedule a product, alone or with an elementwise epilogue; `packing.split` takes the packing of its weights out."""
    from tvm import s_tir

    sch = s_tir.Schedule(function)
    operator = Operator.of(sch)
    anchor, write_back = operator.anchor, operator.write_back
    rows, columns, _ = (int(sch.get(loop).extent) for loop in sch.get_loops(anchor))
    lanes = VectorUnit.of(target).covering(columns)
    panel = choice["tile_x"][3] * lanes

    filling = _fill(sch, anchor, math.prod(choice["tile_y"]), math.prod(choice["tile_x"]) * lanes)
    packing = sch.cache_read(anchor, 1, "global")
    sch.annotate(packing, LAYOUT_REWRITE, True)
    data = sch.cache_read(anchor, 0, "global") if math.prod(choice["tile_y"]) > rows else None
    for block in filling:
        sch.compute_inline(block)
    sch.transform_layout(anchor, ("read", 1), lambda x, k: (x // panel, k, x % panel))

    y, x, k = sch.get_loops(anchor)
    y0, y1, y2 = sch.split(y, choice["tile_y"])
    x0, x1, x2, x3, vector = sch.split(x, (*choice["tile_x"], lanes))
    k0, k1 = sch.split(k, choice["tile_k"])
    sch.reorder(y0, x0, x1, y1, k0, k1, y2, x2, x3, vector)
    chunk = sch.fuse(y0, x0)
    sch.parallel(chunk)
    for loop in (k1, y2, x2, x3):
        sch.unroll(loop)
    sch.vectorize(vector)

    if data is not None:
        sch.compute_at(data, chunk, preserve_unit_loops=True)
    sch.reverse_compute_at(write_back, y1, preserve_unit_loops=True)
    *_, y, x = sch.get_loops(write_back)
    x, vector = sch.split(x, [None, math.gcd(columns, lanes)])  # such a vector lies within the columns or beyond them
    for loop in (y, x):
        sch.unroll(loop)
    sch.vectorize(vector)
    sch.decompose_reduction(anchor, k0)
    return sch


def _tileable(extent: int, unit: VectorUnit) -> int:
    """The least extent from this one on that a tile of 4 to half the registers divides; one below 4 is its own tile."""
    tiles = range(min(extent, VECTORS), unit.registers // 2 + 1)
    return next(rounded for rounded in itertools.count(extent) if any(rounded % tile == 0 for tile in tiles))


def _fill(schedule: Any, anchor: Any, rows: int, columns: int) -> list[Any]:
    """Round the loops of a product up to so many rows and columns.

    **Returns:** the blocks that fill its operands with zeros and that cut its result, where there are any.
    """
    if [int(schedule.get(loop).extent) for loop in schedule.get_loops(anchor)[:2]] == [rows, columns]:
        return []
    schedule.pad_einsum(anchor, [rows, columns, 1])
    return [*schedule.get_producers(anchor), *schedule.get_consumers(anchor)]


@dataclass(frozen=True)
class _Predicate:
    """Admits the configurations whose register tile suits the vector unit and whose chunks suit the cores.

    - `tile_y`, `tile_x`: the knobs of that name.
    - `unit`: the vector unit of a core.
    - `threads`: the number of cores.
    """

    tile_y: Split
    tile_x: Split
    unit: VectorUnit
    threads: int

    def __call__(self, choice: Choice) -> Bool[Array, " n"]:
        """Tell which configurations are worth building."""
        admitted = self._fits(choice) & (self._vectors(choice) * choice["tile_k"][..., 1] <= STATEMENTS)
        for name, (measure, _) in self._measures(choice).items():
            admitted = admitted & (measure >= self._demands[name])
        return admitted

    def _vectors(self, choice: Choice) -> Float[Array, " n"]:
        """Vector accumulators of the register tile."""
        return choice["tile_y"][..., 2] * self._loads(choice)

    def _loads(self, choice: Choice) -> Float[Array, " n"]:
        """Vectors of weights that a step of the reduction loads; as a float, since products of factors overflow 32 bits."""
        return 1.0 * choice["tile_x"][..., 2] * choice["tile_x"][..., 3]

    def _fits(self, choice: Choice) -> Bool[Array, " n"]:
        """Whether the registers hold the accumulators, the weights of a step and a number of data: one too few halves speed."""
        return self._vectors(choice) + self._loads(choice) + 1 <= self.unit.registers

    def _measures(self, choice: Choice) -> dict[str, tuple[Num[Array, " n"], int]]:
        """What a configuration has to have enough of, and how much of it is wanted, most important first."""
        rows, columns = choice["tile_y"], choice["tile_x"]
        return {
            "reuse": (rows[..., 2], REUSE),
            "vectors": (self._vectors(choice), VECTORS),
            "busy": (busy(1.0 * rows[..., 0] * columns[..., 0], self.threads), BUSY),
        }

    @cached_property
    def _demands(self) -> dict[str, int]:
        """The least of each measure: what is wanted, or the most that is reachable with the demands before it met."""
        # A second factor decides nothing but the number of chunks, of which there are the most if it is 1.
        tables = [knob.table[knob.table[:, 1] == 1] for knob in (self.tile_y, self.tile_x)]
        rows, columns = np.indices([len(table) for table in tables]).reshape(2, -1)
        choice = {"tile_y": tables[0][rows], "tile_x": tables[1][columns]}
        return reachable_demands(self._measures(choice), self._fits(choice))
