"""The thread block of a convolution or a matrix product on CUDA: what it may hold, and how the output is dealt out to it.

The templates of Chen et al. (NeurIPS 2018) share it; the spaces of the convolutions are those of Sun et al. (ICCV 2021,
appendix). Channels f, rows y and columns x of the output are each cut four ways, `(blocks, virtual threads, threads, inner)`;
a block reads its share of the inputs through shared memory and keeps its results in registers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from jaxtyping import Array, Bool, Float, Num

from search import Option, Split
from tvm_bridge.templates.anchor import anchor_block

if TYPE_CHECKING:
    from search.knobs import Config
    from search.space import Choice
    from tvm_bridge.convolution import Conv2d
    from tvm_bridge.target import Target

TILES = ("tile_f", "tile_y", "tile_x")
"""The tiles of a block along z, y and x in the order of NCHW: neighbouring threads compute neighbouring pixels."""

CHANNELS_INNERMOST = ("tile_y", "tile_x", "tile_f")
"""The same in the order of NHWC: neighbouring threads compute neighbouring channels."""

FLOAT32_BYTES = 4
BUFFER_ALIGNMENT = 64
"""TVM aligns every buffer to so many bytes, those in shared memory too."""


@dataclass(frozen=True)
class Limits:
    """What a block and its grid may ask for; the defaults hold on every CUDA device.

    - `threads`, `threads_z`: threads of a block, and of them along z.
    - `shared_bytes`: statically allocated shared memory, whatever more a device offers dynamically.
    - `blocks_yz`: blocks of a grid along y, and along z.
    """

    threads: int = 1024
    threads_z: int = 64
    shared_bytes: int = 49_152
    blocks_yz: int = 65_535

    @classmethod
    def of(cls, target: Target) -> Limits:
        """The limits of a target, which may be tighter than the defaults."""
        attributes = dict(target.attributes)
        threads = (attributes.get(name, cls.threads) for name in ("max_num_threads", "max_threads_per_block"))
        shared_bytes = attributes.get("max_shared_memory_per_block", cls.shared_bytes)
        return cls(threads=min(cls.threads, *threads), shared_bytes=min(cls.shared_bytes, shared_bytes))


@dataclass(frozen=True)
class Fits(ABC):
    """The predicate of a template: whether the device can launch a configuration.

    It refuses what AutoTVM's check of the generated code refused (error 1): more threads (f2 y2 x2), more of them along z (in
    NCHW f2) or more shared memory than the device has. It also refuses more blocks along z (n f0) or y than a launch can have,
    which AutoTVM measured as a failure at run time.
    """

    workload: Conv2d
    limits: Limits

    tiles: ClassVar[tuple[str, str, str]] = TILES
    """The tiles that lie along z, y and x: `TILES` or `CHANNELS_INNERMOST`."""

    def __call__(self, choice: Choice) -> Bool[Array, " n"]:
        """Tell for each configuration whether it stays within every limit."""
        return self.launchable(choice, self.tiles) & self.storable(choice)

    def storable(self, choice: Choice) -> Bool[Array, " n"]:
        """Whether the shared memory of a block is enough."""
        return self.shared_bytes(choice) <= self.limits.shared_bytes

    def launchable_in(self, choice: Choice, layout: Num[Array, " n"]) -> Bool[Array, " n"]:
        """Whether the threads and blocks can be launched in a layout, 0 for NCHW and 1 for NHWC."""
        nhwc = layout == 1
        return (~nhwc & self.launchable(choice, TILES)) | (nhwc & self.launchable(choice, CHANNELS_INNERMOST))

    def launchable(self, choice: Choice, tiles: Sequence[str]) -> Bool[Array, " n"]:
        """Whether threads and blocks can be launched whose tiles lie in this order along z, y and x."""
        z, y, x = (choice[name] for name in tiles)
        # As floats, products of factors do not overflow 32 bits, and they are exact up to 2^24, far beyond every limit.
        threads = 1.0 * z[..., 2] * y[..., 2] * x[..., 2]
        return (
            (threads <= self.limits.threads)
            & (z[..., 2] <= self.limits.threads_z)
            & (1.0 * self.workload.data[0] * z[..., 0] <= self.limits.blocks_yz)
            & (y[..., 0] <= self.limits.blocks_yz)
        )

    def shared_bytes(self, choice: Choice) -> Float[Array, " n"]:
        """The shared memory of a block, in bytes."""
        return shared_bytes(*self.staged(choice))

    @abstractmethod
    def staged(self, choice: Choice) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
        """How many elements of data and how many weights a block holds in shared memory at a time, as floats."""

    def patch(self, choice: Choice, kernel_height: Any, kernel_width: Any) -> Float[Array, " n"]:
        """The area of padded input that a block's pixels see through a kernel of this height and width."""
        (stride_y, stride_x), (dilation_y, dilation_x) = self.workload.stride, self.workload.dilation
        height = (per_block(choice["tile_y"]) - 1) * stride_y + (kernel_height - 1) * dilation_y + 1
        width = (per_block(choice["tile_x"]) - 1) * stride_x + (kernel_width - 1) * dilation_x + 1
        return height * width


