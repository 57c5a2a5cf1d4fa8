"""Expected improvement (Jones et al., 1998), and batches of it by the kriging believer (Ginsbourger et al., 2010)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from gpjax.parameters import val
from jax.scipy.stats import norm
from jaxtyping import Array, Bool, Float, Int

from search.space import Arrays
from surrogates.exact_gp import ExactGP, Posterior
from surrogates.gaussian_process import padded

Acquisition = Callable[[Float[Array, " n"], Float[Array, " n"], Float[Array, ""]], Float[Array, " n"]]
"""What n points are worth, by their mean, standard deviation and the best that was measured."""


def expected_improvement(mean: Float[Array, " n"], std: Float[Array, " n"], best: Float[Array, ""]) -> Float[Array, " n"]:
    r"""$E \max(0, f - f^*) = \sigma (z \Phi(z) + \phi(z))$ with $z = (\mu - f^*) / \sigma$: the gain to be expected."""
    z = (mean - best) / std
    return std * (z * norm.cdf(z) + norm.pdf(z))


def believed_batch(
    model: ExactGP,
    x: Float[Arrays, "n d"],
    best: float,
    count: int,
    *,
    known: Float[Arrays, " n"] | None = None,
    rough: bool = True,
    acquisition: Acquisition = expected_improvement,
) -> Int[np.ndarray, " m"]:
    r"""Pick points one after the other by expected improvement, believing each time that what was predicted was measured.

    The believed value is the mean, so the means stay as they are; the variance falls as by any measurement,
    $v(x) \leftarrow v(x) - c(x, p)^2 / (v(p) + \sigma_n^2)$ with the posterior covariance c, and the best may rise.

    Of a function that is rough between its points, the process calls the roughness noise. Then its mean stays below the best
    that was measured, and the improvement of the mean is expected where nothing is known, never where all is good. So every
    second pick expects the improvement of a measurement, whose variance is $v(x) + \sigma_n^2$.

    **Arguments:**

    - `model`: a fitted Gaussian process.
    - `x`: the points to pick from.
    - `best`: the best that was measured.
    - `count`: how many to pick; all, if there are fewer.
    - `known`: a mean that is known and that the model's adds to; None for 0.
    - `rough`: whether every second pick counts the noise as roughness.
    - `acquisition`: what a point is worth, in place of the improvement that is expected of it.

    **Returns:** the rows picked, distinct, in order.
    """
    assert model.state is not None
    trend = np.zeros(len(x), np.float32) if known is None else np.asarray(known)
    points = padded(np.asarray(x, np.float32), trend)
    rows = _believed_batch(model.state, *points, best=jnp.float32(best), count=count, rough=rough, acquisition=acquisition)
    return np.asarray(rows)[: len(x)]


class _Belief(NamedTuple):
    variance: Float[Array, " n"]
    free: Bool[Array, " n"]
    best: Float[Array, ""]
    columns: Float[Array, "count n"]


@eqx.filter_jit
def _believed_batch(
    posterior: Posterior,
    x: Float[Array, "n d"],
    known: Float[Array, " n"],
    real: Bool[Array, " n"],
    *,
    best: Float[Array, ""],
    count: int,
    rough: bool,
    acquisition: Acquisition,
) -> Int[Array, " count"]:
    """The rows; values in units of the posterior's targets' deviation."""
    kernel, points = posterior.hyperparameters.kernel, posterior.inputs(x)
    cross = kernel.cross_covariance(points, posterior.points)
    mean = cross @ posterior.weights + known / posterior.targets.scale
    whitened = cross @ posterior.root.T
    least, noise = 1e-6 * val(kernel.variance), val(posterior.hyperparameters.noise)

    def pick(belief: _Belief, step: Int[Array, ""]) -> tuple[_Belief, Int[Array, ""]]:
        unexplained = jnp.where(step % 2, noise, 0.0) if rough else 0.0
        worth = acquisition(mean, jnp.sqrt(jnp.maximum(belief.variance, least) + unexplained), belief.best)
        row = jnp.argmax(jnp.where(belief.free, worth, -jnp.inf))
        covariance = kernel.cross_covariance(points, points[row][None])[:, 0] - whitened @ whitened[row]
        column = covariance - belief.columns[:, row] @ belief.columns
        column = column / jnp.sqrt(jnp.maximum(belief.variance[row], least) + noise)
        after = _Belief(
            variance=belief.variance - column**2,
            free=belief.free.at[row].set(False),
            best=jnp.maximum(belief.best, mean[row]),
            columns=belief.columns.at[step].set(column),
        )
        return after, row

    start = _Belief(
        variance=val(kernel.variance) - (whitened**2).sum(axis=1),
        free=real,
        best=posterior.targets(best),
        columns=jnp.zeros((count, len(x))),
    )
    return jax.lax.scan(pick, start, jnp.arange(count))[1]
