"""The laws of learning roots: the base sees roots, the moments are those of a square, and ranks stay."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surrogates import ExactGP, Residual, SquareRoot
from surrogates.base import Prediction, Surrogate

KEY = jax.random.key(0)
X = np.random.default_rng(0).uniform(-1, 1, (40, 3)).astype(np.float32)
Y = np.maximum(50 * X[:, 0] + 30 * X[:, 1], 0)


class Fixed(Surrogate):
    """Believes the same of every point, and keeps what it was fitted to."""

    mean: float = 3.0
    std: float = 0.5
    seen: tuple = ()

    def fit(self, x, y, *, key):
        return replace(self, seen=(x, y))

    adapt = fit

    def predict(self, x):
        return Prediction(jnp.full(len(x), self.mean), jnp.full(len(x), self.std))

    def predictive(self, x):
        return Prediction(jnp.full(len(x), self.mean), jnp.full(len(x), 2 * self.std))

    def scorer(self):
        return lambda x: x[:, 0]


@pytest.mark.parametrize("verb", ["fit", "adapt"])
def test_the_base_learns_roots(verb):
    x, y = getattr(SquareRoot(Fixed()), verb)(X, Y, key=KEY).base.seen
    np.testing.assert_array_equal(x, X)
    np.testing.assert_allclose(y**2, Y, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("mean", "std"), [(3.0, 0.5), (0.1, 1.0), (0.0, 2.0)])
def test_moments_are_those_of_the_square(mean, std):
    model = SquareRoot(Fixed(mean, std))
    for deviation, prediction in ((std, model.predict(X)), (2 * std, model.predictive(X))):
        samples = (mean + deviation * jax.random.normal(KEY, (200_000,))) ** 2
        np.testing.assert_allclose(prediction.mean, samples.mean(), rtol=0.02)
        np.testing.assert_allclose(prediction.std, samples.std(), rtol=0.02)


def test_a_negative_root_counts_as_zero():
    np.testing.assert_allclose(SquareRoot(Fixed(-3.0, 0.1)).predict(X).mean, 0.01, rtol=1e-5)


def test_a_smooth_function_is_learned_and_ranked_by_its_root():
    model = SquareRoot(ExactGP()).fit(X, Y, key=KEY)
    new = np.random.default_rng(1).uniform(-1, 1, (200, 3)).astype(np.float32)
    truth = np.maximum(50 * new[:, 0] + 30 * new[:, 1], 0)
    mean, _ = model.predict(new)
    assert np.corrcoef(mean, truth)[0, 1] > 0.95
    sure = truth > 5
    score = np.asarray(model.scorer()(jnp.asarray(new)))
    assert np.corrcoef(score[sure] ** 2, mean[sure])[0, 1] > 0.99


def test_what_is_refused():
    with pytest.raises(ValueError, match=r"y: -1\.0 is negative"):
        SquareRoot(ExactGP()).fit(X, Y - 1, key=KEY)
    with pytest.raises(ValueError, match="ExactGP knows nothing yet"):
        SquareRoot(ExactGP()).predict(X)
    with pytest.raises(ValueError, match="Residual knows nothing yet"):
        SquareRoot(Residual(ExactGP())).predict(X)