def shared_bytes(data: Float[Array, " n"], weights: Float[Array, " n"]) -> Float[Array, " n"]:
    """The bytes of so many elements as ptxas lays them out: data, then weights, each where its alignment allows."""
    return -(-FLOAT32_BYTES * data // BUFFER_ALIGNMENT) * BUFFER_ALIGNMENT + FLOAT32_BYTES * weights


def per_block(factors: Num[Array, "n 4"]) -> Float[Array, " n"]:
    """How many output elements of an axis one block computes: virtual threads by threads by inner."""
    return 1.0 * factors[..., 1] * factors[..., 2] * factors[..., 3]


def output_knobs(workload: Conv2d) -> list[Split]:
    """The splits of the output's channels, rows and columns."""
    _, *extents = workload.output
    return [Split(name, extent, 4) for name, extent in zip(TILES, extents, strict=True)]


def unroll_knobs(steps: tuple[int, ...]) -> list[Option]:
    """Up to how many steps loops are unrolled, and whether by TVM itself or by a pragma for the CUDA compiler."""
    return [Option("auto_unroll_max_step", steps), Option("unroll_explicit", (0, 1))]


class ThreadBlock:
    """A schedule under way: the output is dealt out to blocks and threads, its inputs are still to be placed.

    On any other target than CUDA the same loops stay serial, so that a CPU can run the schedule one thread after the other.

    - `schedule`: the `s_tir.Schedule`.
    - `anchor`: the operator, which accumulates in registers, at the innermost loop over threads.
    - `reads`: the copies of data and weights to shared memory, still outside all loops. The data is padded on the way.
    - `at_block`, `at_thread`: the innermost loops over blocks and over threads.

    **Arguments:**

    - `schedule`: of the operator's PrimFunc, alone or with an elementwise epilogue.
    - `choice`: `{knob: factors or value}`.
    - `target`: CUDA binds the loops to its axes; anything else leaves them serial.
    - `tiles`: the knobs that cut the last axes of the output; with two, they run along y and x.
    - `order`: the same knobs from the slowest to the fastest axis of threads; None for the order of the output's axes.
    """

    def __init__(
        self,
        schedule: Any,
        choice: Config,
        target: Target,
        tiles: Sequence[str] = TILES,
        order: Sequence[str] | None = None,
    ) -> None:
        order = tiles if order is None else order
        self.schedule = schedule
        self.anchor = anchor_block(schedule)
        # Of an operand that the epilogue reads too, only the anchor reads the copy.
        self.reads = [self.schedule.cache_read(self.anchor, operand, "shared", [self.anchor]) for operand in (0, 1)]
        self._bound = target.kind == "cuda"
        self._threads = [choice[name][2] for name in order]
        self.at_block, self.at_thread = self._deal_out(self._output(), choice, tiles, order)
        self.schedule.compute_at(self.anchor, self.at_thread, preserve_unit_loops=True)

    def fetch(self, read: Any, loop: Any, *, interleaved: bool) -> None:
        """Fill a shared buffer at a loop, all threads of the block together.

        Interleaved, neighbouring threads copy neighbouring elements, as in AutoTVM's depthwise template; otherwise each thread
        copies a run of its own, as in the dense one.
        """
        self.schedule.compute_at(read, loop, preserve_unit_loops=True)
        elements = self.schedule.fuse(*self.schedule.get_loops(read)[-len(self.schedule.get(read).iter_vars) :])
        if interleaved:
            _, *threads = self.schedule.split(elements, [None, *self._threads])
        else:
            *threads, _ = self.schedule.split(elements, [*self._threads, None])
        self._bind(threads, "threadIdx")

    def put_channels_innermost(self) -> None:
        """Lay out what a convolution in NCHW has in shared memory as NHWC does: (n, y, x, c), and weights (ky, kx, c, f)."""
        data, weights = self.reads
        self.schedule.transform_layout(data, ("write", 0), lambda n, c, y, x: (n, y, x, c))
        self.schedule.transform_layout(weights, ("write", 0), lambda f, c, ky, kx: (ky, kx, c, f))

    def _output(self) -> Any:
        """The block that writes the result, an epilogue or a plain copy, with all blocks but it, anchor and reads inlined."""
        schedule = self.schedule
        (output,) = schedule.get_output_blocks("root")
        if self._name(output) == self._name(self.anchor):
            output = schedule.cache_write(self.anchor, 0, "local")
        else:
            schedule.set_scope(self.anchor, 0, "local")
        kept = {self._name(block) for block in (self.anchor, *self.reads, output)}
        for block in schedule.get_child_blocks(schedule.get_sblock("root")):
            if self._name(block) not in kept:
                schedule.compute_inline(block)
        return output

    def _deal_out(self, output: Any, choice: Config, tiles: Sequence[str], order: Sequence[str]) -> tuple[Any, Any]:
        schedule = self.schedule
        loops = schedule.get_loops(output)
        batch, axes = loops[: -len(tiles)], loops[-len(tiles) :]
        splits = {name: schedule.split(axis, choice[name]) for axis, name in zip(axes, tiles, strict=True)}
        blocks, virtual, threads, inner = zip(*(splits[name] for name in order), strict=True)
        schedule.reorder(*batch, *blocks, *virtual, *threads, *inner)
        blocks = schedule.fuse(*batch, blocks[0]), *blocks[1:]
        for loops, kind in ((blocks, "blockIdx"), (virtual, "vthread"), (threads, "threadIdx")):
            self._bind(loops, kind)
        for knob in ("auto_unroll_max_step", "unroll_explicit"):
            if knob in choice:
                schedule.annotate(blocks[0], f"pragma_{knob}", choice[knob])
        return blocks[-1], threads[-1]

    def _bind(self, loops: Any, kind: str) -> None:
        if self._bound:
            for loop, axis in zip(loops, "zyx"[-len(loops) :], strict=True):
                self.schedule.bind(loop, f"{kind}.{axis}")

    def _name(self, block: Any) -> str:
        return str(self.schedule.get(block).name_hint)
