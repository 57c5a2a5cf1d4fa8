"""Convolution on CUDA's tensor cores: an implicit product of matrices, filters by taps and taps by pixels, in TF32.

    blocks (s, f, p)                        parts of the taps, filters and pixels of a block
      warps (f, p)                          of a warp: `fragments_f` x `fragments_p` fragments of 16 filters and 8 pixels
        k0                                  steps of `depth` taps, which data and weights are fetched to shared memory for
          k1                                eight taps, which each warp takes to registers and rounds to TF32
            f0 p0                           an instruction for each fragment of the sums

Sums stay in registers and are float32; the epilogue takes them from there. Data and weights are rounded (to the nearest, of two
the larger one) on their way from shared memory to registers, so that what brings them to shared memory is a plain copy, which
vectors and asynchronous copies can make. A tap is a channel at a place of the kernel, and all taps are one axis: three channels
of a 7x7 kernel are 147 taps, of which a step has no more idle than its last. Where the taps are cut in parts, a second kernel
adds these up.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jaxtyping import Array, Bool, Float

from search import Option
from tvm_bridge.templates import cuda_mma as mma
from tvm_bridge.templates.cuda_block import Block, Row, lengthened
from tvm_bridge.templates.cuda_limits import Limits, copies_asynchronously, shared_bytes, storable_at_launch
from tvm_bridge.templates.cuda_tensor_cores_algorithm import AXES, TAPS_FIRST, Tile, with_matrix_product

if TYPE_CHECKING:
    from search.knobs import Config
    from search.space import Choice
    from tvm_bridge.convolution import Conv2d
    from tvm_bridge.target import Target

REGISTERS_OF_THREAD, REGISTERS_OF_BLOCK = 255, 1 << 16


def knobs(workload: Conv2d) -> list[Option]:
    """The knobs that are tensor cores' own, beside all of `cuda_staging` but `row_padding`.

    A configuration of another algorithm need not name them.

    - `warps_f`, `warps_p`: warps of a block along filters and along pixels.
    - `fragments_f`, `fragments_p`: fragments of a warp along both.
    - `depth`: taps of a step.
    - `kernel_innermost`: whether taps count the places of the kernel fastest, in which order the weights of NCHW lie, or the
      channels, of which a step then fetches whole runs at one place. In NHWC they lie in the latter order.
    """
    several = workload.layout == "NCHW" and workload.weight[2:] != (1, 1)
    return [
        Option("warps_f", (1, 2, 4), absent=1),
        Option("warps_p", (1, 2, 4), absent=1),
        Option("fragments_f", (1, 2, 4), absent=1),
        Option("fragments_p", (1, 2, 4, 8), absent=1),
        Option("depth", (8, 16, 32), absent=8),
        Option("kernel_innermost", (0, 1) if several else (0,), absent=0),
    ]


@dataclass(frozen=True)
class TensorCoresFit:
    """The predicate: whether the device has tensor cores for TF32 and can launch a configuration, and no warp would be idle.

    It refuses everything on devices below compute capability 8.0. Neighbouring threads fetch neighbouring elements or vectors,
    which alone can be asynchronous, and each part of the taps has as many steps as `stages` at least.
    """

    workload: Conv2d
    limits: Limits
    available: bool

    @classmethod
    def of(cls, workload: Conv2d, target: Target, limits: Limits) -> TensorCoresFit:
        """The predicate of a workload on a target."""
        return cls(workload, limits, has_tensor_cores(target))

    def __call__(self, choice: Choice) -> Bool[Array, " n"]:
        """Tell for each configuration whether it stays within every limit."""
        threads = mma.LANES * choice["warps_f"] * choice["warps_p"]
        fragments_f, fragments_p = choice["fragments_f"], choice["fragments_p"]
        parts = choice["split_reduction"]
        step = parts * choice["depth"]
        registers = 4 * fragments_f * fragments_p + 4 * fragments_f + 2 * fragments_p
        return (
            (self.available & (threads <= self.limits.threads))
            & (registers <= REGISTERS_OF_THREAD)
            & (registers * threads <= REGISTERS_OF_BLOCK)
            & storable_at_launch(self.shared_bytes(choice), self.limits)
            & ((choice["warps_f"] - 1) * fragments_f * mma.FILTERS < self._filters)
            & ((choice["warps_p"] - 1) * fragments_p * mma.PIXELS < self._pixels)
            & (self._filters <= self.limits.blocks_yz * choice["warps_f"] * fragments_f * mma.FILTERS)
            & ((choice["stages"] - 1) * step < self._taps)
            & ((parts - 1) * -(-self._taps // step) * choice["depth"] < self._taps)
            & self._lie_together(choice)
        )

    def shared_bytes(self, choice: Choice) -> Float[Array, " n"]:
        """The shared memory of a block, in bytes: the data and weights of as many steps as `stages` says."""
        tile, stages = Tile.of(choice), choice["stages"]

        def staged(name: str, extent: Any) -> Any:
            row, longer = _row(name, extent, tile.taps, self.workload.layout)
            return 1.0 * stages * extent * tile.taps // row * lengthened(row, longer)

        return shared_bytes(staged("data", tile.pixels), staged("weight", tile.filters))

    def _lie_together(self, choice: Choice) -> Bool[Array, " n"]:
        """Whether what is fetched at once lies together in memory, at a multiple of its size.

        TVM would fetch other vectors element by element, but asynchronously it copies what lies beside their first element.
        """
        workload, data, weight = self.workload, choice["fetch_data"], choice["fetch_weight"]
        pointwise = workload.weight[2:] == (1, 1)
        runs: tuple[Any, Any]
        if workload.layout == "NHWC":
            runs = workload.data[1], self._filters
        else:
            plain = pointwise and workload.stride == (1, 1) and not any(workload.padding)
            in_order = pointwise | (choice["kernel_innermost"] == 1)
            runs = math.prod(workload.output[2:]) if plain else 1, 1 + in_order * (self._taps - 1)
        return (data > 0) & (runs[0] % data.clip(min=1) == 0) & (weight > 0) & (runs[1] % weight.clip(min=1) == 0)

    @property
    def _filters(self) -> int:
        return self.workload.weight[0]

    @property
    def _pixels(self) -> int:
        images, _, rows, columns = self.workload.output
        return images * rows * columns

    @property
    def _taps(self) -> int:
        return terms(self.workload)


def terms(workload: Conv2d) -> int:
    """How many products each result is the sum of, their factors rounded to TF32."""
    return math.prod(workload.weight[1:])


def has_tensor_cores(target: Target) -> bool:
    """Whether a target's tensor cores multiply in TF32: from compute capability 8.0 on, as copies are asynchronous."""
    return copies_asynchronously(target)


