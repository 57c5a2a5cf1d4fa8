"""Few configurations that represent many: transductive experimental design (Sun et al., DATE 2021, Algorithms 1 and 2)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from search.sampling import in_turns, turns
from search.space import Arrays, KnobSpace
from surrogates.base import checked_points
from surrogates.chunks import in_chunks, power_of_two

BLOCK = 512
"""Rows of a large kernel matrix that are computed at a time."""

STORED = 4096
"""Up to so many points the kernel matrix is kept (64 MiB); of more, its rows are computed anew at each step."""


def ted(features: Float[Arrays, "n d"], count: int, *, mu: float = 0.1) -> Int[np.ndarray, " count"]:
    r"""Pick the `count` points that best represent all n: transductive experimental design.

    Greedily takes the point v with the largest $\|K_v\|^2 / (k(v, v) + \mu)$, $K_v$ its column, and deflates
    $K \leftarrow K - K_v K_v^\top / (k(v, v) + \mu)$ (Sun et al., DATE 2021, Algorithm 1).

    The paper calls K a matrix of Euclidean distances. That is no kernel, and the criterion picks the same point for ever; K is
    the RBF kernel of that distance, as in the original (Yu et al., ICML 2006), between standardised features. Its lengthscale
    is $\sqrt d$ for d features that vary, near the median distance over $\sqrt 2$. Points are picked once.

    K is never deflated: with $c = K_t e_v / \sqrt{k_t(v, v) + \mu}$ of each choice, the columns of C, $K_t = K - C C^\top$ and

    $$\|K_{t+1} e_u\|^2 = \|K_t e_u\|^2 - 2 c_u (K_t c)_u + c_u^2 \|c\|^2.$$

    In $K_t c = K c - C (C^\top c)$ the inner products follow from $C^\top K$ and $C^\top C$, which are kept: a product of K
    and a vector for each choice, and memory for 2 n x `count` numbers and blocks of K.

    **Arguments:**

    - `features`: the points, one row each; a feature that does not vary has no influence.
    - `count`: how many to pick, at most n.
    - `mu`: regularisation, > 0.

    **Returns:** the row numbers of the chosen points, distinct, in order of choice.

    **Raises:** `ValueError` if `count` is not among 1 to n, mu is not above 0, or a feature is not finite.
    """
    points = checked_points(features)
    if not 1 <= count <= len(points):
        raise ValueError(f"count: {count} must be between 1 and the number of points, {len(points)}.")
    _check_regularisation(mu)
    length = min(power_of_two(len(points)), len(points) + -len(points) % STORED)  # few shapes are ever compiled
    rows, _ = _ted(*_padded(points, length), count, jnp.float32(mu))
    return np.asarray(rows)


def bted(
    space: KnobSpace,
    *,
    key: PRNGKeyArray,
    count: int = 64,
    mu: float = 0.1,
    pool: int = 500,
    batches: int = 10,
    exclude: Int[Arrays, "m knobs"] | None = None,
) -> Int[np.ndarray, "count knobs"]:
    """Pick `count` configurations that represent a space: batch transductive experimental design (Algorithm 2).

    TED picks `count` of each of several random pools, and `count` of all that were picked. The pools share no configuration. A
    space with parts is represented part by part, in turns as its shares say, however few configurations one has.

    **Arguments:**

    - `count`, `mu`, `pool`, `batches`: m, mu, M and B of the paper, which has 64, 0.1, 500 and 10.
    - `exclude`: configurations not to pick.

    **Returns:** valid, distinct configurations in order of choice; fewer than `count` where the space has no more.

    **Raises:** `ValueError` if `count` is not among 1 to `pool`, `batches` is not positive or mu is not above 0.
    """
    check_settings(count=count, mu=mu, pool=pool, batches=batches)
    if len(spaces := space.by_part()) > 1:
        keys = jax.random.split(key, len(spaces))
        chosen = [
            bted(each, key=key, count=count, mu=mu, pool=pool, batches=batches, exclude=exclude)
            for each, key in zip(spaces, keys, strict=True)
        ]
        return in_turns(chosen, turns(space.shares))[:count]
    drawn = space.sample(key, pool * batches, exclude=exclude)
    if len(drawn) <= count:
        return drawn
    rows, picked = _bted(*_padded(space.features(drawn), pool * batches), batches, count, jnp.float32(mu))
    return drawn[np.asarray(rows)[np.asarray(picked)]]


def check_settings(*, count: int, mu: float, pool: int, batches: int) -> None:
    """Refuse what `bted` would refuse, before there is anything to choose from.

    **Raises:** `ValueError` naming the number out of range.
    """
    if not 1 <= count <= pool:
        raise ValueError(f"count: {count} must be between 1 and the size of a pool, {pool}.")
    if batches < 1:
        raise ValueError(f"batches: {batches} must be at least 1.")
    _check_regularisation(mu)


@eqx.filter_jit
def _bted(
    points: Float[Array, "n d"], real: Bool[Array, " n"], batches: int, count: int, mu: Float[Array, ""]
) -> tuple[Int[Array, " count"], Bool[Array, " count"]]:
    """Algorithm 2 on points that are cut into batches of one size: as `_ted`."""
    row = jnp.arange(len(points)).reshape(batches, -1)
    together = max(1, STORED**2 // row.shape[1] ** 2)  # batches whose kernel matrices are kept at a time
    chosen, picked = jax.lax.map(lambda batch: _ted(points[batch], real[batch], count, mu), row, batch_size=together)
    union = jnp.take_along_axis(row, chosen, axis=1).reshape(-1)
    chosen, picked = _ted(points[union], picked.reshape(-1), count, mu)
    return union[chosen], picked


@eqx.filter_jit
def _ted(
    points: Float[Array, "n d"], real: Bool[Array, " n"], count: int, mu: Float[Array, ""]
) -> tuple[Int[Array, " count"], Bool[Array, " count"]]:
    """Algorithm 1 on those points that are real: the choices, and which of them were made before the points ran out."""
    n = len(points)
    from surrogates.kernels import RBF  # here: GPJax takes a second to load

    kernel = RBF().cross_covariance
    stored = kernel(points, points) if n <= STORED else None

    def over_rows(reduce: Callable[[Float[Array, "b n"]], Float[Array, " b"]]) -> Float[Array, " n"]:
        if stored is not None:
            return reduce(stored)
        return in_chunks(lambda rows: reduce(kernel(rows, points)), points, BLOCK)

    def choose(state: _State, step: Int[Array, ""]) -> tuple[_State, tuple[Int[Array, ""], Bool[Array, ""]]]:
        free, norms, diagonal, columns, products, inner = state
        v = jnp.argmax(jnp.where(free, norms / (diagonal + mu), -jnp.inf))
        root = jnp.sqrt(diagonal[v] + mu)
        along = (products[:, v] - inner @ columns[:, v]) / root  # C^T c
        deflation, correction = jnp.stack([columns[:, v], along]) @ columns
        kernel_column = stored[v] if stored is not None else kernel(points, points[v][None])[:, 0]
        c = jnp.where(real, kernel_column - deflation, 0.0) / root
        product, length = over_rows(lambda rows: rows @ c), c @ c
        chosen = _State(
            free.at[v].set(False),
            norms - 2 * c * (product - correction) + c**2 * length,
            diagonal - c**2,
            columns.at[step].set(c),
            products.at[step].set(product),
            inner.at[step].set(along).at[:, step].set(along).at[step, step].set(length),
        )
        return chosen, (v, free[v])

    norms = over_rows(lambda rows: jnp.sum(jnp.where(real, rows, 0.0) ** 2, axis=1))
    none = jnp.zeros((count, n))
    start = _State(real, norms, jnp.ones(n), none, none, jnp.zeros((count, count)))
    _, choices = jax.lax.scan(choose, start, jnp.arange(count))
    return choices


class _State(NamedTuple):
    """What is known after some choices.

    - `free`: which points may still be chosen.
    - `norms`, `diagonal`: of the deflated kernel, its columns' squared norms and its diagonal.
    - `columns`, `products`, `inner`: each choice's c in a row of its own, K c, and the inner products of all c.
    """

    free: Bool[Array, " n"]
    norms: Float[Array, " n"]
    diagonal: Float[Array, " n"]
    columns: Float[Array, "count n"]
    products: Float[Array, "count n"]
    inner: Float[Array, "count count"]


def _padded(features: Float[Arrays, "n d"], length: int) -> tuple[Float[Array, "length d"], Bool[Array, " length"]]:
    """The points in units of the lengthscale, where the kernel is exp(-r^2 / 2), zeros appended; and which rows are real."""
    points = np.asarray(features, np.float64)
    varies = np.ptp(points, axis=0) > 0
    lengthscale = np.where(varies, points.std(axis=0) * math.sqrt(max(varies.sum(), 1)), np.inf)
    scaled = ((points - points.mean(axis=0)) / lengthscale).astype(np.float32)
    padded = np.pad(scaled, ((0, length - len(points)), (0, 0)))
    return jnp.asarray(padded), jnp.asarray(np.arange(length) < len(points))


def _check_regularisation(mu: float) -> None:
    if not mu > 0:
        raise ValueError(f"mu: {mu} must be above 0.")
