"""The project's own method: Gaussian processes that begin with what is known, and ask where improvement is to be expected."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import Float, Int, PRNGKeyArray

from search.candidates import promising
from search.driver import Search
from search.expected_improvement import believed_batch
from search.history import Source
from search.space import KnobSpace
from search.ted import bted
from search.transfer import elites, pooled
from surrogates.base import Surrogate
from surrogates.constant import Constant
from surrogates.exact_gp import ExactGP
from surrogates.residual import Residual
from surrogates.sparse_gp import SparseGP
from surrogates.trend import Trend


def gausstune(
    space: KnobSpace,
    *,
    key: PRNGKeyArray,
    history: Sequence[Source] = (),
    pretrained: Surrogate | None = None,
    process: ExactGP | None = None,
    first: int = 8,
    replayed: float = 0.75,
    batch: int = 8,
    trusted: float = 0.5,
    pool: int = 2048,
    leaders: int = 4,
    limit: int = 1024,
) -> Search:
    """Small batches of the largest expected improvement, half of them believing the history.

    The first batch represents the space (BTED); with a history most of it are the best configurations of the other tasks. From
    then on a Gaussian process learns what was measured and picks where it expects the best to be improved, among random
    configurations and those one knob away from the best.

    With a history there are two beliefs. One knows this task alone. The other learns the history once, throughputs as shares of
    their task's best, draws a line through that score as far as this task bears it out, and has a Gaussian process for what is
    left. Each picks its part of every batch, so a history that misleads costs some of the picks and never all of them.

    Throughputs are learned as square roots, in which a failure is just a 0.

    **Arguments:**

    - `history`: other tasks' measurements, with the features of this space.
    - `pretrained`: a fitted surrogate whose score ranks this space's features, say a deep GP that was saved, in place of one
      that is fitted to the history; the history then is replayed only.
    - `process`: the Gaussian process's recipe; None for `ExactGP()`.
    - `first`, `replayed`: configurations of the first batch, and the part of them that are other tasks' best.
    - `batch`, `trusted`: configurations of a later batch, and the part that the belief in the history picks; rounded up.
    - `pool`, `leaders`: random candidates a batch, and of how many of the best the neighbours are candidates.
    - `limit`: of more measurements the beliefs learn the best half and the latest half of so many.

    **Raises:** `ValueError` for a number out of range, or for a history whose features are not those of `space`.
    """
    if min(first, limit) < 2 or min(batch, pool, leaders) < 1:
        raise ValueError(
            f"first, limit, batch, pool, leaders: {first}, {limit}, {batch}, {pool}, {leaders} must be at least 2, 2, 1, 1, 1."
        )
    if not (0 <= replayed <= 1 and 0 <= trusted <= 1):
        raise ValueError(f"replayed, trusted: {replayed}, {trusted} must be parts, from 0 to 1.")
    taught = pooled(history, space) if history else None
    recipe = ExactGP() if process is None else process

    def search() -> Search:
        next_key, learn_key, replay_key, start_key = jax.random.split(key, 4)
        score = pretrained
        if score is None and taught is not None and len(taught.y) > 1:
            score = SparseGP().fit(taught.x, np.sqrt(taught.y), key=learn_key)
        beliefs = [(Residual(Constant(), exact=recipe, exact_limit=limit), batch)]
        if score is not None:
            half = math.ceil(trusted * batch)
            beliefs = [(Residual(Trend(score), exact=recipe, exact_limit=limit), half), (beliefs[0][0], batch - half)]
        best = elites(history, space, first, key=replay_key)[: round(replayed * first)]
        chosen = np.concatenate([best, bted(space, key=start_key, count=first, exclude=best)])[:first]
        knobs, throughput = chosen[:0], np.empty(0)
        while len(chosen):
            throughput = np.append(throughput, (yield chosen))
            knobs = np.concatenate([knobs, chosen])
            next_key, draw_key, fit_key = jax.random.split(next_key, 3)
            candidates, chosen = promising(space, knobs, throughput, pool=pool, leaders=leaders, key=draw_key), chosen[:0]
            rows = remembered(throughput, limit)
            x, y = space.features(knobs[rows]), np.sqrt(throughput[rows])
            for belief, share in beliefs:
                if share and len(candidates):
                    process, seen, known = belief.adapt(x, y, key=fit_key).parts(space.features(candidates))
                    assert isinstance(process, ExactGP)
                    picked = believed_batch(process, seen, float(y.max()), share, known=known)
                    chosen = np.concatenate([chosen, candidates[picked]])
                    candidates = np.delete(candidates, picked, axis=0)

    return search()


def remembered(throughput: Float[np.ndarray, " n"], limit: int) -> Int[np.ndarray, " m"]:
    """Rows of the best and of the latest measurements, half of `limit` of each; all, where there are no more."""
    if len(throughput) <= limit:
        return np.arange(len(throughput))
    best = np.argsort(-throughput, kind="stable")[: limit // 2]
    others = np.setdiff1d(np.arange(len(throughput)), best)
    return np.sort(np.concatenate([best, others[len(best) - limit :]]))
