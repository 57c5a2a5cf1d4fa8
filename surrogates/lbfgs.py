"""L-BFGS over a few positive numbers, small enough to compile in no time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

Logs: TypeAlias = dict[str, Any]
"""Positive numbers by name, as logarithms: L-BFGS comes further in them than in GPJax's, which a softplus makes positive."""


def minimise(loss: Callable[[Logs], Array], start: Logs, *, evaluations: int, tolerance: float = 0.1) -> Logs:
    """Descend by L-BFGS with backtracking for so many evaluations, or until the gradient is shorter than `tolerance`.

    An iteration is one evaluation, of a new direction or of half the last step, so the loss is compiled once; `optax.lbfgs`
    and its line search would hold four copies of it, and compiling is what takes seconds here.
    """
    lbfgs, (first, unravel) = optax.scale_by_lbfgs(), ravel_pytree(start)
    value_and_gradient = jax.value_and_grad(lambda point: loss(unravel(point)))

    def descend(carry: tuple) -> tuple:
        count, point, value, gradient, memory, direction, step = carry
        trial = point + step * direction
        new_value, new_gradient = value_and_gradient(trial)
        # false, too, where float32 could not factorise the covariance and the value is not a number
        accepted = new_value <= value + 1e-4 * step * gradient @ direction
        ascent, new_memory = lbfgs.update(new_gradient, memory, trial)
        ascent = jnp.where(new_gradient @ ascent > 0, ascent, new_gradient)
        new = (trial, new_value, new_gradient, new_memory, -ascent, 1.0)
        old = (point, value, gradient, memory, direction, 0.5 * step)
        return count + 1, *jax.tree.map(lambda a, b: jnp.where(accepted, a, b), new, old)

    # the first trial is the start itself, better than the infinite value it is compared with
    carry = (0, first, jnp.inf, jnp.ones_like(first), lbfgs.init(first), jnp.zeros_like(first), 1.0)
    return unravel(jax.lax.while_loop(lambda c: (c[0] < evaluations) & (jnp.linalg.norm(c[3]) > tolerance), descend, carry)[1])
