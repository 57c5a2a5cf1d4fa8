"""A schedule on CUDA under way: the output dealt out to blocks and threads, the inputs staged in shared memory."""

from __future__ import annotations

import math
from abc import ABC
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from tvm_bridge.templates.anchor import anchor_block
from tvm_bridge.templates.cuda_limits import STATIC_SHARED_BYTES, copies_asynchronously, shared_bytes

if TYPE_CHECKING:
    from search.knobs import Config
    from tvm_bridge.target import Target

SUMMING_THREADS = 256
"""Threads of a block that adds up what others have summed in parts."""


class Row(NamedTuple):
    """What lies together in a shared buffer below one of its axes, by which of the operand's axes it runs over."""

    below: int
    axes: tuple[int, ...]


class Block(ABC):
    """A schedule under way in which the threads of a block fetch data and weights together.

    On any other target than CUDA the same loops stay serial, so that a CPU can run the schedule one thread after the other.

    - `schedule`: the `s_tir.Schedule`.
    - `anchor`: what sums the products, in registers.
    - `reads`: the copies of data and weights, still outside all loops. The data is padded on the way.
    - `threads`: how many threads there are along each axis, the slowest first.
    """

    anchor: Any
    reads: Sequence[Any]
    threads: Sequence[int]

    def __init__(self, schedule: Any, target: Target) -> None:
        self.schedule = schedule
        self._target = target
        self._bound = target.kind == "cuda"
        self._elements: list[int] = []

    def fetch(self, read: Any, loop: Any, *, width: int, row: Row | None = None, longer: int = 0) -> None:
        """Fill a shared buffer at a loop, all threads of the block together.

        **Arguments:**

        - `read`: one of `reads`, the data first.
        - `width`: neighbouring threads copy neighbouring vectors of so many elements; with 0 each thread copies a run of its
          own. AutoTVM's template for depthwise convolutions does the first with 1, that for dense ones the other.
        - `row`, `longer`: how many elements the rows of the buffer are longer by (see `lengthened`), for what threads read at
          once to lie in other banks.
        """
        schedule = self.schedule
        schedule.compute_at(read, loop, preserve_unit_loops=True)
        loops = schedule.get_loops(read)[-len(schedule.get(read).iter_vars) :]
        extents = [int(schedule.get(each).extent) for each in loops]
        elements = math.prod(extents)
        if row is not None and longer:
            length = math.prod(extents[axis] for axis in row.axes)
            schedule.storage_align(read, 0, row.below, factor=length, offset=longer % length)
            elements = elements // length * lengthened(length, longer)
        self._elements.append(elements)
        fused = schedule.fuse(*loops)
        if width:
            _, *threads, vector = schedule.split(fused, [None, *self.threads, width])
            if width > 1 and self._bound:
                schedule.vectorize(vector)
        else:
            *threads, _ = schedule.split(fused, [*self.threads, None])
        self._bind(threads, "threadIdx")

    def overlap(self, step: Any, stages: int) -> None:
        """Fetch what is needed `stages - 1` iterations of a loop later, while it computes: a software pipeline.

        Both buffers are fetched at that loop, in which nothing else happens, and are `stages` times as large. On devices that
        can, the copies are asynchronous: no thread waits for one, and it takes no registers.
        """
        self._elements = [stages * elements for elements in self._elements]
        if self._bound and stages > 1:
            self.schedule.annotate(step, "software_pipeline_stage", [0, 0, stages - 1])
            self.schedule.annotate(step, "software_pipeline_order", [0, 1, 2])
            if copies_asynchronously(self._target):
                self.schedule.annotate(step, "software_pipeline_async_stages", [0])

    def place(self) -> None:
        """Have shared memory allocated at the launch if it is more than a kernel can declare; once all is fetched."""
        if self._bound and shared_bytes(*self._elements) > STATIC_SHARED_BYTES:
            for read in self.reads:
                self.schedule.set_scope(read, 0, "shared.dyn")

    def _output(self, total: Any, kept: Sequence[Any]) -> Any:
        """The block that writes what the anchor sums, with all blocks inlined that are none of those scheduled here or `kept`.

        It is an epilogue or a plain copy; of a reduction in parts it writes the parts, and `total`, which adds them up, is
        scheduled.
        """
        schedule = self.schedule
        summing = self.anchor if total is None else total
        (final,) = schedule.get_output_blocks("root")
        if self._name(final) == self._name(summing):
            final = schedule.cache_write(summing, 0, "local")
        else:
            schedule.set_scope(summing, 0, "local")
        output = final if total is None else schedule.cache_write(self.anchor, 0, "local")
        names = {self._name(block) for block in (self.anchor, *kept, summing, output, final)}
        for block in schedule.get_child_blocks(schedule.get_sblock("root")):
            if self._name(block) not in names:
                schedule.compute_inline(block)
        if total is not None:
            loop = schedule.fuse(*schedule.get_loops(final))
            blocks, threads = schedule.split(loop, [None, SUMMING_THREADS])
            self._bind([blocks], "blockIdx")
            self._bind([threads], "threadIdx")
            schedule.compute_at(total, threads, preserve_unit_loops=True)
        return output

    def _bind(self, loops: Any, kind: str) -> None:
        if self._bound:
            for loop, axis in zip(loops, "zyx"[-len(loops) :], strict=True):
                self.schedule.bind(loop, f"{kind}.{axis}")

    def _name(self, block: Any) -> str:
        return str(self.schedule.get(block).name_hint)


