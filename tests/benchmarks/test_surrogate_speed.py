"""How long the surrogates take to train, adapt, predict and score; `experiments/surrogate_speed.py` has the competitors."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surrogates import DeepGP, ExactGP

KEY, FEATURES, MANY = jax.random.key(0), 20, 40_000

MODELS = {"default": DeepGP(), "128": DeepGP(inducing=128), "paper": DeepGP.paper()}


def points(n: int) -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(n).normal(size=(n, FEATURES)).astype(np.float32)
    return x, 2 + np.sin(x[:, 0]) + 0.3 * x[:, 1] * x[:, 2]


@pytest.fixture(scope="module", params=MODELS)
def recipe(request) -> DeepGP:
    return MODELS[request.param]


@pytest.fixture(scope="module")
def model(recipe) -> DeepGP:
    return replace(recipe, epochs=10).fit(*points(1024), key=KEY)


def timed(benchmark, call, *, of: int, rounds: int = 5) -> None:
    """Time a call after one that compiles; the report has its median nanoseconds a step, row or point."""
    jax.block_until_ready(call())
    benchmark.pedantic(lambda: jax.block_until_ready(call()), rounds=rounds)
    if benchmark.stats is not None:  # under --benchmark-disable
        benchmark.extra_info["ns_each"] = round(benchmark.stats.stats.median / of * 1e9, 1)


def test_training_step(benchmark, recipe):
    """With the choice of the inducing points, once for 20 epochs of 16 steps."""
    x, y = points(4096)
    settings = replace(recipe, epochs=20, patience=1000)
    timed(benchmark, lambda: settings.fit(x, y, key=KEY), of=20 * 16, rounds=3)


@pytest.mark.parametrize("samples", [0, 1, 10])
def test_prediction(benchmark, model, samples):
    x, _ = points(MANY)
    keyed = {"samples": samples, "key": KEY} if samples else {}
    timed(benchmark, lambda: model.predict(x, **keyed), of=MANY * max(samples, 1))


def test_scorer(benchmark, model):
    score, scorer, x = eqx.filter_jit(lambda scorer, x: scorer(x)), model.scorer(), jnp.asarray(points(MANY)[0])
    timed(benchmark, lambda: score(scorer, x), of=MANY)


def test_adaptation(benchmark):
    model = DeepGP(epochs=10).fit(*points(1024), key=KEY)
    x, y = points(300)
    timed(benchmark, lambda: model.adapt(x, y, key=KEY), of=300, rounds=3)


@pytest.mark.parametrize("n", [64, 300, 1000])
def test_exact_fit(benchmark, n):
    x, y = points(n)
    timed(benchmark, lambda: ExactGP().fit(x, y, key=KEY), of=n, rounds=3)


@pytest.mark.parametrize("n", [64, 300, 1000])
def test_exact_prediction(benchmark, n):
    model, new = ExactGP().fit(*points(n), key=KEY), points(MANY)[0]
    timed(benchmark, lambda: model.predict(new), of=MANY)
