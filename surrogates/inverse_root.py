"""The inverse of a Cholesky factor, with a gradient made of matrix products."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from surrogates.chunks import power_of_two

BLOCK = 32
"""Triangular matrices of this size are inverted row by row."""


@jax.custom_jvp
def inverse_root(matrix: Float[Array, "*l m m"]) -> Float[Array, "*l m m"]:
    r"""$W = L^{-1}$ for a positive definite $L L^\top$, or for several.

    Its derivative is $dW = -\Phi(W\, dK\, W^\top) W$, where $\Phi$ keeps the lower triangle and half of the diagonal (equation
    8 of Murray, arXiv:1602.07527, with $dW = -W\, dL\, W$): products only. The gradient that JAX would derive solves triangular
    systems, and these, batched, have hung XLA on the CPU.
    """
    return inverse_of_triangular(jnp.linalg.cholesky(matrix, symmetrize_input=False))


@inverse_root.defjvp
def _inverse_root_jvp(
    primals: tuple[Float[Array, "*l m m"]], tangents: tuple[Float[Array, "*l m m"]]
) -> tuple[Float[Array, "*l m m"], Float[Array, "*l m m"]]:
    (matrix,), (change,) = primals, tangents
    w = inverse_root(matrix)
    inner = w @ change @ w.mT
    half = jnp.tril(jnp.ones(inner.shape[-2:], inner.dtype)) - 0.5 * jnp.eye(inner.shape[-1], dtype=inner.dtype)
    return w, -(half * inner) @ w


def inverse_of_triangular(lower: Float[Array, "*l m m"]) -> Float[Array, "*l m m"]:
    r"""The inverse of a lower triangular matrix, or of several, by blocks on the diagonal of twice the size each time.

    $\begin{pmatrix} A & 0 \\ B & C \end{pmatrix}^{-1} = \begin{pmatrix} A^{-1} & 0 \\ -C^{-1} B A^{-1} & C^{-1} \end{pmatrix}$.
    A third of the operations of a triangular solve, and XLA's own products: LAPACK's solver starts threads beside XLA's, and
    where another program runs they wait for each other, ten milliseconds instead of a tenth.
    """
    m, batch = lower.shape[-1], lower.shape[:-2]
    size = max(BLOCK, power_of_two(m))
    padded = jnp.eye(size, dtype=lower.dtype) + jnp.pad(
        lower - jnp.eye(m, dtype=lower.dtype), [*[(0, 0)] * len(batch), *[(0, size - m)] * 2]
    )
    inverse = _by_rows(_on_diagonal(padded.reshape(*batch, size // BLOCK, BLOCK, size // BLOCK, BLOCK)))
    while (s := inverse.shape[-1]) < size:
        below = _on_diagonal(padded.reshape(*batch, size // (2 * s), 2, s, size // (2 * s), 2, s)[..., 1, :, :, 0, :])
        first, second = inverse[..., 0::2, :, :], inverse[..., 1::2, :, :]
        inverse = jnp.block([[first, jnp.zeros_like(first)], [-second @ below @ first, second]])
    return inverse[..., 0, :m, :m]


def _on_diagonal(blocks: Float[Array, "*l k s k s"]) -> Float[Array, "*l k s s"]:
    return jnp.moveaxis(jnp.diagonal(blocks, axis1=-4, axis2=-2), -1, -3)


def _by_rows(lower: Float[Array, "*k s s"]) -> Float[Array, "*k s s"]:
    r"""The inverses of small triangular matrices, $w_i = (e_i - \sum_{j < i} l_{ij} w_j) / l_{ii}$: a loop compiles quickly."""
    unit = jnp.eye(lower.shape[-1], dtype=lower.dtype)

    def solve(inverse: Array, i: Array) -> tuple[Array, None]:
        row = jax.lax.dynamic_index_in_dim(lower, i, -2)
        solved = (unit[i] - row @ inverse) / jax.lax.dynamic_index_in_dim(row, i, -1)
        return jax.lax.dynamic_update_slice_in_dim(inverse, solved, i, -2), None

    return jax.lax.scan(solve, jnp.zeros_like(lower), jnp.arange(len(unit)))[0]
