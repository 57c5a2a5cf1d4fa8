"""What more shared memory would add to AutoTVM's spaces on CUDA: configurations that are refused for want of it alone.

    python -m experiments.shared_memory --arch sm_90 --layout NCHW NHWC

counts them for the layers of networks; no GPU is needed. A kernel of AutoTVM's templates declares its shared memory, of which
a block can have 48 KB on every device. A launch can ask for more: `tvm_bridge/templates/cuda_limits.py` knows how much.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from experiments.command import ended
from search import KnobSpace
from search.sampling import CHUNK
from tvm_bridge import networks
from tvm_bridge.arguments import Parser
from tvm_bridge.convolution import LAYOUTS
from tvm_bridge.target import Target
from tvm_bridge.task import task_of
from tvm_bridge.templates.cuda_limits import STATIC_SHARED_BYTES, Limits
from tvm_bridge.workload import Workload

COUNTED = 1 << 20
"""Spaces up to this size are counted out."""

DRAWN = 1 << 16
"""Of a larger one so many configurations are drawn, so that a share of a half is known to 0.4 of a hundredth."""


@dataclass(frozen=True)
class Counts:
    """How much of a space a device can launch.

    - `size`: configurations of the whole product.
    - `looked_at`: how many of them were looked at, all or as many as were drawn.
    - `admitted`, `with_more`: how many of those can be launched with 48 KB of shared memory, and with all that the device has.
    """

    size: int
    looked_at: int
    admitted: int
    with_more: int

    @property
    def scale(self) -> float:
        """How many configurations each one that was looked at stands for."""
        return self.size / self.looked_at


def counts(workload: Workload, target: Target) -> Counts:
    """Count AutoTVM's space of a workload on a CUDA target; those beyond `COUNTED` are estimated, always by the same draws."""
    space = task_of(workload, target).space
    spaces = [_limited(space, limits) for limits in (Limits.of(target), Limits.at_launch(target))]
    if space.product <= COUNTED:
        numbers = np.arange(space.product)
    else:
        generator = np.random.default_rng(0)
        numbers = generator.integers(space.product, size=DRAWN)
    admitted = [0, 0]
    for first in range(0, len(numbers), CHUNK):
        rows = space.from_index(numbers[first : first + CHUNK])
        for place, each in enumerate(spaces):
            admitted[place] += int(np.asarray(each.valid(rows)).sum())
    return Counts(space.product, len(numbers), *admitted)


def _limited(space: KnobSpace, limits: Limits) -> KnobSpace:
    """The same space with other limits of the device."""
    return KnobSpace(space.knobs, replace(space.predicate, limits=limits))  # type: ignore[type-var]


def table(found: Iterable[tuple[str, Sequence[Counts]]], target: Target) -> str:
    """A table of what shared memory adds to groups of spaces, a row each."""
    most = Limits.at_launch(target).shared_bytes >> 10
    rows = [
        f"| spaces | layers | configurations | launchable with {STATIC_SHARED_BYTES >> 10} KB | with {most} KB "
        "| added by the median layer | by the most | counted out |",
        "|---" * 8 + "|",
    ]
    for name, every in found:
        size = sum(each.size for each in every)
        admitted = sum(each.admitted * each.scale for each in every) / size
        with_more = sum(each.with_more * each.scale for each in every) / size
        gains = [each.with_more / each.admitted - 1 for each in every if each.admitted]
        rows.append(
            f"| {name} | {len(every)} | {size:.3g} | {admitted:.1%} | {with_more:.1%} "
            f"| {statistics.median(gains):+.1%} | {max(gains):+.1%} | {sum(each.looked_at == each.size for each in every)} |"
        )
    return "\n".join(rows)


def main(argv: Sequence[str] | None = None) -> int:
    """Count and print; returns the exit code."""
    parser = Parser(prog="shared_memory", description="What more shared memory would add to AutoTVM's spaces on CUDA.")
    parser.add_argument("--networks", nargs="+", default=list(networks.NETWORKS), metavar="NETWORK", help="which networks")
    parser.add_argument("--layout", nargs="+", choices=LAYOUTS, default=list(LAYOUTS), help="of the layers")
    parser.add_argument("--arch", default="sm_90", help="the architecture, whose most shared memory of a block counts")
    arguments = parser.parse_args(argv)

    def work() -> int:
        target = Target.parse({"kind": "cuda", "arch": arguments.arch}).resolve()
        found = [
            (
                f"{network}, {layout}",
                [counts(replace(each.workload, layout=layout), target) for each in networks.layers(network)],
            )
            for layout in arguments.layout
            for network in arguments.networks
        ]
        print(table(found, target))
        return 0

    return ended("shared_memory", work, "nothing is kept; the same command counts anew")


if __name__ == "__main__":
    sys.exit(main())
