"""Sparse Gaussian process regression for thousands of points and more: the collapsed bound of Titsias (AISTATS 2009)."""

from __future__ import annotations

from dataclasses import replace
from typing import Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from gpjax.parameters import val
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from surrogates.base import Arrays, Prediction, Surrogate, check_positive, checked, checked_points, fitted, with_noise
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
    standardizers,
)
from surrogates.inducing import inducing_points
from surrogates.inverse_root import inverse_root
from surrogates.lbfgs import Logs, minimise
from surrogates.scaling import Standardizer


class SparseGP(Surrogate):
    r"""Gaussian process regression through m inducing points Z, $O(n m^2)$, with the best q(u) in closed form.

    With $V = L^{-1} k(Z, X)$ where $L L^\top = k(Z, Z)$, and $B = I + V V^\top / \sigma_n^2 = L_B L_B^\top$,

    $$ E f_* = k_*^\top L^{-\top} B^{-1} V y / \sigma_n^2, \qquad
       V f_* = k_{**} - |L^{-1} k_*|^2 + |L_B^{-1} L^{-1} k_*|^2. $$

    Z are k-means centres. The hyperparameters maximise `evidence_lower_bound` plus the exact GP's `log_prior` on a random part
    of the points; the posterior is that of all of them, worked through in blocks of rows: memory does not grow with n.

    **Arguments:**

    - `inducing`: how many inducing points; fewer where there are fewer distinct points.
    - `kernel`, `noise_floor`, `jitter`, `evaluations`: as in `ExactGP`.
    - `sample`: on how many points hyperparameters are learned at most.

    **Raises:** `ValueError` for another kernel or a number out of range.
    """

    inducing: int = eqx.field(default=256, static=True)
    kernel: str = eqx.field(default="matern52", static=True)
    noise_floor: float = eqx.field(default=1e-4, static=True)
    jitter: float = eqx.field(default=1e-5, static=True)
    evaluations: int = eqx.field(default=30, static=True)
    sample: int = eqx.field(default=4096, static=True)
    state: SparsePosterior | None = None

    def __check_init__(self) -> None:
        checked_kernel(self.kernel)
        check_positive(self, "inducing", "evaluations", "sample")

    def fit(self, x: Float[Arrays, "n d"], y: Float[Arrays, " n"], *, key: PRNGKeyArray) -> Self:
        """Choose the inducing points, learn the hyperparameters and condition on the points."""
        points, targets = checked(x, y)
        sample_key, inducing_key = jax.random.split(key)
        rows = np.arange(len(points))
        if len(points) > self.sample:
            rows = np.asarray(jax.random.choice(sample_key, len(points), (self.sample,), replace=False))
        sample = padded(points[rows], targets[rows])
        scales = standardizers(*sample)
        centres = inducing_points(scales[0].on_host(points[rows]), self.inducing, key=inducing_key)
        learned = _learn(replace(self, state=None), jnp.asarray(centres), *scales, *sample)
        return replace(self, state=_condition(Prior(learned, *scales, jnp.asarray(centres)), points, targets, self.jitter))

    def condition(self, x: Float[Arrays, "n d"], y: Float[Arrays, " n"]) -> Self:
        """Replace the data but keep hyperparameters, scales and inducing points.

        **Raises:** `ValueError` naming what is wrong with `x` or `y`, or if the model was not fitted.
        """
        state = self._fitted()
        points, targets = checked(checked_points(x, state.points.shape[1]), y, least=1)
        return replace(self, state=_condition(state.prior, points, targets, self.jitter))

    def predict(self, x: Float[Arrays, "n d"]) -> Prediction:
        """Mean and standard deviation of the function, without the noise."""
        return predicted(self._fitted(), x)

    def scorer(self) -> MeanScorer:
        """The mean."""
        state = self._fitted()
        prior = state.prior
        return MeanScorer(prior.hyperparameters.kernel, prior.inputs, prior.targets, prior.points, state.weights)

    def predictive(self, x: Float[Arrays, "n d"]) -> Prediction:
        """Mean and standard deviation of a measurement: with the noise that was learned."""
        prior = self._fitted().prior
        return with_noise(self.predict(x), prior.targets.scale * val(prior.hyperparameters.noise) ** 0.5)

    def _fitted(self) -> SparsePosterior:
        fitted(self, self.state)
        assert self.state is not None
        return self.state


class Prior(eqx.Module):
    """What is settled before the posterior is known: hyperparameters, scales, and standardised inducing points."""

    hyperparameters: Hyperparameters
    inputs: Standardizer
    targets: Standardizer
    points: Float[Array, "m d"]


