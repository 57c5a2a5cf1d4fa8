"""Rows of arrays: those that are distinct, those that are nearest."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, Int


def distinct(rows: Int[np.ndarray, "n k"]) -> Int[np.ndarray, "m k"]:
    """The rows in their order, each where it comes first."""
    return rows[np.sort(np.unique(rows, axis=0, return_index=True)[1])]


def nearest(points: Any, among: Any) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """For each of n points the row of `among` that is nearest, the first of several, and the squared distance to it."""
    points, among = np.asarray(points, float), np.asarray(among, float)
    squared = (points**2).sum(axis=1)[:, None] + (among**2).sum(axis=1) - 2 * points @ among.T
    row = squared.argmin(axis=1)
    return row, np.maximum(squared[np.arange(len(points)), row], 0.0)