class ThreadBlock(Block):
    """A schedule whose output is dealt out to threads by tiles, and whose operator is at the innermost loop over threads.

    - `at_block`, `at_thread`: the innermost loops over blocks and over threads.

    **Arguments:**

    - `schedule`: of the operator's PrimFunc, alone or with an elementwise epilogue.
    - `choice`: `{knob: factors or value}`.
    - `target`: CUDA binds the loops to its axes; anything else leaves them serial.
    - `tiles`: the knobs that cut the last axes of the output.
    - `order`: the same knobs from the slowest to the fastest axis of threads; None for the order of the output's axes.
    - `parts`: into how many the reduction is cut, each summed by blocks of its own, where there is more than one. The anchor
      then is what sums a part; a second kernel adds them up and has the epilogue.
    - `cut`: which of the operator's loops is cut so, counted from the last.
    - `copies`: where the anchor's operands are copied to: "shared", or "local", each thread's own registers.
    """

    def __init__(
        self,
        schedule: Any,
        choice: Config,
        target: Target,
        tiles: Sequence[str],
        order: Sequence[str] | None = None,
        *,
        parts: int = 1,
        cut: int = -1,
        copies: str = "shared",
    ) -> None:
        super().__init__(schedule, target)
        order = tiles if order is None else order
        self.anchor = anchor_block(schedule)
        self.threads = [choice[name][2] for name in order]
        total = self._cut(parts, cut) if parts > 1 else None
        # Of an operand that the epilogue reads too, only the anchor reads the copy.
        self.reads = [self.schedule.cache_read(self.anchor, operand, copies, [self.anchor]) for operand in (0, 1)]
        self.at_block, self.at_thread = self._deal_out(self._output(total, self.reads), choice, tiles, order)
        self.schedule.compute_at(self.anchor, self.at_thread, preserve_unit_loops=True)

    def put_channels_innermost(self) -> None:
        """Lay out what a convolution in NCHW has in shared memory as NHWC does: (n, y, x, c), and weights (ky, kx, c, f)."""
        data, weights = self.reads
        self.schedule.transform_layout(data, ("write", 0), lambda n, c, y, x: (n, y, x, c))
        self.schedule.transform_layout(weights, ("write", 0), lambda f, c, ky, kx: (ky, kx, c, f))

    def _cut(self, parts: int, cut: int) -> Any:
        """Make the anchor sum one of `parts` parts of the loop, along an axis of its own; the block that adds them up."""
        schedule, total = self.schedule, self.anchor
        part, _ = schedule.split(schedule.get_loops(total)[cut], [parts, None])
        self.anchor = schedule.rfactor(part, 0)
        return total

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


def lengthened(row: Any, longer: Any) -> Any:
    """The elements of a row that is to be up to so many longer: none more than it has, or it would be another's."""
    return row + longer % row
