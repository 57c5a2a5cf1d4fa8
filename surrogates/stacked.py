"""What other surrogates' scores say of a task, each as far as the task's own measurements bear it out: stacked regression."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from surrogates.base import Arrays, Prediction, Scorer, Surrogate, check_positive, checked, checked_points, fitted, traced
from surrogates.chunks import in_chunks, scores

ROUNDING = 1e-6
"""A score that varies by less than this part of its size does not vary."""


class Stacked(Surrogate):
    r"""A weighted sum of q known scores, $f(x) = a + \sum_j w_j s_j(x)$, whose weights have to be earned (Breiman, 1996).

    What was learned of other tasks may rank this one's configurations well, or badly, or the wrong way round, and one of them
    well where another lies: no weight may be fixed. With targets standardised, and scores centred and scaled to a deviation of
    $\mu_j$, the columns $z_j$ of Z, the weights are the ridge estimate that shrinks towards middling ones,

    $$ \beta = (Z^\top Z + q \lambda I)^{-1} (Z^\top y + \lambda b_0 1), \qquad w_j = \beta_j \mu_j \sigma_y / \sigma_j. $$

    Before anything is known each $\beta_j$ is $b_0 / q$. Scores that are all the same, with merits of 1, do together what one
    does: as if $\lambda$ points had been seen that agree with $b_0$. A score that does not vary where targets are known has no
    weight. There is no doubt: a `Residual` on top of it has one.

    **Arguments:**

    - `bases`: q fitted surrogates, whose scores are used.
    - `merits`: $\mu_j$, finite and above 0; None for 1 each. Of little merit are scores that have little to say, such as those
      of a model that found nothing in its own task: their weights begin smaller, and are earned more slowly.
    - `slope`, `weight`: $b_0$ and $\lambda$.
    - `state`: the weights and the offset; None until adapted.

    **Raises:** `ValueError` if there are no bases, merits are of another number or out of range, or $\lambda$ is not above 0.
    """

    scores_mean: ClassVar[bool] = True

    bases: tuple[Surrogate, ...]
    merits: tuple[float, ...] | None = eqx.field(static=True, default=None)
    slope: float = eqx.field(static=True, default=0.5)
    weight: float = eqx.field(static=True, default=4.0)
    state: Sum | None = None

    def __check_init__(self) -> None:
        check_positive(self, "weight")
        if not self.bases:
            raise ValueError("bases: () is empty; give at least one fitted surrogate.")
        if self.merits is not None and (
            len(self.merits) != len(self.bases) or not all(0 < merit < math.inf for merit in self.merits)
        ):
            raise ValueError(f"merits: {self.merits} must be {len(self.bases)} finite numbers above 0, one of each base.")

    def fit(self, x: Float[Arrays, "n d"], y: Float[Arrays, " n"], *, key: PRNGKeyArray) -> Self:
        """Fit every base, then the weights."""
        each = zip(self.bases, jax.random.split(key, len(self.bases)), strict=True)
        return replace(self, bases=tuple(base.fit(x, y, key=own) for base, own in each)).adapt(x, y, key=key)

    def adapt(self, x: Float[Arrays, "n d"], y: Float[Arrays, " n"], *, key: PRNGKeyArray) -> Self:
        """Find the weights for a task of which n points are known; the bases stay as they are, and `key` is not used."""
        points, targets = checked(x, y, least=1)
        score, count = _scores(self.bases, points), len(self.bases)
        centre, deviation = score.mean(axis=0), score.std(axis=0)
        varies = deviation > ROUNDING * np.abs(score).max(axis=0)
        unit = np.where(varies, deviation, np.inf) / np.array(self.merits or 1.0)
        scaled = (score - centre) / unit
        agreement = scaled.T @ (targets - targets.mean()) + self.weight * self.slope * targets.std()
        weights = np.linalg.solve(scaled.T @ scaled + count * self.weight * np.eye(count), agreement) / unit
        return replace(self, state=Sum(jnp.float32(weights), jnp.float32(targets.mean() - centre @ weights)))

    def predict(self, x: Float[Arrays, "n d"]) -> Prediction:
        """The weighted sums, and 0 for the doubt that they do not have."""
        fitted(self, self.state)
        assert self.state is not None
        if traced(x):
            mean = in_chunks(self.scorer(), jnp.asarray(x))
            return Prediction(mean, jnp.zeros_like(mean))
        # on the host: the sum of arrays of JAX's would be compiled for every n
        scaled = np.asarray(_scores(self.bases, checked_points(x)) @ np.asarray(self.state.weights), np.float32)
        total = scaled + np.asarray(self.state.offset)
        return Prediction(*jax.device_put((total, np.zeros_like(total))))

    def scorer(self) -> StackedScorer:
        """The weighted sums."""
        fitted(self, self.state)
        assert self.state is not None
        return StackedScorer(tuple(base.scorer() for base in self.bases), self.state)


class Sum(eqx.Module):
    """A weight for each score, and an offset."""

    weights: Float[Array, " q"]
    offset: Float[Array, ""]


class StackedScorer(eqx.Module):
    """A weighted sum of scorers' values."""

    scorers: tuple[Scorer, ...]
    sum: Sum

    def __call__(self, x: Float[Array, "n d"]) -> Float[Array, " n"]:
        """The values at n points."""
        return self.sum.offset + jnp.stack([scorer(x) for scorer in self.scorers], axis=1) @ self.sum.weights


def _scores(bases: Sequence[Surrogate], x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n q"]:
    """Base after base: those of one kind share a compiled program, however many there are."""
    return np.stack([scores(base.scorer(), x) for base in bases], axis=1).astype(float)
