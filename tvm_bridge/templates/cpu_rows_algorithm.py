"""Depthwise convolution with its sums in rows of whole vectors, as stages of a PrimFunc that a template schedules.

Rows of data are read where they lie, a vector at a time. Numbers of the next row, or of the row before, that a vector reads are
masked; only at the ends of the array would it read beyond. Padding and epilogue need no copy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from tvm_bridge.convolution import Pair
from tvm_bridge.templates.cpu import Operator
from tvm_bridge.templates.substitution import substituted


class _Geometry(NamedTuple):
    stride: Pair
    dilation: Pair
    before: Pair
    """Rows above and columns to the left that are padded."""


def with_whole_rows(function: Any, lanes: int) -> Any:
    """Replace padding and sum of a depthwise convolution by sums of whole vectors; its epilogue stays.

    **Arguments:**

    - `function`: a PrimFunc, a depthwise convolution in NCHW, alone or with an elementwise epilogue.
    - `lanes`: the width of a vector; the last of a row may overhang the results. No row of vectors, with the columns that its
      taps add, may be longer than a channel's image.

    **Raises:** `ValueError` if the function computes something of data or weight first.
    """
    from tvm import s_tir

    sch = s_tir.Schedule(function)
    operator = Operator.of(sch)
    block, nest = sch.get(operator.anchor), sch.get(sch.get_loops(operator.anchor)[0])
    tap, factor = block.body.value.b.a, block.body.value.b.b
    if not (type(tap) is type(factor) is type(block.body.value.a)):
        raise ValueError("function: a convolution by rows takes data and weight as they are; compute what precedes it apart.")
    data, before, unused = tap.source, (0, 0), []
    if operator.padding is not None:
        padding = sch.get(operator.padding)
        unused += [sch.get(sch.get_loops(operator.padding)[0]), data]
        data, before = padding.reads[0].source, _padded_before(padding)
    _, _, y, x, _, ry, rx = (axis.var for axis in block.iter_vars)
    (sy, dy), (sx, dx) = _factors(tap.indices[2], y, ry), _factors(tap.indices[3], x, rx)
    buffers = [data, factor.source, block.writes[0].source]
    algorithm = _algorithm(buffers, _Geometry((sy, sx), (dy, dx), before), lanes)
    return substituted(sch, nest, algorithm, buffers, unused)


def _algorithm(buffers: Sequence[Any], geometry: _Geometry, lanes: int) -> Any:
    """The PrimFunc `(data, weight, output)` of the algorithm, for such buffers."""
    from tvm import te, tirx

    data, weight, output = buffers
    index = str(data.shape[0].ty.dtype)  # Relax counts in 64 bits
    d, g = (te.placeholder(buffer.shape, buffer.dtype, name=name) for buffer, name in ((data, "data"), (weight, "weight")))
    batch, channels, height, width = map(int, data.shape)
    _, _, kernel_height, kernel_width = map(int, weight.shape)
    *_, rows, columns = (int(extent) for extent in output.shape)
    (sy, sx), (dy, dx), (top, left) = geometry
    covered = -(-columns // lanes) * lanes
    span = (covered - 1) * sx + (kernel_width - 1) * dx + 1
    vectors = -(-span // lanes)
    if sx > 1:
        span = vectors * lanes
    # Results of so many rows at either end may come from vectors that are read beyond the array's ends.
    first, last = -(-left // width), max(0, -(-(span - left) // width) - 1)
    few = min(rows, max(-(-(first + top) // sy), rows - -(-(height - last + top - (kernel_height - 1) * dy) // sy)))
    zero = tirx.const(0.0, "float32")

    def stage(name: str, extents: Sequence[int], entry: Callable[..., Any]) -> Any:
        return te.compute([tirx.const(extent, index) for extent in extents], entry, name=f"rows_{name}")

    def padded(n: Any, c: Any, y: Any, x: Any) -> Any:
        """The datum at a place of the padded data; other data where a vector would be read beyond the array's ends."""
        row, column = y - top, x - left
        inside = tirx.all(column >= 0, column < width)
        start = ((n * channels + c) * height + row) * width - left
        back = tirx.max(0, start + span - batch * channels * height * width) - tirx.max(0, -start)
        masked = tirx.Select(inside, d[n, c, row, column - back], zero)
        return te.if_then_else(tirx.all(row >= 0, row < height), masked, zero)

    if sx == 1:
        read = padded
    else:  # what lies in a register can be taken apart by shuffles
        needed = (rows - 1) * sy + (kernel_height - 1) * dy + 1
        line = stage("line", (batch, channels, needed, vectors, lanes), lambda n, c, y, v, k: padded(n, c, y, v * lanes + k))

        def read(n: Any, c: Any, y: Any, x: Any) -> Any:
            return line[n, c, y, x // lanes, x % lanes]

    def axes() -> list[Any]:
        extents = (("ry", kernel_height), ("rx", kernel_width))
        return [te.reduce_axis((tirx.const(0, index), tirx.const(extent, index)), name) for name, extent in extents]

    def summed(n: Any, c: Any, y: Any, x: Any) -> Any:
        ry, rx = axes()
        return te.sum(read(n, c, y * sy + ry * dy, x * sx + rx * dx) * g[c, 0, ry, rx], [ry, rx])

    def exact(end: Any, y: Any, x: Any) -> Any:
        """A result of the first image's first rows (0) or of the last image's last rows (1)."""
        ry, rx = axes()
        channel, row, column = end * (channels - 1), (y + end * (rows - few)) * sy + ry * dy - top, x * sx + rx * dx - left
        inside = tirx.all(row >= 0, row < height, column >= 0, column < width)
        datum = te.if_then_else(inside, d[end * (batch - 1), channel, row, column], zero)
        return te.sum(datum * g[channel, 0, ry, rx], [ry, rx])

    total = stage("sum", (batch, channels, rows, covered), summed)
    if few == 0:
        return te.create_prim_func([d, g, stage("output", (batch, channels, rows, columns), total)])
    ends = stage("ends", (2, few, columns), exact)

    def result(n: Any, c: Any, y: Any, x: Any) -> Any:
        image = n * channels + c
        after = te.if_then_else(
            tirx.all(image == batch * channels - 1, y >= rows - few), ends[1, y - (rows - few), x], total[n, c, y, x]
        )
        return te.if_then_else(tirx.all(image == 0, y < few), ends[0, y, x], after)

    return te.create_prim_func([d, g, stage("output", (batch, channels, rows, columns), result)])


def _padded_before(padding: Any) -> Pair:
    """Rows above and columns to the left that a padding block adds."""
    region, axes = padding.reads[0].region, padding.iter_vars
    above, left = (-_linear(region[axis].min, [axes[axis].var])[1] for axis in (2, 3))
    return above, left


def _factors(index: Any, *variables: Any) -> Pair:
    """What two variables are multiplied by in an index, 1 if one is missing from it: its extent is 1."""
    first, second, _ = _linear(index, variables)
    return max(first, 1), max(second, 1)


def _linear(index: Any, variables: Sequence[Any]) -> list[int]:
    """The factors of an index that is linear in some variables, and what is added."""
    from tvm import sym

    return [int(each) for each in sym.detect_linear_equation(index, list(variables))]
