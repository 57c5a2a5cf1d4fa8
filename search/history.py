"""What was measured before: other tasks' measurements, for the methods that learn from them, and which of many to keep."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from search.space import KnobSpace


@dataclass(frozen=True)
class Source:
    """Measurements of one task.

    - `name`: the task's name.
    - `space`: its knobs; another task's splits have other extents, so configurations are compared by their features.
    - `knobs`: what was measured, one row a configuration.
    - `throughput`: GFLOPS of each row, 0.0 where it failed.
    """

    name: str
    space: KnobSpace
    knobs: Int[np.ndarray, "n knobs"]
    throughput: Float[np.ndarray, " n"]


def remembered(throughput: Float[np.ndarray, " n"], limit: int) -> Int[np.ndarray, " m"]:
    """Rows of the best measurements and of the latest of the others, half of `limit` of each; all, where there are no more.

    **Arguments:**

    - `limit`: at least 2.
    """
    if len(throughput) <= limit:
        return np.arange(len(throughput))
    best = np.argsort(-throughput, kind="stable")[: limit // 2]
    others = np.setdiff1d(np.arange(len(throughput)), best)
    return np.sort(np.concatenate([best, others[len(best) - limit :]]))
