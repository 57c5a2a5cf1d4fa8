"""Matrix product on CUDA: tiles of data and weights in shared memory.

In the manner of AutoTVM's `dense_large_batch` (Chen et al., 2018), with the knobs of its `dense_int8` and `unroll_explicit`.
Rows (`tile_y`) and columns (`tile_x`) of the output are each cut four ways, `(blocks, virtual threads, threads, inner)`, the
reduction (`tile_k`) into steps. Every step fetches its data and weights to shared memory, along the reduction as they lie, and
keeps them there as [K][rows] and [K][columns], so that neighbouring threads read neighbouring columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jaxtyping import Array, Bool, Float

from search import KnobSpace, Split
from tvm_bridge.templates.cuda_block import ThreadBlock
from tvm_bridge.templates.cuda_direct import per_block, unroll_knobs
from tvm_bridge.templates.cuda_limits import Limits, shared_bytes

if TYPE_CHECKING:
    from search.knobs import Config, Knob
    from search.space import Choice
    from tvm_bridge.dense import Dense
    from tvm_bridge.target import Target

TILES = ("tile_y", "tile_x")


@dataclass(frozen=True)
class Fits:
    """The predicate: whether the device can launch a configuration, by its threads, its blocks and its shared memory."""

    limits: Limits

    def __call__(self, choice: Choice) -> Bool[Array, " n"]:
        """Tell for each configuration whether it stays within every limit."""
        rows, columns = (choice[name] for name in TILES)
        return (
            (1.0 * rows[..., 2] * columns[..., 2] <= self.limits.threads)
            & (self.shared_bytes(choice) <= self.limits.shared_bytes)
            & (rows[..., 0] <= self.limits.blocks_yz)
        )

    def shared_bytes(self, choice: Choice) -> Float[Array, " n"]:
        """The shared memory of a block, in bytes: the data and weights of one step of the reduction."""
        rows, columns = (per_block(choice[name]) for name in TILES)
        step = choice["tile_k"][..., 1]
        return shared_bytes(rows * step, columns * step)


def space(workload: Dense, target: Target) -> KnobSpace:
    """Three splits and two unrolling knobs, minus what cannot be launched."""
    knobs: list[Knob] = [Split(name, extent, 4) for name, extent in zip(TILES, workload.output, strict=True)]
    knobs += [Split("tile_k", workload.data[1], 2), *unroll_knobs((0, 512, 1500))]
    return KnobSpace(knobs, Fits(Limits.of(target)))


def schedule(function: Any, choice: Config, target: Target) -> Any:
    """Schedule a product, alone or with an elementwise epilogue.

    **Arguments:**

    - `function`: the PrimFunc of the workload, or one with more to it.
    - `choice`: `{knob: factors or value}` of the workload's space.
    - `target`: a CUDA target; on any other the thread axes stay serial loops.

    **Returns:** the `s_tir.Schedule`.
    """
    from tvm import s_tir

    tiled = s_tir.Schedule(function)
    block = ThreadBlock(tiled, choice, target, TILES)
    for operand in (0, 1):
        tiled.transform_layout(block.anchor, ("read", operand), lambda row, k: (k, row))
    *_, y, x, k = tiled.get_loops(block.anchor)
    k0, k1 = tiled.split(k, choice["tile_k"])
    tiled.reorder(k0, k1, y, x)
    for read in block.reads:
        block.fetch(read, k0, width=1)
    tiled.decompose_reduction(block.anchor, k0)
    return tiled
