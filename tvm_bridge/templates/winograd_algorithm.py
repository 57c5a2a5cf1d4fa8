"""Winograd's minimal filtering as stages of a PrimFunc that a template schedules (Lavin and Gray, CVPR 2016, section 4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from tvm_bridge.convolution import array_axes, reordered
from tvm_bridge.templates.cpu import Operator
from tvm_bridge.templates.substitution import substituted


def with_minimal_filter(function: Any, m: int, tiles: tuple[int, int], layout: str) -> Any:
    """Replace the sum of products of a 3x3 convolution by minimal filtering; padding and epilogue stay.

    **Arguments:**

    - `function`: a PrimFunc, a convolution of stride 1, alone or with an elementwise epilogue.
    - `m`: the extent of a tile.
    - `tiles`: how many, down and across; they may overhang the results.
    - `layout`: of data and results.

    **Raises:** `ValueError` if the function computes something of data or weight first.
    """
    from tvm import s_tir

    sch = s_tir.Schedule(function)
    anchor = Operator.of(sch).anchor
    block, nest = sch.get(anchor), sch.get(sch.get_loops(anchor)[0])
    buffers = [region.source for region in (*block.reads, *block.writes)]
    factors = block.body.value.b
    if not (type(factors.a) is type(factors.b) is type(block.body.value.a)):
        raise ValueError("function: Winograd's algorithm takes data and weight as they are; compute what precedes it apart.")
    algorithm = _algorithm(buffers, m, tiles, layout)
    return substituted(sch, nest, algorithm, buffers)


def _algorithm(buffers: Sequence[Any], m: int, tiles: tuple[int, int], layout: str) -> Any:
    """The PrimFunc `(data, weight, output)` of the algorithm, for such buffers; only its ends know their layout."""
    from tvm import te, tirx

    data, weight, output = buffers
    index = str(data.shape[0].ty.dtype)  # Relax counts in 64 bits
    d, g = (te.placeholder(buffer.shape, buffer.dtype, name=name) for buffer, name in ((data, "data"), (weight, "weight")))
    A, B, G = (_entry(matrix) for matrix in minimal_filter(m))
    _, weight_axes = array_axes(layout, groups=1)

    def datum(*place: Any) -> Any:
        return d(*reordered(place, "NCHW", layout))

    def tap(*place: Any) -> Any:
        return g(*reordered(place, "OIHW", weight_axes))

    def axis(extent: int, name: str) -> Any:
        return te.reduce_axis((tirx.const(0, index), tirx.const(extent, index)), name)

    def stage(name: str, extents: Sequence[int], entry: Callable[..., Any]) -> Any:
        return te.compute([tirx.const(extent, index) for extent in extents], entry, name=f"winograd_{name}")

    def enlarged(*place: Any) -> Any:
        """The datum at a place, zero outside."""
        beyond = zip(place, shape, (batch, channels, *covered), strict=True)
        inside = [index < extent for index, extent, needed in beyond if int(extent) < needed]
        return te.if_then_else(tirx.all(*inside), datum(*place), 0.0) if inside else datum(*place)

    shape = reordered(data.shape, layout, "NCHW")
    batch, channels = map(int, shape[:2])
    filters = int(reordered(weight.shape, weight_axes, "OIHW")[0])
    rows, columns = tiles
    covered = rows * m + 2, columns * m + 2
    places = m + 2
    r, s, c = axis(3, "r"), axis(3, "s"), axis(channels, "c")
    i, j, k, v = (axis(places, name) for name in "ijkv")
    P = stage("padded", (batch, channels, *covered), enlarged)
    U = stage(
        "weight",
        (places, places, filters, channels),
        lambda e, u, f, c: te.sum(tap(f, c, r, s) * G(e, r) * G(u, s), [r, s]),
    )
    T = stage(
        "rows",
        (batch, channels, rows, columns, places, places),
        lambda n, c, y, x, e, u: te.sum(P[n, c, y * m + i, x * m + u] * B(i, e), i),
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

    def written(*place: Any) -> Any:
        n, f, y, x = reordered(place, layout, "NCHW")
        return Y[n, f, y // m, x // m, y % m, x % m]

    result = stage("output", [int(extent) for extent in output.shape], written)
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
