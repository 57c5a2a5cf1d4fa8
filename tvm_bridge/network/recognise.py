"""Recognise the workload of a function that a graph made: the operator it computes, whatever epilogue was fused to it.

A workload is guessed from the shapes and indices of the block that sums, and accepted only if TVM's own function of that
workload has the very same blocks: what looks like a convolution and is none is left alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import tvm_ffi

from tvm_bridge.convolution import LAYOUTS, Conv2d, array_axes, reordered
from tvm_bridge.dense import Dense

if TYPE_CHECKING:
    from tvm_bridge.workload import Workload


def workload_of(function: Any) -> Workload | None:
    """The workload that a `PrimFunc` computes from two of its parameters, data and weight; None if it is none of ours.

    What follows the operator, a bias or an activation for example, is its epilogue and free.
    """
    from tvm import IRModule, tirx

    narrow = tirx.transform.ForceNarrowIndexToInt32()(IRModule({"main": function}))["main"]
    blocks = _blocks(narrow)
    sums = [place for place, block in enumerate(blocks) if any(map(_reduces, block.iter_vars))]
    if len(sums) != 1:
        return None
    operator = blocks[: sums[0] + 1]
    if len(operator[-1].reads) != 2:
        return None
    operands = [operator[0].reads[0].source, operator[-1].reads[1].source]
    if not all(any(map(operand.same_as, narrow.params)) for operand in operands):
        return None
    for guess in _guesses(operands, operator):
        expected = _blocks(guess.prim_func())
        if len(expected) == len(operator) and all(map(_same, operator, expected)):
            return guess
    return None


def _blocks(function: Any) -> list[Any]:
    """The function's blocks in order; none if it has no root block."""
    from tvm import s_tir

    schedule = s_tir.Schedule(function)
    try:
        root = schedule.get_sblock("root")
    except s_tir.ScheduleError:
        return []
    return [schedule.get(block) for block in schedule.get_child_blocks(root)]


def _guesses(operands: Sequence[Any], operator: Sequence[Any]) -> Iterator[Workload]:
    """What the operator could be, by the shapes of data and weight."""
    data, weight = (tuple(int(extent) for extent in operand.shape) for operand in operands)
    dtype = str(operands[0].dtype)
    if len(data) == len(weight) == 2:
        with suppress(ValueError):
            yield Dense(data, weight, dtype)
    elif len(data) == len(weight) == 4:
        for layout in LAYOUTS:
            for groups in (1, data[layout.index("C")]):
                with suppress(ValueError):
                    yield _conv2d(data, weight, operator, dtype=dtype, layout=layout, groups=groups)


def _conv2d(
    data: Sequence[int], weight: Sequence[int], operator: Sequence[Any], *, dtype: str, layout: str, groups: int
) -> Conv2d:
    """The convolution with the strides, dilations and paddings that the blocks' indices have."""
    *padding, sums = operator
    axes = dict(zip(layout + layout[1:].lower(), sums.iter_vars, strict=True))
    stride, dilation, sides = [], [], []
    for extent in "HW":
        place = layout.index(extent)
        index = sums.reads[0].region[place].min
        step, tap, _ = _coefficients(index, axes[extent], axes[extent.lower()])
        stride.append(max(step, 1))  # an axis of extent 1 may be missing from the index
        dilation.append(max(tap, 1))
        before, whole = 0, data[place]
        if padding:
            copied, padded = padding[0].reads[0].region[place].min, padding[0].writes[0].source
            before, whole = -_coefficients(copied, padding[0].iter_vars[place])[-1], int(padded.shape[place])
        sides.append((before, whole - data[place] - before))
    (top, bottom), (left, right) = sides
    data_axes, weight_axes = array_axes(layout, groups)
    return Conv2d(
        reordered(data, data_axes, "NCHW"),
        reordered(weight, weight_axes, "OIHW"),
        (stride[0], stride[1]),
        (top, left, bottom, right),
        (dilation[0], dilation[1]),
        groups,
        dtype,
        layout,
    )


def _coefficients(index: Any, *axes: Any) -> list[int]:
    """The coefficients of axes in a linear index, and its constant."""
    from tvm import sym

    found = sym.detect_linear_equation(index, [axis.var for axis in axes])
    if not found:
        raise ValueError(f"the index {index} is not linear")
    return [int(each) for each in found]


def _reduces(axis: Any) -> bool:
    from tvm.tirx import IterVar

    return axis.iter_type == IterVar.CommReduce


def _same(block: Any, other: Any) -> bool:
    return tvm_ffi.structural_equal(block, other, map_free_vars=True)
