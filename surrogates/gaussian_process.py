"""What all Gaussian process regressions share: hyperparameters and their prior, padding, predictions in parts."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from gpjax.parameters import PositiveReal, val
from jaxtyping import Array, Bool, Float

from surrogates.base import Arrays, Prediction, checked_points, traced
from surrogates.chunks import in_chunks, in_parts, power_of_two
from surrogates.kernels import RBF, Matern52
from surrogates.lbfgs import Logs
from surrogates.scaling import Standardizer

KERNELS: dict[str, Any] = {"matern52": Matern52, "rbf": RBF}


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


def checked_kernel(name: str) -> None:
    """Refuse a kernel that is not in `KERNELS`."""
    if name not in KERNELS:
        raise ValueError(f"kernel: {name!r} is not one of {', '.join(map(repr, KERNELS))}.")


def initial_logs(d: int) -> Logs:
    """Where the search for d features' hyperparameters begins: typical points about a lengthscale apart, and some noise."""
    return {"lengthscale": jnp.full(d, 0.5 * np.log(d), jnp.float32), "variance": jnp.float32(0.0), "noise": jnp.float32(-2.0)}


def hyperparameters_of(logs: Logs, kernel: str, noise_floor: float) -> Hyperparameters:
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


def deviation(variance: Float[Array, " n"], kernel: Any) -> Float[Array, " n"]:
    """The root of a variance, of which rounding may have left nothing."""
    return jnp.sqrt(jnp.maximum(variance, 1e-6 * val(kernel.variance)))


@eqx.filter_jit
def standardizers(x: Float[Array, "n d"], y: Float[Array, " n"], real: Bool[Array, " n"]) -> tuple[Standardizer, Standardizer]:
    """Those of the features and of the targets, of which `real` are no padding."""
    return Standardizer.of(x, real), Standardizer.of(y, real)


def padded(
    x: Float[Arrays, "n d"], y: Float[Arrays, " n"]
) -> tuple[Float[Array, "m d"], Float[Array, " m"], Bool[Array, " m"]]:
    """Points with zeros after them, up to one of a few sizes, and which rows are points."""
    xp: Any = jnp if traced(x) or traced(y) else np
    size, extra = padded_size(len(x)), padded_size(len(x)) - len(x)
    columns = xp.pad(x, ((0, extra), (0, 0))), xp.pad(y, (0, extra)), xp.arange(size) < len(x)
    return columns if xp is jnp else jax.device_put(columns)


def padded_size(n: int) -> int:
    """256, the next power of two, or three quarters of it: compiling for a size takes seconds, 256 points some 50 ms."""
    power = max(256, power_of_two(n))
    return power * 3 // 4 if power > 256 and n <= power * 3 // 4 else power


def predicted(posterior: Any, x: Float[Arrays, "n d"]) -> Prediction:
    """What a posterior, a module `x -> Prediction`, predicts at any number of points, so many at a time."""
    if traced(x):
        return in_chunks(posterior, jnp.asarray(x))
    return in_parts(lambda rows: _predict(posterior, rows), checked_points(x, posterior.points.shape[1]))


@eqx.filter_jit
def _predict(posterior: Any, x: Any) -> Prediction:
    return posterior(x)
