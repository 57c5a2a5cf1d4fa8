"""The laws of expected improvement and of batches that believe their own predictions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.expected_improvement import believed_batch, expected_improvement
from surrogates.exact_gp import ExactGP

KEY = jax.random.key(0)


def points(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(seed).uniform(-1, 1, (n, 2)).astype(np.float32)
    return x, np.sin(3 * x[:, 0]) + x[:, 1]


@pytest.fixture(scope="module")
def model() -> ExactGP:
    return ExactGP().fit(*points(30), key=KEY)


@pytest.mark.parametrize(("mean", "std", "best"), [(0.0, 1.0, 0.5), (2.0, 0.5, 0.5), (-1.0, 2.0, 1.0)])
def test_it_is_the_mean_of_the_gain(mean, std, best):
    samples = mean + std * jax.random.normal(KEY, (400_000,))
    expected = jnp.maximum(samples - best, 0).mean()
    np.testing.assert_allclose(expected_improvement(*map(jnp.float32, (mean, std, best))), expected, rtol=0.02)


@given(st.floats(-3, 3), st.floats(0.1, 3), st.floats(0.01, 1))
def test_it_grows_with_mean_and_doubt(mean, std, more):
    def gain(mean, std):
        return float(expected_improvement(jnp.float32(mean), jnp.float32(std), jnp.float32(0.0)))

    assert gain(mean + more, std) >= gain(mean, std) - 1e-6
    assert gain(mean, std) >= 0
    assert gain(mean, std + more) >= gain(mean, std) - 1e-6


def test_the_first_pick_improves_most_and_picks_are_distinct(model):
    x, y = points(200, seed=1)
    mean, std = model.predict(x)
    rows = believed_batch(model, x, float(y.max()), 10)
    assert rows[0] == np.argmax(expected_improvement(mean, std, jnp.float32(y.max())))
    assert len(set(rows.tolist())) == 10


def test_another_acquisition_takes_its_place(model):
    x, _ = points(200, seed=1)
    rows = believed_batch(model, x, 0.0, 10, acquisition=lambda mean, std, best: mean)
    np.testing.assert_array_equal(np.sort(rows), np.sort(np.argsort(-np.asarray(model.predict(x).mean))[:10]))


@pytest.mark.parametrize("rough", [False, True])
def test_later_picks_are_those_of_a_model_that_believed_the_earlier(model, rough):
    x, y = points(30)
    candidates, _ = points(150, seed=2)
    rows = believed_batch(model, candidates, float(y.max()), 4, rough=rough)
    for i in range(1, 4):
        believed = model.predict(candidates[rows[:i]]).mean
        later = model.condition(np.vstack([x, candidates[rows[:i]]]), np.append(y, believed))
        mean, std = later.predictive(candidates) if rough and i % 2 else later.predict(candidates)
        gain = np.array(expected_improvement(mean, std, jnp.float32(max(y.max(), believed.max()))))
        gain[rows[:i]] = 0
        assert gain[rows[i]] > 0.8 * gain.max()


def test_fewer_candidates_than_asked_are_all_picked(model):
    x, _ = points(5, seed=3)
    assert sorted(believed_batch(model, x, 0.0, 8).tolist()) == [0, 1, 2, 3, 4]


def test_a_known_mean_adds_to_the_model(model):
    x, y = points(100, seed=4)
    known = np.zeros(100)
    known[17] = 100.0
    assert believed_batch(model, x, float(y.max()), 1, known=known)[0] == 17
    shifted = believed_batch(model, x, float(y.max()) + 5, 6, known=np.full(100, 5.0))
    np.testing.assert_array_equal(shifted, believed_batch(model, x, float(y.max()), 6))
