"""Knobs, what a schedule leaves open: splits of loops and short lists of options (AutoTVM: Chen et al., NeurIPS 2018)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from jaxtyping import Int

Config = dict[str, Any]
"""A configuration as people read it: `{knob: factors or value}`."""


@lru_cache(maxsize=1024)
def factorisations(extent: int, ways: int) -> Int[np.ndarray, "options ways"]:
    """List the ordered factorisations of `extent` into `ways` factors, in AutoTVM's order.

    The innermost factor is chosen first and varies slowest; the second factor varies fastest; the first is what remains.
    """
    if ways == 1:
        table = np.array([[extent]], np.int32)
    else:
        rests = ((factorisations(extent // innermost, ways - 1), innermost) for innermost in _divisors(extent))
        table = np.concatenate([np.column_stack([rest, np.full(len(rest), inner, np.int32)]) for rest, inner in rests])
    table.flags.writeable = False
    return table


def _divisors(extent: int) -> list[int]:
    small = [d for d in range(1, math.isqrt(extent) + 1) if extent % d == 0]
    return sorted({*small, *(extent // d for d in small)})


@dataclass(frozen=True)
class Split:
    """A loop of `extent` iterations cut into `ways` nested loops, outermost first."""

    name: str
    extent: int
    ways: int

    def __post_init__(self) -> None:
        if self.extent < 1 or self.ways < 1:
            raise ValueError(f"Split {self.name!r}: extent {self.extent} and ways {self.ways} must both be at least 1.")

    @property
    def table(self) -> Int[np.ndarray, "options ways"]:
        """The factors of every option, one row an option."""
        return factorisations(self.extent, self.ways)

    def value(self, option: int) -> tuple[int, ...]:
        """The factors of one option as a tuple."""
        return tuple(int(factor) for factor in self.table[option])

    def option(self, value: Sequence[int]) -> int:
        """The number of the option with these factors; a first factor of -1 means what remains."""
        option = self._options.get(tuple(value[1:])) if isinstance(value, Sequence) else None
        if option is None or value[0] not in (-1, self.table[option, 0]):
            raise ValueError(
                f"Knob {self.name!r}: {value} is not a way to write {self.extent} as a product of {self.ways} factors."
            )
        return option

    @cached_property
    def _options(self) -> dict[tuple[int, ...], int]:
        return {tuple(row[1:]): option for option, row in enumerate(self.table.tolist())}


@dataclass(frozen=True)
class Option:
    """A knob that takes one of a few numbers.

    - `absent`: the number that a configuration has which does not name the knob; None if it has to.
    """

    name: str
    values: tuple[int | float, ...]
    absent: int | float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(self.values))
        if not self.values or len(set(self.values)) != len(self.values):
            raise ValueError(f"Option {self.name!r}: values {self.values} must be distinct and at least one.")
        if not all(isinstance(value, (int, float)) for value in self.values):
            raise ValueError(f"Option {self.name!r}: values {self.values} must be numbers; number the names of a category.")
        if self.absent is not None and self.absent not in self.values:
            raise ValueError(f"Option {self.name!r}: absent {self.absent!r} is not one of {list(self.values)}.")

    @cached_property
    def table(self) -> np.ndarray:
        """The value of every option, one row an option."""
        whole = all(isinstance(value, int) for value in self.values)
        return np.array(self.values, np.int32 if whole else np.float32)[:, None]

    def value(self, option: int) -> int | float:
        """The value of one option."""
        return self.values[option]

    def option(self, value: int | float) -> int:
        """The number of the option with this value."""
        if value not in self.values:
            raise ValueError(f"Knob {self.name!r}: {value!r} is not one of {list(self.values)}.")
        return self.values.index(value)


Knob = Split | Option
