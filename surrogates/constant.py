"""The least that can be believed: every point is like the average of those that were seen."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from surrogates.base import Arrays, Prediction, Surrogate, checked, checked_points, fitted, traced


class Constant(Surrogate):
    """The mean of the targets, everywhere and without doubt.

    What every other surrogate has to beat, and the base of a `Residual` that has nothing to transfer.

    **Arguments:**

    - `mean`: None until fitted.
    """

    scores_mean: ClassVar[bool] = True

    mean: Float[Array, ""] | None = None

    def fit(self, x: Float[Arrays, "n d"], y: Float[Arrays, " n"], *, key: PRNGKeyArray) -> Self:
        """Take the mean; x and `key` are not used."""
        return replace(self, mean=jax.device_put(checked(x, y, least=1)[1].mean()))

    def adapt(self, x: Float[Arrays, "n d"], y: Float[Arrays, " n"], *, key: PRNGKeyArray) -> Self:
        """Forget the old mean, take the new one."""
        return self.fit(x, y, key=key)

    def predict(self, x: Float[Arrays, "n d"]) -> Prediction:
        """The mean, n times, and 0 for the doubt there is not."""
        mean = self.scorer()
        if traced(x):
            return Prediction(mean(jnp.asarray(x)), jnp.zeros(len(x)))
        rows = len(checked_points(x))
        return Prediction(*jax.device_put((np.full(rows, mean.mean, np.float32), np.zeros(rows, np.float32))))

    def scorer(self) -> ConstantScorer:
        """The mean."""
        fitted(self, self.mean)
        assert self.mean is not None
        return ConstantScorer(self.mean)


class ConstantScorer(eqx.Module):
    """A number for every point."""

    mean: Float[Array, ""]

    def __call__(self, x: Float[Array, "n d"]) -> Float[Array, " n"]:
        """The number, n times."""
        return jnp.full(len(x), self.mean)
