"""Exact Gaussian process regression with one lengthscale a feature (Rasmussen and Williams 2006, chapters 2 and 5)."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from gpjax.parameters import val
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from surrogates.base import Arrays, Prediction, Surrogate, check_positive, checked, checked_points, fitted, traced, with_noise
from surrogates.gaussian_process import (
    Hyperparameters,
    MeanScorer,
    checked_kernel,
    deviation,
    hyperparameters_of,
    initial_logs,
    log_prior,
    padded,
    predicted,
)
from surrogates.inverse_root import inverse_root
from surrogates.lbfgs import Logs, minimise
from surrogates.scaling import Standardizer


class ExactGP(Surrogate):
    r"""Gaussian process regression, $y = f(x) + \varepsilon$ with $f \sim GP(0, k)$ and $\varepsilon \sim N(0, \sigma_n^2)$.

    $$ E f_* = k_*^\top K^{-1} y, \qquad V f_* = k(x_*, x_*) - k_*^\top K^{-1} k_*, \qquad K = k(X, X) + \sigma_n^2 I $$

    Features and targets are standardised. The hyperparameters maximise the log marginal likelihood plus `log_prior`, by
    $O(n^3)$ operations a step. Data are padded to a few sizes: a growing data set compiles anew only as it passes one of them.

    **Arguments:**

    - `kernel`: "matern52" or "rbf".
    - `noise_floor`: the least variance of the noise, in units of the targets' variance.
    - `jitter`: added to the kernel's diagonal, in units of its variance; float32 needs 1e-5.
    - `evaluations`: the most evaluations of the likelihood.

    **Raises:** `ValueError` for another kernel, or if nothing is to be evaluated.
    """

    vectorised: ClassVar[bool] = True

    kernel: str = eqx.field(default="matern52", static=True)
    noise_floor: float = eqx.field(default=1e-4, static=True)
    jitter: float = eqx.field(default=1e-5, static=True)
    evaluations: int = eqx.field(default=30, static=True)
    state: Posterior | None = None

    def __check_init__(self) -> None:
        checked_kernel(self.kernel)
        check_positive(self, "evaluations")

    def fit(self, x: Float[Arrays, "n d"], y: Float[Arrays, " n"], *, key: PRNGKeyArray) -> Self:
        """Learn the hyperparameters and condition on the points; x and y may be traced, as under `vmap`. `key` is not used."""
        data = (x, y) if traced(x) or traced(y) else checked(x, y)
        return replace(self, state=_fit(replace(self, state=None), *padded(*data)))

    def condition(self, x: Float[Arrays, "n d"], y: Float[Arrays, " n"]) -> Self:
        """Replace the data but keep hyperparameters and scales: for fantasies (kriging believer) and for new residuals.

        **Raises:** `ValueError` naming what is wrong with `x` or `y`, or if the model was not fitted.
        """
        state = self._fitted()
        data = padded(*checked(checked_points(x, state.points.shape[1]), y, least=1))
        return replace(self, state=_posterior(state.hyperparameters, state.inputs, state.targets, *data, self.jitter))

    def predict(self, x: Float[Arrays, "n d"]) -> Prediction:
        """Mean and standard deviation of the function, without the noise."""
        return predicted(self._fitted(), x)

    def scorer(self) -> MeanScorer:
        """The mean."""
        state = self._fitted()
        return MeanScorer(state.hyperparameters.kernel, state.inputs, state.targets, state.points, state.weights)

    def predictive(self, x: Float[Arrays, "n d"]) -> Prediction:
        """Mean and standard deviation of a measurement: with the noise that was learned."""
        state = self._fitted()
        return with_noise(self.predict(x), state.targets.scale * val(state.hyperparameters.noise) ** 0.5)

    def left_out(self) -> Float[np.ndarray, " n"]:
        r"""What the mean at each known point would be, had it alone not been known: $y_i - [K^{-1} y]_i / [K^{-1}]_{ii}$.

        Rasmussen and Williams (2006), equation 5.12; hyperparameters and scales stay as they are.
        """
        state = self._fitted()
        root, weights, values = map(np.asarray, (state.root, state.weights, state.values))
        real = np.diag(root) > 0
        without = values[real] - weights[real] / (root**2).sum(axis=0)[real]
        return without * float(state.targets.scale) + float(state.targets.mean)

    def _fitted(self) -> Posterior:
        fitted(self, self.state)
        assert self.state is not None
        return self.state


class Posterior(eqx.Module):
    r"""A Gaussian process that has seen its points, with everything that predictions share. Padding has zero rows.

    - `values`: the targets $y$, standardised as the points are.
    - `weights`: $K^{-1} y$.
    - `root`: $L^{-1}$, where $K = L L^\top$: a variance takes a matrix product then, several times faster than a solve.
    """

    hyperparameters: Hyperparameters
    inputs: Standardizer
    targets: Standardizer
    points: Float[Array, "m d"]
    values: Float[Array, " m"]
    weights: Float[Array, " m"]
    root: Float[Array, "m m"]

    def __call__(self, x: Float[Array, "n d"]) -> Prediction:
        """Mean and standard deviation at n points."""
        kernel = self.hyperparameters.kernel
        cross = kernel.cross_covariance(self.inputs(x), self.points)
        variance = val(kernel.variance) - ((cross @ self.root.T) ** 2).sum(axis=1)
        return Prediction(self.targets.undo(cross @ self.weights), self.targets.scale * deviation(variance, kernel))


def log_marginal_likelihood(
    hyperparameters: Hyperparameters,
    x: Float[Array, "n d"],
    y: Float[Array, " n"],
    real: Bool[Array, " n"],
    *,
    jitter: float = 1e-5,
) -> Float[Array, ""]:
    r"""$\log N(y \mid 0, K) = -\tfrac12 y^\top K^{-1} y - \tfrac12 \log |K| - \tfrac n2 \log 2 \pi$.

    **Arguments:**

    - `x`, `y`: standardised points.
    - `real`: which rows are points, not padding.
    - `jitter`: added to the diagonal, in units of the kernel's variance.
    """
    covariance = _covariance(hyperparameters, x, real, jitter)
    return log_density(covariance, jnp.where(real, y, 0.0)) - 0.5 * real.sum() * jnp.log(2 * jnp.pi)


@jax.custom_vjp
def log_density(covariance: Float[Array, "n n"], y: Float[Array, " n"]) -> Float[Array, ""]:
    r"""$\log N(y \mid 0, K)$ but for its constant, with the gradient in closed form.

    $\partial / \partial K = \tfrac12 (\alpha \alpha^\top - K^{-1})$ with $\alpha = K^{-1} y$ (Rasmussen and Williams, equation
    5.9) needs the inverse of one triangle; differentiating through the factorisation would take several solves.
    """
    return _log_density(covariance, y)[0]


def _log_density(covariance: Array, y: Array) -> tuple[Array, tuple[Array, Array]]:
    root = inverse_root(covariance)
    weights = root.T @ (root @ y)
    return -0.5 * y @ weights + jnp.log(jnp.diag(root)).sum(), (root, weights)


def _log_density_gradient(saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    root, weights = saved
    return 0.5 * g * (jnp.outer(weights, weights) - root.T @ root), -g * weights


log_density.defvjp(_log_density, _log_density_gradient)


def _covariance(hyperparameters: Hyperparameters, x: Array, real: Array, jitter: float) -> Array:
    """K, in which padding is independent of everything and has variance 1: it takes no part in the likelihood."""
    kernel = hyperparameters.kernel
    diagonal = jnp.where(real, val(hyperparameters.noise) + jitter * val(kernel.variance), 1.0)
    return jnp.where(real[:, None] & real, kernel.cross_covariance(x, x), 0.0) + jnp.diag(diagonal)


@eqx.filter_jit
def _fit(settings: ExactGP, x: Array, y: Array, real: Array) -> Posterior:
    inputs, targets = Standardizer.of(x, real), Standardizer.of(y, real)
    points, values = inputs(x), targets(y)

    def loss(logs: Logs) -> Array:
        guess = hyperparameters_of(logs, settings.kernel, settings.noise_floor)
        likelihood = log_marginal_likelihood(guess, points, values, real, jitter=settings.jitter)
        return -likelihood - log_prior(logs, x.shape[1])

    best = minimise(loss, initial_logs(x.shape[1]), evaluations=settings.evaluations)
    learned = hyperparameters_of(best, settings.kernel, settings.noise_floor)
    return _posterior(learned, inputs, targets, x, y, real, settings.jitter)


@eqx.filter_jit
def _posterior(  # noqa: PLR0917 (what a posterior is made of, in the order of its fields)
    learned: Hyperparameters, inputs: Standardizer, targets: Standardizer, x: Array, y: Array, real: Array, jitter: float
) -> Posterior:
    points, values = jnp.where(real[:, None], inputs(x), 0.0), jnp.where(real, targets(y), 0.0)
    root = jnp.where(real, inverse_root(_covariance(learned, points, real, jitter)), 0.0)
    return Posterior(learned, inputs, targets, points, values, root.T @ (root @ values), root)
