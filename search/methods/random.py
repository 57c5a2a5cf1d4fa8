"""Random search: valid configurations as the space draws them, without repeats."""

from __future__ import annotations

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from search.driver import Search
from search.space import KnobSpace


def random_search(space: KnobSpace, *, key: PRNGKeyArray, batch: int = 64) -> Search:
    """Valid configurations as `space.sample` draws them, without repeats, `batch` at a time until the space has no more.

    **Raises:** `ValueError` if `batch` is not positive.
    """
    if batch < 1:
        raise ValueError(f"batch: {batch} must be at least 1.")

    def search() -> Search:
        next_key, seen = key, np.empty((0, len(space.knobs)), np.int32)
        while True:
            next_key, this = jax.random.split(next_key)
            drawn = space.sample(this, batch, exclude=seen)
            if not len(drawn):
                return
            yield drawn
            seen = np.concatenate([seen, drawn])

    return search()
