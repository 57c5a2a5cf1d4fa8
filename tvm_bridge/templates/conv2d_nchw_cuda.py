"""Direct convolution in NCHW on CUDA: the template of Chen et al. (NeurIPS 2018) that Sun et al. (ICCV 2021) tune.

The CUHK report (Choi, 2021, section 3.4) adds the knobs of the NHWC template for threads and virtual threads; the enlarged
space has them. The report leaves open what they do here, where tiles have threads of their own. They multiply those:
`num_thread_c` and `vthread_c` make one block of as many blocks along the filters (c), `num_thread_n` and `vthread_n` along
the rows of pixels (n), and what was a block is a thread, or a virtual thread, times its own. Such blocks need not divide the
output, as those of tiles have to: four threads can share seven rows.

The report tried to merge the spaces of both layouts and could not (section 4). In the enlarged space the layout is a knob:
with `layout` 1 threads, shared memory and loops are ordered as in NHWC, neighbouring threads compute neighbouring filters, and
data and result still lie in NCHW, so that what passing from one to the other costs is part of the kernel.
"""

from __future__ import annotations

import functools
import math
import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jaxtyping import Array, Bool, Float

from search import KnobSpace, Option, Split
from tvm_bridge.templates import cuda_algorithms, cuda_tensor_cores
from tvm_bridge.templates.cuda_block import Row, ThreadBlock, lengthened
from tvm_bridge.templates.cuda_direct import CHANNELS_INNERMOST, TILES, Fits, output_knobs, per_block, unroll_knobs
from tvm_bridge.templates.cuda_limits import Limits, shared_bytes, storable_at_launch
from tvm_bridge.templates.cuda_staging import staging_knobs
from tvm_bridge.templates.overhang import overhanging

if TYPE_CHECKING:
    from search.knobs import Config, Knob
    from search.space import Choice
    from tvm_bridge.convolution import Conv2d
    from tvm_bridge.target import Target

REDUCTION = ("tile_rc", "tile_ry", "tile_rx")

NEW_KNOBS = {"tile_f": ("vthread_c", "num_thread_c"), "tile_y": ("vthread_n", "num_thread_n")}
"""The tiles, of filters and of rows, whose virtual threads and threads new knobs multiply."""


class DirectFits(Fits):
    r"""Whether a direct convolution fits: a block holds the data and weights of one step of the outer reduction.

    With an inner reduction of $r_c \times r_y \times r_x$ and $f$ filters a block, that is
    $r_c \cdot \mathrm{patch}(r_y, r_x)$ elements of data and $f r_c r_y r_x$ weights.
    """

    def staged(self, choice: Choice) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
        """How many elements of data and how many weights a block holds in shared memory at a time, as floats."""
        channels, height, width = (choice[name][..., 1] for name in REDUCTION)
        rows, columns = self.patch(choice, height, width)
        return channels * rows * columns, per_block(choice["tile_f"]) * channels * height * width


tf32_terms = cuda_algorithms.tf32_terms


def space(workload: Conv2d, target: Target) -> KnobSpace:
    """AutoTVM's space for `conv2d_nchw.cuda`: six splits and two unrolling knobs, minus what cannot be launched."""
    reduction = [Split(name, extent, 2) for name, extent in zip(REDUCTION, workload.weight[1:], strict=True)]
    knobs: list[Knob] = [*output_knobs(workload), *reduction, *unroll_knobs((0, 512, 1500))]
    return KnobSpace(knobs, DirectFits(workload, Limits.of(target)))


def enlarged_space(workload: Conv2d, target: Target) -> KnobSpace:
    """The same, the report's new knobs, `layout`, those of `cuda_staging` and of tensor cores: 37 features instead of 20.

    They come last, so that a configuration without them has the index that it has in the space of AutoTVM's knobs. The report
    lists two of its spaces, with one candidate each for the numbers of threads. Its task 23 (ResNet-50's 3x3 convolution of 512
    channels) has 3 379 200 configurations before the predicate, four for each of AutoTVM's: those of its two new knobs.
    """
    new = [
        Option("num_thread_n", (1, 4), absent=1),
        Option("num_thread_c", (1, 4), absent=1),
        Option("vthread_n", (1, 2), absent=1),
        Option("vthread_c", (1, 2), absent=1),
        Option("layout", (0, 1), absent=0),
    ]
    knobs = [*space(workload, target).knobs, *new, *staging_knobs(workload, target)]
    return cuda_algorithms.space(knobs, EnlargedFits(workload, Limits.at_launch(target)), workload, target)


