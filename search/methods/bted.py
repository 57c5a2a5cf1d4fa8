"""AutoTVM's tuner with a diverse first plan (Sun et al., DATE 2021: their "BTED")."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
from jaxtyping import PRNGKeyArray

from search.driver import Search
from search.history import Source
from search.methods.autotvm import autotvm
from search.space import KnobSpace
from search.ted import bted, check_settings


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
    if "first" in options:
        raise ValueError("first: BTED chooses the first plan; `autotvm` takes one.")
    check_settings(count=plan, mu=mu, pool=pool, batches=batches)
    tuner = partial(autotvm, space, key=search_key, history=history, plan=plan, **options)
    tuner()  # a generator that has not begun: what it refuses is refused now, not after a first plan

    def search() -> Search:
        yield from tuner(first=bted(space, key=first_key, count=plan, mu=mu, pool=pool, batches=batches))

    return search()
