"""A plain schedule for what no template covers on a CPU, pooling and concatenation for example: all cores, vectors, one pass.

TVM's own default for a CPU is none: one core computes a chain of elementwise operators one after the other.
"""

from __future__ import annotations

import math
from typing import Any

from tvm_bridge.target import Target

WORTHWHILE = 1 << 16
"""What takes fewer steps is computed on one core: waking the others takes some microseconds."""

WIDEST = 128
"""An innermost loop of up to so many results becomes a vector operation, which LLVM splits into registers."""


def scheduled(function: Any, target: Target) -> Any:
    """The function under that schedule; as it is if it is scheduled already, or sums up what other sums need (softmax).

    **Arguments:**

    - `function`: a `PrimFunc`.
    - `target`: a CPU.
    """
    from tvm import s_tir

    if (function.attrs or {}).get("tirx.is_scheduled"):
        return function
    try:
        return _scheduled(s_tir.Schedule(function), target).with_attr("tirx.is_scheduled", 1)
    except s_tir.ScheduleError:  # it is not made of plain loops around plain blocks
        return function


def _scheduled(schedule: Any, target: Target) -> Any:
    blocks = schedule.get_child_blocks(schedule.get_sblock("root"))
    if sum(_reduces(schedule.get(block)) for block in blocks) > 1:
        return schedule.mod["main"]
    for block in blocks[:-1]:
        if _elementwise(schedule.get(block)):
            schedule.compute_inline(block)
    for block in schedule.get_child_blocks(schedule.get_sblock("root")):
        _spread(schedule, block, target.threads)
    return schedule.mod["main"]


def _spread(schedule: Any, block: Any, threads: int) -> None:
    """Share a block's outer loops among the cores; make its innermost loop a vector, if it sums nothing.

    Sums over windows with strides are left to LLVM, which is the better at gathering.
    """
    from tvm.tirx import IterVar

    loops, axes = schedule.get_loops(block), schedule.get(block).iter_vars
    if len(loops) != len(axes):  # loops that are no axes of their own: nothing is known of their order
        return
    results = [loop for loop, axis in zip(loops, axes, strict=True) if axis.iter_type == IterVar.DataPar]
    if len(results) < 2:
        return
    if len(results) == len(loops) and int(schedule.get(results[-1]).extent) <= WIDEST:
        schedule.vectorize(results[-1])
    if threads > 1 and math.prod(int(schedule.get(loop).extent) for loop in loops) >= WORTHWHILE:
        schedule.parallel(schedule.fuse(*results[:-1]))


def _reduces(block: Any) -> bool:
    from tvm.tirx import IterVar

    return any(axis.iter_type == IterVar.CommReduce for axis in block.iter_vars)


def _elementwise(block: Any) -> bool:
    """Whether a block reads each number once where it writes one: computing it in place costs less than storing it."""
    written = block.writes[0].source
    return (
        not _reduces(block)
        and all(len(each.source.shape) <= len(written.shape) for each in block.reads)
        and any(list(each.source.shape) == list(written.shape) for each in block.reads)
    )
