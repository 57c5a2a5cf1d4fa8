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

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jaxtyping import Array, Bool, Float

from search import KnobSpace, Option, Split
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
        data = channels * self.patch(choice, height, width)
        return data, per_block(choice["tile_f"]) * channels * height * width


def space(workload: Conv2d, target: Target) -> KnobSpace:
    """AutoTVM's space for `conv2d_nchw.cuda`: six splits and two unrolling knobs, minus what cannot be launched."""
    reduction = [Split(name, extent, 2) for name, extent in zip(REDUCTION, workload.weight[1:], strict=True)]
    knobs: list[Knob] = [*output_knobs(workload), *reduction, *unroll_knobs((0, 512, 1500))]
    return KnobSpace(knobs, DirectFits(workload, Limits.of(target)))


def enlarged_space(workload: Conv2d, target: Target) -> KnobSpace:
    """The same, the report's new knobs, each 1 where a configuration does not name it, and `layout`: 25 features instead of 20.

    They come last, so that a configuration without them has the index that it has in the space of AutoTVM's knobs. The report
    lists two of its spaces, with one candidate each for the numbers of threads: `candidates={"num_thread_n": (4,),
    "num_thread_c": (4,), "layout": (0,)}` gives the 3 379 200 configurations of its task 23 (ResNet-50's 3x3 convolution of 512
    channels with 512 filters on 7x7 pixels) and the 1 397 760 of its task 24 (1x1, 512 channels with 2048 filters, 7x7 pixels).
    """
    new = [
        Option("num_thread_n", (1, 4), absent=1),
        Option("num_thread_c", (1, 4), absent=1),
        Option("vthread_n", (1, 2), absent=1),
        Option("vthread_c", (1, 2), absent=1),
        Option("layout", (0, 1), absent=0),
    ]
    return KnobSpace([*space(workload, target).knobs, *new], EnlargedFits(workload, Limits.of(target)))


@dataclass(frozen=True)
class EnlargedFits(DirectFits):
    """Whether a direct convolution fits, its tiles multiplied by the new knobs, its threads ordered as the layout says."""

    def __call__(self, choice: Choice) -> Bool[Array, " n"]:
        """Tell for each configuration whether it stays within every limit."""
        return self.launchable_in(self._multiplied(choice), choice["layout"]) & self.storable(choice)

    def shared_bytes(self, choice: Choice) -> Float[Array, " n"]:
        """The shared memory of a block, in bytes: as much in either layout."""
        return super().shared_bytes(self._multiplied(choice))

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

    nhwc = bool(choice.get("layout"))
    tiled = s_tir.Schedule(rewritten(function, choice))
    block = ThreadBlock(tiled, choice | _tiles(choice), target, TILES, CHANNELS_INNERMOST if nhwc else TILES)
    if nhwc:
        block.put_channels_innermost()
    n, f, y, x, *reduction = tiled.get_loops(block.anchor)[-7:]
    splits = [tiled.split(loop, choice[name]) for loop, name in zip(reduction, REDUCTION, strict=True)]
    outer, inner = zip(*splits, strict=True)
    tiled.reorder(*outer, *inner, n, *((y, x, f) if nhwc else (f, y, x)))
    for read in block.reads:
        block.fetch(read, outer[-1], interleaved=nhwc)
    tiled.decompose_reduction(block.anchor, outer[0])
    return tiled
