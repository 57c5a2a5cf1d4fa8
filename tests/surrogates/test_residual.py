"""The laws of the corrected surrogate: it repairs a biased base, leaves a perfect one alone, and is honest about the rest."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surrogates.base import Prediction, Surrogate, fitted
from surrogates.exact_gp import ExactGP
from surrogates.residual import Residual
from surrogates.sparse_gp import SparseGP

KEY = jax.random.key(0)


def shared(x):
    return jnp.sin(2 * x[:, 0]) + x[:, 1]


class Score(eqx.Module):
    """Ranks as `shared` does, in other units."""

    unit: float

    def __call__(self, x):
        return self.unit * (shared(x) + 5.0)


class Shared(Surrogate):
    """A base that knows `shared` and, once adapted, the new task's mean level; its score is in units of its own."""

    unit: float = 1.0
    std: float = 0.0
    level: float | None = None

    def fit(self, x, y, *, key):
        return replace(self, level=0.0)

    def adapt(self, x, y, *, key):
        fitted(self, self.level)
        return replace(self, level=float(np.mean(y - shared(jnp.asarray(x)))))

    def predict(self, x):
        return Prediction(shared(jnp.asarray(x)) + self.level, jnp.full(len(x), self.std))

    def scorer(self):
        return Score(self.unit)


def task(n: int, *, seed: int = 0, own: float = 1.0, noise: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """A task that has `shared`, a level of 3 and something of its own."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3)).astype(np.float32)
    y = np.asarray(shared(jnp.asarray(x))) + 3.0 + own * np.cos(2 * x[:, 2]) + noise * rng.normal(size=n)
    return x, y.astype(np.float32)


def trained(**settings) -> Residual:
    return Residual(Shared(**settings), sparse=SparseGP(inducing=20)).fit(*task(60), key=KEY)


def test_a_biased_base_is_repaired():
    x, y = task(60)
    new, truth = task(200, seed=1)
    model = trained().adapt(x, y, key=KEY)
    alone, corrected = (np.std(surrogate.predict(new).mean - truth) for surrogate in (model.base, model))
    assert corrected < 0.5 * alone


def test_a_perfect_base_is_left_alone():
    new, truth = task(200, seed=1, own=0.0)
    for noise in (0.0, 0.3):
        prediction = trained().adapt(*task(60, own=0.0, noise=noise), key=KEY).predict(new)
        assert np.sqrt(np.mean((prediction.mean - truth) ** 2)) < 0.02 + 0.5 * noise


def test_intervals_cover():
    covered = []
    for seed in range(6):
        mean, std = trained().adapt(*task(60, seed=seed, noise=0.1), key=KEY).predict(task(100, seed=99)[0])
        covered.append(np.abs(mean - task(100, seed=99)[1]) < 1.645 * std)
    assert 0.75 < np.mean(covered) < 0.99


def test_a_measurement_is_less_sure_than_the_function_and_no_surer_than_the_base():
    model = trained(std=0.5).adapt(*task(60, noise=0.1), key=KEY)
    new, _ = task(100, seed=1)
    function, measurement = model.predict(new), model.predictive(new)
    np.testing.assert_array_equal(function.mean, measurement.mean)
    assert (measurement.std > function.std).all()
    assert (measurement.std >= model.base.predictive(new).std).all()
    timid = trained(std=50.0).adapt(*task(60), key=KEY)
    np.testing.assert_allclose(timid.predictive(new).std, 50.0, rtol=0.01)


def test_deviation_is_the_root_of_the_squares():
    x, y = task(40)
    alone, doubtful = (trained(std=std).adapt(x, y, key=KEY).predict(x).std for std in (0.0, 0.5))
    np.testing.assert_allclose(doubtful, np.hypot(alone, 0.5), rtol=1e-3)


@pytest.mark.parametrize("unit", [1.0, 7.0, 0.01])
def test_scorer_is_the_mean_whatever_the_base_scores_in(unit):
    model = trained(unit=unit).adapt(*task(60), key=KEY)
    new, _ = task(50, seed=1)
    score = jax.jit(lambda scorer, x: scorer(x))(model.scorer(), new)
    np.testing.assert_allclose(score, model.predict(new).mean, atol=2e-3)


def test_many_points_take_the_sparse_process():
    model = replace(trained(), exact_limit=50)
    few, many = (model.adapt(*task(n), key=KEY) for n in (50, 51))
    assert isinstance(few.state.process, ExactGP)
    assert isinstance(many.state.process, SparseGP)
    new, _ = task(50, seed=1)
    assert np.corrcoef(few.predict(new).mean, many.predict(new).mean)[0, 1] > 0.9


def test_conditioning_keeps_the_base_and_takes_the_new_points():
    x, y = task(60)
    model = trained().adapt(x[:40], y[:40], key=KEY)
    more = model.condition(x, y)
    assert eqx.tree_equal(model.base, more.base)
    np.testing.assert_allclose(model.condition(x[:40], y[:40]).predict(x).mean, model.predict(x).mean, atol=1e-3)
    assert np.abs(more.predict(x).mean - y).max() < np.abs(model.predict(x).mean - y).max()


def test_same_key_gives_the_same_model():
    assert eqx.tree_equal(*(trained().adapt(*task(30), key=KEY) for _ in range(2)))


def test_errors_name_the_argument():
    x, y = task(10)
    recipe = Residual(Shared())
    for use in (lambda: recipe.predict(x), recipe.scorer, lambda: recipe.condition(x, y)):
        with pytest.raises(ValueError, match="Residual knows nothing yet"):
            use()
    with pytest.raises(ValueError, match="Shared knows nothing yet"):
        recipe.adapt(x, y, key=KEY)
    with pytest.raises(ValueError, match="x: 1 points are too few"):
        trained().adapt(x[:1], y[:1], key=KEY)
    with pytest.raises(ValueError, match=r"y: shape \(5,\) must be \(10,\)"):
        recipe.fit(x, y[:5], key=KEY)
    with pytest.raises(ValueError, match="x: row 0, column 0 is not finite"):
        recipe.fit(x * np.nan, y, key=KEY)
