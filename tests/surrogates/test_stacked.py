"""The laws of stacked scores: they follow the data, whichever way they run; little data and copies change little."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surrogates import Prediction, Residual, Stacked, Surrogate

KEY = jax.random.key(0)
X = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)


class Column(Surrogate):
    """Scores by one feature."""

    number: int = 0

    def fit(self, x, y, *, key):
        return self

    def predict(self, x):
        return Prediction(jnp.asarray(x)[:, self.number], jnp.zeros(len(x)))

    def scorer(self):
        return jax.tree_util.Partial(column, self.number)


def column(number, x):
    return x[:, number]


class Moved(Column):
    """Scores by the first feature in another unit."""

    scale: float = 1.0
    shift: float = 0.0

    def __init__(self, scale, shift):
        self.number, self.scale, self.shift = 0, scale, shift

    def scorer(self):
        return jax.tree_util.Partial(moved, self.scale, self.shift)


def moved(scale, shift, x):
    return shift + scale * x[:, 0]


FIRST, BOTH = (Column(),), (Column(), Column(1))


def weights_of(model: Stacked) -> np.ndarray:
    return np.asarray(model.state.weights)


@settings(deadline=None)
@given(st.floats(-5, 5), st.floats(-5, 5), st.floats(-100, 100))
def test_weights_are_found_whichever_way_they_run(first, second, offset):
    y = first * X[:, 0] + second * X[:, 1] + offset
    model = Stacked(BOTH, weight=1e-6).adapt(X, y, key=KEY)
    np.testing.assert_allclose(model.predict(X).mean, y, rtol=1e-3, atol=2e-3)


def test_few_points_leave_the_middling_weight():
    y = -X[:, 0]
    weights = [weights_of(Stacked(FIRST, slope=0.5, weight=4.0).adapt(X[:n], y[:n], key=KEY))[0] for n in (2, 8, 60)]
    assert weights[0] > weights[1] > weights[2] > -1
    assert weights[2] < -0.8


@settings(deadline=None, max_examples=20)
@given(st.integers(2, 60), st.integers(1, 5))
def test_copies_of_a_score_do_together_what_one_does(n, copies):
    y = np.sin(X[:n]).sum(axis=1)
    one, many = (Stacked(FIRST * count).adapt(X[:n], y, key=KEY).predict(X).mean for count in (1, copies))
    np.testing.assert_allclose(many, one, atol=1e-4)


@settings(deadline=None, max_examples=20)
@given(st.permutations([0, 1, 2]))
def test_the_order_of_scores_does_not_matter(order):
    y, merits = X[:, 2] - X[:, 1] ** 2, (1.0, 0.5, 0.25)
    first, second = (
        Stacked(tuple(map(Column, each)), tuple(merits[number] for number in each)).adapt(X, y, key=KEY).predict(X).mean
        for each in ([0, 1, 2], order)
    )
    np.testing.assert_allclose(second, first, atol=1e-5)


def test_one_that_lies_loses_its_weight_to_one_that_does_not():
    model = Stacked(BOTH).adapt(X[:16], X[:16, 0] - X[:16, 1], key=KEY)
    first, second = weights_of(model)
    assert first > 0.25
    assert second < 0


def test_little_merit_is_little_heard():
    y = X[:, 0] + X[:, 1]
    first, second = weights_of(Stacked(BOTH, (1.0, 0.1)).adapt(X[:8], y[:8], key=KEY))
    assert second < 0.1 * first


@pytest.mark.parametrize("ripple", [0.0, 1e-7])
def test_a_score_that_does_not_vary_has_no_weight(ripple):
    flat = np.column_stack([np.float32(1 + ripple * (X[:, 0] > 0)), X[:, 1:]])
    model = Stacked(BOTH).adapt(flat, X[:, 1], key=KEY)
    assert weights_of(model)[0] == 0
    np.testing.assert_allclose(model.predict(X).mean, model.predict(flat).mean, atol=1e-5)


@settings(deadline=None, max_examples=20)
@given(st.integers(2, 60), st.floats(0.1, 9), st.floats(0, 2), st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)))
def test_weights_are_the_ridge_estimate_that_the_docstring_gives(n, strength, slope, merits):
    x, y = X[:n], np.sin(X[:n, 0]) + X[:n, 1] ** 2
    model = Stacked(BOTH, merits, slope=slope, weight=strength).adapt(x, y, key=KEY)
    z = (x[:, :2] - x[:, :2].mean(axis=0)) / x[:, :2].std(axis=0) * merits
    unit = (y - y.mean()) / y.std()
    penalised = np.concatenate([z, np.sqrt(2 * strength) * np.eye(2)])
    beta = np.linalg.lstsq(penalised, np.concatenate([unit, np.sqrt(2 * strength) * np.full(2, slope / 2)]))[0]
    np.testing.assert_allclose(weights_of(model), beta * merits * y.std() / x[:, :2].std(axis=0), rtol=1e-3, atol=1e-4)


@settings(deadline=None, max_examples=20)
@given(st.floats(0.01, 100), st.floats(-100, 100), st.floats(0.01, 100))
def test_units_do_not_matter(scale, shift, unit):
    y = X[:, 0] - X[:, 1] ** 2
    plain, moved = (
        Stacked((Moved(a, b),)).adapt(X, u * y, key=KEY).predict(X).mean for a, b, u in ((1, 0, 1), (scale, shift, unit))
    )
    np.testing.assert_allclose(moved, unit * plain, rtol=1e-3, atol=1e-2 * unit)


def test_targets_that_are_all_alike_earn_no_weight():
    model = Stacked(BOTH).adapt(X, np.full(60, 3.0), key=KEY)
    np.testing.assert_allclose(weights_of(model), 0, atol=1e-6)
    np.testing.assert_allclose(model.predict(X).mean, 3, rtol=1e-6)


def test_scorer_is_the_mean():
    model = Stacked(BOTH).adapt(X, 3 * X[:, 0] + X[:, 1], key=KEY)
    score = jax.jit(lambda scorer, x: scorer(x))(model.scorer(), X)
    np.testing.assert_allclose(score, model.predict(X).mean, atol=1e-5)
    np.testing.assert_allclose(jax.jit(lambda x: model.predict(x).mean)(X), score, atol=1e-5)


def test_a_residual_learns_what_the_scores_leave():
    y = 3 * X[:, 0] + np.sin(2 * X[:, 1])
    line = Stacked(FIRST).adapt(X, y, key=KEY)
    corrected = Residual(Stacked(FIRST)).adapt(X, y, key=KEY)
    new = np.random.default_rng(1).normal(size=(200, 3)).astype(np.float32)
    truth = 3 * new[:, 0] + np.sin(2 * new[:, 1])
    assert np.std(corrected.predict(new).mean - truth) < 0.5 * np.std(line.predict(new).mean - truth)
    process, seen, known = corrected.parts(new)
    np.testing.assert_allclose(process.predict(seen).mean + known, corrected.predict(new).mean, atol=1e-4)


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match="Stacked knows nothing yet"):
        Stacked(FIRST).predict(X)
    with pytest.raises(ValueError, match="y: row 0 is not finite"):
        Stacked(FIRST).adapt(X, np.full(60, np.nan), key=KEY)
    with pytest.raises(ValueError, match=r"bases: \(\) is empty"):
        Stacked(())
    for merits in ((1.0,), (1.0, 0.0), (1.0, float("nan")), (1.0, float("inf"))):
        with pytest.raises(ValueError, match=r"merits: .* must be 2 finite numbers above 0"):
            Stacked(BOTH, merits)
