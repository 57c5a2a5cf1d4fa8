"""Where Winograd's algorithm is offered for a convolution on a CPU, and which of its configurations are worth building."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Array, Bool, Int, Num

from search.knobs import factorisations
from search.space import Choice
from tvm_bridge.convolution import Conv2d
from tvm_bridge.templates.cpu import VectorUnit
from tvm_bridge.templates.cpu_predicate import BUSY, STATEMENTS, CpuPredicate, busy
from tvm_bridge.templates.spans import covers, tile_loops

TILES = (2, 4)
"""Extents m of tiles: the larger, the fewer products, and the larger the errors of rounding."""


def tile_extents(workload: Conv2d, unit: VectorUnit) -> tuple[int, ...]:
    """The extents m that are offered: those that save products, in spite of what overhangs the results."""
    suited = workload.weight[2:] == (3, 3) and workload.stride == workload.dilation == (1, 1)
    if not suited or 2 * unit.widest(workload.data[1]) <= unit.lanes:
        return ()
    rows, columns = workload.output[2:]
    return tuple(m for m in TILES if saved(rows, columns, m) > 1)


def saved(rows: int, columns: int, m: int) -> float:
    """How many times fewer products tiles of extent m take for so many results, those that overhang them included."""
    return 9 * rows * columns / ((m + 2) ** 2 * -(-rows // m) * -(-columns // m))


@dataclass(frozen=True)
class WinogradPredicate(CpuPredicate):
    """Admits the configurations whose products suit the vector unit, whose chunks suit the cores and whose data the last cache.

    - `m`: the extent of a tile.
    """

    m: int = TILES[0]

    unroll_step: ClassVar[int] = 512
    statements: ClassVar[int] = STATEMENTS // 2
    """The transforms are unrolled, too; of 63 layers on AVX-512 cores none had its fastest kernel beyond."""

    @property
    def share(self) -> int:
        """The square of what is saved: direct ones are seldom near, and may still be wanted where no function is rewritten."""
        return max(1, round(saved(*self.workload.output[2:], self.m) ** 2))

    def fills_vectors(self, choice: Choice) -> Bool[Array, " n"]:
        """Whether vectors are nearly as wide as they can be, and spans of rows and columns as large as their tiles allow."""
        rows, columns = self.workload.output[2:]
        return super().fills_vectors(choice) & self._spans(choice["tile_y"], rows) & self._spans(choice["tile_x"], columns)

    def distinct(self, choice: Choice) -> Bool[Array, " n"]:
        """Whether taps are not split, nor channels without use."""
        taps = self._unsplit(choice["tile_ry"]) & self._unsplit(choice["tile_rx"])
        channels = (choice["unroll_explicit"] == 1) | (choice["tile_rc"][..., 1] == 1)
        return taps & channels

    @property
    def able(self) -> Mapping[str, Callable[[Any], Any]]:
        """By a knob's name, what tells from its table which options a configuration can have."""
        return {
            "tile_f": lambda f: super(WinogradPredicate, self).fills_vectors({"tile_f": f}) & (f[:, 0] <= self.threads),
            "tile_y": lambda y: self._spans(y, self.workload.output[2]),
            "tile_x": lambda x: self._spans(x, self.workload.output[3]),
            "tile_ry": self._unsplit,
            "tile_rx": self._unsplit,
        }

    def _spans(self, factors: Int[Array, "n 4"], extent: int) -> Bool[Array, " n"]:
        """Whether spans are whole tiles or, of an extent that is not, the largest that so many tiles cover."""
        if extent % self.m == 0:
            return factors[..., 3] % self.m == 0
        return covers(factors, self.m, extent)

    @staticmethod
    def _unsplit(factors: Int[Array, "n 2"]) -> Bool[Array, " n"]:
        return factors[..., 1] == 1

    def steps(self, choice: Choice) -> Int[Array, " n"]:
        """Channels of the inner tile."""
        return choice["tile_rc"][..., 1]

    def _fits(self, choice: Choice) -> Bool[Array, " n"]:
        return super()._fits(choice) & (choice["tile_f"][..., 0] <= self.threads)  # more chunks would transform the same data

    def _factors(self) -> list[Int[np.ndarray, "_ 4"]]:
        filters = factorisations(self.workload.output[1], 4)  # of chunks there may be few: what is left walks
        return [filters, *super()._factors()[1:]]

    def measures(self, choice: Choice) -> dict[str, tuple[Int[Array, " n"], int]]:
        """What a configuration has to have enough of; the cores' time on tiles outside the results is lost."""
        down, right = self._loops(choice)
        rows, columns = self.workload.output[2:]
        needed = -(-rows // self.m) * -(-columns // self.m)
        used = busy(self._bands(choice) * right[0], self.threads) * needed // (math.prod(down) * math.prod(right))
        return super().measures(choice) | {"busy": (used, BUSY), "cached": (1 * self._cached(self._kept(choice), -1), 1)}

    def _bands(self, choice: Choice) -> Int[Array, " n"]:
        return self.workload.data[0] * choice["tile_f"][..., 0] * self._loops(choice)[0][0]

    def _vectors(self, choice: Choice) -> Int[Array, " n"]:
        f, (down, right) = choice["tile_f"], self._loops(choice)
        return f[..., 2] * f[..., 3] * down[3] * right[3] // self.lanes(choice)

    def _kept(self, choice: Choice) -> Num[Array, " n"]:
        """Numbers between the transforms of a data tile: of its channels, and of the chunk's filters."""
        down, right = self._loops(choice)
        filters, channels = self.workload.weight[:2]
        return (self.m + 2.0) ** 2 * math.prod((*down[2:], *right[2:])) * (channels + filters // choice["tile_f"][..., 0])

    def _loops(self, choice: Choice) -> tuple[Any, Any]:
        """The loops over tiles, down and across."""
        down, right = (tile_loops([choice[name][..., level] for level in range(4)], self.m) for name in ("tile_y", "tile_x"))
        return down, right
