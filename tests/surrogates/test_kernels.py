"""The laws of the matrix-product kernels: GPJax's own values and gradients, also where points coincide."""

import gpjax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surrogates.kernels import ENGINE, RBF, Matern52

PAIRS = [(RBF, gpjax.kernels.RBF), (Matern52, gpjax.kernels.Matern52)]


@settings(deadline=None, max_examples=15)
@given(st.sampled_from(PAIRS), st.integers(0, 1000), st.floats(0.3, 5.0), st.floats(0.1, 10.0))
def test_covariances_are_gpjax_s(pair, seed, lengthscale, variance):
    ours, theirs = pair
    rng = np.random.default_rng(seed)
    x, z = jnp.asarray(rng.normal(size=(7, 4)), jnp.float32), jnp.asarray(rng.normal(size=(5, 4)), jnp.float32)
    parameters = {"lengthscale": lengthscale * jnp.arange(1.0, 5.0), "variance": jnp.float32(variance)}
    expected = theirs(**parameters).cross_covariance(x, z)
    np.testing.assert_allclose(ours(**parameters).cross_covariance(x, z), expected, rtol=2e-4, atol=2e-5 * variance)


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair[0].__name__)
def test_gradients_are_gpjax_s(pair):
    x, z = jax.random.normal(jax.random.key(0), (2, 6, 3))
    weights = jax.random.normal(jax.random.key(1), (6, 6))

    def gradient(kernel):
        def total(lengthscale, x):
            return (weights * kernel(lengthscale=lengthscale, variance=jnp.array(1.5)).cross_covariance(x, z)).sum()

        return jax.jit(jax.grad(total, (0, 1)))(jnp.array([0.7, 1.0, 2.0]), x)

    for ours, theirs in zip(*map(gradient, pair), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kernel", [RBF, Matern52])
def test_coincident_points_have_the_kernel_s_variance_and_finite_gradients(kernel):
    x = jnp.concatenate([jnp.ones((3, 2)), 100.0 * jnp.ones((2, 2))])

    def gram(lengthscale, x):
        return kernel(lengthscale=lengthscale, variance=jnp.array(2.0)).cross_covariance(x, x)

    np.testing.assert_allclose(jnp.diag(gram(jnp.ones(2), x)), 2.0, rtol=1e-4)
    gradients = jax.jit(jax.grad(lambda *arguments: gram(*arguments).sum(), (0, 1)))(jnp.ones(2), x)
    assert all(np.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize("kernel", [RBF, Matern52])
def test_gram_matrix_is_symmetric_and_positive_semidefinite(kernel):
    x = jax.random.normal(jax.random.key(0), (40, 3))
    gram = np.asarray(kernel(lengthscale=jnp.ones(3)).cross_covariance(x, x), np.float64)
    np.testing.assert_allclose(gram, gram.T, atol=1e-6)
    assert np.linalg.eigvalsh(gram).min() > -1e-5


def test_active_dimensions_alone_count():
    x = jax.random.normal(jax.random.key(0), (5, 3))
    part = RBF(active_dims=[0, 2], lengthscale=jnp.array([0.5, 2.0])).cross_covariance(x, x)
    alone = RBF(lengthscale=jnp.array([0.5, 2.0])).cross_covariance(x[:, jnp.array([0, 2])], x[:, jnp.array([0, 2])])
    np.testing.assert_allclose(part, alone, atol=1e-6)


def test_all_kernels_share_one_engine_so_that_nothing_compiles_twice():
    assert RBF().compute_engine is ENGINE is Matern52().compute_engine
    structures = {jax.tree.structure(Matern52(lengthscale=length * jnp.ones(2))) for length in (1.0, 2.0)}
    assert len(structures) == 1
