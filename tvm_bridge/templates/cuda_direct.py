"""What the direct convolutions on CUDA have in common: their knobs, and what a block of threads may hold.

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
from tvm_bridge.templates.cuda_limits import Limits, shared_bytes

if TYPE_CHECKING:
    from search.space import Choice
    from tvm_bridge.convolution import Conv2d

TILES = ("tile_f", "tile_y", "tile_x")
"""The tiles of a block along z, y and x in the order of NCHW: neighbouring threads compute neighbouring pixels."""

CHANNELS_INNERMOST = ("tile_y", "tile_x", "tile_f")
"""The same in the order of NHWC: neighbouring threads compute neighbouring channels."""


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

    def launchable_in(self, choice: Choice, layout: Num[Array, " n"], parts: Any = 1) -> Bool[Array, " n"]:
        """Whether the threads and blocks can be launched in a layout, 0 for NCHW and 1 for NHWC."""
        nhwc = layout == 1
        return (~nhwc & self.launchable(choice, TILES, parts)) | (nhwc & self.launchable(choice, CHANNELS_INNERMOST, parts))

    def launchable(self, choice: Choice, tiles: Sequence[str], parts: Any = 1) -> Bool[Array, " n"]:
        """Whether threads and blocks can be launched whose tiles lie in this order along z, y and x.

        Of a reduction in so many parts, each has blocks of its own along z.
        """
        z, y, x = (choice[name] for name in tiles)
        # As floats, products of factors do not overflow 32 bits, and they are exact up to 2^24, far beyond every limit.
        threads = 1.0 * z[..., 2] * y[..., 2] * x[..., 2]
        return (
            (threads <= self.limits.threads)
            & (z[..., 2] <= self.limits.threads_z)
            & (1.0 * self.workload.data[0] * parts * z[..., 0] <= self.limits.blocks_yz)
            & (y[..., 0] <= self.limits.blocks_yz)
        )

    def shared_bytes(self, choice: Choice) -> Float[Array, " n"]:
        """The shared memory of a block, in bytes."""
        return shared_bytes(*self.staged(choice))

    @abstractmethod
    def staged(self, choice: Choice) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
        """How many elements of data and how many weights a block holds in shared memory at a time, as floats."""

    def patch(self, choice: Choice, kernel_height: Any, kernel_width: Any) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
        """Height and width of the padded input that a block's pixels see through a kernel of this height and width."""
        (stride_y, stride_x), (dilation_y, dilation_x) = self.workload.stride, self.workload.dilation
        height = (per_block(choice["tile_y"]) - 1) * stride_y + (kernel_height - 1) * dilation_y + 1
        width = (per_block(choice["tile_x"]) - 1) * stride_x + (kernel_width - 1) * dilation_x + 1
        return height, width


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
