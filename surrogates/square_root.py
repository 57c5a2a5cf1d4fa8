"""Surrogates of the square root of a throughput: errors matter in proportion, and a failure is still 0."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from surrogates.base import Arrays, Prediction, Scorer, Surrogate, checked


class SquareRoot(Surrogate):
    r"""A surrogate that learns $\sqrt y$, and speaks of y.

    Between layers and within one, throughput spreads over two orders of magnitude. In its own unit the slow half of a space is
    one flat floor, and its order is lost; logarithms spend the model on that half, and a failure has none. The root lies
    between. If the base believes $\sqrt y \sim N(\mu, \sigma^2)$,

    $$ E y = \mu^2 + \sigma^2, \qquad V y = 4 \mu^2 \sigma^2 + 2 \sigma^4, $$

    where a negative $\mu$ counts as 0.

    **Arguments:**

    - `base`: any surrogate; `adapt` needs one that adapts.
    """

    base: Any

    def fit(self, x: Float[Arrays, "n d"], y: Float[Arrays, " n"], *, key: PRNGKeyArray) -> Self:
        """Fit the base to the roots.

        **Raises:** `ValueError` for a negative target, and as the base does.
        """
        return replace(self, base=self.base.fit(*_rooted(x, y), key=key))

    def adapt(self, x: Float[Arrays, "n d"], y: Float[Arrays, " n"], *, key: PRNGKeyArray) -> Self:
        """Adapt the base to the roots.

        **Raises:** `ValueError` for a negative target, and as the base does.
        """
        return replace(self, base=self.base.adapt(*_rooted(x, y), key=key))

    def predict(self, x: Float[Arrays, "n d"]) -> Prediction:
        """Mean and standard deviation of the root's square."""
        return _squared(self.base.predict(x))

    def predictive(self, x: Float[Arrays, "n d"]) -> Prediction:
        """Mean and standard deviation of a measurement."""
        return _squared(self.base.predictive(x))

    def scorer(self) -> Scorer:
        """The base's: roots rank alike."""
        return self.base.scorer()


def _rooted(x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
    points, targets = checked(x, y, least=1)
    if targets.min() < 0:
        raise ValueError(f"y: {targets.min()} is negative and has no square root; give throughputs, 0 for failures.")
    return points, np.sqrt(targets)


@jax.jit
def _squared(root: Prediction) -> Prediction:
    mean, variance = jnp.maximum(root.mean, 0.0), root.std**2
    return Prediction(mean**2 + variance, jnp.sqrt(4 * mean**2 * variance + 2 * variance**2))
