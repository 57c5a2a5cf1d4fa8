"""Which configurations of a convolution on a CPU are worth building: the rules that its templates share.

Each demand is what measurements on AVX-512 cores asked for, told in registers and cores so that it carries over to other CPUs.
What has to stay in a cache follows from the loops alone: on those cores all that was fast did. No workload is left without
configurations: a demand that it cannot meet is lowered to the best it can reach.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
from jaxtyping import Array, Bool, Int, Num

from search.knobs import factorisations
from search.space import Choice
from tvm_bridge.convolution import Conv2d
from tvm_bridge.target import Target
from tvm_bridge.templates.cpu import VectorUnit

REUSE = 2
"""A vector of weights, once loaded, serves at least so many vectors of the register tile."""

VECTORS = 4
"""So many independent accumulators at least hide the latency of a fused multiply-add."""

BUSY = 75
"""The percentage of the cores' time that the chunks fill at least, were they all equally long."""

STATEMENTS = 512
"""LLVM's time grows with the vector statements of the unrolled body: about half a second a thousand."""


@dataclass(frozen=True)
class CpuPredicate(ABC):
    """Admits the configurations of a convolution that suit a CPU's vector unit, its cores and its caches.

    A template says in a subclass what its knobs make a vector. Written with operators alone, it runs under NumPy and jit.

    - `workload`: the convolution.
    - `unit`: the vector unit of a core.
    - `threads`: the number of cores.
    - `caches`: the bytes that a core can hold in each level of its caches; empty if unknown, and then nothing is asked of them.
    - `columns`: how many columns a data tile has at least, if they lie side by side.
    """

    workload: Conv2d
    unit: VectorUnit
    threads: int
    caches: tuple[int, ...] = ()
    columns: int = 1

    unroll_step: ClassVar[int]
    """The smallest `auto_unroll_max_step` that unrolls anything."""

    statements: ClassVar[int] = STATEMENTS
    """The most vector statements that the unrolled body of the reduction may have."""

    @classmethod
    def of(cls, workload: Conv2d, target: Target) -> Self:
        """The predicate of a workload on a target."""
        return cls(workload, VectorUnit.of(target), target.threads, target.caches)

    def lanes(self, choice: Choice) -> Int[Array, " n"]:
        """The extent of the vectorised loop; filters, unless a template says otherwise."""
        return choice["tile_f"][..., 3]

    def fills_vectors(self, choice: Choice) -> Bool[Array, " n"]:
        """Whether vectors are nearly as wide as the workload and the vector unit allow."""
        widest, lanes = self.unit.widest(self.workload.weight[0]), self.lanes(choice)
        return (lanes <= widest) & (2 * lanes > widest)

    @abstractmethod
    def distinct(self, choice: Choice) -> Bool[Array, " n"]:
        """Whether the loops are not those of another configuration."""

    @property
    def share(self) -> int:
        """How many turns this algorithm has in a round of draws where several compete; the plain one has one."""
        return 1

    @property
    def able(self) -> Mapping[str, Callable[[Any], Any]]:
        """By a knob's name, what tells from its table which options a configuration can have; others can have any."""
        return {"tile_f": lambda f: self.fills_vectors({"tile_f": f})}

    @abstractmethod
    def steps(self, choice: Choice) -> Int[Array, " n"] | int:
        """How many steps of the reduction `unroll_explicit` unrolls."""

    def measures(self, choice: Choice) -> dict[str, tuple[Int[Array, " n"], int]]:
        """What a configuration has to have enough of, and how much of it is wanted, most important first."""
        x, bands = choice["tile_x"], self._bands(choice)
        wanted = {
            "reuse": (self._vectors(choice) // choice["tile_f"][..., 2], REUSE),
            "vectors": (self._vectors(choice), VECTORS),
            "busy": (busy(bands * x[..., 0], self.threads), BUSY),
        }
        if self.workload.layout == "NCHW":  # cores that share rows write the same lines of the cache
            wanted |= {"columns": (x[..., 2] * x[..., 3], self.columns), "apart": (busy(bands, self.threads), BUSY)}
        return wanted

    def __call__(self, choice: Choice) -> Bool[Array, " n"]:
        """Tell which configurations are worth building."""
        admitted = self._fits(choice) & self.distinct(choice) & self._unrolls_once(choice)
        for name, (measure, _) in self.measures(choice).items():
            admitted = admitted & (measure >= self._demands[name])
        return admitted

    def _bands(self, choice: Choice) -> Int[Array, " n"]:
        """Chunks of whole rows."""
        return self.workload.data[0] * choice["tile_f"][..., 0] * choice["tile_y"][..., 0]

    def _vectors(self, choice: Choice) -> Int[Array, " n"]:
        """Vector accumulators of the register tile."""
        f, y, x = choice["tile_f"], choice["tile_y"], choice["tile_x"]
        return f[..., 2] * f[..., 3] * y[..., 3] * x[..., 3] // self.lanes(choice)

    def _cached(self, numbers: Num[Array, " n"], level: int) -> Bool[Array, " n"]:
        """Whether so many float32 numbers stay in one of `caches`, if more than the first is known."""
        return numbers <= (self.caches[level] / 4 if len(self.caches) > 1 else math.inf)

    def _fits(self, choice: Choice) -> Bool[Array, " n"]:
        # LLVM loads data and weights well ahead of their use: with accumulators in more than half the registers, it spills.
        return self.fills_vectors(choice) & (self._vectors(choice) <= self.unit.registers // 2)

    def _unrolls_once(self, choice: Choice) -> Bool[Array, " n"]:
        """Unrolling is off in one way; on, it unrolls something, not too much, by the smallest step that allows it."""
        step, explicit = choice["auto_unroll_max_step"], choice["unroll_explicit"]
        statements = self._vectors(choice) * self.steps(choice)
        rolled = (step == 0) & (explicit == 0)
        smallest = (statements <= step) & ((step == self.unroll_step) | (statements > self.unroll_step))
        return rolled | ((explicit == 1) & (self.steps(choice) > 1) & smallest & (statements <= self.statements))

    @cached_property
    def _demands(self) -> dict[str, int]:
        """The least of each measure: what is wanted, or the most that is reachable with the demands before it met."""
        choice = self._tilings()
        return reachable_demands(self.measures(choice), self._fits(choice))

    def _factors(self) -> list[Int[np.ndarray, "_ 4"]]:
        """Of filters, rows and columns the factors to try: with a second of 1, all that a measure asks can be had."""
        tables = (factorisations(extent, 4) for extent in self.workload.output[1:])
        return [table[table[:, 1] == 1] for table in tables]

    def _tilings(self) -> Choice:
        """Every combination of the factors that the measures read."""
        tables = self._factors()
        rows = np.indices([len(table) for table in tables]).reshape(3, -1)
        return {name: table[row] for name, table, row in zip(("tile_f", "tile_y", "tile_x"), tables, rows, strict=True)}


def busy(chunks: Num[Array, " n"], threads: int) -> Num[Array, " n"]:
    """The percentage of the cores' time that equally long chunks fill."""
    return 100 * chunks // (chunks + -chunks % threads)


def reachable_demands(measures: dict[str, tuple[Num[Array, " n"], int]], fit: Bool[Array, " n"]) -> dict[str, int]:
    """The least to ask of each measure: what is wanted, or the most that those that fit reach, the demands before it met."""
    demands = {}
    for name, (measure, wanted) in measures.items():
        demands[name] = min(wanted, int(measure[fit].max()))
        fit = fit & (measure >= demands[name])
    return demands
