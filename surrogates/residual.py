"""A surrogate that transfers, and a Gaussian process on what it still gets wrong: the project's step beyond the ICCV paper."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Protocol, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from surrogates.base import Arrays, Prediction, Scorer, Surrogate, checked, fitted, traced
from surrogates.chunks import scores
from surrogates.exact_gp import ExactGP
from surrogates.sparse_gp import SparseGP


class Transferring(Protocol):
    """A surrogate that adapts what it learned of other tasks to n points of a new one."""

    scores_mean: ClassVar[bool]

    def fit(self, x: Any, y: Any, *, key: PRNGKeyArray) -> Self:
        """Learn from scratch."""

    def adapt(self, x: Any, y: Any, *, key: PRNGKeyArray) -> Self:
        """Learn from what is known already and from n points."""

    def predict(self, x: Any) -> Prediction:
        """Mean and standard deviation."""

    def predictive(self, x: Any) -> Prediction:
        """The same of a measurement."""

    def scorer(self) -> Scorer:
        """An affine function of the mean."""


class Residual(Surrogate):
    r"""A base surrogate plus a Gaussian process on its residuals, $f(x) = b(x) + g(x, b(x))$, $g \sim GP$ given $y_i - b(x_i)$.

    What transfers well is the shape that tasks share, and b has it; what is particular to this task a Gaussian process learns
    from few points. Where b leaves nothing, g's prior shrinks to nothing. The base's mean is one more feature of g's: errors
    are of another size where throughput is low, and a correction that does not see this spoils the order of slow points.

    Means add up, and so do variances. Were b a known mean function, g's variance alone would be right.

    **Arguments:**

    - `base`: the surrogate, fitted (then `adapt` will do) or not (then `fit` comes first).
    - `exact`, `sparse`: the Gaussian process of up to `exact_limit` points, and of more.
    - `exact_limit`: the most points whose cubic cost is borne.
    """

    base: Transferring
    exact: ExactGP = ExactGP()
    sparse: SparseGP = SparseGP()
    exact_limit: int = eqx.field(default=2000, static=True)
    state: Correction | None = None

    def fit(self, x: Float[Arrays, "n d"], y: Float[Arrays, " n"], *, key: PRNGKeyArray) -> Self:
        """Fit the base from scratch, then the Gaussian process on its residuals."""
        points, targets = checked(x, y)
        base_key, key = jax.random.split(key)
        return self._corrected(self.base.fit(points, targets, key=base_key), points, targets, key)

    def adapt(self, x: Float[Arrays, "n d"], y: Float[Arrays, " n"], *, key: PRNGKeyArray) -> Self:
        """Adapt the base to a new task, then fit the Gaussian process on the residuals of the task's points alone.

        **Raises:** `ValueError` naming what is wrong with `x` or `y`, or if the base was not fitted.
        """
        points, targets = checked(x, y)
        base_key, key = jax.random.split(key)
        return self._corrected(self.base.adapt(points, targets, key=base_key), points, targets, key)

    def condition(self, x: Float[Arrays, "n d"], y: Float[Arrays, " n"]) -> Self:
        """Replace the points whose residuals are known, and keep everything else: for fantasies (kriging believer)."""
        state = self._fitted()
        points, targets = checked(x, y, least=1)
        mean = np.asarray(self.base.predict(points).mean)
        known = state.process.condition(_beside(points, mean), targets - mean)
        return replace(self, state=replace(state, process=known))

    def predict(self, x: Float[Arrays, "n d"]) -> Prediction:
        """The sum of the means, and the root of the sum of the variances."""
        process, base = self._fitted().process, self.base.predict(x)
        return _sum(base, process.predict(_beside(x, base.mean)))

    def predictive(self, x: Float[Arrays, "n d"]) -> Prediction:
        """The same of a measurement: with the noise that is left of the residuals, but no surer than the base.

        The base was adapted to the very points whose residuals the Gaussian process sees: these are smaller than elsewhere.
        """
        process, base = self._fitted().process, self.base.predict(x)
        mean, std = _sum(base, process.predictive(_beside(x, base.mean)))
        return Prediction(mean, jnp.maximum(std, self.base.predictive(x).std))

    def parts(self, x: Float[Arrays, "n d"]) -> tuple[ExactGP | SparseGP, Float[Arrays, "n d+1"], Float[Array, " n"]]:
        """The Gaussian process, what it sees of n points, and the base's means, to which it adds."""
        mean = self.base.predict(x).mean
        return self._fitted().process, _beside(x, mean), mean

    def scorer(self) -> CorrectedScorer:
        """The mean, if the base's scorer is an affine function of its mean; else the best that an affine function can do."""
        state = self._fitted()
        return CorrectedScorer(self.base.scorer(), state.slope, state.offset, state.process.scorer())

    def _corrected(self, base: Transferring, x: np.ndarray, y: np.ndarray, key: PRNGKeyArray) -> Self:
        mean = np.asarray(base.predict(x).mean)
        process = self.exact if len(x) <= self.exact_limit else self.sparse
        known = process.fit(_beside(x, mean), y - mean, key=key)
        line = (jnp.float32(1.0), jnp.float32(0.0)) if base.scores_mean else _affine(scores(base.scorer(), x), mean)
        return replace(self, base=base, state=Correction(known, *line))

    def _fitted(self) -> Correction:
        fitted(self, self.state)
        assert self.state is not None
        return self.state


class Correction(eqx.Module):
    """The Gaussian process on the residuals, and the base's mean as slope * score + offset."""

    process: ExactGP | SparseGP
    slope: Float[Array, ""]
    offset: Float[Array, ""]


class CorrectedScorer(eqx.Module):
    """The base's mean by way of its score, plus the mean of the Gaussian process; a JAX program where the base's scorer is."""

    base: Scorer
    slope: Float[Array, ""]
    offset: Float[Array, ""]
    process: Scorer

    def __call__(self, x: Float[Array, "n d"]) -> Float[Array, " n"]:
        """The mean at n points."""
        mean = self.slope * self.base(x) + self.offset
        return mean + self.process(_beside(x, mean))


def _sum(base: Prediction, correction: Prediction) -> Prediction:
    return Prediction(base.mean + correction.mean, jnp.hypot(base.std, correction.std))


def _beside(x: Any, mean: Any) -> Any:
    """The features, and the base's mean as one more: arrays of JAX's where they are traced, else of NumPy's."""
    return jnp.column_stack([x, mean]) if traced(mean) else np.column_stack([x, mean])


def _affine(score: np.ndarray, mean: np.ndarray) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Slope and offset of the least-squares line from scores to means; an ensemble's score is a sum, a booster's a margin."""
    score, mean = score.astype(np.float64), mean.astype(np.float64)
    centred = score - score.mean()
    spread = centred @ centred
    slope = centred @ mean / spread if spread > 0 else 1.0
    return jnp.float32(slope), jnp.float32(mean.mean() - slope * score.mean())
