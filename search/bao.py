"""Bootstrap-guided adaptive optimisation (Sun et al., DATE 2021, section III-B, Algorithms 3 and 4)."""

from __future__ import annotations

import jax
import numpy as np
from jaxtyping import Float, Int, PRNGKeyArray

from search.candidates import highest
from search.driver import Search
from search.pool import Pool
from search.space import KnobSpace
from surrogates.base import Surrogate
from surrogates.ensemble import BootstrapEnsemble


def bao(
    space: KnobSpace,
    knobs: Int[np.ndarray, "n knobs"],
    throughput: Float[np.ndarray, " n"],
    *,
    key: PRNGKeyArray,
    surrogate: Surrogate,
    members: int = 2,
    radius: float = 3.0,
    tau: float = 1.5,
    eta: float = 0.05,
    batch: int = 1,
    limit: int = 1 << 15,
) -> Search:
    r"""Walk from configuration to configuration, each the best of the last one's neighbourhood (Algorithm 4).

    A neighbourhood has the radius R, or $\tau R$ where the last step changed little: $r_t < \eta$. The sum of $\Gamma$ models
    of bootstrap resamples says which of it is best. What was measured is not measured again, and where a neighbourhood has
    nothing new (the paper does not say) the best of `limit` random configurations is next. Ties are broken at random.

    **Arguments:**

    - `knobs`, `throughput`: what was measured, at least two configurations unless the space has fewer: the paper's X and Y.
    - `surrogate`: the models' recipe, the paper's evaluation function.
    - `members`: how many models, $\Gamma$.
    - `radius`, `tau`: R, a Euclidean distance in option numbers, and how much larger it can become.
    - `eta`: the relative change $\eta$ that keeps the radius.
    - `batch`: configurations a step; the paper has 1. Of several, the best one is where the walk goes on.
    - `limit`: the most neighbours that are looked at, drawn at random where there are more; the paper looks at all.

    **Returns:** a search that ends when the space is exhausted.

    **Raises:** `ValueError` for a number out of range.
    """
    check_walk(members=members, radius=radius, tau=tau, eta=eta, batch=batch, limit=limit)
    model = BootstrapEnsemble(surrogate, members=members)

    def search() -> Search:
        known, values, next_key = knobs, throughput, key
        centre = known[np.argmax(values)]  # line 1
        deployed = [float(np.max(values))]
        while True:
            next_key, *keys = jax.random.split(next_key, 5)
            calm = len(deployed) >= 2 and change(deployed[-1], deployed[-2]) < eta  # lines 4-6
            reach = tau * radius if calm else radius
            candidates = space.neighbours(centre, reach, limit=limit, key=keys[0])  # lines 3 and 7
            candidates = candidates[~Pool(known, space.shape).contains(candidates)]
            if not len(candidates):
                candidates = space.sample(keys[1], limit, exclude=known)
            if not len(candidates):
                return
            tuned = model.fit(space.features(known), values, key=keys[2])
            chosen = highest(space, tuned.scorer(), candidates, batch, key=keys[3])  # line 10
            measured = yield chosen  # line 11
            centre = chosen[np.argmax(measured)]
            deployed.append(float(np.max(measured)))
            known, values = np.concatenate([known, chosen]), np.concatenate([values, measured])  # line 12

    return search()


def check_walk(*, members: int, radius: float, tau: float, eta: float, batch: int, limit: int) -> None:
    """Refuse what `bao` would refuse, before there is anything to walk from.

    **Raises:** `ValueError` naming the number out of range.
    """
    for name, value, least in (("members", members, 2), ("batch", batch, 1), ("limit", limit, 1)):
        if value < least:
            raise ValueError(f"{name}: {value} must be at least {least}.")
    for name, number in (("radius", radius), ("tau", tau), ("eta", eta)):
        if not number >= 0:
            raise ValueError(f"{name}: {number} must not be negative.")


def change(latest: float, previous: float) -> float:
    r"""Equation (1), $r_t = |(y^*_{t-1} - y^*_{t-2}) / y^*_{t-1}|$: 0 if both failed, infinite if the latest alone did."""
    if latest == previous:
        return 0.0
    return abs((latest - previous) / latest) if latest else np.inf
