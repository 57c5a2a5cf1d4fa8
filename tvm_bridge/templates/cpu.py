"""What the templates of CPU kernels share: the vector unit of a target, and an operator reduced to the blocks they schedule."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tvm_bridge.target import Target

_VECTORS = (("avx512f", 16, 32), ("avx", 8, 16), ("neon", 4, 32))
"""A feature by LLVM's name, its float32 lanes, its vector registers; the first that a target has is its vector unit."""


@dataclass(frozen=True)
class VectorUnit:
    """The vector registers of a core: how many float32 `lanes` each has, and how many `registers` there are."""

    lanes: int
    registers: int

    @classmethod
    def of(cls, target: Target) -> VectorUnit:
        """The vector unit by the features that LLVM sees in the target; sixteen registers of four lanes where it sees none."""
        # Not by `target.llvm_get_vector_width`: it answers 512 bits for every x86.
        from tvm.target.codegen import target_has_features

        for feature, lanes, registers in _VECTORS:
            if target_has_features(feature, target.tvm):
                return cls(lanes, registers)
        return cls(4, 16)

    def widest(self, extent: int) -> int:
        """The widest vector that divides a loop of `extent` iterations and fits a register."""
        return max(lanes for lanes in range(1, self.lanes + 1) if extent % lanes == 0)

    def covering(self, extent: int) -> int:
        """The lanes of vectors that cover a loop of `extent` iterations: a register's, or fewer if they cover it at once."""
        return min(self.lanes, 1 << (extent - 1).bit_length())


@dataclass(frozen=True)
class Operator:
    """The blocks of an operator in a schedule.

    - `padding`: fills the padded data; None for an operator that pads nothing.
    - `filling`: enlarges the weight by zeros, which its template has to inline; None for an operator that takes it as it is.
    - `anchor`: sums products into a buffer of its own, the accumulators.
    - `write_back`: reads the accumulators and writes the result, with the epilogue if there is one.
    """

    padding: Any
    filling: Any
    anchor: Any
    write_back: Any

    @classmethod
    def of(cls, schedule: Any) -> Operator:
        """Find the block that sums, and inline the rest of the function into what reads and what writes for it."""
        blocks = schedule.get_child_blocks(schedule.get_sblock("root"))
        position = next(i for i, block in enumerate(blocks) if _sums(schedule.get(block)))
        anchor = blocks[position]
        growing = [block for block in blocks[:position] if _grows(schedule.get(block))]
        for block in blocks[:position]:
            if block not in growing:
                schedule.compute_inline(block)
        padding, filling = (_producer(schedule, anchor, operand, growing) for operand in (0, 1))
        for block in growing:
            if block not in (padding, filling):
                schedule.compute_inline(block)
        chain = [schedule.cache_write(anchor, 0, "global"), *blocks[position + 1 :]]
        for block in chain[:-1]:
            schedule.compute_inline(block)
        return cls(padding, filling, anchor, chain[-1])


def convolution_loops(schedule: Any, anchor: Any, layout: str) -> tuple[Any, ...]:
    """The loops of a convolution's anchor over n, f, y, x, and over the channels, rows and columns of its reduction."""
    loops = dict(zip(layout + layout[1:].lower(), schedule.get_loops(anchor), strict=True))
    return tuple(loops[axis] for axis in "NCHWchw")


def vectorize_channels(schedule: Any, block: Any, lanes: int, layout: str = "NCHW") -> tuple[Any, ...]:
    """Make vectors of `lanes` channels the innermost loop of a block over images in a layout.

    **Returns:** the three loops around it, over groups of channels, rows and columns in the layout's order.
    """
    loops = dict(zip(layout[1:], schedule.get_loops(block)[-3:], strict=True))
    loops["C"], vector = schedule.split(loops["C"], [None, lanes])
    schedule.reorder(*loops.values(), vector)
    schedule.vectorize(vector)
    return tuple(loops.values())


def unrolled(schedule: Any, loops: Iterable[Any], vector: Any) -> None:
    """Unroll some loops around a loop that becomes a vector."""
    for loop in loops:
        schedule.unroll(loop)
    schedule.vectorize(vector)


def _sums(block: Any) -> bool:
    from tvm.tirx import IterVar

    return any(axis.iter_type == IterVar.CommReduce for axis in block.iter_vars)


def _producer(schedule: Any, anchor: Any, operand: int, blocks: Iterable[Any]) -> Any:
    """The block, of some, that computes an operand of the anchor; None if none does."""
    read = schedule.get(anchor).reads[operand].source
    return next((block for block in blocks if schedule.get(block).writes[0].source.same_as(read)), None)


def _grows(block: Any) -> bool:
    """Whether a block pads: there are some that pad by nothing, too, and some that leave out what is not read."""
    if not block.reads:
        return False
    before, after = (math.prod(map(int, region[0].source.shape)) for region in (block.reads, block.writes))
    return after > before
