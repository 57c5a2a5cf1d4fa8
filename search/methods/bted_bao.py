"""The advanced active learning framework of Sun et al. (DATE 2021): BTED's first set, then BAO."""

from __future__ import annotations

from typing import Any

import jax
from jaxtyping import PRNGKeyArray

from search.bao import bao, check_walk
from search.driver import Search
from search.space import KnobSpace
from search.ted import bted, check_settings
from surrogates.base import Surrogate
from surrogates.xgboost import XGBoost


def bted_bao(
    space: KnobSpace,
    *,
    key: PRNGKeyArray,
    surrogate: Surrogate | None = None,
    first: int = 64,
    mu: float = 0.1,
    pool: int = 500,
    batches: int = 10,
    members: int = 2,
    radius: float = 3.0,
    tau: float = 1.5,
    eta: float = 0.05,
    batch: int = 1,
    limit: int = 1 << 15,
) -> Search:
    """A set that represents the space, then a walk through neighbourhoods guided by bootstrap models (Sun et al., DATE 2021).

    **Arguments:**

    - `surrogate`: the models' recipe, not fitted; None for trees with AutoTVM's settings.
    - `first`, `mu`, `pool`, `batches`: m, mu, M and B of the first set (Algorithm 2).
    - `members`, `radius`, `tau`, `eta`: Gamma, R, tau and eta of the walk (Algorithm 4).
    - `batch`, `limit`: configurations a step, and the most neighbours that are looked at; see `search.bao.bao`.

    **Raises:** `ValueError` for a number out of range, `ImportError` naming the extra if XGBoost is needed and missing.
    """
    if first < 2:
        raise ValueError(f"first: {first} must be at least 2, from which the models learn.")
    check_settings(count=first, mu=mu, pool=pool, batches=batches)
    walk: dict[str, Any] = {"members": members, "radius": radius, "tau": tau, "eta": eta, "batch": batch, "limit": limit}
    check_walk(**walk)
    model = XGBoost() if surrogate is None else surrogate

    def search() -> Search:
        first_key, walk_key = jax.random.split(key)
        start = bted(space, key=first_key, count=first, mu=mu, pool=pool, batches=batches)
        if len(start):
            throughput = yield start
            yield from bao(space, start, throughput, key=walk_key, surrogate=model, **walk)

    return search()
