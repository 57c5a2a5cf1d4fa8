"""Functions of rows applied to any number of them, so many at a time: in flat memory, and compiled for few shapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

Values = TypeVar("Values", bound=PyTree[Array])

LEAST_ROWS = 64
"""Fewer rows are padded to so many."""


def in_chunks(function: Callable[[Float[Array, "n d"]], Values], x: Float[Array, "n d"], chunk: int = 4096) -> Values:
    """Inside jit: apply a function of rows to so many at a time. What is computed for them stays in the cache."""
    if len(x) <= chunk:
        return function(x)
    padded = jnp.pad(x, ((0, -len(x) % chunk), (0, 0)))
    values = jax.lax.map(function, padded.reshape(-1, chunk, x.shape[1]))
    return jax.tree.map(lambda value: value.reshape(-1)[: len(x)], values)


def in_parts(compiled: Callable[[Float[Array, "n d"]], Values], x: Float[np.ndarray, "n d"], rows: int = 4096) -> Values:
    """Outside: apply a compiled function of rows to so many at a time, the last part padded to a power of two."""
    parts = []
    for part in (x[i : i + rows] for i in range(0, max(len(x), 1), rows)):
        length = max(LEAST_ROWS, power_of_two(len(part)))
        values = compiled(jax.device_put(np.pad(part, ((0, length - len(part)), (0, 0)))))
        parts.append(_first(values, len(part)))
    return jax.device_put(jax.tree.map(lambda *values: np.concatenate(values), *parts))


def scores(
    scorer: Callable[[Float[Array, "n d"]], Float[Array, " n"]], x: Float[np.ndarray, "n d"], rows: int = 4096
) -> Float[np.ndarray, " n"]:
    """Outside: what a surrogate's scorer says of n points; another fit, or another n, compiles nothing new."""
    return np.asarray(in_parts(lambda part: _scores(scorer, part), x, rows))


def power_of_two(count: int) -> int:
    """The smallest power of two that is not below `count`: arrays of few lengths compile few programs."""
    return 1 << max(count - 1, 0).bit_length()


@eqx.filter_jit
def _scores(scorer: Any, x: Float[Array, "n d"]) -> Float[Array, " n"]:
    return scorer(x)


def _first(values: Values, rows: int) -> Values:
    return jax.tree.map(lambda value: np.asarray(value)[:rows], values)
