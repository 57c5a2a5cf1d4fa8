"""The laws of Algorithm 3: resamples are bootstrap resamples, and sum, mean and spread are those of the members."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surrogates.base import Prediction, Surrogate, traced
from surrogates.ensemble import BootstrapEnsemble, resamples
from surrogates.exact_gp import ExactGP
from surrogates.mlp import MLP

KEY = jax.random.key(0)
SMALL = MLP(widths=(16,), epochs=30)


class Average(Surrogate):
    """The mean target everywhere: simple enough to compute by hand. Not vectorised, so it must not be traced."""

    mean: float | None = None

    def fit(self, x, y, *, key):
        assert not traced(x)
        assert not traced(y)
        return replace(self, mean=float(np.mean(y)))

    def predict(self, x):
        return Prediction(jnp.full(len(x), self.mean), jnp.ones(len(x)))

    def scorer(self):
        return lambda x: jnp.full(len(x), self.mean)


def points(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(seed).uniform(-1, 1, (n, 3)).astype(np.float32)
    return x, np.sin(2 * x[:, 0]) + x[:, 1]


@pytest.fixture(scope="module")
def perceptrons() -> BootstrapEnsemble:
    return BootstrapEnsemble(SMALL, members=3).fit(*points(40), key=KEY)


def test_resamples_are_uniform_with_replacement():
    n = 20_000
    rows = resamples(n, 4, key=KEY)
    assert rows.shape == (4, n)
    assert rows.min() >= 0
    assert rows.max() < n
    distinct = [len(np.unique(member)) / n for member in rows]
    np.testing.assert_allclose(distinct, 1 - 1 / np.e, atol=0.01)
    share = np.histogram(rows, bins=10, range=(0, n))[0] / rows.size
    np.testing.assert_allclose(share, 0.1, atol=0.005)
    assert (rows[0] != rows[1]).mean() > 0.99


def test_each_member_sees_its_resample_only():
    x, y = points(30)
    ensemble = BootstrapEnsemble(Average(), members=5).fit(x, y, key=KEY)
    drawn = resamples(30, 5, key=jax.random.split(KEY)[0])
    assert [model.mean for model in ensemble.state] == [float(np.mean(np.float32(y)[rows])) for rows in drawn]


def test_the_doubt_is_the_members_spread():
    ensemble = BootstrapEnsemble(Average(), state=(Average(1.0), Average(4.0)))
    prediction = ensemble.predict(np.zeros((3, 2)))
    np.testing.assert_allclose(prediction.mean, 2.5)
    np.testing.assert_allclose(prediction.std, 1.5 * np.sqrt(2))
    np.testing.assert_allclose(ensemble.scorer()(np.zeros((3, 2))), 5.0)


def test_sum_mean_and_spread_are_those_of_the_members(perceptrons):
    x, _ = points(9, seed=1)
    means = np.stack([model.predict(x).mean for model in perceptrons.state])
    np.testing.assert_array_equal(perceptrons.predict(x).mean, jnp.asarray(means).mean(axis=0))
    np.testing.assert_array_equal(perceptrons.predict(x).std, jnp.asarray(means).std(axis=0, ddof=1))
    np.testing.assert_allclose(perceptrons.scorer()(x), means.sum(axis=0), rtol=1e-5)


def test_vmapped_members_are_members_fitted_one_by_one(perceptrons):
    x, y = points(40)
    draw, train = jax.random.split(KEY)
    unseen, _ = points(20, seed=1)
    for model, rows, key in zip(perceptrons.state, resamples(40, 3, key=draw), jax.random.split(train, 3), strict=True):
        alone = SMALL.fit(x[rows], y[rows], key=key)
        np.testing.assert_allclose(model.predict(unseen).mean, alone.predict(unseen).mean, atol=1e-3)
        assert jax.tree.structure(model) == jax.tree.structure(alone)


def test_gaussian_processes_are_vmapped_too():
    x, y = points(40)
    recipe = ExactGP(evaluations=10)
    ensemble = BootstrapEnsemble(recipe, members=3).fit(x, y, key=KEY)
    drawn = resamples(40, 3, key=jax.random.split(KEY)[0])
    for model, rows in zip(ensemble.state, drawn, strict=True):
        alone = recipe.fit(x[rows], y[rows], key=KEY)
        np.testing.assert_allclose(model.predict(x).mean, alone.predict(x).mean, atol=0.02)
        assert jax.tree.structure(model) == jax.tree.structure(alone)


def test_members_differ_and_the_key_decides_them(perceptrons):
    x, y = points(40)
    again = BootstrapEnsemble(SMALL, members=3).fit(x, y, key=KEY).predict(x)
    other = BootstrapEnsemble(SMALL, members=3).fit(x, y, key=jax.random.key(1)).predict(x)
    assert (again.mean == perceptrons.predict(x).mean).all()
    assert (other.mean != again.mean).any()
    assert again.std.min() > 0


def test_the_doubt_is_larger_far_from_the_points(perceptrons):
    x, _ = points(40)
    assert perceptrons.predict(x * 5).std.mean() > 2 * perceptrons.predict(x).std.mean()


def test_the_score_is_a_pytree_for_jitted_searches(perceptrons):
    x, _ = points(6)
    score = eqx.filter_jit(lambda scorer, x: scorer(x))(perceptrons.scorer(), jnp.asarray(x))
    np.testing.assert_allclose(score, perceptrons.scorer()(x), rtol=1e-5)


@pytest.mark.parametrize("y", [np.zeros(40), np.full(40, 3.0), np.eye(40)[0]], ids=["failed", "constant", "one worked"])
def test_constant_targets_and_features_give_no_nan(y):
    prediction = BootstrapEnsemble(SMALL, members=3).fit(np.ones((40, 3)), y, key=KEY).predict(np.ones((1, 3)))
    assert np.isfinite(prediction).all()


def test_refusals_name_what_is_wrong():
    with pytest.raises(ValueError, match="members: 1 must be at least 2"):
        BootstrapEnsemble(SMALL, members=1)
    with pytest.raises(ValueError, match="BootstrapEnsemble knows nothing yet"):
        BootstrapEnsemble(SMALL).scorer()
    with pytest.raises(ValueError, match="too few"):
        BootstrapEnsemble(SMALL).fit(np.ones((1, 2)), [1.0], key=KEY)
