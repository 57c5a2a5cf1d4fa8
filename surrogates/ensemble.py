"""Bootstrap ensembles: Gamma models of resampled data whose sum is the score (Sun et al., DATE 2021, Algorithm 3)."""

from __future__ import annotations

import functools
import operator
from dataclasses import replace
from typing import Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from surrogates.base import Arrays, Prediction, Scorer, Surrogate, checked, fitted


class BootstrapEnsemble(Surrogate):
    r"""Gamma copies of a surrogate, each fitted to as many points as there are, drawn with replacement.

    The score of Algorithm 3 is the sum $\sum_{\gamma=1}^{\Gamma} f_\gamma(x)$. What a point is worth depends on who was drawn,
    and the spread of the members tells how much. The paper's base is AutoTVM's model, `XGBoost`.

    A base whose class says `vectorised = True`, a perceptron or an exact Gaussian process, has all members fitted at once by
    `vmap`; others are fitted one after the other: XGBoost is no JAX program.

    **Arguments:**

    - `base`: the surrogate to repeat, not fitted.
    - `members`: how many, the paper's $\Gamma$; at least 2.
    - `state`: the fitted members; None until fitted.

    **Raises:** `ValueError` for fewer than two members.
    """

    base: Surrogate
    members: int = eqx.field(static=True, default=2)
    state: tuple[Surrogate, ...] | None = None

    def __check_init__(self) -> None:
        if self.members < 2:
            raise ValueError(f"members: {self.members} must be at least 2; one model has no spread.")

    def fit(self, x: Float[Arrays, "n d"], y: Float[Arrays, " n"], *, key: PRNGKeyArray) -> Self:
        """Draw the resamples (line 2) and fit a member to each (line 4)."""
        points, targets = checked(x, y)
        draw, train = jax.random.split(key)
        rows, keys = resamples(len(points), self.members, key=draw), jax.random.split(train, self.members)
        if self.base.vectorised:
            drawn = jnp.asarray(points[rows]), jnp.asarray(targets[rows])
            stack = eqx.filter_vmap(lambda x, y, key: self.base.fit(x, y, key=key))(*drawn, keys)
            models = tuple(_member(stack, number) for number in range(self.members))
        else:
            models = tuple(self.base.fit(points[r], targets[r], key=key) for r, key in zip(rows, keys, strict=True))
        return replace(self, state=models)

    def predict(self, x: Float[Arrays, "n d"]) -> Prediction:
        r"""The members' mean and their deviation, $\sqrt{\sum_\gamma (f_\gamma - \bar f)^2 / (\Gamma - 1)}$.

        The deviation is the bootstrap's estimate of a standard error; what the members say of their own doubt is left out.
        """
        means = jnp.stack([model.predict(x).mean for model in self._fitted()])
        return Prediction(means.mean(axis=0), means.std(axis=0, ddof=1))

    def scorer(self) -> Sum:
        """The sum of the members' scores (line 6)."""
        return Sum(tuple(model.scorer() for model in self._fitted()))

    def _fitted(self) -> tuple[Surrogate, ...]:
        fitted(self, self.state)
        assert self.state is not None
        return self.state


class Sum(eqx.Module):
    """The sum of several scorers; a JAX program where all of them are."""

    scorers: tuple[Scorer, ...]

    def __call__(self, x: Float[Array, "n d"]) -> Float[Array, " n"]:
        """The sums at n points."""
        return functools.reduce(operator.add, (scorer(x) for scorer in self.scorers))


def resamples(n: int, members: int, *, key: PRNGKeyArray) -> Int[np.ndarray, "members n"]:
    """Rows of bootstrap resamples: for each member n numbers below n, uniform and with replacement."""
    generator = np.random.default_rng(np.asarray(jax.random.key_data(key)))  # JAX would compile for every n
    return generator.integers(n, size=(members, n))


def _member(stack: Surrogate, number: int) -> Surrogate:
    """One of the models that `vmap` stacked along the arrays' first axis."""
    return jax.tree.map(lambda leaf: leaf[number] if eqx.is_array(leaf) else leaf, stack)
