"""Direct convolution in NHWC on CUDA: the knobs of AutoTVM's template that the CUHK report tunes (Choi, 2021, section 3.1).

The convolution is summed as a product of matrices that are never stored, pixels by filters. A block computes `vthread * thread
* tile` of either (`_n`: pixels, `_c`: filters). For every tap of the kernel it fetches `step` channels of its pixels and of its
filters to shared memory at a time, along the channels and the filters as they lie. Where tiles or steps do not divide the
extents, they are filled with zeros.

AutoTVM's n is the batch, of which networks at work have one: three knobs of seven then only leave threads idle. Here n counts
the pixels of all images of the batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jaxtyping import Array, Bool, Float

from search import KnobSpace, Option
from tvm_bridge.templates import cuda_algorithms, cuda_tensor_cores
from tvm_bridge.templates.anchor import anchor_block, inlined_after
from tvm_bridge.templates.cuda_block import Row, ThreadBlock, lengthened
from tvm_bridge.templates.cuda_limits import Limits, shared_bytes, storable_at_launch
from tvm_bridge.templates.cuda_staging import VECTORS, parts_knob, stages_knob

if TYPE_CHECKING:
    from search.knobs import Config
    from search.space import Choice
    from tvm_bridge.convolution import Conv2d
    from tvm_bridge.target import Target

PADDING = 4
"""What a channel's row of pixels is longer by in shared memory.

Threads write neighbouring channels, which so lie in different banks, and read neighbouring pixels, four of which stay aligned.
"""


@dataclass(frozen=True)
class Fits:
    """The predicate: whether the device can launch a configuration, by its threads, its blocks and its shared memory."""

    workload: Conv2d
    limits: Limits

    def __call__(self, choice: Choice) -> Bool[Array, " n"]:
        """Tell for each configuration whether it stays within every limit."""
        return self.launchable(choice) & self.storable(choice)

    def storable(self, choice: Choice) -> Bool[Array, " n"]:
        """Whether the shared memory of a block is enough."""
        return self.shared_bytes(choice) <= self.limits.shared_bytes

    def launchable(self, choice: Choice, parts: Any = 1) -> Bool[Array, " n"]:
        """Whether threads and blocks can be launched, those of each part of the reduction side by side."""
        return (1.0 * choice["num_thread_n"] * choice["num_thread_c"] <= self.limits.threads) & (
            parts * -(-self._pixels // per_block(choice, "n")) <= self.limits.blocks_yz
        )

    def shared_bytes(self, choice: Choice) -> Float[Array, " n"]:
        """The shared memory of a block, in bytes: the channels of a step, of its pixels and of its filters."""
        step, pixels = choice["step"], per_block(choice, "n").clip(max=1 if self._pixels == 1 else None)
        stages = choice.get("stages", 1)
        return shared_bytes(stages * step * lengthened(pixels, PADDING), stages * step * per_block(choice, "c"))

    @property
    def _pixels(self) -> int:
        batch, _, rows, columns = self.workload.output
        return batch * rows * columns


class EnlargedFits(Fits):
    """The same for a reduction in stages and parts."""

    def __call__(self, choice: Choice) -> Bool[Array, " n"]:
        """Tell for each configuration whether it is possible and stays within every limit."""
        return self.possible(choice) & self.launchable(choice, choice["split_reduction"]) & self.storable(choice)

    def possible(self, choice: Choice) -> Bool[Array, " n"]:
        """Whether there is such a schedule.

        Parts consist of whole steps of channels, at least as many as there are stages; of a single pixel there are none. TVM
        waits for the last of more than two stages only where it unrolls loops itself. Vectors of filters lie at multiples of
        their size.
        """
        (filters, channels, *taps), step = self.workload.weight, choice["step"]
        steps, parts, stages = -(-channels // step), choice["split_reduction"], choice["stages"]
        vector, block = choice["fetch_weight"], per_block(choice, "c")
        return (
            (steps % parts == 0)
            & ((parts == 1) | (self._pixels > 1))
            & (stages * parts <= steps * math.prod(taps))
            & ((stages <= 2) | (choice["unroll_explicit"] == 1))
            & ((vector == 1) | ((filters % block == 0) & (block % vector == 0) & (channels % step == 0)))
        )

    def storable(self, choice: Choice) -> Bool[Array, " n"]:
        """Whether the shared memory of a block is enough."""
        return storable_at_launch(self.shared_bytes(choice), self.limits)


def per_block(choice: Choice, axis: str) -> Float[Array, " n"]:
    """How many pixels ("n") or filters ("c") a block computes; as a float, since products of knobs overflow 32 bits."""
    return 1.0 * choice[f"vthread_{axis}"] * choice[f"num_thread_{axis}"] * choice[f"tile_{axis}"]


tf32_terms = cuda_algorithms.tf32_terms


def space(workload: Conv2d, target: Target) -> KnobSpace:
    """The report's 1296 configurations of `conv2d_nhwc.cuda`, minus what cannot be launched."""
    knobs = [
        Option("tile_n", (2, 4, 8)),
        Option("tile_c", (2, 4, 8)),
        Option("num_thread_n", (4, 8, 16)),
        Option("num_thread_c", (4, 8, 16)),
        Option("vthread_n", (1, 2)),
        Option("vthread_c", (1, 2)),
        Option("step", (16, 3, 32, 64)),
    ]
    return KnobSpace(knobs, Fits(workload, Limits.of(target)))


