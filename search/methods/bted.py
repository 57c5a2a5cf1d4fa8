"""AutoTVM's tuner with a diverse first plan (Sun et al., DATE 2021: their "BTED")."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
from jaxtyping import PRNGKeyArray

from search.driver import Search
from search.history import Source
from search.methods.autotvm import autotvm
from search.space import KnobSpace
from search.ted import bted


def bted_search(
    space: KnobSpace,
    *,
    key: PRNGKeyArray,
    history: Sequence[Source] = (),
    plan: int = 64,
    mu: float = 0.1,
    pool: int = 500,
    batches: int = 10,
    **options: Any,
) -> Search:
    """AutoTVM's tuner whose first plan represents the space, by batch transductive experimental design (DATE 2021).

    **Arguments:**

    - `history`: other tasks' measurements; the model learns them, but has no say in the first plan.
    - `plan`: configurations a batch, the paper's m of the first.
    - `mu`, `pool`, `batches`: the paper's mu, M and B.
    - `options`: what else `autotvm` takes.

    **Raises:** `ValueError` for a number out of range, `ImportError` naming the extra if XGBoost is needed and missing.
    """
    first_key, search_key = jax.random.split(key)
    first = bted(space, key=first_key, count=plan, mu=mu, pool=pool, batches=batches)
    yield from autotvm(space, key=search_key, history=history, first=first, plan=plan, **options)
