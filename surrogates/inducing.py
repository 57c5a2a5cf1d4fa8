"""Inducing points: k-means centres of the data, begun by k-means++ (Arthur & Vassilvitskii, SODA 2007)."""

from __future__ import annotations

import jax
import numpy as np
from jaxtyping import Float, Int, PRNGKeyArray


def inducing_points(
    x: Float[np.ndarray, "n d"], count: int, *, key: PRNGKeyArray, iterations: int = 20, subsample: int = 20_000
) -> Float[np.ndarray, "m d"]:
    """Where a sparse Gaussian process should look: `count` k-means centres, each the mean of at least one point.

    **Arguments:**

    - `x`: the points, scaled as the kernel will see them.
    - `count`: how many centres. Where x has no more distinct rows than that, these are returned, and there are fewer.
    - `iterations`: Lloyd's steps at most.
    - `subsample`: of more points than this, so many random ones are used.
    """
    generator = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    x = np.asarray(x, np.float32)
    if len(x) > subsample:
        x = x[generator.choice(len(x), subsample, replace=False)]
    distinct = np.unique(x, axis=0)
    if len(distinct) <= count:
        return distinct
    return _lloyd(x, _plus_plus(x, count, generator), iterations)


def _plus_plus(x: Float[np.ndarray, "n d"], count: int, generator: np.random.Generator) -> Float[np.ndarray, "m d"]:
    """Rows of x, each drawn with a probability proportional to its squared distance from those before."""
    centres = [x[generator.integers(len(x))]]
    nearest = np.full(len(x), np.inf)
    while len(centres) < count:
        nearest = np.minimum(nearest, ((x - centres[-1]) ** 2).sum(axis=1))
        centres.append(x[generator.choice(len(x), p=nearest / nearest.sum())])
    return np.stack(centres)


def _lloyd(x: Float[np.ndarray, "n d"], centres: Float[np.ndarray, "m d"], iterations: int) -> Float[np.ndarray, "m d"]:
    """Move each centre to the mean of its points until none changes hands."""
    previous: Int[np.ndarray, " n"] = np.full(len(x), -1)
    for _ in range(iterations):
        owner = _owners(x, centres)
        if (owner == previous).all():
            break
        previous = owner
        sizes = np.bincount(owner, minlength=len(centres))
        sums = np.stack([np.bincount(owner, column, len(centres)) for column in x.T], axis=1)
        centres = (sums / sizes[:, None]).astype(x.dtype)
    return centres


def _owners(x: Float[np.ndarray, "n d"], centres: Float[np.ndarray, "m d"]) -> Int[np.ndarray, " n"]:
    """The nearest centre of each point; a centre that has none takes the point that is worst served."""
    squared = (x**2).sum(axis=1)[:, None] + (centres**2).sum(axis=1) - 2 * x @ centres.T
    owner = squared.argmin(axis=1)
    distance = squared[np.arange(len(x)), owner]
    for empty in np.flatnonzero(np.bincount(owner, minlength=len(centres)) == 0):
        sizes = np.bincount(owner, minlength=len(centres))
        worst = np.where(sizes[owner] > 1, distance, -np.inf).argmax()
        owner[worst], distance[worst] = empty, 0.0
    return owner
