"""L-BFGS finds the minimum of what it should, and never ends higher than it began."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surrogates.lbfgs import minimise


def bowl(logs):
    """A valley along a diagonal, least at (1, -2) and 3."""
    a, b = logs["pair"] - jnp.array([1.0, -2.0])
    return 5 * (a + b) ** 2 + (a - b) ** 2 + 2 * (logs["single"] - 3.0) ** 2


@jax.jit
def least(start):
    """Where the valley is least, compiled once."""
    return minimise(bowl, start, evaluations=200, tolerance=1e-3)


@settings(deadline=None, max_examples=20)
@given(st.lists(st.floats(-10, 10, width=32), min_size=3, max_size=3))
def test_the_minimum_is_found_from_anywhere(start):
    found = least({"pair": np.float32(start[:2]), "single": np.float32(start[2])})
    np.testing.assert_allclose(found["pair"], [1.0, -2.0], atol=1e-2)
    np.testing.assert_allclose(found["single"], 3.0, atol=1e-2)


@pytest.mark.parametrize("evaluations", [1, 2, 5, 20])
def test_no_number_of_evaluations_ends_higher_than_the_start(evaluations):
    def steep(logs):
        return jnp.exp(logs["x"]) - 50 * logs["x"]

    start = {"x": jnp.float32(0.0)}
    assert steep(minimise(steep, start, evaluations=evaluations)) <= steep(start)


def test_where_the_loss_is_no_number_the_step_is_halved():
    def walled(logs):
        return jnp.where(logs["x"] > 1.0, jnp.nan, (logs["x"] - 0.9) ** 2)

    found = minimise(walled, {"x": jnp.float32(-30.0)}, evaluations=100, tolerance=1e-4)
    np.testing.assert_allclose(found["x"], 0.9, atol=1e-2)
