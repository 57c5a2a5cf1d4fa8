"""Working through rows a few at a time changes nothing."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surrogates.chunks import in_chunks, in_parts, power_of_two, scores


@pytest.mark.parametrize("n", [1, 7, 8, 9, 40])
def test_chunking_changes_nothing(n):
    x = jr.normal(jr.key(0), (n, 3))

    def function(x):
        return x[:, 0] + 1, jnp.abs(x[:, 1])

    for ours, theirs in zip(in_chunks(function, x, chunk=8), function(x), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("n", [0, 1, 64, 65, 300])
def test_parts_change_nothing(n):
    x = np.random.default_rng(n).normal(size=(n, 3)).astype(np.float32)
    shapes = []

    def function(rows):
        shapes.append(len(rows))
        return rows[:, 0] + 1, jnp.abs(rows[:, 1])

    for ours, theirs in zip(in_parts(function, x, rows=128), function(x), strict=True):
        assert isinstance(ours, jax.Array)
        np.testing.assert_array_equal(ours, theirs)
    assert set(shapes[:-1]) <= {64, 128}


def test_scores_are_the_scorers_and_another_fit_compiles_nothing():
    x, traces = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32), []

    def score(weights, x):
        traces.append(len(x))
        return x @ weights

    for weights in (jnp.ones(3), jnp.arange(3.0)):
        np.testing.assert_allclose(scores(jax.tree_util.Partial(score, weights), x), x @ weights, rtol=1e-4, atol=1e-4)
    assert scores(jax.tree_util.Partial(score, jnp.ones(3)), x[:150]).shape == (150,)
    assert len(traces) == 1


@given(st.integers(0, 1 << 40))
def test_power_of_two_is_the_smallest_that_holds_so_many(count):
    power = power_of_two(count)
    assert power.bit_count() == 1
    assert count <= power
    assert power == 1 or power // 2 < count
