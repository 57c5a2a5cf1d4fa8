"""The laws of a constant belief: it is the mean of what was seen, whatever is asked, and under jit too."""

import equinox as eqx
import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surrogates import Constant, ExactGP, Residual

KEY = jax.random.key(0)
X = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)


@eqx.filter_jit
def compiled_mean(model, x):
    return model.predict(x).mean


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=20))
def test_every_point_has_the_mean_of_the_targets(targets):
    model = Constant().fit(X[: len(targets)], targets, key=KEY)
    mean, std = model.predict(X)
    np.testing.assert_allclose(mean, np.mean(targets), rtol=1e-4, atol=1e-3)
    assert mean.shape == std.shape == (len(X),)
    assert (std == 0).all()
    np.testing.assert_array_equal(model.scorer()(X), mean)
    np.testing.assert_array_equal(compiled_mean(model, X), mean)


def test_a_new_task_has_its_own_mean():
    model = Constant().fit(X, np.zeros(20), key=KEY).adapt(X, np.ones(20), key=KEY)
    np.testing.assert_array_equal(model.predict(X).mean, 1.0)


def test_its_residual_is_the_gaussian_process_alone():
    y = np.sin(X[:, 0]) + X[:, 1]
    alone, above = ExactGP().fit(X, y, key=KEY), Residual(Constant()).adapt(X, y, key=KEY)
    np.testing.assert_allclose(above.predict(X).mean, alone.predict(X).mean, atol=0.05)


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match="Constant knows nothing yet"):
        Constant().predict(X)
    with pytest.raises(ValueError, match="y: row 0 is not finite"):
        Constant().fit(X, np.full(20, np.nan), key=KEY)
