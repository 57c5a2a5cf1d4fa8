"""The laws of the inverse root: it whitens, and its gradient is that of factorising and solving."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from surrogates.inverse_root import inverse_root


def test_gradient_of_inverse_root_is_that_of_cholesky_and_solve():
    matrix = jnp.cov(jr.normal(jr.key(0), (6, 40)))
    weights = jr.normal(jr.key(1), (6, 6))

    def gradient(root):
        return jax.jit(jax.grad(lambda k: (weights * root((k + k.T) / 2)).sum()))(matrix)

    def by_solving(k):
        return jax.scipy.linalg.solve_triangular(jnp.linalg.cholesky(k), jnp.eye(6), lower=True)

    np.testing.assert_allclose(gradient(inverse_root), gradient(by_solving), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("m", [1, 2, 7, 64, 100])
def test_inverse_root_whitens_one_matrix_or_several(m):
    roots = jr.normal(jr.key(m), (3, m, 2 * m))
    matrices = roots @ roots.mT / m
    inverse = jax.jit(inverse_root)(matrices)
    np.testing.assert_allclose(inverse @ matrices @ inverse.mT, np.broadcast_to(np.eye(m), matrices.shape), atol=1e-4)
    np.testing.assert_array_equal(inverse, jnp.tril(inverse))
    np.testing.assert_allclose(inverse[1], jax.jit(inverse_root)(matrices[1]), rtol=1e-4, atol=1e-5)