@dataclass(frozen=True)
class EnlargedFits(DirectFits):
    """Whether a direct convolution fits, its tiles multiplied by the new knobs, its threads ordered as the layout says."""

    def __call__(self, choice: Choice) -> Bool[Array, " n"]:
        """Tell for each configuration whether it is possible and stays within every limit."""
        tiles, parts = self._multiplied(choice), choice["split_reduction"]
        return self.possible(choice) & self.launchable_in(tiles, choice["layout"], parts) & self.storable(choice)

    def possible(self, choice: Choice) -> Bool[Array, " n"]:
        """Whether there is such a schedule, and no other configuration of the same.

        Parts consist of whole steps, at least as many as there are stages. TVM waits for the last of more than two stages only
        where it unrolls loops itself. In NHWC neighbouring threads fetch neighbouring elements without being told to.
        """
        steps, parts, stages, nhwc = (choice[name] for name in ("tile_rc", "split_reduction", "stages", "layout"))
        steps, data, weight = steps[..., 0], choice["fetch_data"], choice["fetch_weight"]
        taps = 1.0 * choice["tile_ry"][..., 0] * choice["tile_rx"][..., 0]
        return (
            (steps % parts == 0)
            & (stages * parts <= steps * taps)
            & ((stages <= 2) | (choice["unroll_explicit"] == 1))
            & ((nhwc == 0) | ((data == 0) & (weight == 0)))
            & self._whole_vectors(choice)
        )

    def _whole_vectors(self, choice: Choice) -> Bool[Array, " n"]:
        """Whether the vectors to be fetched lie together, at multiples of their size, in memory and in shared memory.

        Those of data lie within a row of pixels, those of weights within all taps of a step's channels; neither reach beyond.
        Vectors of several whole rows of a kernel are beyond TVM's arithmetic.
        """
        tiles, longer, output = self._multiplied(choice), choice["row_padding"], self.workload.output
        filters, rows, _ = (tiles[name][..., 0] * per_block(tiles[name]) for name in TILES)
        channels, height, width = (choice[name][..., 1] for name in REDUCTION)
        _, columns = self.patch(tiles, height, width)
        row = [
            self.workload.data[3],
            columns,
            lengthened(columns, longer),
            self.workload.stride[1] * per_block(tiles["tile_x"]),
        ]
        vector = choice["fetch_data"].clip(min=1)
        data = (rows == output[2]) & functools.reduce(operator.and_, (length % vector == 0 for length in row))
        taps, vectors = channels * height * width, choice["fetch_weight"].clip(min=1)
        together = (filters == output[1]) & (height * width == math.prod(self.workload.weight[2:]))
        plain = (self.workload.weight[3] % 2 == 1) | (vectors <= self.workload.weight[3])
        weights = together & plain & (taps % vectors == 0) & (lengthened(taps, longer) % vectors == 0)
        return ((vector == 1) | data) & ((vectors == 1) | weights)

    def storable(self, choice: Choice) -> Bool[Array, " n"]:
        """Whether the shared memory of a block is enough."""
        return storable_at_launch(self.shared_bytes(choice), self.limits)

    def shared_bytes(self, choice: Choice) -> Float[Array, " n"]:
        """The shared memory of a block, in bytes: rows of pixels and of taps, in NHWC of channels and of filters."""
        tiles, longer, nhwc = self._multiplied(choice), choice["row_padding"], choice["layout"]
        channels, height, width = (choice[name][..., 1] for name in REDUCTION)
        (rows, columns), filters = self.patch(tiles, height, width), per_block(tiles["tile_f"])
        taps = channels * height * width
        data = nhwc * rows * columns * lengthened(channels, longer) + (1 - nhwc) * channels * rows * lengthened(columns, longer)
        weights = nhwc * taps * lengthened(filters, longer) + (1 - nhwc) * filters * lengthened(taps, longer)
        return shared_bytes(choice["stages"] * data, choice["stages"] * weights)

    @staticmethod
    def _multiplied(choice: Choice) -> Choice:
        """The tiles with the new knobs multiplied in, as floats."""
        xp = choice["vthread_c"].__array_namespace__()
        tiles = {
            tile: xp.stack(multiplied(xp.moveaxis(1.0 * choice[tile], -1, 0), *(choice[knob] for knob in knobs)), axis=-1)
            for tile, knobs in NEW_KNOBS.items()
        }
        return {name: values for name, values in choice.items() if name.startswith("tile_")} | tiles


