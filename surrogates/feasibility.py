"""The probability that a point works at all: Gaussian process classification by calibrated least squares."""

from __future__ import annotations

from dataclasses import replace
from typing import Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from gpjax.parameters import val
from jax.scipy.stats import norm
from jaxtyping import Array, Float, PRNGKeyArray

from surrogates.base import Arrays, Prediction, Surrogate, checked, fitted
from surrogates.exact_gp import ExactGP, Posterior
from surrogates.gaussian_process import deviation, padded, predicted
from surrogates.lbfgs import Logs, minimise
from surrogates.sparse_gp import SparseGP, SparsePosterior

NODES, WEIGHTS = (part.astype(np.float32) for part in np.polynomial.hermite_e.hermegauss(24))
WEIGHTS = WEIGHTS / WEIGHTS.sum()


class Feasibility(Surrogate):
    r"""A classifier for the failures that no rule predicts: least-squares classification with a Gaussian process.

    A Gaussian process is fitted to labels of +1 (works) and -1 (failed), and its belief $f \sim N(\mu, \sigma^2)$ about a point
    squashed,

    $$ P(\text{works}) = E \Phi(\alpha f + \beta) = \Phi\left(\frac{\alpha \mu + \beta}{\sqrt{1 + \alpha^2 \sigma^2}}\right), $$

    with $\alpha, \beta$ that maximise the probability of each label given all the others (Rasmussen and Williams 2006, section
    6.5), under a weak prior that keeps them finite where the classes are separable or only one was seen. All is in closed form
    but two scalars: no approximate posterior has to converge.

    **Arguments:**

    - `exact`, `sparse`: the Gaussian process of up to `exact_limit` points, and of more. Of a sparse one the predictions at its
      own points calibrate it; it has too few inducing points to remember their labels.
    - `exact_limit`: the most points whose cubic cost is borne.
    """

    exact: ExactGP = ExactGP()
    sparse: SparseGP = SparseGP()
    exact_limit: int = eqx.field(default=2000, static=True)
    state: Classifier | None = None

    def fit(self, x: Float[Arrays, "n d"], y: Float[Arrays, " n"], *, key: PRNGKeyArray) -> Self:
        """Learn from n points of which those with y > 0 worked: labels, or throughputs with 0 for failures."""
        points, targets = checked(x, y)
        labels = np.where(targets > 0, 1.0, -1.0).astype(np.float32)
        if len(points) <= self.exact_limit:
            exact = self.exact.fit(*jax.device_put((points, labels)), key=key)
            return self._calibrated(exact.state, leave_one_out(exact), labels)
        sparse = self.sparse.fit(*jax.device_put((points, labels)), key=key)
        return self._calibrated(sparse.state, sparse.predict(jax.device_put(points)), labels)

    def _calibrated(self, posterior: Posterior | SparsePosterior | None, belief: Prediction, labels: np.ndarray) -> Self:
        assert posterior is not None
        columns, targets, real = padded(np.stack([np.asarray(values) for values in belief], axis=1), labels)
        return replace(self, state=Classifier(posterior, *_calibrate(columns[:, 0], columns[:, 1], targets, real)))

    def predict(self, x: Float[Arrays, "n d"]) -> Prediction:
        r"""The probability of working, and the deviation of $\Phi(\alpha f + \beta)$ under the belief about f."""
        return predicted(self._fitted(), x)

    def scorer(self) -> ProbabilityScorer:
        """The probability of working."""
        return ProbabilityScorer(self._fitted())

    def _fitted(self) -> Classifier:
        fitted(self, self.state)
        assert self.state is not None
        return self.state


class Classifier(eqx.Module):
    r"""A belief about labels, and the $\alpha$ and $\beta$ that make probabilities of it."""

    belief: Posterior | SparsePosterior
    slope: Float[Array, ""]
    offset: Float[Array, ""]

    def __call__(self, x: Float[Array, "n d"]) -> Prediction:
        """The probability at n points, and its deviation by Gauss-Hermite quadrature."""
        mean, std = self.belief(x)
        mean, std = self.slope * mean + self.offset, self.slope * std
        probability = norm.cdf(mean / jnp.sqrt(1.0 + std**2))
        spread = (norm.cdf(mean[:, None] + std[:, None] * NODES) - probability[:, None]) ** 2 @ WEIGHTS
        return Prediction(probability, jnp.sqrt(spread))

    @property
    def points(self) -> Float[Array, "m d"]:
        """The points that the belief rests on, standardised."""
        return self.belief.points


class ProbabilityScorer(eqx.Module):
    """The probability alone."""

    classifier: Classifier

    def __call__(self, x: Float[Array, "n d"]) -> Float[Array, " n"]:
        """The probability at n points."""
        return self.classifier(x).mean


def leave_one_out(model: ExactGP) -> Prediction:
    r"""What the model would say of each of its points had it not seen it (Rasmussen and Williams, equation 5.12).

    $$ \mu_i = y_i - [K^{-1} y]_i / [K^{-1}]_{ii}, \qquad \sigma_i^2 = 1 / [K^{-1}]_{ii} - \sigma_n^2 $$

    **Returns:** mean and standard deviation of the function, hyperparameters and scales being those of all points.
    """
    fitted(model, model.state)
    assert model.state is not None
    mean, std, real = _leave_one_out(model.state)
    rows = np.flatnonzero(real)
    return Prediction(*jax.device_put((np.asarray(mean)[rows], np.asarray(std)[rows])))


@eqx.filter_jit
def _leave_one_out(state: Posterior) -> tuple[Array, Array, Array]:
    precision = (state.root**2).sum(axis=0)
    real = precision > 0
    precision = jnp.where(real, precision, 1.0)
    std = deviation(1.0 / precision - val(state.hyperparameters.noise), state.hyperparameters.kernel)
    return state.targets.undo(state.values - state.weights / precision), state.targets.scale * std, real


@eqx.filter_jit
def _calibrate(mean: Array, std: Array, labels: Array, real: Array) -> tuple[Array, Array]:
    r"""The most probable $\alpha$ and $\beta$ under the priors $\log \alpha \sim N(0, 1)$ and $\beta \sim N(0, 1)$."""

    def loss(unknown: Logs) -> Array:
        slope = jnp.exp(unknown["slope"])
        margin = (slope * mean + unknown["offset"]) / jnp.sqrt(1.0 + (slope * std) ** 2)
        likelihood = jnp.where(real, norm.logcdf(labels * margin), 0.0).sum()
        return 0.5 * (unknown["slope"] ** 2 + unknown["offset"] ** 2) - likelihood

    best = minimise(loss, {"slope": jnp.zeros(()), "offset": jnp.zeros(())}, evaluations=30)
    return jnp.exp(best["slope"]), best["offset"]
