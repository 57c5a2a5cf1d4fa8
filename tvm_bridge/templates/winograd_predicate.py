"""Where Winograd's algorithm is offered for a convolution on a CPU, and which of its configurations are worth building."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import mul
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Array, Bool, Int

from search.knobs import Knob, factorisations
from search.space import Choice, Part
from tvm_bridge.convolution import Conv2d
from tvm_bridge.templates.cpu import VectorUnit
from tvm_bridge.templates.cpu_predicate import BUSY, CpuPredicate, admitted_options, busy

TILES = (2, 4)
"""Extents m of tiles: the larger, the fewer products, and the larger the errors of rounding."""


def tile_extents(workload: Conv2d, unit: VectorUnit) -> tuple[int, ...]:
    """The extents m that are offered: those that save products, in spite of what overhangs the results."""
    suited = workload.weight[2:] == (3, 3) and workload.stride == workload.dilation == (1, 1)
    if not suited or 2 * unit.widest(workload.data[1]) <= unit.lanes:
        return ()
    rows, columns = workload.output[2:]
    return tuple(m for m in TILES if (m + 2) ** 2 * -(-rows // m) * -(-columns // m) < 9 * rows * columns)


def tile_loops(factors: Sequence[Any], m: int) -> tuple[Any, ...]:
    """The loops over tiles that factors of rows, or of columns, mean: a span of rows is covered by whole tiles.

    The inner factors' products are the spans of a register tile, a data tile and a chunk; (1, 1, 1, 7) means that a register
    tile spans seven rows, so that it has four tiles of extent 2.

    **Returns:** how many chunks there are, data tiles in a chunk, register tiles in a data tile and tiles in a register tile.
    """
    loops: tuple[Any, ...] = ()
    span, covered = 1, m
    for factor in reversed(factors):
        span = span * factor
        loops = (-(-span // covered), *loops)
        covered = covered * loops[0]
    return loops


@dataclass(frozen=True)
class WinogradPredicate(CpuPredicate):
    """Admits the configurations whose matrix products suit the vector unit and whose chunks suit the cores.

    - `m`: the extent of a tile.
    """

    m: int = TILES[0]

    unroll_step: ClassVar[int] = 512

    def fills_vectors(self, choice: Choice) -> Bool[Array, " n"]:
        """Whether vectors are nearly as wide as they can be, and spans of rows and columns as large as their tiles allow."""
        rows, columns = self.workload.output[2:]
        return super().fills_vectors(choice) & self._spans(choice["tile_y"], rows) & self._spans(choice["tile_x"], columns)

    def distinct(self, choice: Choice) -> Bool[Array, " n"]:
        """Whether taps are not split, nor channels without use."""
        taps = self._unsplit(choice["tile_ry"]) & self._unsplit(choice["tile_rx"])
        channels = (choice["unroll_explicit"] == 1) | (choice["tile_rc"][..., 1] == 1)
        return taps & channels

    def part(self, knobs: Sequence[Knob]) -> Part:
        """The options of each knob that a configuration can have."""
        able: dict[str, Callable[[Any], Any]] = {
            "tile_f": lambda f: super(WinogradPredicate, self).fills_vectors({"tile_f": f}) & (f[:, 0] <= self.threads),
            "tile_y": lambda y: self._spans(y, self.workload.output[2]),
            "tile_x": lambda x: self._spans(x, self.workload.output[3]),
            "tile_ry": self._unsplit,
            "tile_rx": self._unsplit,
            "winograd": lambda m: m[:, 0] == self.m,
        }
        return admitted_options(knobs, able)

    def _spans(self, factors: Int[Array, "n 4"], extent: int) -> Bool[Array, " n"]:
        """Whether spans are whole tiles or, of an extent that is not, the largest that so many tiles cover."""
        if extent % self.m == 0:
            return factors[..., 3] % self.m == 0
        largest = np.array([*{-(-span // self.m): span for span in factorisations(extent, 2)[:, 1].tolist()}.values()])
        register, data_tile, chunk = accumulate((factors[..., level] for level in (3, 2, 1)), mul)
        fits = [(span[..., None] == largest).any(-1) for span in (register, data_tile, chunk)]
        return fits[0] & fits[1] & fits[2]

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
        chunks = self.workload.data[0] * choice["tile_f"][..., 0] * down[0] * right[0]
        share = busy(chunks, self.threads) * needed // (math.prod(down) * math.prod(right))
        return super().measures(choice) | {"busy": (share, BUSY)}

    def _vectors(self, choice: Choice) -> Int[Array, " n"]:
        f, (down, right) = choice["tile_f"], self._loops(choice)
        return f[..., 2] * f[..., 3] * down[3] * right[3] // self.lanes(choice)

    def _loops(self, choice: Choice) -> tuple[Any, Any]:
        """The loops over tiles, down and across."""
        down, right = (tile_loops([choice[name][..., level] for level in range(4)], self.m) for name in ("tile_y", "tile_x"))
        return down, right
