"""A recorded pool: a sorted list of configurations whose membership test runs inside jit, in 32-bit integers."""

from __future__ import annotations

import math
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Bool, Int

WORD = (1 << 31) - 1


class Pool(eqx.Module):
    """The configurations a space is confined to.

    A configuration's index can pass 2^31, which jit without 64-bit types cannot hold: knobs are packed into several 31-bit
    words, and a binary search compares words lexicographically.

    **Arguments:**

    - `rows`: distinct configurations, shape `(m, knobs)`; kept in the order of their index.
    - `shape`: how many options each knob has.
    """

    rows: Int[np.ndarray, "m knobs"]
    words: Int[np.ndarray, "m words"]
    strides: tuple[tuple[int, ...], ...] = eqx.field(static=True)

    def __init__(self, rows: Int[np.ndarray, "m knobs"], shape: tuple[int, ...]) -> None:
        self.strides = _word_strides(shape)
        words = np.asarray(_pack(rows, self.strides, np))
        order = np.lexsort(words.T[::-1])
        self.rows = rows[order]
        self.words = words[order]

    def __len__(self) -> int:
        return len(self.rows)

    def contains(self, knobs: Int[Array | np.ndarray, "n knobs"]) -> Bool[Array | np.ndarray, " n"]:
        """Tell which configurations are in the pool; NumPy in, NumPy out, JAX (or traced) in, JAX out."""
        xp: Any = jax.numpy if isinstance(knobs, jax.Array) else np
        if len(self) == 0:
            return xp.zeros(knobs.shape[:-1], bool)
        wanted, listed = _pack(knobs, self.strides, xp), xp.asarray(self.words)
        low = xp.zeros(knobs.shape[:-1], np.int32)
        high = xp.full(knobs.shape[:-1], len(self), np.int32)
        for _ in range(math.ceil(math.log2(len(self) + 1))):
            middle = xp.minimum((low + high) // 2, len(self) - 1)
            below = (low < high) & _before(listed[middle], wanted, xp)
            low, high = xp.where(below, middle + 1, low), xp.where(below, high, middle)
        place = xp.minimum(low, len(self) - 1)
        return xp.all(listed[place] == wanted, axis=-1)


def _word_strides(shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """For each word, the most significant first, the multiplier of every knob: 0 for knobs of other words."""
    words: list[list[int]] = []
    filled = 1
    for column, length in enumerate(shape):
        if not words or filled * length > WORD:
            words.append([0] * len(shape))
            filled = 1
        words[-1][column] = filled
        filled *= length
    return tuple(tuple(word) for word in reversed(words))


def _pack(
    knobs: Int[Array | np.ndarray, "n knobs"], strides: tuple[tuple[int, ...], ...], xp: Any
) -> Int[Array | np.ndarray, "n words"]:
    return (knobs[..., None, :] * xp.asarray(np.array(strides, np.int32))).sum(axis=-1, dtype=np.int32)


def _before(
    left: Int[Array | np.ndarray, "n words"], right: Int[Array | np.ndarray, "n words"], xp: Any
) -> Bool[Array | np.ndarray, " n"]:
    """Lexicographic comparison, from the least significant word on."""
    before = xp.zeros(left.shape[:-1], bool)
    for word in reversed(range(left.shape[-1])):
        before = (left[..., word] < right[..., word]) | ((left[..., word] == right[..., word]) & before)
    return before
