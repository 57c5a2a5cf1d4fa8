"""Deep Gaussian transfer learning (Sun et al., ICCV 2021): Algorithms 1 and 2 of the appendix."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from search.annealing import anneal
from search.driver import Search
from search.history import Source
from search.space import KnobSpace
from search.transfer import pooled
from surrogates.deep_gp import DeepGP
from surrogates.residual import Transferring

CHAINS = 64
"""Annealing chains. The paper does not say; with 64 both of its limits count: 600 steps of them explore 38 400."""


def deep_gaussian_transfer(
    space: KnobSpace,
    *,
    key: PRNGKeyArray,
    history: Sequence[Source] = (),
    surrogate: Transferring | None = None,
    pretrained: Transferring | None = None,
    pool: int = 40_000,
    tuning_set: int = 300,
    deployed: int = 100,
    patience: int = 600,
    explored: int = 40_000,
) -> Search:
    """A deep Gaussian process learned other tasks and is adapted to this one (Sun et al., ICCV 2021).

    Of a random pool the `tuning_set` that the pre-trained model thinks best is measured and the model adapted to it; annealing
    on the adapted model finds the `deployed` that are measured next. Where the paper ends, ours repeats these two steps,
    adapting the pre-trained model to all that was measured, until the budget or the space is exhausted.

    Batches are measured best first: a budget of n < `tuning_set` measures the n best of the pool and adapts nothing. For such a
    budget keep the paper's proportion, `tuning_set` = 3n/4 and `deployed` = n/4.

    **Arguments:**

    - `history`: other tasks' measurements; `surrogate` is fitted to them, pooled, before the search.
    - `surrogate`: a model that adapts; None for a `DeepGP`.
    - `pretrained`: a fitted model that adapts, say one that was saved, in place of a history.
    - `pool`, `tuning_set`, `deployed`: the paper's r, s and e.
    - `patience`: annealing stops after so many steps without a better configuration.
    - `explored`: annealing scores at most so many configurations.

    **Raises:** `ValueError` with neither a history nor a fitted model, with both, for a model that cannot adapt, for a history
    of other features, or for a number that is not positive.
    """
    for name, value in (("pool", pool), ("tuning_set", tuning_set), ("deployed", deployed), ("patience", patience)):
        if value < 1:
            raise ValueError(f"{name}: {value} must be at least 1.")
    if explored < 2 * CHAINS + deployed:
        raise ValueError(f"explored: {explored} must be at least {2 * CHAINS + deployed} with {deployed} deployed.")
    if not history and pretrained is None:
        raise ValueError(
            "history: there is none to learn from; give other tasks' measurements, or a fitted model, `pretrained`."
        )
    if history and pretrained is not None:
        raise ValueError("pretrained: it would take the place of the history; leave out one of them.")
    learned = pooled(history, space) if history else None
    recipe: Transferring = DeepGP() if surrogate is None else surrogate
    if pretrained is not None:
        if not hasattr(pretrained, "adapt"):
            raise ValueError(f"pretrained: {type(pretrained).__name__} cannot adapt; give a `DeepGP`, or leave it out.")
        pretrained.scorer()  # refuses if the model was not fitted

    def search() -> Search:
        fit_key, pool_key, next_key = jax.random.split(key, 3)
        trained = pretrained if learned is None else recipe.fit(learned.x, learned.y, key=fit_key)
        assert trained is not None
        candidates = space.sample(pool_key, pool)  # Algorithm 2, line 1
        if not len(candidates):
            return
        predicted = np.asarray(trained.predict(space.features(candidates)).mean)  # line 2
        measured = candidates[np.argsort(-predicted, kind="stable")[:tuning_set]]  # line 3
        throughput = yield measured  # line 4
        while True:
            next_key, left_key, adapt_key, walk_key = jax.random.split(next_key, 4)
            if not len(space.sample(left_key, 1, exclude=measured)):
                return
            tuned = trained.adapt(space.features(measured), throughput, key=adapt_key)  # line 5
            found = anneal(  # Algorithm 1, line 5
                space,
                tuned.scorer(),
                key=walk_key,
                keep=deployed,
                exclude=measured,
                chains=CHAINS,
                steps=explored // CHAINS,
                patience=patience,
                explored=explored,
            ).knobs
            throughput = np.concatenate([throughput, (yield found)])  # line 6
            measured = np.concatenate([measured, found])

    return search()