def schedule(function: Any, choice: Config, target: Target, layout: str) -> Any:
    """Schedule a convolution, alone or with an elementwise epilogue.

    Loops that run through registers are unrolled, the others up to `auto_unroll_max_step` if the configuration names it.

    **Arguments:**

    - `function`: the PrimFunc of the workload, or one that Relax fused around it.
    - `choice`: `{knob: value}` of the workload's space.
    - `target`: a CUDA target; on any other the thread axes stay serial loops, and nothing is rounded.
    - `layout`: of data and result.

    **Returns:** the `s_tir.Schedule`.
    """
    from tvm import s_tir

    cuda = target.kind == "cuda"
    rounded = mma.rounded if cuda else _as_it_is
    sch = s_tir.Schedule(rewritten(function, choice, layout, rounded))
    block = WarpBlock(sch, choice, target, layout)
    tile = Tile.of(choice)
    for read, name, extent in zip(block.reads, ("data", "weight"), (tile.pixels, tile.filters), strict=True):
        _, longer = _row(name, extent, tile.taps, layout)
        block.fetch(read, block.step, width=choice[f"fetch_{name}"], row=Row(below=0, axes=(1,)), longer=longer)
    block.overlap(block.step, choice["stages"])
    block.place()
    if not cuda:
        return sch
    sch.tensorize(block.product, mma.register())
    return s_tir.Schedule(mma.with_own_lanes(sch.mod["main"]))


def _as_it_is(value: Any) -> Any:
    return value


def rewritten(function: Any, choice: Config, layout: str, rounded: Callable[[Any], Any] = _as_it_is) -> Any:
    """The function that the schedule of a choice starts from; on CUDA, data and weights are `rounded` in it."""
    return with_matrix_product(
        function,
        Tile.of(choice),
        layout,
        parts=choice["split_reduction"],
        kernel_innermost=bool(choice["kernel_innermost"]),
        rounded=rounded,
    )


