"""Predictions of a deep Gaussian process at any number of points: in chunks that stay in the cache, and in flat memory."""

from __future__ import annotations

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from surrogates.base import Prediction
from surrogates.chunks import in_chunks, in_parts
from surrogates.deep_gp_layer import Composition

CHUNK = 4096
"""Rows worked through at once: their covariances with the inducing points stay in the cache."""

ROWS = 1 << 15
"""Rows given to compiled code at once."""


class Predictor(eqx.Module):
    """Moments at any points, in standardised units; what does not depend on the points is computed."""

    model: Composition
    whiteners: Float[Array, "l m m"]
    noise: Float[Array, "s c w"] | None

    def __call__(self, x: Float[Array, "n d"]) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
        """Mean and variance: of the mixture over s samples if there is noise to draw them with, for c points at most then."""
        if self.noise is None:
            return self.model.moments(x, self.whiteners)
        mean, variance = self.model.sampled_moments(x, self.whiteners, self.noise[:, : len(x)])
        return mean.mean(axis=0), variance.mean(axis=0) + mean.var(axis=0)

    @property
    def chunk(self) -> int:
        """Rows worked through at once."""
        return CHUNK if self.noise is None else self.noise.shape[1]


@eqx.filter_jit
def predictor_of(model: Composition, samples: int = 0, key: PRNGKeyArray | None = None) -> Predictor:
    """The predictor by means, or by so many samples; all chunks of rows share their random numbers."""
    chunk = CHUNK >> max(samples - 1, 0).bit_length() or 1
    noise = None if key is None else jax.random.normal(key, (samples, chunk, model.width), np.float32)
    return Predictor(model, model.whiteners(), noise)


@eqx.filter_jit
def predict(predictor: Predictor, x: Float[Array, "n d"]) -> Prediction:
    """Mean and standard deviation in the units of the targets."""
    mean, variance = in_chunks(predictor, x, predictor.chunk)
    targets = predictor.model.targets
    return Prediction(targets.undo(mean), targets.scale * variance**0.5)


def predict_rows(predictor: Predictor, x: Float[np.ndarray, "n d"]) -> Prediction:
    """The same at points that are not on the device."""
    return in_parts(lambda rows: predict(predictor, rows), x, ROWS)
