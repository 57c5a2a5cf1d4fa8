"""What the machine allows: operations of a deep Gaussian process counted from its shapes, and this machine's measured peaks."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


@dataclass(frozen=True)
class Work:
    """Floating-point operations in matrix products, exponentials, and bytes that cannot stay in a cache."""

    flop: float = 0.0
    exponentials: float = 0.0
    bytes: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(self.flop + other.flop, self.exponentials + other.exponentials, self.bytes + other.bytes)

    def __mul__(self, times: float) -> Work:
        return Work(times * self.flop, times * self.exponentials, times * self.bytes)


@dataclass(frozen=True)
class Peaks:
    """What this machine reaches at one kind of work alone, a second."""

    flop: float
    exponentials: float
    bytes: float

    def parts(self, work: Work) -> dict[str, float]:
        """The least seconds of each kind of work."""
        return {
            "floating-point operations": work.flop / self.flop,
            "exponentials": work.exponentials / self.exponentials,
            "memory traffic": work.bytes / self.bytes,
        }

    def seconds(self, work: Work) -> float:
        """The least seconds of all work, one kind after the other."""
        return sum(self.parts(work).values())

    def bound_by(self, work: Work) -> str:
        """The kind that takes longest."""
        parts = self.parts(work)
        return max(parts, key=parts.__getitem__)


@dataclass(frozen=True)
class Shape:
    """A deep Gaussian process: features, widths of the inner layers, inducing points, a full q in inner layers or not."""

    features: int
    hidden: tuple[int, ...]
    inducing: int
    full: bool

    def layers(self) -> Iterator[tuple[int, int]]:
        """Inputs and functions of each layer."""
        return itertools.pairwise((self.features, *self.hidden, 1))

    def means(self) -> Work:
        """A point's mean, layer by layer: its covariances with the inducing points, and what these weigh."""
        m = self.inducing
        products = sum(2 * m * d + 2 * m * p + 2 * d * p for d, p in self.layers())
        return Work(products, m * (len(self.hidden) + 1), 4 * (self.features + 1))

    def prediction(self) -> Work:
        """A point's mean and the last layer's variance, whose full q takes two products with m x m matrices."""
        return self.means() + Work(4 * self.inducing**2, 0, 4)

    def sample(self) -> Work:
        """A point's mean and variance given one sample of the inner layers."""
        m = self.inducing
        variances = sum(2 * m**2 * (1 + p) if self._full(p) else 2 * m**2 + 2 * m * p for _, p in self.layers())
        return self.means() + Work(variances)

    def step(self, batch: int) -> Work:
        """A training step: products thrice, for themselves and their two gradients, and L^-1 of each layer.

        A factor takes m^3 / 3 operations, its inverse as many, and their gradient three products.
        """
        m, depth = self.inducing, len(self.hidden) + 1
        covariances = sum(2 * m**2 * d for d, _ in self.layers())
        return Work(
            3 * (batch * self.sample().flop + covariances) + depth * (2 / 3 + 6) * m**3,
            depth * (batch * m + m**2),
        )

    def _full(self, p: int) -> bool:
        return self.full or p == 1


def measured_peaks() -> Peaks:
    """Matrix products of 2048 x 2048 float32, exponentials of an array in the cache, and a copy of an array beyond it."""
    matrix, cached = jnp.ones((2048, 2048)), jnp.linspace(-5.0, 5.0, 1 << 18)
    large = np.ones(1 << 26, np.float32)
    target = np.empty_like(large)
    product, exponential = jax.jit(lambda a: a @ a), jax.jit(jnp.exp)
    return Peaks(
        2 * 2048**3 / seconds(lambda: product(matrix)),
        (1 << 18) / seconds(lambda: exponential(cached), number=50),
        2 * large.nbytes / seconds(lambda: np.copyto(target, large)),
    )


def seconds(call: Callable[[], Any], *, number: int = 1, repeats: int = 7) -> float:
    """The median seconds of a call, of batches of so many, after one that compiles."""
    jax.block_until_ready(call())
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        for _ in range(number):
            jax.block_until_ready(call())
        times.append((time.perf_counter() - started) / number)
    return statistics.median(times)
