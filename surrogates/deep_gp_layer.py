"""A layer of a deep Gaussian process, p functions with a common kernel known through m inducing points, and their composition.

Section 3 of Salimbeni & Deisenroth, "Doubly stochastic variational inference for deep Gaussian processes" (NeurIPS 2017,
arXiv:1705.08933), in whitened coordinates. Everything costs matrix products and one Cholesky factor a layer.
"""

from __future__ import annotations

from typing import Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from gpjax.parameters import PositiveReal, Real, val
from jaxtyping import Array, Float

from surrogates.chunks import in_chunks
from surrogates.inverse_root import inverse_root
from surrogates.kernels import RBF
from surrogates.scaling import Standardizer


class Layer(eqx.Module):
    r"""Functions $f_1 \dots f_p$ with the prior $\mathcal{GP}(x W, k)$ each and a Gaussian posterior at the inducing inputs Z.

    With $K_{zz} = L L^\top$ the values at Z are $u = Z W + L v$, and $q(v_j) = \mathcal N(m_j, R_j R_j^\top)$; under the prior
    v is standard normal. $R_j$ is lower triangular, or diagonal where `lower` is None.

    **Attributes:**

    - `kernel`: k, shared by the p functions.
    - `inducing`: Z, `(m, d)`.
    - `mean`: the columns $m_j$, `(m, p)`.
    - `deviation`: the diagonals of $R_j$ as columns, `(m, p)`.
    - `lower`: what $R_j$ has below its diagonal, `(p, m, m)`; the rest of these matrices is ignored. None for a diagonal q.
    - `projection`: W, `(d, p)`, fixed; zero for a layer with mean zero.
    - `jitter`: added to the diagonal of $K_{zz}$ and to variances, as a fraction of the kernel's variance.
    """

    kernel: RBF
    inducing: Real
    mean: Real
    deviation: PositiveReal
    lower: Real | None
    projection: Float[Array, "d p"]
    jitter: float = eqx.field(static=True)

    @classmethod
    def initial(
        cls,
        inducing: Float[Array, "m d"],
        projection: Float[Array, "d p"],
        *,
        lengthscale: float,
        deviation: float = 1.0,
        full: bool = True,
        jitter: float = 1e-5,
    ) -> Self:
        """A layer that knows nothing: mean zero, R a multiple of the identity, variance 1, a lengthscale for each feature."""
        (m, d), p = inducing.shape, projection.shape[1]
        ones = jnp.ones((m, p), inducing.dtype)
        return cls(
            kernel=RBF(lengthscale=jnp.full(d, lengthscale, inducing.dtype), variance=jnp.ones((), inducing.dtype)),
            inducing=Real(inducing),
            mean=Real(0 * ones),
            deviation=PositiveReal(deviation * ones),
            lower=Real(jnp.zeros((p, m, m), inducing.dtype)) if full else None,
            projection=projection,
            jitter=jitter,
        )

    def moments(self, x: Float[Array, "n d"], whitener: Float[Array, "m m"]) -> tuple[Float[Array, "n p"], Float[Array, "n p"]]:
        r"""Mean and variance of the functions at n inputs, each input on its own.

        With $A = L^{-1} K_{zx}$: $\mu_j = x W_j + A^\top m_j$ and
        $\sigma_j^2 = k(x, x) - \operatorname{diag}(A^\top A) + \operatorname{diag}(A^\top R_j R_j^\top A)$ (equations 7 and 8).
        `whitener` is the inverse of L.
        """
        a = whitener @ self.kernel.cross_covariance(val(self.inducing), x)
        mean = x @ self.projection + a.T @ val(self.mean)
        prior = (1.0 + self.jitter) * val(self.kernel.variance)
        if self.lower is None:
            return mean, prior - (a**2).T @ (1.0 - val(self.deviation) ** 2)
        explained = jnp.einsum("pij,in->pjn", self.roots(), a)
        return mean, prior + ((explained**2).sum(axis=1) - (a**2).sum(axis=0)).T

    def kl(self) -> Float[Array, ""]:
        r"""The divergence of q from the prior, $\tfrac12 \sum_j (|m_j|^2 + |R_j|_F^2 - m - 2 \sum_i \log R_{j,ii})$."""
        deviation = val(self.deviation)
        total = (val(self.mean) ** 2 + deviation**2 - 1.0 - 2.0 * jnp.log(deviation)).sum()
        if self.lower is not None:
            total = total + (jnp.tril(val(self.lower), -1) ** 2).sum()
        return 0.5 * total

    def roots(self) -> Float[Array, "p m m"]:
        """The matrices R. A masked square costs less than scattering a vector into a triangle."""
        diagonal = jax.vmap(jnp.diag)(val(self.deviation).T)
        return diagonal if self.lower is None else diagonal + jnp.tril(val(self.lower), -1)

    def covariance(self) -> Float[Array, "m m"]:
        """The covariance of the prior at the inducing points."""
        z = val(self.inducing)
        return self.kernel.cross_covariance(z, z) + self.jitter * val(self.kernel.variance) * jnp.eye(len(z), dtype=z.dtype)

    def mean_only(self, whitener: Float[Array, "m m"]) -> MeanLayer:
        """The layer's mean as a function of its input, with all that does not depend on the input computed."""
        lengthscale = val(self.kernel.lengthscale)
        return MeanLayer(
            centres=val(self.inducing) / lengthscale,
            inverse_lengthscale=1.0 / lengthscale,
            weights=val(self.kernel.variance) * whitener.T @ val(self.mean),
            projection=self.projection,
        )