def enlarged_space(workload: Conv2d, target: Target) -> KnobSpace:
    """The same, unrolling, and the knobs of `cuda_staging` and of tensor cores that data and filters along channels leave open.

    Configurations without them keep the index that they have in `space`. Only tensor cores fetch vectors of data.
    """
    unrolling = [Option("auto_unroll_max_step", (0, 512, 1500), absent=0), Option("unroll_explicit", (0, 1), absent=0)]
    fetching = [Option(name, (1, *VECTORS), absent=1) for name in ("fetch_data", "fetch_weight")]
    knobs = [*space(workload, target).knobs, *unrolling, *fetching, stages_knob(target), parts_knob()]
    direct = EnlargedFits(workload, Limits.at_launch(target))
    return cuda_algorithms.space(knobs, direct, workload, target, unheeded=["fetch_data"])


def schedule(function: Any, choice: Config, target: Target) -> Any:
    """Schedule a convolution, alone or with an elementwise epilogue.

    **Arguments:**

    - `function`: the PrimFunc of the workload, or one that Relax fused around it.
    - `choice`: `{knob: value}` of the workload's space.
    - `target`: a CUDA target; on any other the thread axes stay serial loops.

    **Returns:** the `s_tir.Schedule`.
    """
    from tvm import s_tir

    if choice.get(cuda_algorithms.TENSOR_CORES):
        return cuda_tensor_cores.schedule(function, choice, target, "NHWC")
    tiled = s_tir.Schedule(function)
    _multiply(tiled, choice)
    tiles = {axis: [None, *(choice[f"{knob}_{axis}"] for knob in ("vthread", "num_thread", "tile"))] for axis in "nc"}
    unrolling = {name: value for name, value in choice.items() if "unroll" in name}
    parts, stages = choice.get("split_reduction", 1), choice.get("stages", 1)
    block = ThreadBlock(tiled, tiles | unrolling, target, ("n", "c"), parts=parts)
    tiled.transform_layout(block.anchor, ("read", 0), lambda n, y, x, k: (y, x, k, n))
    *_, n, c, y, x, k = tiled.get_loops(block.anchor)
    k0, k1 = tiled.split(k, [None, choice["step"]])
    tiled.reorder(y, x, k0, k1, n, c)
    first = step = tiled.fuse(y, x, k0) if stages > 1 else k0
    data, weights = block.reads
    block.fetch(data, step, width=1, row=Row(2, (0,)), longer=PADDING)
    block.fetch(weights, step, width=choice.get("fetch_weight", 1))
    block.overlap(step, stages)
    block.place()
    tiled.decompose_reduction(block.anchor, first if stages > 1 else y)
    return tiled


def _multiply(schedule: Any, choice: Config) -> None:
    """Make the convolution a product over (pixels, filters, ky, kx, channels), rounded up to whole tiles.

    The block that writes the result runs over pixels and filters, too, and reads them there.
    """
    anchor = anchor_block(schedule)
    batch, rows, columns, *_ = (int(schedule.get(loop).extent) for loop in schedule.get_loops(anchor))

    def pixel(image: Any, y: Any, x: Any) -> Any:
        return (image * rows + y) * columns + x

    schedule.reindex_cache_read(anchor, 0, "global", lambda n, y, x, f, ky, kx, c: (pixel(n, y, x), ky, kx, c))
    schedule.reindex_cache_read(anchor, 1, "global", lambda n, y, x, f, ky, kx, c: (ky, kx, c, f))
    schedule.reindex_cache_write(anchor, 0, "global", lambda n, y, x, f, ky, kx, c: (pixel(n, y, x), f))
    schedule.transform_block_layout(anchor, lambda n, y, x, f, ky, kx, c: (pixel(n, y, x), f, ky, kx, c))
    pixels, filters = (int(per_block(choice, axis)) for axis in "nc")
    if batch * rows * columns == 1:  # the one pixel is a number in every index: all threads along n compute it
        pixels = 1
    schedule.pad_einsum(anchor, [pixels, filters, 1, 1, choice["step"]])
    output = inlined_after(schedule, anchor)
    # Only now: TVM simplifies what a block reads as its layout changes, and not as another block is inlined into it.
    schedule.transform_block_layout(output, lambda n, y, x, f: (pixel(n, y, x), f))
