"""The laws of a line through a score: it follows the data, whichever way they run, and little data move it little."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surrogates import Prediction, Residual, Surrogate, Trend

KEY = jax.random.key(0)
X = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)


def first(x):
    return x[:, 0]


class First(Surrogate):
    """Scores by the first feature."""

    def fit(self, x, y, *, key):
        return self

    def predict(self, x):
        return Prediction(jnp.asarray(x)[:, 0], jnp.zeros(len(x)))

    def scorer(self):
        return jax.tree_util.Partial(first)


def slope_of(model: Trend) -> float:
    return float(model.state.slope)


@settings(deadline=None)
@given(st.floats(-5, 5), st.floats(-100, 100))
def test_a_line_is_found_whichever_way_it_runs(slope, offset):
    model = Trend(First(), weight=1e-6).adapt(X, slope * X[:, 0] + offset, key=KEY)
    np.testing.assert_allclose(model.predict(X).mean, slope * X[:, 0] + offset, rtol=1e-3, atol=2e-3)


def test_few_points_leave_the_middling_slope():
    y = -X[:, 0]
    slopes = [slope_of(Trend(First(), slope=0.5, weight=4.0).adapt(X[:n], y[:n], key=KEY)) for n in (2, 8, 60)]
    assert slopes[0] > slopes[1] > slopes[2] > -1
    assert slopes[2] < -0.8


def test_a_score_that_says_nothing_gives_the_mean():
    y = X[:, 1]
    model = Trend(First(), slope=0.0).adapt(np.column_stack([np.ones(60), X[:, 1:]]), y, key=KEY)
    np.testing.assert_allclose(model.predict(X * [0, 1, 1]).mean, y.mean(), atol=1e-5)


def test_scorer_is_the_mean():
    model = Trend(First()).adapt(X, 3 * X[:, 0] + X[:, 1], key=KEY)
    score = jax.jit(lambda scorer, x: scorer(x))(model.scorer(), X)
    np.testing.assert_allclose(score, model.predict(X).mean, atol=1e-5)


def test_a_residual_learns_what_the_line_leaves():
    y = 3 * X[:, 0] + np.sin(2 * X[:, 1])
    line = Trend(First()).adapt(X, y, key=KEY)
    corrected = Residual(Trend(First())).adapt(X, y, key=KEY)
    new = np.random.default_rng(1).normal(size=(200, 3)).astype(np.float32)
    truth = 3 * new[:, 0] + np.sin(2 * new[:, 1])
    assert np.std(corrected.predict(new).mean - truth) < 0.5 * np.std(line.predict(new).mean - truth)
    process, seen, known = corrected.parts(new)
    np.testing.assert_allclose(process.predict(seen).mean + known, corrected.predict(new).mean, atol=1e-4)


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match="Trend knows nothing yet"):
        Trend(First()).predict(X)
    with pytest.raises(ValueError, match="y: row 0 is not finite"):
        Trend(First()).adapt(X, np.full(60, np.nan), key=KEY)
