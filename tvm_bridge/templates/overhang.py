"""Axes that tiles need not divide: rounded up in the function, before it is scheduled.

What lies beyond is computed from zeros and not written. Where a schedule rounds loops up itself, TVM guards what they fetch by
conditions, and then allocates more shared memory than they take, how much nobody can tell beforehand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tvm_bridge.templates.anchor import anchor_block
from tvm_bridge.templates.substitution import substituted


def overhanging(function: Any, multiples: Mapping[int, int]) -> Any:
    """Round up the extents of an operator's spatial axes.

    **Arguments:**

    - `function`: a PrimFunc whose anchor block sums products, alone or with an elementwise epilogue.
    - `multiples`: of what the extent of an axis shall be a multiple, by its place among the anchor's axes.

    **Returns:** a function of the same parameters that computes the same; the very same if all extents are multiples.
    """
    import tvm_ffi
    from tvm import s_tir, sym, te, tirx

    schedule = s_tir.Schedule(function)
    anchor = anchor_block(schedule)
    block, nest = schedule.get(anchor), schedule.get(schedule.get_loops(anchor)[0])
    axes, simplified = list(block.iter_vars), sym.Analyzer().simplify
    extents = [int(axis.dom.extent) for axis in axes]
    rounded = [-(-extent // multiples.get(place, 1)) * multiples.get(place, 1) for place, extent in enumerate(extents)]
    if rounded == extents:
        return function

    def const(extent: int) -> Any:
        return tirx.const(extent, axes[0].var.ty.dtype)  # Relax counts in 64 bits

    def at(region: Any, places: Sequence[Any]) -> list[Any]:
        """The indices of a region at a place of the axes."""
        values = dict(zip((axis.var for axis in axes), places, strict=True))
        in_place = (tirx.Var, lambda variable: values.get(variable, variable))
        return [simplified(tvm_ffi.structural_map(span.min, in_place)) for span in region.region]

    def enlarged(region: Any, tensor: Any) -> Any:
        """A tensor with zeros as far as the rounded axes reach."""
        reach = [int(last) + 1 for last in at(region, [const(extent - 1) for extent in rounded])]

        def entry(*place: Any) -> Any:
            inside = [i < n for i, n, end in zip(place, tensor.shape, reach, strict=True) if end > int(n)]
            return te.if_then_else(tirx.all(*inside), tensor(*place), 0.0) if inside else tensor(*place)

        return te.compute([const(end) for end in reach], entry, name=f"{tensor.op.name}_enlarged")

    operands, (result,) = [region.source for region in block.reads], [region.source for region in block.writes]
    inputs = [te.placeholder(operand.shape, operand.dtype, name=str(operand.name)) for operand in operands]
    data, weight = (enlarged(region, tensor) for region, tensor in zip(block.reads, inputs, strict=True))
    spatial = len(result.shape)  # its axes come first
    reduced = [te.reduce_axis((const(0), axis.dom.extent), str(axis.var.name)) for axis in axes[spatial:]]

    def total(*place: Any) -> Any:
        places = [*place, *(axis.var for axis in reduced)]
        return te.sum(data(*at(block.reads[0], places)) * weight(*at(block.reads[1], places)), reduced)

    def within(*place: Any) -> Any:
        return sums(*place)

    sums = te.compute([const(extent) for extent in rounded[:spatial]], total, name=str(block.name_hint))
    output = te.compute(result.shape, within, name=f"{block.name_hint}_within")
    return substituted(schedule, nest, te.create_prim_func([*inputs, output]), [*operands, result])
