"""Direct dense convolution on a CPU with vectors that overhang the filters, where none that fills a register divides them.

1000 filters are no multiple of 16, and vectors of 10 would be 100 of them instead of 63. Filters are rounded up in the
function, with weights of zeros that are packed ahead of time, and only what lies inside is written; the loops are those of
`cpu_direct`.

Filters are counted in vectors: `tile_loops` says how many the factors of `tile_f` mean. f2 is 1, and what f3 spans are the
vectors of the register tile.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from jaxtyping import Array, Bool, Int

from search.knobs import Config
from search.space import Choice
from tvm_bridge.convolution import Conv2d
from tvm_bridge.target import Target
from tvm_bridge.templates.cpu import VectorUnit
from tvm_bridge.templates.cpu_direct import DirectPredicate, direct
from tvm_bridge.templates.cpu_predicate import BUSY, REUSE, busy
from tvm_bridge.templates.overhang import overhanging
from tvm_bridge.templates.spans import covers, tile_loops


def offered_lanes(workload: Conv2d, unit: VectorUnit) -> int:
    """The lanes of vectors that overhang the filters, or 0 where vectors as wide divide them.

    Even if they are no fewer they may be faster: LLVM makes a vector of 12 lanes of two.
    """
    lanes = unit.covering(workload.weight[0])
    return lanes if workload.weight[0] % lanes else 0


def rewritten(function: Any, choice: Config, layout: str) -> Any:
    """The function with its filters rounded up to whole tiles; the very same if they are."""
    return overhanging(function, {layout.index("C"): math.prod(_loops(choice))})


def schedule(function: Any, choice: Config, target: Target, layout: str) -> Any:
    """Schedule a convolution, alone or with an elementwise epilogue, whose configuration has a vector's lanes as `lanes`."""
    return direct(rewritten(function, choice, layout), choice | {"tile_f": _loops(choice)}, target, layout)


def _loops(choice: Config) -> tuple[int, ...]:
    """The loops over filters, the innermost a vector."""
    chunks, walk, _, vectors = tile_loops(choice["tile_f"], choice["lanes"])
    return chunks, walk, vectors, choice["lanes"]


@dataclass(frozen=True)
class OverhangPredicate(DirectPredicate):
    """What a direct convolution demands of its knobs whose vectors overhang the filters.

    - `width`: the lanes of a vector.
    """

    width: int = 1

    @classmethod
    def like(cls, other: DirectPredicate, lanes: int) -> OverhangPredicate:
        """The demands of a direct convolution, on vectors of other lanes."""
        return cls(other.workload, other.unit, other.threads, other.caches, other.columns, other.copies, lanes)

    @property
    def share(self) -> int:
        """The square of how many times fewer vectors there are than of those that divide the filters."""
        filters = self.workload.weight[0]
        return max(1, round((filters // self.unit.widest(filters) / -(-filters // self.width)) ** 2))

    def lanes(self, choice: Choice) -> Int[Array, " n"]:
        """The extent of the vectorised loop."""
        return self.width + 0 * choice["tile_f"][..., 3]

    def fills_vectors(self, choice: Choice) -> Bool[Array, " n"]:
        """Whether spans of filters are as large as their vectors allow."""
        return self._covers(choice["tile_f"])

    def measures(self, choice: Choice) -> dict[str, tuple[Int[Array, " n"], int]]:
        """What a configuration has to have enough of; the cores' time on filters that are none is lost."""
        y, x, filters = choice["tile_y"], choice["tile_x"], self._filters(choice)
        needed, covered = -(-self.workload.weight[0] // self.width), math.prod(filters)
        return super().measures(choice) | {
            "reuse": (y[..., 3] * x[..., 3], REUSE),
            "busy": (busy(self._bands(choice) * x[..., 0], self.threads) * needed // covered, BUSY),
        }

    def _bands(self, choice: Choice) -> Int[Array, " n"]:
        return self.workload.data[0] * self._filters(choice)[0] * choice["tile_y"][..., 0]

    def _vectors(self, choice: Choice) -> Int[Array, " n"]:
        return self._filters(choice)[3] * choice["tile_y"][..., 3] * choice["tile_x"][..., 3]

    def _covers(self, factors: Int[Array, "n 4"]) -> Bool[Array, " n"]:
        return (factors[..., 2] == 1) & covers(factors, self.width, self.workload.weight[0])

    def _filters(self, choice: Choice) -> tuple[Any, ...]:
        """The loops over vectors of filters."""
        return tile_loops([choice["tile_f"][..., level] for level in range(4)], self.width)
