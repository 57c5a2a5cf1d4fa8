"""Many tasks as one data set to pre-train on: each task's targets divided by its best, its description beside its features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from surrogates.base import checked


class Pool(NamedTuple):
    """The points of several tasks, in order: features and scaled targets, and each task's scale and number of points."""

    x: Float[np.ndarray, "n d"]
    y: Float[np.ndarray, " n"]
    scale: Float[np.ndarray, " tasks"]
    sizes: tuple[int, ...]

    def split(self, values: Float[np.ndarray, " n"]) -> list[Float[np.ndarray, " n_t"]]:
        """Values in the pool's scale, targets or predictions, task by task in the tasks' own units."""
        parts = np.split(np.asarray(values), np.cumsum(self.sizes)[:-1])
        return [part * scale for part, scale in zip(parts, self.scale, strict=True)]


def pool(
    tasks: Sequence[tuple[Float[np.ndarray, "n_t d"], Float[np.ndarray, " n_t"]]],
    *,
    descriptors: Sequence[Float[np.ndarray, " e"]] | None = None,
) -> Pool:
    """Stack tasks whose targets have different units or ranges.

    Throughput of different layers differs by orders of magnitude; as a share of the best that was seen of each, it becomes one
    function that transfers. A failed point's target is 0 in every scale.

    **Arguments:**

    - `tasks`: features `(n_t, d)` and targets `(n_t,)` of each task, in the same columns.
    - `descriptors`: a vector for each task (its shape, its device) that becomes further columns: `described`.

    **Returns:** the pool, with `d` or `d + e` columns.

    **Raises:** `ValueError` if there are no tasks, if their columns differ, or if there is not one descriptor for each.
    """
    if not tasks:
        raise ValueError("tasks: there are none; give at least one pair of features and targets.")
    if descriptors is not None and len(descriptors) != len(tasks):
        raise ValueError(f"descriptors: {len(descriptors)} for {len(tasks)} tasks; give one for each, or None.")
    pairs = [checked(x, y, least=1) for x, y in tasks]
    features = (
        [x for x, _ in pairs]
        if descriptors is None
        else [described(x, e) for (x, _), e in zip(pairs, descriptors, strict=True)]
    )
    columns = sorted({x.shape[1] for x in features})
    if len(columns) > 1:
        raise ValueError(f"tasks: they have {columns} columns; only tasks with the same features can be pooled.")
    scales = np.array([scale_of(y) for _, y in pairs], np.float32)
    targets = [y / scale for (_, y), scale in zip(pairs, scales, strict=True)]
    return Pool(np.concatenate(features), np.concatenate(targets), scales, tuple(len(x) for x in features))


def described(x: Float[np.ndarray, "n d"], descriptor: Float[np.ndarray, " e"]) -> Float[np.ndarray, "n d+e"]:
    """Features with a task's descriptor beside each row: what a model of a pool with descriptors expects."""
    return np.hstack([x, np.broadcast_to(np.asarray(descriptor, np.float32), (len(x), len(descriptor)))])


def scale_of(y: Float[np.ndarray, " n"]) -> float:
    """A task's scale: its largest target, or 1 where none is positive."""
    best = float(np.max(y))
    return best if best > 0 else 1.0
