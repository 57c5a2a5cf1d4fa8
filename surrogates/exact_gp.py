"""Exact Gaussian process regression with one lengthscale a feature (Rasmussen and Williams 2006, chapters 2 and 5)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar, Self, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from gpjax.parameters import PositiveReal, val
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from surrogates.base import Arrays, Prediction, Surrogate, check_positive, checked, checked_points, fitted, traced, with_noise
from surrogates.chunks import in_chunks, in_parts
from surrogates.inverse_root import inverse_root
from surrogates.kernels import RBF, Matern52
from surrogates.scaling import Standardizer

KERNELS: dict[str, Any] = {"matern52": Matern52, "rbf": RBF}

Logs: TypeAlias = dict[str, Any]
"""Positive numbers by name, as logarithms: L-BFGS comes further in them than in GPJax's, which a softplus makes positive."""


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

    def _fitted(self) -> Posterior:
        fitted(self, self.state)
        assert self.state is not None
        return self.state


class Hyperparameters(eqx.Module):
    """A kernel of standardised features, and the variance of the noise of standardised targets."""

    kernel: Any
    noise: PositiveReal


class MeanScorer(eqx.Module):
    r"""A kernel expansion, $\sum_j k(x, x_j) w_j$, in the units of the targets."""

    kernel: Any
    inputs: Standardizer
    targets: Standardizer
    points: Float[Array, "m d"]
    weights: Float[Array, " m"]

    def __call__(self, x: Float[Array, "n d"]) -> Float[Array, " n"]:
        """The expansion at n points."""
        return self.targets.undo(self.kernel.cross_covariance(self.inputs(x), self.points) @ self.weights)


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
        guess = hyperparameters(logs, settings.kernel, settings.noise_floor)
        likelihood = log_marginal_likelihood(guess, points, values, real, jitter=settings.jitter)
        return -likelihood - log_prior(logs, x.shape[1])

    best = minimise(loss, start(x.shape[1]), evaluations=settings.evaluations)
    learned = hyperparameters(best, settings.kernel, settings.noise_floor)
    return _posterior(learned, inputs, targets, x, y, real, settings.jitter)


@eqx.filter_jit
def _posterior(  # noqa: PLR0917 (what a posterior is made of, in the order of its fields)
    learned: Hyperparameters, inputs: Standardizer, targets: Standardizer, x: Array, y: Array, real: Array, jitter: float
) -> Posterior:
    points, values = jnp.where(real[:, None], inputs(x), 0.0), jnp.where(real, targets(y), 0.0)
    root = jnp.where(real, inverse_root(_covariance(learned, points, real, jitter)), 0.0)
    return Posterior(learned, inputs, targets, points, values, root.T @ (root @ values), root)


def deviation(variance: Array, kernel: Any) -> Array:
    """The root of a variance, of which rounding may have left nothing."""
    return jnp.sqrt(jnp.maximum(variance, 1e-6 * val(kernel.variance)))


def start(d: int) -> Logs:
    """Where the search begins: typical points about a lengthscale apart, and some noise."""
    return {"lengthscale": jnp.full(d, 0.5 * np.log(d), jnp.float32), "variance": jnp.float32(0.0), "noise": jnp.float32(-2.0)}


def hyperparameters(logs: Logs, kernel: str, noise_floor: float) -> Hyperparameters:
    """The hyperparameters as GPJax's parameters, the noise above its floor."""
    lengthscale, variance = (PositiveReal(jnp.exp(logs[name])) for name in ("lengthscale", "variance"))
    noise = PositiveReal(noise_floor + jnp.exp(logs["noise"]))
    return Hyperparameters(KERNELS[kernel](lengthscale=lengthscale, variance=variance), noise)


def log_prior(logs: Logs, d: int) -> Float[Array, ""]:
    r"""Log-normal priors, written as (median, deviation of the logarithm).

    Lengthscales $(\tfrac34 \sqrt d, \tfrac34)$: distances grow with the root of the dimension (Hvarfner et al., ICML 2024), but
    their wider and longer prior overfits 64 points in 20 dimensions. Variance $(1, 1)$; noise $(e^{-3}, \tfrac32)$: under
    a narrower one, targets that are all noise are taken for a function of short lengthscales.
    """
    lengthscale = (logs["lengthscale"] - np.log(0.75 * d**0.5)) / 0.75
    return -0.5 * ((lengthscale**2).sum() + logs["variance"] ** 2 + ((logs["noise"] + 3.0) / 1.5) ** 2)


def minimise(loss: Callable[[Logs], Array], start: Logs, *, evaluations: int, tolerance: float = 0.1) -> Logs:
    """Descend by L-BFGS with backtracking for so many evaluations, or until the gradient is shorter than `tolerance`.

    An iteration is one evaluation, of a new direction or of half the last step, so the loss is compiled once; `optax.lbfgs`
    and its line search would hold four copies of it, and compiling is what takes seconds here.
    """
    lbfgs, (first, unravel) = optax.scale_by_lbfgs(), ravel_pytree(start)
    value_and_gradient = jax.value_and_grad(lambda point: loss(unravel(point)))

    def descend(carry: tuple) -> tuple:
        count, point, value, gradient, memory, direction, step = carry
        trial = point + step * direction
        new_value, new_gradient = value_and_gradient(trial)
        # false, too, where float32 could not factorise the covariance and the value is not a number
        accepted = new_value <= value + 1e-4 * step * gradient @ direction
        ascent, new_memory = lbfgs.update(new_gradient, memory, trial)
        ascent = jnp.where(new_gradient @ ascent > 0, ascent, new_gradient)
        new = (trial, new_value, new_gradient, new_memory, -ascent, 1.0)
        old = (point, value, gradient, memory, direction, 0.5 * step)
        return count + 1, *jax.tree.map(lambda a, b: jnp.where(accepted, a, b), new, old)

    # the first trial is the start itself, better than the infinite value it is compared with
    carry = (0, first, jnp.inf, jnp.ones_like(first), lbfgs.init(first), jnp.zeros_like(first), 1.0)
    return unravel(jax.lax.while_loop(lambda c: (c[0] < evaluations) & (jnp.linalg.norm(c[3]) > tolerance), descend, carry)[1])


def checked_kernel(name: str) -> None:
    """Refuse a kernel that is not in `KERNELS`."""
    if name not in KERNELS:
        raise ValueError(f"kernel: {name!r} is not one of {', '.join(map(repr, KERNELS))}.")


def padded(x: Arrays, y: Arrays) -> tuple[Array, Array, Bool[Array, " m"]]:
    """Points with zeros after them, up to one of a few sizes, and which rows are points."""
    xp: Any = jnp if traced(x) or traced(y) else np
    size, extra = padded_size(len(x)), padded_size(len(x)) - len(x)
    columns = xp.pad(x, ((0, extra), (0, 0))), xp.pad(y, (0, extra)), xp.arange(size) < len(x)
    return columns if xp is jnp else jax.device_put(columns)


def padded_size(n: int) -> int:
    """256, the next power of two, or three quarters of it: compiling for a size takes seconds, 256 points some 50 ms."""
    power = max(256, 1 << (n - 1).bit_length())
    return power * 3 // 4 if power > 256 and n <= power * 3 // 4 else power


def predicted(posterior: Any, x: Any) -> Prediction:
    """What a posterior predicts at any number of points, so many at a time."""
    if traced(x):
        return in_chunks(posterior, x)
    return in_parts(lambda rows: _predict(posterior, rows), checked_points(x, posterior.points.shape[1]))


@eqx.filter_jit
def _predict(posterior: Any, x: Any) -> Prediction:
    return posterior(x)
