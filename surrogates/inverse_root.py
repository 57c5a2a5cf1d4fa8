"""The inverse of a Cholesky factor, with a gradient made of matrix products."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


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
    size = 1 << (m - 1).bit_length()
    padded = jnp.eye(size, dtype=lower.dtype) + jnp.pad(
        lower - jnp.eye(m, dtype=lower.dtype), [*[(0, 0)] * len(batch), *[(0, size - m)] * 2]
    )
    inverse = 1.0 / jnp.diagonal(padded, axis1=-2, axis2=-1)[..., None, None]
    while (s := inverse.shape[-1]) < size:
        pairs = padded.reshape(*batch, size // (2 * s), 2, s, size // (2 * s), 2, s)[..., 1, :, :, 0, :]
        below = jnp.moveaxis(jnp.diagonal(pairs, axis1=-4, axis2=-2), -1, -3)
        first, second = inverse[..., 0::2, :, :], inverse[..., 1::2, :, :]
        inverse = jnp.block([[first, jnp.zeros_like(first)], [-second @ below @ first, second]])
    return inverse[..., 0, :m, :m]
