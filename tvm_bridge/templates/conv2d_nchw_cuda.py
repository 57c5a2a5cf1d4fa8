"""Direct convolution in NCHW on CUDA: the template of Chen et al. (NeurIPS 2018) that Sun et al. (ICCV 2021) tune."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jaxtyping import Array, Float

from search import KnobSpace, Split
from tvm_bridge.templates.cuda_direct import Fits, Limits, ThreadBlock, output_knobs, per_block, unroll_knobs

if TYPE_CHECKING:
    from search.knobs import Config, Knob
    from search.space import Choice
    from tvm_bridge.convolution import Conv2d
    from tvm_bridge.target import Target

REDUCTION = ("tile_rc", "tile_ry", "tile_rx")


class DirectFits(Fits):
    r"""Whether a direct convolution fits: a block holds the data and weights of one step of the outer reduction.

    With an inner reduction of $r_c \times r_y \times r_x$ and $f$ filters a block, that is
    $r_c \cdot \mathrm{patch}(r_y, r_x)$ elements of data and $f r_c r_y r_x$ weights.
    """

    def staged(self, choice: Choice) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
        """How many elements of data and how many weights a block holds in shared memory at a time, as floats."""
        channels, height, width = (choice[name][..., 1] for name in REDUCTION)
        data = 1.0 * channels * self.patch(choice, height, width)
        return data, 1.0 * per_block(choice["tile_f"]) * channels * height * width


def space(workload: Conv2d, target: Target) -> KnobSpace:
    """AutoTVM's space for `conv2d_nchw.cuda`: six splits and two unrolling knobs, minus what cannot be launched."""
    reduction = [Split(name, extent, 2) for name, extent in zip(REDUCTION, workload.weight[1:], strict=True)]
    knobs: list[Knob] = [*output_knobs(workload), *reduction, *unroll_knobs((0, 512, 1500))]
    return KnobSpace(knobs, DirectFits(workload, Limits.of(target)))


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
    block = ThreadBlock(function, choice, target)
    tiled = block.schedule
    loops = tiled.get_loops(block.anchor)[-7:]
    pixels, reduction = loops[:4], loops[4:]
    splits = [tiled.split(loop, choice[name]) for loop, name in zip(reduction, REDUCTION, strict=True)]
    outer, inner = zip(*splits, strict=True)
    tiled.reorder(*outer, *inner, *pixels)
    for read in block.reads:
        block.fetch(read, outer[-1], interleaved=False)
    tiled.decompose_reduction(block.anchor, outer[0])
    return tiled
