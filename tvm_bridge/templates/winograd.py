"""Winograd's minimal filtering on a CPU: a 3x3 convolution with fewer multiplications (Lavin and Gray, CVPR 2016, section 4).

A tile of m x m results takes (m + 2)^2 products of a channel and a filter instead of 9 m^2: 2.25 times fewer for m = 2, four
times fewer for m = 4. The weights are transformed ahead of time, as a deployed network does.

    parallel (n f0 y0 x0)                   chunks, shared out among the cores
      y1 x1                                 data tiles of a chunk
        c, lanes                            V = B^T d B of the data tile's tiles d, vectors along channels
        e u                                 the (m + 2)^2 places of a transformed tile, a matrix product each
          f1 y2 x2
            rc0 rc1                         the reduction; `unroll_explicit` unrolls rc1
              y3/m x3/m f2, lanes f3        the register tile: (y3/m)*(x3/m) tiles, f2 vectors of f3 filters
        f1 f2 y2 y3/m x2 x3/m               A^T M A of each tile's sums M, written in NCHW with the epilogue

The transforms are additions, for the most part, and what lies between them and the products stays in cache if data tiles are
small. Chunks of the same data (f0 > 1) each transform it for themselves.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Array, Bool, Float, Int

from search.knobs import Config, Knob, factorisations
from search.space import Choice, Part
from tvm_bridge.convolution import Conv2d
from tvm_bridge.packing import LAYOUT_REWRITE
from tvm_bridge.target import Target
from tvm_bridge.templates.cpu import Operator, VectorUnit
from tvm_bridge.templates.cpu_predicate import CpuPredicate

TILES = (2, 4)
"""Extents m that are offered: the larger, the fewer products, and the larger the errors of rounding."""


def applies(workload: Conv2d, unit: VectorUnit, m: int) -> bool:
    """Whether tiles of extent m cover the results of a convolution, and its channels fill vectors."""
    suited = workload.weight[2:] == (3, 3) and workload.stride == workload.dilation == (1, 1)
    covered = all(extent % m == 0 for extent in workload.output[2:])
    return suited and covered and 2 * unit.widest(workload.data[1]) > unit.lanes


@dataclass(frozen=True)
class WinogradPredicate(CpuPredicate):
    """Admits the configurations whose matrix products suit the vector unit and whose chunks suit the cores.

    - `m`: the extent of a tile.
    """

    m: int = TILES[0]

    unroll_step: ClassVar[int] = 512

    def fills_vectors(self, choice: Choice) -> Bool[Array, " n"]:
        """Whether vectors are nearly as wide as they can be, and the register tile holds whole tiles."""
        return super().fills_vectors(choice) & self._whole(choice["tile_y"]) & self._whole(choice["tile_x"])

    def distinct(self, choice: Choice) -> Bool[Array, " n"]:
        """Whether taps are not split, nor channels without use."""
        taps = self._unsplit(choice["tile_ry"]) & self._unsplit(choice["tile_rx"])
        channels = (choice["unroll_explicit"] == 1) | (choice["tile_rc"][..., 1] == 1)
        return taps & channels

    def part(self, knobs: Sequence[Knob]) -> Part:
        """The options of each knob that a configuration can have."""
        able: dict[str, Callable[[Any], Any]] = {
            "tile_f": lambda f: super(WinogradPredicate, self).fills_vectors({"tile_f": f}) & (f[:, 0] <= self.threads),
            "tile_y": self._whole,
            "tile_x": self._whole,
            "tile_ry": self._unsplit,
            "tile_rx": self._unsplit,
            "winograd": lambda m: m[:, 0] == self.m,
        }
        admitted = (able[knob.name](knob.table) if knob.name in able else np.ones(len(knob.table)) for knob in knobs)
        return tuple(tuple(np.flatnonzero(options).tolist()) for options in admitted)

    def _whole(self, factors: Int[Array, "n 4"]) -> Bool[Array, " n"]:
        return factors[..., 3] % self.m == 0

    @staticmethod
    def _unsplit(factors: Int[Array, "n 2"]) -> Bool[Array, " n"]:
        return factors[..., 1] == 1

    def steps(self, choice: Choice) -> Int[Array, " n"]:
        """Channels of the inner tile."""
        return choice["tile_rc"][..., 1]

    def _fits(self, choice: Choice) -> Bool[Array, " n"]:
        return super()._fits(choice) & (choice["tile_f"][..., 0] <= self.threads)  # more chunks would transform the same data

    def _factors(self) -> list[Int[np.ndarray, "_ 4"]]:
        filters = factorisations(self.workload.output[1], 4)  # of chunks there may be few: what is left walks
        return [filters, *super()._factors()[1:]]

    def _vectors(self, choice: Choice) -> Int[Array, " n"]:
        f, y, x = choice["tile_f"], choice["tile_y"], choice["tile_x"]
        return f[..., 2] * f[..., 3] * y[..., 3] * x[..., 3] // (self.lanes(choice) * self.m**2)


def schedule(function: Any, choice: Config, target: Target) -> Any:
    """Schedule a convolution, alone or with an elementwise epilogue, whose configuration has a tile's extent as `winograd`."""
    from tvm import s_tir

    m = choice["winograd"]
    sch = s_tir.Schedule(_minimal(function, m))
    padded, weights, rows, data, product, columns, result, write_back = _blocks(sch)
    lanes, width = VectorUnit.of(target).widest(math.prod(choice["tile_rc"])), choice["tile_f"][3]
    _lay_out(sch, (padded, rows, data), lanes, (product, columns, result), width)
    sch.transform_layout(weights, ("write", 0), lambda e, u, f, c: (e, u, f // width, c, f % width))
    sch.annotate(weights, LAYOUT_REWRITE, True)

    n, f, y, x = sch.get_loops(write_back)
    f0, f1, f2, f3 = sch.split(f, choice["tile_f"])
    y0, y1, y2, p = sch.split(y, [*choice["tile_y"][:2], None, m])
    x0, x1, x2, q = sch.split(x, [*choice["tile_x"][:2], None, m])
    sch.reorder(n, f0, y0, x0, y1, x1, f1, f2, y2, x2, p, q, f3)
    sch.parallel(sch.fuse(n, f0, y0, x0))
    _unrolled(sch, (p, q), f3)
    for block in (result, columns):
        sch.compute_at(block, x2, preserve_unit_loops=True)
        _, channels, _, _, p, q, k = sch.get_loops(block)[-7:]
        along, across = (q, p) if block is columns else (p, q)
        sch.reorder(along, across, k, channels)
        _unrolled(sch, (across, k), channels)

    sch.compute_at(product, x1, preserve_unit_loops=True)
    e, u, n, f, y, x, c = sch.get_loops(product)[-7:]
    f1, f2, f3 = sch.split(f, [None, *choice["tile_f"][2:]])
    y2, y3 = sch.split(y, [None, choice["tile_y"][3] // m])
    x2, x3 = sch.split(x, [None, choice["tile_x"][3] // m])
    c0, c1 = sch.split(c, choice["tile_rc"])
    sch.reorder(e, u, n, f1, y2, x2, c0, c1, y3, x3, f2, f3)
    _unrolled(sch, (y3, x3, f2, *((c1,) if choice["unroll_explicit"] else ())), f3)
    sch.decompose_reduction(product, c0)

    sch.compute_at(data, x1, preserve_unit_loops=True)
    e, u, n, c, y, x, k = sch.get_loops(data)[-7:]
    c0, c1 = sch.split(c, [None, lanes])
    sch.reorder(n, c0, y, x, e, u, k, c1)
    _unrolled(sch, (u, k), c1)
    sch.compute_at(rows, x, preserve_unit_loops=True)
    c, _, _, e, u, k = sch.get_loops(rows)[-6:]
    sch.reorder(u, e, k, c)
    _unrolled(sch, (e, k), c)
    sch.compute_at(padded, c0, preserve_unit_loops=True)
    c, y, x = sch.get_loops(padded)[-3:]
    sch.reorder(y, x, c)
    sch.vectorize(c)
    return sch


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


def _unrolled(sch: Any, loops: Any, vector: Any) -> None:
    for loop in loops:
        sch.unroll(loop)
    sch.vectorize(vector)


def _blocks(sch: Any) -> tuple[Any, ...]:
    """The blocks that are scheduled, in their order: padding or a copy of the data, the algorithm, the write-back."""
    names = ("weight", "rows", "data", "product", "columns", "result", "output")
    weights, rows, data, product, columns, result, output = (sch.get_sblock(f"winograd_{name}") for name in names)
    (write_back,) = sch.get_consumers(output)
    sch.compute_inline(output)
    (padded,) = sch.get_producers(rows) or (sch.cache_read(rows, 0, "global"),)
    return padded, weights, rows, data, product, columns, result, write_back


def _minimal(function: Any, m: int) -> Any:
    """The function with its sum of products replaced by minimal filtering; padding and epilogue stay."""
    import tvm_ffi
    from tvm import s_tir, tirx

    sch = s_tir.Schedule(function)
    anchor = Operator.of(sch).anchor
    block, nest = sch.get(anchor), sch.get(sch.get_loops(anchor)[0])
    buffers = [region.source for region in (*block.reads, *block.writes)]
    factors = block.body.value.b
    if not (type(factors.a) is type(factors.b) is type(block.body.value.a)):
        raise ValueError("function: Winograd's algorithm takes data and weight as they are; compute what precedes it apart.")
    algorithm = _algorithm(buffers, m)
    names = dict(zip(algorithm.params, buffers, strict=True))
    root, other = sch.mod["main"].body.block, algorithm.body.block
    replacement = tvm_ffi.structural_map(other.body, (tirx.Var, lambda variable: names.get(variable, variable)))
    body = tirx.SeqStmt([replacement if statement.same_as(nest) else statement for statement in root.body.seq])
    whole = s_tir.SBlock([], [], [], "root", body, alloc_buffers=[*root.alloc_buffers, *other.alloc_buffers])
    return sch.mod["main"].with_body(s_tir.SBlockRealize([], True, whole))


def _algorithm(buffers: Sequence[Any], m: int) -> Any:
    """The PrimFunc `(padded data, weight, output)` of the algorithm, for such buffers."""
    from tvm import te, tirx

    data, weight, output = buffers
    index = str(data.shape[0].ty.dtype)  # Relax counts in 64 bits
    d, g = (te.placeholder(buffer.shape, buffer.dtype, name=name) for buffer, name in ((data, "data"), (weight, "weight")))
    A, B, G = (_entry(matrix) for matrix in minimal_filter(m))

    def axis(extent: int, name: str) -> Any:
        return te.reduce_axis((tirx.const(0, index), tirx.const(extent, index)), name)

    def stage(name: str, extents: Sequence[int], entry: Callable[..., Any]) -> Any:
        return te.compute([tirx.const(extent, index) for extent in extents], entry, name=f"winograd_{name}")

    (batch, channels), (filters, *_) = map(int, data.shape[:2]), map(int, weight.shape)
    rows, columns = (int(extent) // m for extent in output.shape[2:])
    places = m + 2
    r, s, c = axis(3, "r"), axis(3, "s"), axis(channels, "c")
    i, j, k, v = (axis(places, name) for name in "ijkv")
    U = stage(
        "weight",
        (places, places, filters, channels),
        lambda e, u, f, c: te.sum(g[f, c, r, s] * G(e, r) * G(u, s), [r, s]),
    )
    T = stage(
        "rows",
        (batch, channels, rows, columns, places, places),
        lambda n, c, y, x, e, u: te.sum(d[n, c, y * m + i, x * m + u] * B(i, e), i),
    )
    V = stage(
        "data",
        (places, places, batch, channels, rows, columns),
        lambda e, u, n, c, y, x: te.sum(T[n, c, y, x, e, j] * B(j, u), j),
    )
    M = stage(
        "product",
        (places, places, batch, filters, rows, columns),
        lambda e, u, n, f, y, x: te.sum(U[e, u, f, c] * V[e, u, n, c, y, x], c),
    )
    S = stage(
        "columns",
        (batch, filters, rows, columns, m, places),
        lambda n, f, y, x, p, u: te.sum(M[k, u, n, f, y, x] * A(k, p), k),
    )
    Y = stage(
        "result",
        (batch, filters, rows, columns, m, m),
        lambda n, f, y, x, p, q: te.sum(S[n, f, y, x, p, v] * A(v, q), v),
    )
    result = stage(
        "output",
        (batch, filters, rows * m, columns * m),
        lambda n, f, y, x: Y[n, f, y // m, x // m, y % m, x % m],
    )
    return te.create_prim_func([d, g, result])


def _entry(matrix: Float[np.ndarray, "rows columns"]) -> Callable[[Any, Any], Any]:
    """The entry at a place that is known once loops are unrolled."""
    from tvm import tirx

    def at(row: Any, column: Any) -> Any:
        value = tirx.const(0.0, "float32")
        for (i, j), number in np.ndenumerate(matrix):
            value = tirx.Select(tirx.all(row == i, column == j), tirx.const(float(number), "float32"), value)
        return value

    return at


def minimal_filter(m: int, taps: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    r"""The matrices of the algorithm F(m, r): $A^\top ((G g) \odot (B^\top d))$ are m results of a filter g with r taps.

    By interpolation of polynomials at 0, 1, -1, 2, -2, ... and infinity (Winograd, 1980; Lavin and Gray, CVPR 2016).

    **Returns:** A, B and G, of shapes (m + r - 1, m), (m + r - 1, m + r - 1) and (m + r - 1, r).
    """
    places = m + taps - 1
    points = np.array([(i + 1) // 2 * (-1) ** (i + 1) for i in range(places - 1)], float)
    others = [np.delete(points, i) for i in range(places - 1)]
    scale = [np.prod(point - rest) for point, rest in zip(points, others, strict=True)]
    A, G, B = np.zeros((places, m)), np.zeros((places, taps)), np.zeros((places, places))
    A[:-1], A[-1, -1] = np.vander(points, m, increasing=True), 1
    G[:-1], G[-1, -1] = np.vander(points, taps, increasing=True) / np.array(scale)[:, None], 1
    for i, rest in enumerate(others):
        B[:-1, i] = np.poly(rest)[::-1]
    B[:, -1] = np.poly(points)[::-1]
    return A, B, G
