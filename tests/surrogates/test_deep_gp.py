"""The laws of the deep GP: it learns, transfers, keeps to its prior, is deterministic, compiles once, and never says NaN."""

import os
import subprocess
import sys
from dataclasses import replace
from functools import cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surrogates.deep_gp import DeepGP, NegativeELBO
from surrogates.pooling import pool

KEY = jax.random.key(0)
SMALL = DeepGP(hidden=(3,), inducing=24, epochs=150, batch=128, adapt_epochs=100)


def points(seed: int, n: int, d: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def smooth(x: np.ndarray, shift: float = 0.0) -> np.ndarray:
    """A positive function of two of the features."""
    return np.exp(-((x[:, 0] - shift) ** 2)) + 0.5 * np.cos(x[:, 1]) + 0.5


def relative_error(model: DeepGP, x: np.ndarray, y: np.ndarray) -> float:
    return float(np.sqrt(np.mean((model.predict(x).mean - y) ** 2)) / y.std())


X, TEST = points(0, 250), points(1, 400)
MODEL = cache(lambda: SMALL.fit(X, smooth(X), key=KEY))


def parameters(model: DeepGP) -> np.ndarray:
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves((model.state.layers, model.state.noise))])


def test_smooth_function_is_learned():
    assert relative_error(MODEL(), TEST, smooth(TEST)) < 0.25
    assert relative_error(replace(SMALL, epochs=1).fit(X, smooth(X), key=KEY), TEST, smooth(TEST)) > 0.5


@pytest.mark.parametrize("settings", [{"hidden": ()}, {"hidden": (5, 2), "inner": "full", "samples": 2, "epochs": 100}])
def test_any_depth_width_and_covariance_learns(settings):
    model = replace(SMALL, **settings).fit(X, smooth(X), key=KEY)
    assert len(model.state.layers) == len(model.hidden) + 1
    assert relative_error(model, TEST, smooth(TEST)) < 0.4


def test_uncertainty_grows_away_from_the_data():
    near, far = MODEL().predict(X).std.mean(), MODEL().predict(X + 30).std.mean()
    assert far > 2 * near


def test_bound_rises():
    start = SMALL._start(X, smooth(X), KEY)
    bound = eqx.filter_jit(lambda state: -NegativeELBO(50)(state, X, jnp.asarray(smooth(X)), jnp.ones(len(X)), key=KEY)[0])
    assert bound(MODEL().state) > bound(start) + 50


def test_predictions_have_the_targets_units():
    scaled = SMALL.fit(X, 1000 * smooth(X) + 5000, key=KEY).predict(TEST)
    plain = MODEL().predict(TEST)
    np.testing.assert_allclose((scaled.mean - 5000) / 1000, plain.mean, atol=0.15)
    np.testing.assert_allclose(scaled.std.mean() / 1000, plain.std.mean(), rtol=0.5)


@pytest.mark.parametrize("n", [1, 63, 64, 4097])
def test_any_number_of_points_is_predicted_alike(n):
    x = points(2, 4097)
    whole, part = MODEL().predict(x), MODEL().predict(x[:n])
    for values, some in zip(whole, part, strict=True):
        np.testing.assert_allclose(values[:n], some, rtol=1e-4, atol=1e-4)
        assert some.shape == (n,)


