"""Depthwise convolution in NCHW on CUDA: the template of Chen et al. (NeurIPS 2018) that Sun et al. (ICCV 2021) tune.

In the enlarged space the layout inside is a knob, as in `conv2d_nchw_cuda`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from jaxtyping import Array, Bool, Float

from search import KnobSpace, Option
from tvm_bridge.templates.cuda_direct import (
    CHANNELS_INNERMOST,
    TILES,
    Fits,
    Limits,
    ThreadBlock,
    output_knobs,
    per_block,
    unroll_knobs,
)

if TYPE_CHECKING:
    from search.knobs import Config
    from search.space import Choice
    from tvm_bridge.convolution import Conv2d
    from tvm_bridge.target import Target


class DepthwiseFits(Fits):
    r"""Whether a depthwise convolution fits: a block holds the data and weights of all its taps at once.

    With $f$ channels a block, that is $f \cdot \mathrm{patch}(KH, KW)$ elements of data and $f \cdot KH \cdot KW$ weights.
    """

    def staged(self, choice: Choice) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
        """How many elements of data and how many weights a block holds in shared memory at a time, as floats."""
        height, width = self.workload.weight[2:]
        channels = per_block(choice["tile_f"])
        return channels * self.patch(choice, height, width), channels * height * width


class EnlargedFits(DepthwiseFits):
    """Whether a depthwise convolution fits, its threads ordered as the layout says."""

    def __call__(self, choice: Choice) -> Bool[Array, " n"]:
        """Tell for each configuration whether it stays within every limit."""
        return self.launchable_in(choice, choice["layout"]) & self.storable(choice)


def space(workload: Conv2d, target: Target) -> KnobSpace:
    """AutoTVM's space for `depthwise_conv2d_nchw.cuda`: three splits and two unrolling knobs, minus what cannot be launched."""
    return KnobSpace([*output_knobs(workload), *unroll_knobs((0, 256, 1500))], DepthwiseFits(workload, Limits.of(target)))


def enlarged_space(workload: Conv2d, target: Target) -> KnobSpace:
    """The same and `layout`, 0 for NCHW or 1 for NHWC inside; the former keep the index that they have in `space`."""
    knobs = [*space(workload, target).knobs, Option("layout", (0, 1), absent=0)]
    return KnobSpace(knobs, EnlargedFits(workload, Limits.of(target)))


def schedule(function: Any, choice: Config, target: Target) -> Any:
    """Schedule a depthwise convolution, alone or with an elementwise epilogue.

    A block fetches its data and weights to shared memory once; every thread copies what it needs to registers, accumulates its
    tile there, and writes it through the epilogue.

    **Arguments:**

    - `function`: the PrimFunc of the workload, or one that Relax fused around it.
    - `choice`: `{knob: factors or value}` of the workload's space.
    - `target`: a CUDA target; on any other the thread axes stay serial loops.

    **Returns:** the `s_tir.Schedule`.
    """
    return depthwise(function, choice, target, TILES)


def depthwise(function: Any, choice: Config, target: Target, tiles: Sequence[str]) -> Any:
    """The same in either layout, with the tiles in the order of the output's axes."""
    from tvm import s_tir

    nhwc = bool(choice.get("layout"))
    tiled = s_tir.Schedule(function)
    block = ThreadBlock(tiled, choice, target, tiles, CHANNELS_INNERMOST if nhwc else tiles)
    if nhwc:
        block.put_channels_innermost()
    for operand, read in enumerate(block.reads):
        registers = tiled.cache_read(block.anchor, operand, "local")
        tiled.compute_at(registers, block.at_thread, preserve_unit_loops=True)
        block.fetch(read, block.at_block, interleaved=True)
    first_tap = tiled.get_loops(block.anchor)[-3]
    tiled.decompose_reduction(block.anchor, first_tap)
    return tiled
