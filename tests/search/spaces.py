"""What the tests of knob spaces share: small spaces with all they hold, large ones, and a test of counts."""

import itertools
import math
from dataclasses import dataclass

import jax
import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from search import KnobSpace, Option, Split

DIGITS_12 = KnobSpace([Option(f"digit{place}", tuple(range(10))) for place in range(12)])
DIGITS_25 = KnobSpace([Option(f"digit{place}", tuple(range(10))) for place in range(25)])
"""10^12 and 10^25 configurations: the index of one is its digits read from the last knob to the first."""


@dataclass(frozen=True)
class Sieve:
    """Refuses the configurations whose values add up to `residue` modulo `modulus`: written with operators only."""

    modulus: int
    residue: int

    def __call__(self, choice):
        total = sum(values.sum(axis=-1) if name.startswith("split") else values for name, values in choice.items())
        return total % self.modulus != self.residue


@st.composite
def spaces(draw, *, largest: int = 2000) -> KnobSpace:
    """Spaces of one to five knobs, single-option knobs among them, with a predicate or without."""
    knobs: list[Split | Option] = []
    for place in range(draw(st.integers(1, 5))):
        if draw(st.booleans()):
            knobs.append(Split(f"split{place}", draw(st.integers(1, 24)), draw(st.integers(1, 4))))
        else:
            knobs.append(
                Option(f"option{place}", tuple(draw(st.lists(st.integers(0, 99), min_size=1, max_size=5, unique=True))))
            )
    predicate = draw(st.none() | st.builds(Sieve, st.integers(2, 4), st.integers(0, 1)))
    space = KnobSpace(knobs, predicate, encoding=draw(st.sampled_from(["log2", "raw"])))
    assume(space.size <= largest)
    return space


keys = st.integers(0, 2**32 - 1).map(jax.random.key)


def everything(space: KnobSpace) -> np.ndarray:
    """Every row of the product, by its definition."""
    return np.array(list(itertools.product(*map(range, space.shape))), np.int32)


def as_set(rows: np.ndarray) -> set[tuple[int, ...]]:
    """Rows as a set, after checking that none repeats."""
    points = list(map(tuple, np.asarray(rows).tolist()))
    assert len(points) == len(set(points))
    return set(points)


def admitted(space: KnobSpace) -> set[tuple[int, ...]]:
    """The valid configurations, each asked for by its own values as a user would read them."""
    rows = everything(space)
    sieve = space.predicate
    if sieve is None:
        return as_set(rows)
    assert isinstance(sieve, Sieve)
    sums = [sum(np.sum(value) for value in space.to_config(row).values()) for row in rows]
    return as_set(rows[[total % sieve.modulus != sieve.residue for total in sums]])


def chi_square(counts: np.ndarray, expected: float | np.ndarray) -> np.ndarray:
    """Pearson's statistic of each column."""
    return ((counts - expected) ** 2 / expected).sum(axis=0)


def critical(freedom: int) -> float:
    """What chi-square passes once in ten thousand times, by Wilson and Hilferty's approximation."""
    return freedom * (1 - 2 / (9 * freedom) + 3.72 * math.sqrt(2 / (9 * freedom))) ** 3