def test_prediction_inside_jit_is_that_outside():
    inside = eqx.filter_jit(lambda model, x: model.predict(x))(MODEL(), TEST)
    for ours, theirs in zip(inside, MODEL().predict(TEST), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_sampled_prediction_is_the_mixture():
    sampled, means = MODEL().predict(TEST, samples=100, key=KEY), MODEL().predict(TEST)
    assert np.corrcoef(sampled.mean, means.mean)[0, 1] > 0.98
    assert sampled.std.mean() > means.std.mean()
    with pytest.raises(ValueError, match="key"):
        MODEL().predict(TEST, samples=2)


def test_scorer_is_the_mean_and_compiles_once():
    traces = []

    @eqx.filter_jit
    def search(scorer, x):
        traces.append(x.shape)
        return scorer(x)

    many = points(3, 5000)
    for model in (MODEL(), MODEL().adapt(X[:60], smooth(X[:60], 1.0), key=KEY)):
        np.testing.assert_allclose(search(model.scorer(), many), model.predict(many).mean, rtol=1e-3, atol=2e-3)
    assert len(traces) == 1


def test_a_key_decides():
    assert eqx.tree_equal(MODEL(), SMALL.fit(X, smooth(X), key=KEY))
    assert not eqx.tree_equal(MODEL(), SMALL.fit(X, smooth(X), key=jax.random.key(1)))


def test_prior_holds_parameters():
    target = smooth(X[:60], shift=2.0)
    moved = []
    for variance in (1e-6, 1e-2, 1.0, None):
        adapted = replace(MODEL(), prior_variance=variance).adapt(X[:60], target, key=KEY)
        moved.append(np.linalg.norm(parameters(adapted) - parameters(MODEL())))
    assert moved[0] < 0.1 * moved[1] < moved[1] < moved[2] < moved[3]


def test_last_layer_alone_can_be_adapted():
    adapted = replace(MODEL(), adapted="last").adapt(X[:60], smooth(X[:60], 2.0), key=KEY)
    assert eqx.tree_equal(adapted.state.layers[0], MODEL().state.layers[0])
    assert not eqx.tree_equal(adapted.state.layers[1], MODEL().state.layers[1])


def test_transfer_beats_fitting_the_few_points_alone():
    sources = ((X[:80], 1.0, 0.0), (X[80:160], 50.0, 0.3), (X[160:], 9.0, -0.3))
    pooled = pool([(x, unit * smooth(x, shift)) for x, unit, shift in sources])
    few, target = points(4, 40), 700.0 * smooth(points(4, 40), 0.5)
    adapted = SMALL.fit(pooled.x, pooled.y, key=KEY).adapt(few, target, key=KEY)
    alone = replace(SMALL, epochs=400).fit(few, target, key=KEY)
    truth = 700.0 * smooth(TEST, 0.5)
    assert relative_error(adapted, TEST, truth) < 0.8 * relative_error(alone, TEST, truth)


def test_new_task_has_its_own_unit():
    held = replace(MODEL(), prior_variance=1e-8)
    few, before = X[:60], MODEL().predict(TEST).mean
    adapted = held.adapt(few, 40 * smooth(few), key=KEY)
    np.testing.assert_allclose(adapted.predict(TEST).mean / 40, before, rtol=0.05, atol=0.05)
    again = adapted.adapt(few, smooth(few), key=KEY)
    np.testing.assert_allclose(again.predict(TEST).mean, before, rtol=0.1, atol=0.1)


def test_targets_that_may_be_negative_keep_their_unit():
    few = X[:60]
    held = replace(SMALL, prior_variance=1e-8).fit(X, smooth(X) - 5, key=KEY)
    adapted = held.adapt(few, smooth(few) - 5, key=KEY)
    np.testing.assert_allclose(adapted.predict(TEST).mean, held.predict(TEST).mean, atol=0.05)


@pytest.mark.parametrize("y", [np.zeros(40), np.full(40, 7.0)], ids=["all failed", "constant"])
def test_constant_targets_and_features_are_learned_without_nan(y):
    x = points(5, 40)
    x[:, 1:] = 3.0
    model = SMALL.fit(x, y, key=KEY)
    for fitted in (model, model.adapt(x, y, key=KEY), MODEL().adapt(x, y, key=KEY)):
        prediction = fitted.predict(x)
        assert np.isfinite(prediction.mean).all()
        assert np.isfinite(prediction.std).all()
    np.testing.assert_allclose(model.predict(x).mean, y, atol=0.05)


def test_two_points_are_enough():
    prediction = replace(SMALL, hidden=()).fit(X[:2], smooth(X[:2]), key=KEY).predict(TEST)
    assert all(np.isfinite(values).all() for values in prediction)


def test_recipe_refuses_to_predict():
    for use in (lambda: SMALL.predict(TEST), SMALL.scorer, lambda: SMALL.adapt(X, smooth(X), key=KEY)):
        with pytest.raises(ValueError, match="call `fit`"):
            use()


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda: SMALL.fit(X, smooth(X)[:-1], key=KEY), "a target for each"),
        (lambda: MODEL().adapt(X[:, :2], smooth(X), key=KEY), "2 columns, but the model was fitted on 4"),
        (lambda: MODEL().predict(TEST[:, :3]), "3 columns, but the model was fitted on 4"),
        (lambda: DeepGP(inducing=0), "inducing: 0"),
        (lambda: DeepGP(hidden=(4, 0)), r"hidden: \(4, 0\)"),
        (lambda: DeepGP(prior_variance=0.0), "prior_variance: 0.0"),
        (lambda: DeepGP(inner="sparse"), "inner: 'sparse'"),
        (lambda: DeepGP(adapted="first"), "adapted: 'first'"),
    ],
)
def test_what_cannot_be_used_is_refused(use, message):
    with pytest.raises(ValueError, match=message):
        use()


def test_paper_has_the_papers_settings():
    paper = DeepGP.paper()
    assert (paper.hidden, paper.inducing, paper.epochs, paper.adapt_epochs) == ((10, 14), 128, 3000, 2000)
    assert (paper.batch, paper.learning_rate, paper.adapt_learning_rate) == (256, 0.04, 0.04)
    start = paper._start(points(6, 300, 20), points(6, 300, 1)[:, 0], KEY)
    shapes = [(layer.mean.value.shape, layer.lower.value.shape) for layer in start.layers]
    assert shapes == [((128, 10), (10, 128, 128)), ((128, 14), (14, 128, 128)), ((128, 1), (1, 128, 128))]


def test_training_does_not_hang():
    """XLA on the CPU has hung in gradients of batched factorisations; a hang here is a time-out, not a stuck run."""
    code = (
        "import jax, numpy as np; from surrogates.deep_gp import DeepGP; "
        "x = np.random.default_rng(0).normal(size=(512, 20)); "
        "model = DeepGP.paper(hidden=(3, 3), epochs=20, inducing=32).fit(x, x[:, 0], key=jax.random.key(0)); "
        "assert np.isfinite(model.predict(x).mean).all()"
    )
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    subprocess.run([sys.executable, "-c", code], check=True, timeout=100, env=environment)
