"""Integer points of a ball cut by a box: the neighbourhoods of BAO (Sun et al., DATE 2021, Algorithm 4)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int


def lattice_ball(
    lower: Int[np.ndarray, " k"],
    upper: Int[np.ndarray, " k"],
    radius: float,
    *,
    limit: int | None = None,
    generator: np.random.Generator | None = None,
) -> Int[np.ndarray, "m k"]:
    r"""List the integer offsets $o \ne 0$ with $\|o\|_2 \le$ `radius` and `lower` <= o <= `upper`.

    The points are counted exactly before any is made: $c_j(b)$ is in how many ways the axes from j on can spend at most b of
    the squared radius. Where the count passes `limit`, `limit` distinct points are drawn uniformly by the same counts.

    **Arguments:**

    - `lower`, `upper`: the box, lower <= 0 <= upper.
    - `radius`: not negative.
    - `limit`: the most points to return; None for all.
    - `generator`: draws the points where there are more than `limit`.

    **Returns:** the offsets, distinct, in lexicographic order.
    """
    if radius < 0:
        raise ValueError(f"radius: {radius} must not be negative.")
    budget = int(radius * radius + 1e-9)
    steps = [
        np.arange(max(int(low), -int(radius)), min(int(up), int(radius)) + 1) for low, up in zip(lower, upper, strict=True)
    ]
    counts = _completions(steps, budget)
    others = int(counts[0][budget]) - 1
    centre = _rank_of_centre(steps, counts, budget)
    if limit is None or others <= limit:
        return np.delete(_listed(steps, budget), centre, axis=0)
    assert generator is not None
    ranks = np.sort(generator.choice(others, size=limit, replace=False, shuffle=False))
    return _unrank(ranks + (ranks >= centre), steps, counts, budget)


def _listed(steps: list[np.ndarray], budget: int) -> Int[np.ndarray, "m k"]:
    """All points in lexicographic order, the centre too: each axis extends the points so far by the steps they can afford."""
    left, columns = np.array([budget]), list[np.ndarray]()
    for axis in steps:
        row, step = (left[:, None] >= axis**2).nonzero()
        columns = [column[row] for column in columns] + [axis[step]]
        left = left[row] - axis[step] ** 2
    return np.stack(columns, axis=1)


def _completions(steps: list[np.ndarray], budget: int) -> list[np.ndarray]:
    """`counts[j][b]`: the points of axes j and on whose squared norm is at most b."""
    counts = [np.ones(budget + 1, np.int64)]
    for axis in reversed(steps):
        tail, ahead = counts[0], np.zeros(budget + 1, np.int64)
        for step in axis:
            cost = int(step) ** 2
            ahead[cost:] += tail[: budget + 1 - cost]
        counts.insert(0, ahead)
    return counts


def _rank_of_centre(steps: list[np.ndarray], counts: list[np.ndarray], budget: int) -> int:
    """How many points come before 0 in lexicographic order."""
    before = (tail[budget - axis[axis < 0] ** 2].sum() for axis, tail in zip(steps, counts[1:], strict=True))
    return int(sum(before))


def _unrank(ranks: np.ndarray, steps: list[np.ndarray], counts: list[np.ndarray], budget: int) -> Int[np.ndarray, "m k"]:
    """Turn positions in lexicographic order into points, one axis at a time, all points at once."""
    left = np.full(len(ranks), budget)
    columns = []
    for axis, tail in zip(steps, counts[1:], strict=True):
        after = np.arange(budget + 1)[:, None] - axis**2  # what a budget leaves after each step
        ways = np.where(after >= 0, tail[np.maximum(after, 0)], 0)
        before = np.cumsum(ways, axis=1) - ways  # the points that come before those of each step
        pick = _last_at_most(before, left, ranks)
        ranks = ranks - before[left, pick]
        left = after[left, pick]
        columns.append(axis[pick])
    return np.stack(columns, axis=1)


def _last_at_most(
    table: Int[np.ndarray, "rows columns"], row: Int[np.ndarray, " m"], value: Int[np.ndarray, " m"]
) -> Int[np.ndarray, " m"]:
    """The last column whose entry in a row is at most the value, as the first is: bisection in ascending rows, all at once."""
    length = table.shape[1]
    flat, start = table.ravel(), row * length
    place = np.zeros(len(row), int)
    for bit in reversed(range(length.bit_length())):
        ahead = np.minimum(place + (1 << bit), length - 1)
        place = np.where(flat[start + ahead] <= value, ahead, place)
    return place
