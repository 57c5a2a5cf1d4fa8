"""Scales: features and targets brought to zero mean and unit deviation; what does not vary is left in place."""

from __future__ import annotations

from typing import Self

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float


class Standardizer(eqx.Module):
    """The map (value - mean) / scale, column by column or of a vector as a whole."""

    mean: Float[Array, "*d"]
    scale: Float[Array, "*d"]

    @classmethod
    def of(cls, values: Float[Array, n * d], real: Bool[Array, " n"] | None = None) -> Self:
        """The standardizer of n values; a column that does not vary gets scale 1.

        `real` tells which are values; the others are padding. None: all are.
        """
        values = jnp.asarray(values)
        counted = True if real is None else real.reshape(-1, *[1] * (values.ndim - 1))
        mean, deviation = values.mean(axis=0, where=counted), values.std(axis=0, where=counted)
        varies = deviation > 1e-6 * (jnp.abs(mean) + jnp.finfo(values.dtype).tiny)
        return cls(mean, jnp.where(varies, deviation, 1.0))

    def __call__(self, values: Float[Array, n * d]) -> Float[Array, n * d]:
        """Standardise."""
        return (values - self.mean) / self.scale

    def on_host(self, values: Float[np.ndarray, n * d]) -> Float[np.ndarray, n * d]:
        """Standardise any number of values without compiling for it."""
        return (values - np.asarray(self.mean)) / np.asarray(self.scale)

    def undo(self, values: Float[Array, n * d]) -> Float[Array, n * d]:
        """The values that were standardised."""
        return values * self.scale + self.mean
