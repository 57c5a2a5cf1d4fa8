"""Boosted trees as arrays, walked inside jit: XGBoost's own JSON, read once, becomes a scorer for compiled searches."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from surrogates.base import Arrays
from surrogates.chunks import power_of_two

LEAST_ROOM = 256
"""The fewest trees that a scorer has room for: more than most fits have, and room costs nothing."""


class Trees(eqx.Module):
    r"""A sum of regression trees of one depth L, $f(x) = b + \sum_t f_t(x)$.

    A tree is complete: its splits are numbered level by level from the root, and where XGBoost stopped early all leaves below
    are the same. A point goes right where `x[feature] >= threshold`, left otherwise.

    **Arguments:**

    - `feature`, `threshold`: the splits, $2^L - 1$ a tree.
    - `leaf`: what each tree adds at its $2^L$ leaves, from left to right.
    - `start`: b, what there is before the first tree.
    - `count`: how many trees there are; rows beyond are room, which is never walked.
    """

    feature: Int[Arrays, "trees splits"]
    threshold: Float[Arrays, "trees splits"]
    leaf: Float[Arrays, "trees leaves"]
    start: Float[Arrays, ""]
    count: Int[Arrays, ""]

    @classmethod
    def of(cls, raw: bytes, depth: int) -> Self:
        """Read a booster of numeric splits from its raw JSON (`Booster.save_raw("json")`); no tree is deeper than `depth`."""
        learner = json.loads(raw)["learner"]
        trees = learner["gradient_booster"]["model"]["trees"]
        start = np.asarray(learner["learner_model_param"]["base_score"].strip("[]"), np.float32)
        left, right, feature, number = (
            _ragged([tree[name] for tree in trees], dtype)
            for name, dtype in (
                ("left_children", np.int32),
                ("right_children", np.int32),
                ("split_indices", np.int32),
                ("split_conditions", np.float32),  # of a leaf, its value
            )
        )
        each = np.arange(len(trees))[:, None]
        level, levels = np.zeros((len(trees), 1), np.int32), []
        for _ in range(depth):
            levels.append(level)
            children = np.stack([left[each, level], right[each, level]], axis=-1)
            level = np.where(children < 0, level[..., None], children).reshape(len(trees), -1)
        splits = np.concatenate(levels, axis=1)
        return cls(feature[each, splits], number[each, splits], number[each, level], start, np.asarray(len(trees), np.int32))

    def __call__(self, x: Float[Arrays, "n d"]) -> Float[Array, " n"]:
        """The sum of the trees at n points."""
        return _walk(self, jnp.asarray(x, jnp.float32))

    def margins(
        self, x: Float[np.ndarray, "n d"], below: Float[np.ndarray, " n"] | None = None
    ) -> Float[np.ndarray, "n trees+1"]:
        """The sums of the first 0, 1, 2, ... trees on top of `below`, without compiling anything: for training sets.

        None starts where the trees start.
        """
        trees, points = np.arange(len(self.feature)), np.arange(len(x))[:, None]
        node = np.zeros((len(x), len(trees)), np.int32)
        for _ in range(self.depth):
            node = 2 * node + 1 + (x[points, self.feature[trees, node]] >= self.threshold[trees, node])
        start = np.full(len(x), self.start) if below is None else below
        return np.add.accumulate(np.column_stack([start, self.leaf[trees, node - self.feature.shape[1]]]), axis=1)

    @property
    def depth(self) -> int:
        """The splits on the way from the root to a leaf."""
        return self.leaf.shape[1].bit_length() - 1

    def faded(self, weight: float) -> Self:
        """The same trees, their sum multiplied by `weight`."""
        share = np.float32(weight)
        return eqx.tree_at(lambda trees: (trees.leaf, trees.start), self, (share * self.leaf, share * self.start))

    def first(self, count: int) -> Self:
        """The first `count` trees alone."""
        return type(self)(
            self.feature[:count], self.threshold[:count], self.leaf[:count], self.start, np.asarray(count, np.int32)
        )

    def with_room(self) -> Self:
        """Arrays of a length that many fits share (a power of two), so that the next fit compiles nothing."""
        room = max(LEAST_ROOM, power_of_two(len(self.feature))) - len(self.feature)
        feature, threshold, leaf = (
            jnp.asarray(np.pad(rows, ((0, room), (0, 0)))) for rows in (self.feature, self.threshold, self.leaf)
        )
        return type(self)(feature, threshold, leaf, jnp.asarray(self.start), jnp.asarray(self.count))


def chained(parts: Sequence[Trees]) -> Trees:
    """The trees of all parts one after the other, on top of what the first starts from.

    Parts of a smaller depth are deepened: below a leaf all leaves are the same.
    """
    depth = max(part.depth for part in parts)
    feature, threshold, leaf = (np.concatenate(rows) for rows in zip(*(_deepened(part, depth) for part in parts), strict=True))
    return Trees(feature, threshold, leaf, parts[0].start, np.asarray(len(leaf), np.int32))


def _deepened(trees: Trees, depth: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    more = (1 << depth) - 1 - trees.feature.shape[1]
    feature, threshold = (np.pad(rows, ((0, 0), (0, more))) for rows in (trees.feature, trees.threshold))
    return feature, threshold, np.repeat(trees.leaf, 1 << (depth - trees.depth), axis=1)


@eqx.filter_jit
def _walk(trees: Trees, x: Float[Array, "n d"]) -> Float[Array, " n"]:
    """Add tree after tree, in XGBoost's order.

    All comparisons of a tree are made and its leaves merged pairwise from the bottom: more arithmetic than following a path,
    but on whole columns; a path would gather number by number (25 times slower on a CPU at depth 3).
    """
    columns = x.T
    splits = range(trees.feature.shape[1])

    def add(tree: Int[Array, ""], total: Float[Array, " n"]) -> Float[Array, " n"]:
        feature, threshold = trees.feature[tree], trees.threshold[tree]
        right = [columns[feature[split]] >= threshold[split] for split in splits]
        values = list(trees.leaf[tree])
        while right:  # the lowest level's splits come last
            level = right[-(len(values) // 2) :]
            del right[-len(level) :]
            values = [jnp.where(*branches) for branches in zip(level, values[1::2], values[::2], strict=True)]
        return total + values[0]

    return jax.lax.fori_loop(0, trees.count, add, jnp.full(len(x), trees.start))


def _ragged(rows: Sequence[Sequence[Any]], dtype: type) -> np.ndarray:
    """Lists of different lengths as one array, padded with zeros."""
    lengths = np.array([len(row) for row in rows], int)
    table = np.zeros((len(rows), max(lengths, default=1)), dtype)
    table[np.arange(table.shape[1]) < lengths[:, None]] = np.concatenate([*map(np.asarray, rows), np.empty(0)])
    return table
