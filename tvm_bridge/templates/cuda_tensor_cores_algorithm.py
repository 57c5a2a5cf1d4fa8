"""A convolution as a product of two matrices, filters by taps and taps by pixels, in stages that tensor cores' schedule places.

The matrices are never stored as a whole. A tap k is a channel at a place of the kernel. What reaches beyond the filters, the
pixels or the taps is zero.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tvm_bridge.templates.anchor import anchor_block
from tvm_bridge.templates.cuda_mma import FILTERS, PIXELS
from tvm_bridge.templates.substitution import substituted

AXES = {"NCHW": "nfyxcij", "NHWC": "nyxfijc"}
"""A convolution's axes in the order of its loops: image, filter, row, column; channel, row and column of the kernel."""

TAPS_FIRST = {"NCHW": ("data",), "NHWC": ("weight",)}
"""Which matrices have taps as their first axis: those whose tensor has pixels or filters innermost."""


@dataclass(frozen=True)
class Tile:
    """What extents are rounded up to multiples of: filters and pixels of a block, taps of a step of all parts."""

    filters: Any
    pixels: Any
    taps: Any

    @classmethod
    def of(cls, choice: Mapping[str, Any]) -> Tile:
        """The tile of a configuration, or of many."""
        filters, pixels = (choice[f"warps_{axis}"] * choice[f"fragments_{axis}"] for axis in "fp")
        return cls(filters * FILTERS, pixels * PIXELS, choice["depth"])


def with_matrix_product(
    function: Any, tile: Tile, layout: str, *, parts: int, kernel_innermost: bool, rounded: Callable[[Any], Any]
) -> Any:
    """Replace the sum of products of a convolution; padding and epilogue stay.

    **Arguments:**

    - `function`: a PrimFunc, a convolution, alone or with an elementwise epilogue.
    - `tile`: what the product is rounded up to.
    - `layout`: of data and results.
    - `parts`: into how many the taps are cut, each of which has sums of its own.
    - `kernel_innermost`: taps count the places of the kernel fastest, the channels otherwise.
    - `rounded`: what becomes of a number before it is multiplied.
    """
    import tvm_ffi
    from tvm import s_tir, sym, te, tirx

    schedule = s_tir.Schedule(function)
    anchor = anchor_block(schedule)
    block, nest = schedule.get(anchor), schedule.get(schedule.get_loops(anchor)[0])
    axes = dict(zip(AXES[layout], block.iter_vars, strict=True))
    index, simplified = axes["n"].dom.extent.ty.dtype, sym.Analyzer().simplify  # Relax counts in 64 bits
    images, filters, rows, columns, channels, height, width = (int(axes[name].dom.extent) for name in "nfyxcij")
    pixels, taps = images * rows * columns, channels * height * width
    f_end, p_end, k_end = (
        -(-extent // multiple) * multiple
        for extent, multiple in ((filters, tile.filters), (pixels, tile.pixels), (taps, tile.taps * parts))
    )

    def const(extent: int) -> Any:
        return tirx.const(extent, index)

    def tap(k: Any) -> dict[str, Any]:
        if kernel_innermost:
            return {"c": k // (height * width), "i": k // width % height, "j": k % width}
        return {"i": k // (width * channels), "j": k // channels % width, "c": k % channels}

    def element(tensor: Any, region: Any, place: dict[str, Any], *bounds: tuple[Any, int, int]) -> Any:
        """An element of data or weight at a place of the axes, zero beyond the bounds."""
        values = {axis.var: place[name] for name, axis in axes.items() if name in place}
        in_place = (tirx.Var, lambda variable: values.get(variable, variable))
        value = tensor(*(simplified(tvm_ffi.structural_map(span.min, in_place)) for span in region.region))
        inside = [position < extent for position, extent, end in bounds if extent < end]
        return te.if_then_else(tirx.all(*inside), value, 0.0) if inside else value

    def datum(p: Any, k: Any) -> Any:
        place = {"n": p // (rows * columns), "y": p // columns % rows, "x": p % columns, **tap(k)}
        return element(data, block.reads[0], place, (p, pixels, p_end), (k, taps, k_end))

    def weight_of(f: Any, k: Any) -> Any:
        return element(weight, block.reads[1], {"f": f, **tap(k)}, (f, filters, f_end), (k, taps, k_end))

    def matrix(name: str, entry: Callable[[Any, Any], Any], end: int) -> Callable[[Any, Any], Any]:
        """How to read a stage at a pixel or a filter and a tap."""
        if name in TAPS_FIRST[layout]:
            stage = te.compute([const(k_end), const(end)], lambda k, i: entry(i, k), name=f"product_{name}")
            return lambda i, k: stage[k, i]
        stage = te.compute([const(end), const(k_end)], entry, name=f"product_{name}")
        return lambda i, k: stage[i, k]

    def fragments(name: str, entry: Callable[[Any, Any], Any], end: int) -> Any:
        """A matrix as it is multiplied: taken from where it is, then rounded."""
        extents, read = [const(end), const(k_end)], matrix(name, entry, end)
        taken = te.compute(extents, read, name=f"product_{name}_taken")
        return te.compute(extents, lambda i, k: rounded(taken[i, k]), name=f"product_{name}_rounded")

    data, weight = (
        te.placeholder(region.source.shape, region.source.dtype, name=name)
        for region, name in zip(block.reads, ("data", "weight"), strict=True)
    )
    D, W = fragments("data", datum, p_end), fragments("weight", weight_of, f_end)
    part, in_part = k_end // parts, te.reduce_axis((const(0), const(k_end // parts)), "k")

    def sum_of_part(s: Any, f: Any, p: Any) -> Any:
        k = s * part + in_part
        return te.sum(W[f, k] * D[p, k], in_part)

    sums = te.compute([const(parts), const(f_end), const(p_end)], sum_of_part, name="product_sums")
    of_all = te.reduce_axis((const(0), const(parts)), "s")

    def result(*place: Any) -> Any:
        at = dict(zip(AXES[layout], place, strict=False))
        f, p = at["f"], (at["n"] * rows + at["y"]) * columns + at["x"]
        return sums[0, f, p] if parts == 1 else te.sum(sums[of_all, f, p], of_all)

    output = te.compute(block.writes[0].source.shape, result, name="product_output")
    algorithm = te.create_prim_func([data, weight, output])
    return substituted(schedule, nest, algorithm, [region.source for region in (*block.reads, *block.writes)])
