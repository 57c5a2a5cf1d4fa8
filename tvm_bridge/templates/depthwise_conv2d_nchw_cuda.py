"""Depthwise convolution in NCHW on CUDA: the template of Chen et al. (NeurIPS 2018) that Sun et al. (ICCV 2021) tune.

In the enlarged space the layout inside is a knob, as in `conv2d_nchw_cuda`, and whether data and weights pass through shared
memory at all (`through_shared`): an element is needed by as many outputs as the kernel has taps, of which a thread computes
several, and the caches have the rest. `row_padding` is that of `cuda_staging`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from jaxtyping import Array, Bool, Float, Num

from search import KnobSpace, Option
from tvm_bridge.templates.cuda_block import Row, ThreadBlock, lengthened
from tvm_bridge.templates.cuda_direct import CHANNELS_INNERMOST, TILES, Fits, output_knobs, per_block, unroll_knobs
from tvm_bridge.templates.cuda_limits import Limits, shared_bytes, storable_at_launch

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
        rows, columns = self.patch(choice, height, width)
        return channels * rows * columns, channels * height * width


class EnlargedFits(DepthwiseFits):
    """Whether a depthwise convolution fits, its threads ordered as the layout says, in shared memory or without any."""

    def __call__(self, choice: Choice) -> Bool[Array, " n"]:
        """Tell for each configuration whether it is possible and stays within every limit."""
        return self.possible(choice) & self.launchable_in(choice, self.layout(choice)) & self.storable(choice)

    def possible(self, choice: Choice) -> Bool[Array, " n"]:
        """Whether no other configuration is the same: without shared memory there are no rows in it."""
        return (choice["through_shared"] == 1) | (choice["row_padding"] == 0)

    def layout(self, choice: Choice) -> Num[Array, " n"]:
        """The layout inside, 0 for NCHW and 1 for NHWC."""
        return choice["layout"]

    def storable(self, choice: Choice) -> Bool[Array, " n"]:
        """Whether the shared memory of a block is enough."""
        return storable_at_launch(self.shared_bytes(choice), self.limits)

    def shared_bytes(self, choice: Choice) -> Float[Array, " n"]:
        """The shared memory of a block, in bytes; its rows are of pixels, in NHWC of channels."""
        height, width = self.workload.weight[2:]
        (rows, columns), channels, nhwc = self.patch(choice, height, width), per_block(choice["tile_f"]), self.layout(choice)
        longer = choice["row_padding"]
        data = nhwc * rows * columns * lengthened(channels, longer) + (1 - nhwc) * channels * rows * lengthened(columns, longer)
        return choice["through_shared"] * shared_bytes(data, channels * height * width)


def space(workload: Conv2d, target: Target) -> KnobSpace:
    """AutoTVM's space for `depthwise_conv2d_nchw.cuda`: three splits and two unrolling knobs, minus what cannot be launched."""
    return KnobSpace([*output_knobs(workload), *unroll_knobs((0, 256, 1500))], DepthwiseFits(workload, Limits.of(target)))


def enlarged_space(workload: Conv2d, target: Target) -> KnobSpace:
    """The same, `layout` (0 for NCHW or 1 for NHWC inside) and `memory_knobs`; a configuration without them keeps its index."""
    knobs = [*space(workload, target).knobs, Option("layout", (0, 1), absent=0), *memory_knobs()]
    return KnobSpace(knobs, EnlargedFits(workload, Limits.at_launch(target)))


def memory_knobs() -> list[Option]:
    """Whether inputs pass through shared memory, and how many elements rows are longer by there."""
    return [Option("through_shared", (1, 0), absent=1), Option("row_padding", (0, 1, 4), absent=0)]


def schedule(function: Any, choice: Config, target: Target) -> Any:
    """Schedule a depthwise convolution, alone or with an elementwise epilogue.

    A block fetches its data and weights to shared memory once; every thread copies what it needs to registers, accumulates its
    tile there, and writes it through the epilogue. Where nothing passes through shared memory, threads copy from global memory.

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

    nhwc, shared = bool(choice.get("layout")), bool(choice.get("through_shared", 1))
    tiled = s_tir.Schedule(function)
    order = CHANNELS_INNERMOST if nhwc else tiles
    block = ThreadBlock(tiled, choice, target, tiles, order, copies="shared" if shared else "local")
    if nhwc and shared:
        block.put_channels_innermost()
    row = Row(2, (1,) if nhwc else (3,))
    for operand, read in enumerate(block.reads):
        registers = tiled.cache_read(block.anchor, operand, "local") if shared else read
        tiled.compute_at(registers, block.at_thread, preserve_unit_loops=True)
        if shared:
            block.fetch(read, block.at_block, width=1, row=None if operand else row, longer=choice.get("row_padding", 0))
    if shared:
        block.place()
    first_tap = tiled.get_loops(block.anchor)[-3]
    tiled.decompose_reduction(block.anchor, first_tap)
    return tiled
