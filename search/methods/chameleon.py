"""CHAMELEON (Ahn et al., ICLR 2020): reinforcement learning explores the cost model, clustering chooses what to measure."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int, PRNGKeyArray

from search.adaptive_sampling import adaptive_sample
from search.annealing import anneal
from search.driver import Search
from search.pool import Pool
from search.ppo import PPO, PUBLISHED, Agent, Explored, explore
from search.rows import distinct
from search.space import KnobSpace
from surrogates.base import Surrogate
from surrogates.xgboost import XGBoost


def chameleon(
    space: KnobSpace,
    *,
    key: PRNGKeyArray,
    surrogate: Surrogate | None = None,
    plan: int = 64,
    walkers: int = 128,
    settings: PPO = PUBLISHED,
) -> Search:
    """A policy learns by PPO which knobs to turn, then clusters of what it found are measured (Ahn et al., ICLR 2020).

    The first `plan` configurations are random. From then on, round by round, the cost model is fitted to all that was measured,
    the agent walks through the space and learns from the model's scores (section 4.1; it is never trained anew), and adaptive
    sampling (section 4.2) chooses 8 to 64 stand-ins for the `plan` best configurations that it came by.

    A space with no more configurations than the walkers have steps is scored in full instead of walked through. Where nothing
    can be learned, because all throughputs are equal, the next batch is random.

    **Arguments:**

    - `surrogate`: the cost model, not fitted, whose scorer is a JAX program; None for AutoTVM's trees with the regression loss.
    - `plan`: AutoTVM's plan size.
    - `walkers`: how many walk at a time, each from a random configuration.
    - `settings`: of the walks and the learning.

    **Raises:** `ValueError` if `plan` or `walkers` is not positive, `ImportError` naming the extra if XGBoost is needed and
    missing.
    """
    for name, value in (("plan", plan), ("walkers", walkers)):
        if value < 1:
            raise ValueError(f"{name}: {value} must be at least 1.")
    model = XGBoost(loss="reg") if surrogate is None else surrogate

    def search() -> Search:
        walkable = space.size > walkers * settings.steps
        agent_key, next_key = jax.random.split(key)
        agent = Agent.untrained(len(space.knobs), key=agent_key) if walkable else None
        measured, throughput = np.empty((0, len(space.knobs)), np.int32), np.empty(0)
        while True:
            next_key, draw_key, fit_key, start_key, walk_key, choose_key = jax.random.split(next_key, 6)
            batch = space.sample(draw_key, plan, exclude=measured)
            if not len(batch):
                return
            if len(np.unique(throughput)) > 1:
                known = Pool(measured, space.shape)
                fitted = model.fit(
                    jnp.asarray(space.features(measured)), jnp.asarray(throughput / throughput.max()), key=fit_key
                )
                if agent is None:
                    found = anneal(
                        space, fitted.scorer(), key=walk_key, keep=plan, exclude=measured, chains=walkers, steps=settings.steps
                    ).knobs
                else:
                    start = np.resize(space.sample(start_key, walkers), (walkers, len(space.knobs)))
                    seen = explore(space, fitted.scorer(), agent, key=walk_key, start=jnp.asarray(start), settings=settings)
                    agent, found = seen.agent, _best(seen, plan, known)
                if len(found):
                    batch = adaptive_sample(space, found, key=choose_key, measured=known)
            throughput = np.concatenate([throughput, (yield batch)])
            measured = np.concatenate([measured, batch])

    return search()


def _best(seen: Explored, count: int, known: Pool) -> Int[np.ndarray, "count knobs"]:
    """The configurations of the highest scores, best first: distinct, none of those known."""
    knobs = np.asarray(seen.knobs)[np.argsort(-np.asarray(seen.scores), kind="stable")]
    return distinct(knobs[~known.contains(knobs)])[:count]
