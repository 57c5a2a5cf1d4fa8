"""Grid search: every valid configuration in the order of its index, as AutoTVM's grid tuner walks."""

from __future__ import annotations

import numpy as np
from jaxtyping import PRNGKeyArray

from search.driver import Search
from search.space import KnobSpace


def grid_search(space: KnobSpace, *, key: PRNGKeyArray, batch: int = 64, chunk: int = 1 << 16) -> Search:
    """Every valid configuration in the order of its index.

    `batch` are yielded at a time, and `key` is not used. Validity is tested `chunk` configurations at a time, so that a refused
    stretch of a large space costs little.

    **Raises:** `ValueError` if `batch` or `chunk` is not positive.
    """
    for name, value in (("batch", batch), ("chunk", chunk)):
        if value < 1:
            raise ValueError(f"{name}: {value} must be at least 1.")

    def search() -> Search:
        waiting = np.empty((0, len(space.knobs)), np.int32)
        for first in range(0, space.size, chunk):
            last = min(first + chunk, space.size)
            rows = space.pool.rows[first:last] if space.pool is not None else space.from_index(range(first, last))
            waiting = np.concatenate([waiting, rows[space.valid(rows)]])
            while len(waiting) >= batch:
                yield waiting[:batch]
                waiting = waiting[batch:]
        if len(waiting):
            yield waiting

    return search()