def multiplied(factors: Any, virtual_threads: Any, threads: Any) -> tuple[Any, Any, Any, Any]:
    """The factors of a tile with more virtual threads and threads, and as many fewer blocks; the last may reach beyond."""
    blocks, own_virtual_threads, own_threads, inner = factors
    return -(-blocks // (virtual_threads * threads)), own_virtual_threads * virtual_threads, own_threads * threads, inner


def rewritten(function: Any, choice: Config) -> Any:
    """The function with its filters and rows rounded up to whole blocks; the very same if they are."""
    filters, rows = (math.prod(factors[1:]) for factors in _tiles(choice).values())
    return overhanging(function, {1: filters, 2: rows})


def _tiles(choice: Config) -> Config:
    """The tiles of filters and rows in one configuration, the new knobs multiplied in."""
    return {tile: multiplied(choice[tile], *(choice.get(knob, 1) for knob in knobs)) for tile, knobs in NEW_KNOBS.items()}


def schedule(function: Any, choice: Config, target: Target) -> Any:
    """Schedule a convolution, alone or with an elementwise epilogue.

    Every step of the outer reduction fetches its data and weights to shared memory; every thread then accumulates its tile in
    registers over the inner reduction, and writes it through the epilogue at the end.

    **Arguments:**

    - `function`: the PrimFunc of the workload, or one that Relax fused around it.
    - `choice`: `{knob: factors or value}` of the workload's space.
    - `target`: a CUDA target; on any other the thread axes stay serial loops.

    **Returns:** the `s_tir.Schedule`.
    """
    from tvm import s_tir

    if choice.get(cuda_algorithms.TENSOR_CORES):
        return cuda_tensor_cores.schedule(function, choice, target, "NCHW")
    nhwc, parts = bool(choice.get("layout")), choice.get("split_reduction", 1)
    tiled = s_tir.Schedule(rewritten(function, choice))
    order = CHANNELS_INNERMOST if nhwc else TILES
    block = ThreadBlock(tiled, choice | _tiles(choice), target, TILES, order, parts=parts, cut=-len(REDUCTION))
    if nhwc:
        block.put_channels_innermost()
    n, f, y, x, *reduction = tiled.get_loops(block.anchor)[-7:]
    steps, channels = choice["tile_rc"]
    cuts = {**choice, "tile_rc": (steps // parts, channels)}
    splits = [tiled.split(loop, cuts[name]) for loop, name in zip(reduction, REDUCTION, strict=True)]
    outer, inner = zip(*splits, strict=True)
    tiled.reorder(*outer, *inner, n, *((y, x, f) if nhwc else (f, y, x)))
    stages = choice.get("stages", 1)
    if stages > 1:
        outer = (tiled.fuse(*outer),)
    rows = (Row(2, (1,)), Row(2, (0,))) if nhwc else (Row(2, (3,)), Row(0, (1, 2, 3)))
    for read, knob, row in zip(block.reads, ("fetch_data", "fetch_weight"), rows, strict=True):
        block.fetch(read, outer[-1], width=choice.get(knob) or int(nhwc), row=row, longer=choice.get("row_padding", 0))
    block.overlap(outer[-1], stages)
    block.place()
    tiled.decompose_reduction(block.anchor, outer[0])
    return tiled
