"""What other surrogates' scores say of a task, each as far as the task's own measurements bear it out: stacked regression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from surrogates.base import Arrays, Prediction, Scorer, Surrogate, check_positive, checked, checked_points, fitted, traced
from surrogates.chunks import in_chunks, scores


class Stacked(Surrogate):
    r"""A weighted sum of known scores, $f(x) = a + \sum_s b_s s_s(x)$, whose weights have to be earned (Breiman, 1996).

    What was learned of other tasks may rank this one's configurations well, or badly, or the wrong way round, and one of them
    well where another lies: no weight may be fixed. With scores centred and scaled to a deviation $m_s$, the merit of each, and
    targets standardised, the weights are the ridge estimate that shrinks towards middling ones,

    $$ b = (S^\top S + k \lambda I)^{-1} (S^\top y + k \lambda \tfrac{b_0}{k} 1). $$

    k scores that are all the same do together what one does: as if $\lambda$ points had been seen that agree with $b_0$. There
    is no doubt: a `Residual` on top of it has one.

    **Arguments:**

    - `bases`: k fitted surrogates, whose scores are used.
    - `merits`: how much each is worth hearing before anything is measured, above 0: say which part of the deviation of its own
      task's targets it explains, for one that found nothing has a score all the same. None for 1 each.
    - `slope`, `weight`: $b_0$ and $\lambda$.
    - `state`: the weights and the offset; None until adapted.

    **Raises:** `ValueError` if there are no bases, merits are of another number or not above 0, or $\lambda$ is not above 0.
    """

    bases: tuple[Surrogate, ...]
    merits: tuple[float, ...] | None = eqx.field(static=True, default=None)
    slope: float = eqx.field(static=True, default=0.5)
    weight: float = eqx.field(static=True, default=4.0)
    state: Sum | None = None

    def __check_init__(self) -> None:
        check_positive(self, "weight")
        if not self.bases:
            raise ValueError("bases: () is empty; give at least one fitted surrogate.")
        if self.merits is not None and (len(self.merits) != len(self.bases) or not all(merit > 0 for merit in self.merits)):
            raise ValueError(f"merits: {self.merits} must be {len(self.bases)} numbers above 0, one of each base.")

    def fit(self, x: Float[Arrays, "n d"], y: Float[Arrays, " n"], *, key: PRNGKeyArray) -> Self:
        """Fit every base, then the weights."""
        keys = jax.random.split(key, len(self.bases))
        bases = tuple(base.fit(x, y, key=key) for base, key in zip(self.bases, keys, strict=True))
        return replace(self, bases=bases).adapt(x, y, key=key)

    def adapt(self, x: Float[Arrays, "n d"], y: Float[Arrays, " n"], *, key: PRNGKeyArray) -> Self:
        """Find the weights for a task of which n points are known; the bases stay as they are, and `key` is not used."""
        points, targets = checked(x, y, least=1)
        score, count = _scores(self.bases, points), len(self.bases)
        centre, deviation = score.mean(axis=0), score.std(axis=0)
        unit = np.where(deviation > 0, deviation, 1.0) / np.array(self.merits or 1.0)
        scaled, prior = (score - centre) / unit, count * self.weight
        earned = scaled.T @ (targets - targets.mean()) + self.weight * self.slope * targets.std()
        weights = np.linalg.solve(scaled.T @ scaled + prior * np.eye(count), earned) / unit
        return replace(self, state=Sum(jnp.float32(weights), jnp.float32(targets.mean() - centre @ weights)))

    def predict(self, x: Float[Arrays, "n d"]) -> Prediction:
        """The weighted sums, and 0 for the doubt that they do not have."""
        scorer = self.scorer()
        if traced(x):
            mean = in_chunks(scorer, jnp.asarray(x))
            return Prediction(mean, jnp.zeros_like(mean))
        total = np.float32(_scores(self.bases, checked_points(x)) @ np.asarray(scorer.sum.weights) + scorer.sum.offset)
        return Prediction(*jax.device_put((total, np.zeros_like(total))))

    def scorer(self) -> StackedScorer:
        """The weighted sums."""
        fitted(self, self.state)
        assert self.state is not None
        return StackedScorer(tuple(base.scorer() for base in self.bases), self.state)


class Sum(eqx.Module):
    """A weight for each score, and an offset."""

    weights: Float[Array, " k"]
    offset: Float[Array, ""]


class StackedScorer(eqx.Module):
    """A weighted sum of scorers' values."""

    scorers: tuple[Scorer, ...]
    sum: Sum

    def __call__(self, x: Float[Array, "n d"]) -> Float[Array, " n"]:
        """The values at n points."""
        return self.sum.offset + jnp.stack([scorer(x) for scorer in self.scorers], axis=1) @ self.sum.weights


def _scores(bases: Sequence[Surrogate], x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n k"]:
    """Base after base: those of one kind share a compiled program, however many there are."""
    return np.stack([scores(base.scorer(), x) for base in bases], axis=1).astype(float)
