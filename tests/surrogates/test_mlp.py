"""The laws of the perceptron: it learns, repeats itself, never divides by a spread of zero, and seldom compiles."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surrogates import mlp
from surrogates.mlp import MLP, ROWS

KEY = jax.random.key(0)
SMALL = MLP(widths=(16,), epochs=20)


def smooth(x: np.ndarray) -> np.ndarray:
    return 100 + 30 * np.sin(3 * x[:, 0]) + 20 * x[:, 1] ** 2


def points(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (n, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def trained() -> MLP:
    return SMALL.fit(points(50), smooth(points(50)), key=KEY)


def test_learns_a_smooth_function():
    x, unseen = points(200), points(300, seed=1)
    error = MLP().fit(x, smooth(x), key=KEY).predict(unseen).mean - smooth(unseen)
    assert np.sqrt(np.mean(error**2)) < 0.1 * smooth(unseen).std()


def test_no_hidden_layer_is_linear_regression():
    x = points(60)
    y = 5 + x @ np.array([1.0, -2.0, 0.5], np.float32)
    linear = MLP(widths=(), epochs=400, learning_rate=0.1, weight_decay=0.0).fit(x, y, key=KEY)
    np.testing.assert_allclose(linear.predict(x).mean, y, atol=1e-2)


def test_claims_no_doubt(trained):
    assert not trained.predict(points(5)).std.any()


def test_same_key_gives_the_same_bits(trained):
    x = points(50)
    again, other = (SMALL.fit(x, smooth(x), key=key).predict(x).mean for key in (KEY, jax.random.key(1)))
    assert (again == trained.predict(x).mean).all()
    assert (other != again).any()


@pytest.mark.parametrize("count", [0, 1, 5, ROWS - 1, ROWS + 5])
def test_a_row_means_the_same_in_any_number(trained, count):
    x = points(count)
    predicted = trained.predict(x).mean
    assert predicted.shape == (count,)
    np.testing.assert_allclose(predicted, trained.scorer()(x), rtol=1e-5)


@pytest.mark.parametrize("target", [0.0, 7.0, -3.0])
def test_constant_features_and_targets_give_no_nan(target):
    x = points(50)
    x[:, 1] = 4.0
    np.testing.assert_allclose(SMALL.fit(x, np.full(50, target), key=KEY).predict(points(4)).mean, target, atol=1.5)
    still = SMALL.fit(np.ones((50, 3)), np.arange(50.0), key=KEY).predict(np.ones((1, 3))).mean
    assert np.isfinite(still).all()


def test_a_new_fit_compiles_no_search_again(trained):
    traces = []

    @eqx.filter_jit
    def search(scorer, x):
        traces.append(1)
        return scorer(x)

    other = SMALL.fit(points(33), smooth(points(33)), key=KEY)
    x = points(8)
    for model in (trained, other):
        np.testing.assert_allclose(search(model.scorer(), x), model.predict(x).mean, rtol=1e-5)
    assert len(traces) == 1


def test_a_few_more_points_compile_no_training_again(monkeypatch):
    forward, traces = mlp._forward, []
    monkeypatch.setattr(mlp, "_forward", lambda *arguments: traces.append(1) or forward(*arguments))
    recipe = MLP(widths=(5,), epochs=3)
    recipe.fit(points(17), smooth(points(17)), key=KEY)
    once = len(traces)
    assert once
    recipe.fit(points(31), smooth(points(31)), key=KEY)
    assert len(traces) == once


def test_predicts_inside_jit(trained):
    x = jnp.asarray(points(6))
    np.testing.assert_allclose(
        eqx.filter_jit(lambda model, x: model.predict(x))(trained, x).mean, trained.predict(x).mean, rtol=1e-5
    )


def test_refusals_name_what_is_wrong(trained):
    with pytest.raises(ValueError, match="MLP knows nothing yet"):
        SMALL.predict(points(2))
    with pytest.raises(ValueError, match="2 columns, but the model was fitted on 3"):
        trained.predict(points(2)[:, :2])
    with pytest.raises(ValueError, match="y: row 1 is not finite"):
        SMALL.fit(points(2), [0.0, np.nan], key=KEY)
    with pytest.raises(ValueError, match="epochs: 0 must be above 0"):
        MLP(epochs=0)