class WarpBlock(Block):
    """A schedule under way whose blocks are made of warps; data and weights are still to be fetched.

    - `step`: the loop over steps of the reduction.
    - `product`: the outermost of the three loops that make up an instruction.
    """

    def __init__(self, schedule: Any, choice: Config, target: Target, layout: str) -> None:
        super().__init__(schedule, target)
        self.threads = [choice["warps_f"] * choice["warps_p"], mma.LANES]
        self.anchor, *self.reads = (schedule.get_sblock(f"product_{name}") for name in ("sums", "data", "weight"))
        weights, data = (
            [schedule.get_sblock(f"product_{name}_{stage}") for stage in ("taken", "rounded")] for name in ("weight", "data")
        )
        parts = choice["split_reduction"]
        total = schedule.get_sblock("product_output") if parts > 1 else None
        output = self._output(total, [*self.reads, *weights, *data])
        for read in self.reads:
            schedule.set_scope(read, 0, "shared")
        for fragment in (*weights, *data, self.anchor):
            schedule.set_scope(fragment, 0, mma.WARP)
        warp, taps = self._deal_out_to_warps(choice)
        if parts == 1:
            self._order(output, layout)
        schedule.reverse_compute_at(output, warp, preserve_unit_loops=True)
        self._among_lanes(output, 2)
        for blocks, halves, place in ((weights, 2, mma.weight_place), (data, 1, mma.data_place)):
            for block in reversed(blocks):
                schedule.compute_at(block, taps, preserve_unit_loops=True)
            for block in blocks:
                schedule.transform_layout(block, ("write", 0), place)
                self._among_lanes(block, halves)
        schedule.transform_layout(self.anchor, ("write", 0), lambda s, f, p: (s, *mma.sum_place(f, p)))
        zeros = schedule.decompose_reduction(self.anchor, self.step)
        self._unroll(*schedule.get_loops(zeros)[-4:-2])
        self._among_lanes(zeros, 2)

    def _deal_out_to_warps(self, choice: Config) -> tuple[Any, Any]:
        """Cut the product's loops; the one over warps, and the one over eight taps at a time."""
        schedule = self.schedule
        s, f, p, k = schedule.get_loops(self.anchor)
        f_blocks, f_warps, f0, self.product = schedule.split(f, [None, choice["warps_f"], choice["fragments_f"], mma.FILTERS])
        p_blocks, p_warps, p0, p1 = schedule.split(p, [None, choice["warps_p"], choice["fragments_p"], mma.PIXELS])
        self.step, k1, k2 = schedule.split(k, [None, choice["depth"] // mma.DEPTH, mma.DEPTH])
        schedule.reorder(s, f_blocks, p_blocks, f_warps, p_warps, self.step, k1, f0, p0, self.product, p1, k2)
        warp = schedule.fuse(f_warps, p_warps)
        self._bind([s, f_blocks, p_blocks], "blockIdx")
        if self._bound:
            schedule.bind(warp, "threadIdx.y")
            schedule.annotate(s, "pragma_auto_unroll_max_step", choice.get("auto_unroll_max_step", 0))
            # The compiler unrolls, but TVM the ends of a long pipeline, or they would count their copies by a variable.
            schedule.annotate(s, "pragma_unroll_explicit", int(choice["stages"] > 2))
        self._unroll(f0, p0)
        return warp, k1

    def _order(self, output: Any, layout: str) -> None:
        """Have the block that writes the result run over filters and pixels, as the product does."""
        from tvm import tirx

        axes = self.schedule.get(output).iter_vars
        extents = dict(zip(AXES[layout], (int(axis.dom.extent) for axis in axes), strict=False))

        def place(*axes: Any) -> tuple[Any, Any]:
            at = dict(zip(AXES[layout], axes, strict=False))
            return at["f"], (at["n"] * extents["y"] + at["y"]) * extents["x"] + at["x"]

        index = str(axes[0].var.ty.dtype)  # Relax counts in 64 bits
        self.schedule.transform_block_layout(output, tirx.IndexMap.from_func(place, ndim=len(extents), index_dtype=index))

    def _among_lanes(self, block: Any, halves: int) -> None:
        """Share out a block's last two loops among the lanes of a warp as its instruction has them.

        Eight lanes have places of the first loop in a row, once or in either of two `halves`; four have pairs of the second.
        """
        schedule = self.schedule
        first, second = schedule.get_loops(block)[-2:]
        i0, i1, i_lanes = schedule.split(first, [None, halves, 8])
        j0, j_lanes, j1 = schedule.split(second, [None, 4, 2])
        schedule.reorder(i_lanes, j_lanes, i0, i1, j0, j1)
        self._bind([schedule.fuse(i_lanes, j_lanes)], "threadIdx")
        self._unroll(i0, i1, j0, j1)

    def _unroll(self, *loops: Any) -> None:
        """Have the compiler unroll loops, outermost first, or what they run through would lie in no registers."""
        if self._bound:
            self.schedule.annotate(loops[0], "pragma_unroll_explicit", 0)
            for loop in loops:
                self.schedule.unroll(loop)


def _row(name: str, extent: Any, taps: Any, layout: str) -> tuple[Any, Any]:
    """How long a row of data or weights is in shared memory, and how much longer it is made.

    The eight filters or pixels and four pairs of taps that a warp takes at once must lie in different banks of 32. In a row of
    taps the compiler takes a pair at once, and half a warp each time: rows must be 8 or 24 longer than a multiple of 32. Every
    other row of filters or pixels is taken at once: they must be an odd multiple of 4 long. Either way vectors of four begin at
    multiples of four.
    """
    return (extent, 4) if name in TAPS_FIRST[layout] else (taps, 8 - taps % 16)