class SparsePosterior(eqx.Module):
    r"""A Gaussian process known through q(u), with everything that predictions share.

    - `weights`: $L^{-\top} B^{-1} V y / \sigma_n^2$, y standardised.
    - `prior_root`, `posterior_root`: $L^{-1}$ and $L_B^{-1} L^{-1}$.
    """

    prior: Prior
    weights: Float[Array, " m"]
    prior_root: Float[Array, "m m"]
    posterior_root: Float[Array, "m m"]

    def __call__(self, x: Float[Array, "n d"]) -> Prediction:
        """Mean and standard deviation at n points."""
        kernel = self.prior.hyperparameters.kernel
        cross = kernel.cross_covariance(self.prior.inputs(x), self.points)
        explained = ((cross @ self.prior_root.T) ** 2).sum(axis=1) - ((cross @ self.posterior_root.T) ** 2).sum(axis=1)
        std = deviation(val(kernel.variance) - explained, kernel)
        return Prediction(self.prior.targets.undo(cross @ self.weights), self.prior.targets.scale * std)

    @property
    def points(self) -> Float[Array, "m d"]:
        """The inducing points, standardised."""
        return self.prior.points


def evidence_lower_bound(
    hyperparameters: Hyperparameters,
    points: Float[Array, "m d"],
    x: Float[Array, "n d"],
    y: Float[Array, " n"],
    real: Bool[Array, " n"],
    *,
    jitter: float = 1e-5,
) -> Float[Array, ""]:
    r"""$\log N(y \mid 0, Q + \sigma_n^2 I) - \mathrm{tr}(k(X, X) - Q) / (2 \sigma_n^2)$, $Q = V^\top V$ (Titsias, equation 9).

    The quadratic form is taken as $\min_w |y - V^\top w|^2 / \sigma_n^2 + |w|^2$, which has no large terms that cancel.

    **Arguments:**

    - `points`: where the inducing points are, standardised as x is.
    - `x`, `y`: standardised points.
    - `real`: which rows are points, not padding.
    - `jitter`: added to the inducing points' diagonal, in units of the kernel's variance.
    """
    variance, noise = val(hyperparameters.kernel.variance), val(hyperparameters.noise)
    y = jnp.where(real, y, 0.0)
    v = _projection(hyperparameters, _prior_root(hyperparameters, points, jitter), points, x, real)
    root = inverse_root(jnp.eye(len(v)) + v @ v.T / noise)
    w = root.T @ (root @ (v @ y)) / noise
    quadratic = ((y - w @ v) ** 2).sum() / noise + (w**2).sum()
    log_determinant = real.sum() * jnp.log(2 * jnp.pi * noise) - 2 * jnp.log(jnp.diag(root)).sum()
    unexplained = jnp.where(real, variance - (v**2).sum(axis=0), 0.0).sum() / noise
    return -0.5 * (quadratic + log_determinant + unexplained)


def _prior_root(hyperparameters: Hyperparameters, points: Array, jitter: float) -> Array:
    kernel = hyperparameters.kernel
    return inverse_root(kernel.cross_covariance(points, points) + jitter * val(kernel.variance) * jnp.eye(len(points)))


def _projection(hyperparameters: Hyperparameters, root: Array, points: Array, x: Array, real: Array) -> Array:
    """V, with a column of zeros for padding."""
    return root @ jnp.where(real, hyperparameters.kernel.cross_covariance(points, x), 0.0)


@eqx.filter_jit
def _learn(  # noqa: PLR0917 (scales and points, each as the two functions above return them)
    settings: SparseGP, centres: Array, inputs: Standardizer, targets: Standardizer, x: Array, y: Array, real: Array
) -> Hyperparameters:
    points, values = inputs(x), targets(y)

    def loss(logs: Logs) -> Array:
        guess = hyperparameters_of(logs, settings.kernel, settings.noise_floor)
        return -evidence_lower_bound(guess, centres, points, values, real, jitter=settings.jitter) - log_prior(logs, x.shape[1])

    return hyperparameters_of(
        minimise(loss, initial_logs(x.shape[1]), evaluations=settings.evaluations), settings.kernel, settings.noise_floor
    )


@eqx.filter_jit
def _block(prior: Prior, root: Array, x: Array, y: Array, real: Array) -> tuple[Array, Array]:
    v = _projection(prior.hyperparameters, root, prior.points, prior.inputs(x), real)
    return v, jnp.where(real, prior.targets(y), 0.0)


def _condition(prior: Prior, x: np.ndarray, y: np.ndarray, jitter: float, block: int = 4096) -> SparsePosterior:
    """The posterior of all points. B's condition number is n times the signal to noise: its sums and its factor are float64."""
    root = eqx.filter_jit(_prior_root)(prior.hyperparameters, prior.points, jitter)
    noise = float(val(prior.hyperparameters.noise))
    b, projected = np.eye(len(root)), np.zeros(len(root))
    for i in range(0, len(x), block):
        v, values = (np.asarray(part, np.float64) for part in _block(prior, root, *padded(x[i : i + block], y[i : i + block])))
        b += v @ v.T / noise
        projected += v @ values / noise
    posterior_root = np.linalg.inv(np.linalg.cholesky(b))
    whitened = posterior_root.T @ (posterior_root @ projected)
    weights, posterior_root = np.asarray(root, np.float64).T @ whitened, posterior_root @ np.asarray(root, np.float64)
    return SparsePosterior(prior, jnp.float32(weights), root, jnp.float32(posterior_root))
