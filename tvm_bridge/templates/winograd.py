"""Winograd's minimal filtering on a CPU: a 3x3 convolution with fewer multiplications (Lavin and Gray, CVPR 2016, section 4).

A tile of m x m results takes (m + 2)^2 products of a channel and a filter instead of 9 m^2: 2.25 times fewer for m = 2, four
times fewer for m = 4. The weights are transformed ahead of time, as a deployed network does.

    parallel (n f0 y0 x0)                   chunks, shared out among the cores
      y1 x1                                 data tiles of a chunk
        c, lanes                            V = B^T d B of the data tile's tiles d, vectors along channels
        e u                                 the (m + 2)^2 places of a transformed tile, a matrix product each
          f1 y2 x2
            rc0 rc1                         the reduction; `unroll_explicit` unrolls rc1
              y3 x3 f2, lanes f3            the register tile: y3*x3 tiles, f2 vectors of f3 filters
        f1 f2 y2 y3 x2 x3                   A^T M A of each tile's sums M, written in the data's layout with the epilogue

Rows and columns are counted in tiles: `tile_loops` says how many the factors of `tile_y` and `tile_x` mean. Tiles that overhang
the results' edge are computed on data padded with zeros, and only what lies inside is written.

The transforms are additions, for the most part, and what lies between them and the products stays in cache if data tiles are
small. Chunks of the same data (f0 > 1) each transform it for themselves.
"""

from __future__ import annotations

import math
from typing import Any

from search.knobs import Config
from tvm_bridge.convolution import reordered
from tvm_bridge.packing import LAYOUT_REWRITE
from tvm_bridge.target import Target
from tvm_bridge.templates.cpu import VectorUnit, unrolled
from tvm_bridge.templates.spans import tile_loops
from tvm_bridge.templates.winograd_algorithm import with_minimal_filter


def schedule(function: Any, choice: Config, target: Target, layout: str) -> Any:
    """Schedule a convolution, alone or with an elementwise epilogue, whose configuration has a tile's extent as `winograd`."""
    from tvm import s_tir

    m, (down, right) = choice["winograd"], _tiles(choice)
    sch = s_tir.Schedule(rewritten(function, choice, layout))
    padded, weights, rows, data, product, columns, result, write_back = _blocks(sch)
    lanes, width = VectorUnit.of(target).widest(math.prod(choice["tile_rc"])), choice["tile_f"][3]
    _lay_out(sch, (padded, rows, data), lanes, (product, columns, result), width)
    sch.transform_layout(weights, ("write", 0), lambda e, u, f, c: (e, u, f // width, c, f % width))
    sch.annotate(weights, LAYOUT_REWRITE, True)

    n, f, y, x = reordered(sch.get_loops(write_back), layout, "NCHW")
    f0, f1, f2, f3 = sch.split(f, choice["tile_f"])
    y0, y1, y2, p = sch.split(y, [*down[:2], math.prod(down[2:]), m])
    x0, x1, x2, q = sch.split(x, [*right[:2], math.prod(right[2:]), m])
    sch.reorder(n, f0, y0, x0, y1, x1, f1, f2, y2, x2, p, q, f3)
    sch.parallel(sch.fuse(n, f0, y0, x0))
    unrolled(sch, (q,), f3)
    for block in (result, columns):
        sch.compute_at(block, x2, preserve_unit_loops=True)
        _, channels, _, _, p, q, k = sch.get_loops(block)[-7:]
        along, across = (q, p) if block is columns else (p, q)
        sch.reorder(along, across, k, channels)
        unrolled(sch, (across, k), channels)

    sch.compute_at(product, x1, preserve_unit_loops=True)
    e, u, n, f, y, x, c = sch.get_loops(product)[-7:]
    f1, f2, f3 = sch.split(f, [None, *choice["tile_f"][2:]])
    y2, y3 = sch.split(y, down[2:])
    x2, x3 = sch.split(x, right[2:])
    c0, c1 = sch.split(c, choice["tile_rc"])
    sch.reorder(e, u, n, f1, y2, x2, c0, c1, y3, x3, f2, f3)
    unrolled(sch, (y3, x3, f2, *((c1,) if choice["unroll_explicit"] else ())), f3)
    sch.decompose_reduction(product, c0)

    sch.compute_at(data, x1, preserve_unit_loops=True)
    e, u, n, c, y, x, k = sch.get_loops(data)[-7:]
    c0, c1 = sch.split(c, [None, lanes])
    sch.reorder(n, c0, y, x, e, u, k, c1)
    unrolled(sch, (u, k), c1)
    sch.compute_at(rows, x, preserve_unit_loops=True)
    c, _, _, e, u, k = sch.get_loops(rows)[-6:]
    sch.reorder(u, e, k, c)
    unrolled(sch, (e, k), c)
    sch.compute_at(padded, c0, preserve_unit_loops=True)
    c, y, x = sch.get_loops(padded)[-3:]
    sch.reorder(y, x, c)
    sch.vectorize(c)
    return sch


def rewritten(function: Any, choice: Config, layout: str) -> Any:
    """The function that the schedule of a choice starts from."""
    down, right = map(math.prod, _tiles(choice))
    return with_minimal_filter(function, choice["winograd"], (down, right), layout)


def _tiles(choice: Config) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The loops over tiles, down and across."""
    down, right = (tile_loops(choice[name], choice["winograd"]) for name in ("tile_y", "tile_x"))
    return down, right


def _lay_out(sch: Any, inputs: tuple[Any, ...], lanes: int, outputs: tuple[Any, ...], width: int) -> None:
    """Make channels the innermost axis of all that vectors run through."""
    padded, rows, data = inputs
    product, columns, result = outputs
    sch.transform_layout(padded, ("write", 0), lambda n, c, y, x: (n, c // lanes, y, x, c % lanes))
    sch.transform_layout(rows, ("write", 0), lambda n, c, y, x, e, k: (n, c // lanes, y, x, e, k, c % lanes))
    sch.transform_layout(data, ("write", 0), lambda e, u, n, c, y, x: (e, u, n, y, x, c))
    sch.transform_layout(product, ("write", 0), lambda e, u, n, f, y, x: (e, u, n, f // width, y, x, f % width))
    for block in (columns, result):
        sch.transform_layout(block, ("write", 0), lambda n, f, y, x, p, q: (n, f // width, y, x, p, q, f % width))


def _blocks(sch: Any) -> tuple[Any, ...]:
    """The blocks that are scheduled, in their order: the data enlarged, the algorithm, the write-back."""
    names = ("padded", "weight", "rows", "data", "product", "columns", "result", "output")
    *stages, output = (sch.get_sblock(f"winograd_{name}") for name in names)
    (write_back,) = sch.get_consumers(output)
    sch.compute_inline(output)
    for padding in sch.get_producers(stages[0]):
        sch.compute_inline(padding)
    return *stages, write_back
