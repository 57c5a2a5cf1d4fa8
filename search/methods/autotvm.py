"""AutoTVM's tuner (Chen et al., NeurIPS 2018): a cost model, simulated annealing on it, a little chance, and transfer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Int, PRNGKeyArray

from search.annealing import anneal
from search.driver import Search
from search.history import Source
from search.rows import distinct
from search.space import KnobSpace
from search.transfer import pooled
from surrogates.base import Surrogate
from surrogates.xgboost import XGBoost


def autotvm(
    space: KnobSpace,
    *,
    key: PRNGKeyArray,
    history: Sequence[Source] = (),
    surrogate: Surrogate | None = None,
    first: Int[np.ndarray, "m knobs"] | None = None,
    plan: int = 64,
    epsilon: float = 0.05,
    chains: int = 128,
    steps: int = 500,
    patience: int = 50,
) -> Search:
    """Boosted trees learn what was measured, annealing finds what they score highest (AutoTVM, Chen et al., NeurIPS 2018).

    The first plan is random. From then on the model is fitted to all that was measured, and the next plan is the best that
    annealing finds on it, the last few (3 of 64) random. The chains go on from where they ended.

    With a history the model learns it first, all sources pooled and each one's throughput divided by its best, and chooses the
    first plan too; later it is adapted to what was measured (trees weigh the history by 2^(-n/64), and drop it below 0.05).

    **Arguments:**

    - `history`: other tasks' measurements. Sources whose features (their names or encoding) are not this space's, or with fewer
      than two measurements, are left out; so are all of them if the surrogate cannot adapt.
    - `surrogate`: the cost model, not fitted; None for trees with AutoTVM's settings and the rank loss it had until its version
      0.12, `XGBoost(loss="reg")` is the later one.
    - `first`: the first plan, distinct valid configurations, instead of a random one.
    - `plan`: configurations a batch.
    - `epsilon`: the part of each plan that is random, rounded down.
    - `chains`, `steps`, `patience`: of the annealing.

    **Raises:** `ValueError` for a number out of range, `ImportError` naming the extra if XGBoost is needed and missing.
    """
    if plan < 1:
        raise ValueError(f"plan: {plan} must be at least 1.")
    if not 0 <= epsilon <= 1:
        raise ValueError(f"epsilon: {epsilon} must lie in 0 .. 1.")
    model: Any = XGBoost() if surrogate is None else surrogate
    sources = [source for source in history if _speaks_of(source, space)] if hasattr(model, "adapt") else []

    def search() -> Search:
        base_key, next_key = jax.random.split(key)
        base = _pretrained(model, sources, space, key=base_key) if sources else None
        measured, throughput = np.empty((0, len(space.knobs)), np.int32), np.empty(0)
        ends = None
        while True:
            next_key, draw_key, fit_key, walk_key = jax.random.split(next_key, 4)
            batch = space.sample(draw_key, plan, exclude=measured)
            if not len(batch):
                return
            tuned = base
            if len(np.unique(throughput)) > 1:  # else there is nothing to learn
                learn = model.fit if base is None else base.adapt
                tuned = learn(space.features(measured), throughput / throughput.max(), key=fit_key)
            if first is not None and len(first) and not len(measured):
                batch = first
            elif tuned is not None:
                found = anneal(
                    space,
                    tuned.scorer(),
                    key=walk_key,
                    keep=plan,
                    exclude=measured,
                    start=ends,
                    chains=chains,
                    steps=steps,
                    patience=patience,
                )
                ends = found.chains
                batch = distinct(np.concatenate([found.knobs[: plan - int(epsilon * plan)], batch]))[:plan]
            throughput = np.concatenate([throughput, (yield batch)])
            measured = np.concatenate([measured, batch])

    return search()


def _speaks_of(source: Source, space: KnobSpace) -> bool:
    """Whether a source has enough to learn from, in the features of this space."""
    known = source.space
    return known.feature_names == space.feature_names and known.encoding == space.encoding and len(source.knobs) > 1


def _pretrained(model: Any, sources: Sequence[Source], space: KnobSpace, *, key: PRNGKeyArray) -> Any:
    """The model of all sources. Trees are told whose each point is: their rank loss compares no points of different tasks."""
    learned = pooled(sources, space)
    tasks = np.repeat(np.arange(len(learned.sizes)), learned.sizes)
    options = {"groups": tasks} if isinstance(model, XGBoost) else {}
    return model.fit(learned.x, learned.y, key=key, **options)
