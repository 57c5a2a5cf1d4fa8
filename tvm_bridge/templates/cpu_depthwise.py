"""Direct depthwise convolution on a CPU, in NCHW and NHWC alike: AutoTVM's five knobs.

    parallel (n f0 y0 x0)    chunks, shared out among the cores
      f1 y1 x1               data tiles of a chunk; each is padded into a compact buffer first
        y2 x2                walks the pixels of a data tile
          ry rx              the kernel's taps, unrolled if `unroll_explicit`
            y3 f2 ...        the register tile

Nothing is summed over channels, so that moving data costs as much as computing, and what vectors run along decides: the
templates of the layouts say it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from jaxtyping import Array, Int

from search.knobs import Config, Knob, Option, Split
from search.space import Choice
from tvm_bridge.convolution import Conv2d
from tvm_bridge.templates.cpu import Operator, convolution_loops, vectorize_channels
from tvm_bridge.templates.cpu_predicate import CpuPredicate

OWN = 50
"""The percentage of a padded data tile, at least, that is not padded again for its neighbours."""


def knobs(workload: Conv2d) -> tuple[Knob, ...]:
    """AutoTVM's knobs of a depthwise convolution."""
    _, channels, rows, columns = workload.output
    return (
        Split("tile_f", channels, 4),
        Split("tile_y", rows, 4),
        Split("tile_x", columns, 4),
        Option("auto_unroll_max_step", (0, DepthwisePredicate.unroll_step, 1500)),
        Option("unroll_explicit", (0, 1)),
    )


def tile(schedule: Any, operator: Operator, choice: Config, layout: str, *, by_channel: bool) -> None:
    """Tile a depthwise convolution and run its loops in parallel, unrolled and in vectors.

    **Arguments:**

    - `operator`: its blocks. Data tiles are filled by `operator.padding`; without one, taps read the data where it lies.
    - `by_channel`: whether vectors hold f3 channels, which data tiles, accumulators and weights have innermost; or x3 columns.
    """
    anchor, data, write_back = operator.anchor, operator.padding, operator.write_back
    lanes = choice["tile_f"][3]
    n, f, y, x, rc, ry, rx = convolution_loops(schedule, anchor, layout)
    f0, f1, f2, f3 = schedule.split(f, choice["tile_f"])
    y0, y1, y2, y3 = schedule.split(y, choice["tile_y"])
    x0, x1, x2, x3 = schedule.split(x, choice["tile_x"])
    register_tile = (y3, x3, f2, f3) if by_channel else (y3, f2, f3, x3)
    schedule.reorder(n, f0, y0, x0, f1, y1, x1, y2, x2, rc, ry, rx, *register_tile)
    schedule.parallel(schedule.fuse(n, f0, y0, x0))
    for loop in (*register_tile[:-1], *((ry, rx) if choice["unroll_explicit"] else ())):
        schedule.unroll(loop)
    schedule.vectorize(register_tile[-1])

    if data is not None:
        schedule.compute_at(data, x1, preserve_unit_loops=True)
        if by_channel:
            vectorize_channels(schedule, data, lanes, layout)
    schedule.reverse_compute_at(write_back, x2, preserve_unit_loops=True)
    if by_channel:
        outer = list(vectorize_channels(schedule, write_back, lanes, layout))
    else:
        *outer, columns = schedule.get_loops(write_back)[-3:]
        schedule.vectorize(columns)
    for loop in outer:
        schedule.unroll(loop)
    schedule.decompose_reduction(anchor, rc)


@dataclass(frozen=True)
class DepthwisePredicate(CpuPredicate):
    """What a depthwise convolution demands of its knobs."""

    unroll_step: ClassVar[int] = 256

    def measures(self, choice: Choice) -> dict[str, tuple[Int[Array, " n"], int]]:
        """The measures of every template, and the share of a padded data tile that is its own."""
        own: Any = 1
        padded: Any = 1
        for axis, name in enumerate(("tile_y", "tile_x")):
            extent, stride = choice[name][..., 2] * choice[name][..., 3], self.workload.stride[axis]
            own = own * extent * stride
            padded = padded * ((extent - 1) * stride + (self.workload.weight[2 + axis] - 1) * self.workload.dilation[axis] + 1)
        return super().measures(choice) | {"own": (100 * own // padded, OWN)}

    def steps(self, choice: Choice) -> int:
        """How many steps of the reduction `unroll_explicit` unrolls: every tap."""
        return self.workload.weight[2] * self.workload.weight[3]