class Composition(eqx.Module):
    r"""$y = f^L(\dots f^1(x)) + \epsilon$: layers between a scale of the features and one of the targets.

    Its methods take x as the user gives it and return standardised values; `targets` undoes that.

    **Attributes:**

    - `features`, `targets`: the scales, fixed.
    - `peak`: the unit of the targets, the value that a task's best has, `()`; 0 where they have none.
    - `layers`: the last has one function.
    - `noise`: the variance of epsilon, standardised, less `least_noise`.
    """

    features: Standardizer
    targets: Standardizer
    peak: Float[Array, ""]
    layers: tuple[Layer, ...]
    noise: PositiveReal
    least_noise: float = eqx.field(static=True, default=1e-6)

    def whiteners(self) -> Float[Array, "l m m"]:
        """For each layer the inverse of L, the Cholesky factor of its covariance: what predictions share. Layers have one m."""
        return inverse_root(jnp.stack([layer.covariance() for layer in self.layers]))

    def moments(
        self, x: Float[Array, "n d"], whiteners: Float[Array, "l m m"]
    ) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
        """Mean and variance of the last layer at the means of those below it."""
        h = self.features(x)
        for layer, whitener in zip(self.layers[:-1], whiteners[:-1], strict=True):
            h = layer.mean_only(whitener)(h)
        mean, variance = self.layers[-1].moments(h, whiteners[-1])
        return mean[:, 0], variance[:, 0]

    def sampled_moments(
        self, x: Float[Array, "n d"], whiteners: Float[Array, "l m m"], noise: Float[Array, "s n w"]
    ) -> tuple[Float[Array, "s n"], Float[Array, "s n"]]:
        """Mean and variance of the last layer at samples of those below it.

        Equations 15 and 16: each layer's marginals, reparameterised. `noise` is standard normal, `width` columns.
        """
        h, begin = self.features(x), 0
        for layer, whitener in zip(self.layers[:-1], whiteners[:-1], strict=True):
            mean, variance = layer.moments(h, whitener)
            drawn = noise[:, :, begin : (begin := begin + mean.shape[1])].reshape(-1, *mean.shape)
            h = (mean + jnp.sqrt(variance) * drawn).reshape(-1, mean.shape[1])
        mean, variance = self.layers[-1].moments(h, whiteners[-1])
        return mean.reshape(-1, len(x)), variance.reshape(-1, len(x))

    @property
    def width(self) -> int:
        """The functions of all inner layers together: the random numbers that a sample takes at each point."""
        return sum(layer.projection.shape[1] for layer in self.layers[:-1])

    def kl(self) -> Float[Array, ""]:
        """The divergence of all layers' q(u) from the prior."""
        return sum((layer.kl() for layer in self.layers), start=jnp.zeros(()))

    def noise_variance(self) -> Float[Array, ""]:
        """The variance of the noise, kept from zero, to which it falls where the data can be interpolated."""
        return val(self.noise) + self.least_noise

    def means_only(self) -> MeanComposition:
        """The mean, in the units of the targets, as a small function."""
        return MeanComposition(self.features, self.targets, tuple(map(Layer.mean_only, self.layers, self.whiteners())))


class MeanLayer(eqx.Module):
    r"""A layer's mean $x W + k(x, Z)\, w$ with $w = L^{-\top} m$: a radial basis network."""

    centres: Float[Array, "m d"]
    inverse_lengthscale: Float[Array, " d"]
    weights: Float[Array, "m p"]
    projection: Float[Array, "d p"]

    def __call__(self, x: Float[Array, "n d"]) -> Float[Array, "n p"]:
        """The means at n inputs."""
        x_scaled = x * self.inverse_lengthscale
        squared = (x_scaled**2).sum(axis=1)[:, None] + (self.centres**2).sum(axis=1) - 2 * x_scaled @ self.centres.T
        return x @ self.projection + jnp.exp(-0.5 * squared) @ self.weights


class MeanComposition(eqx.Module):
    """The means of all layers one after another; arrays alone, so a jitted search takes the next fit's without compiling."""

    features: Standardizer
    targets: Standardizer
    layers: tuple[MeanLayer, ...]

    def __call__(self, x: Float[Array, "n d"]) -> Float[Array, " n"]:
        """The means at n points, of any number."""
        return in_chunks(self._means, x)

    def _means(self, x: Float[Array, "n d"]) -> Float[Array, " n"]:
        h = self.features(x)
        for layer in self.layers:
            h = layer(h)
        return self.targets.undo(h[:, 0])


def mean_projection(h: Float[np.ndarray, "n d"], width: int) -> Float[np.ndarray, "d p"]:
    """An inner layer's mean function (section 3 of Salimbeni & Deisenroth): principal components to narrow, zeros to widen."""
    d = h.shape[1]
    if width >= d:
        return np.eye(d, width, dtype=np.float32)
    _, vectors = np.linalg.eigh(np.cov(h, rowvar=False))
    return np.ascontiguousarray(vectors[:, ::-1][:, :width], np.float32)
