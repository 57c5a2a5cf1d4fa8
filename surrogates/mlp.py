"""A multilayer perceptron in flax.nnx, trained with optax: the cheapest base of a bootstrap ensemble (DATE 2021)."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any, ClassVar, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from surrogates.base import Arrays, Prediction, Surrogate, check_positive, checked, checked_points, fitted, traced
from surrogates.chunks import power_of_two, scores
from surrogates.scaling import Standardizer

ROWS = 8192
"""Rows predicted at once: the hidden activations stay within a few megabytes."""


class Network(eqx.Module):
    """A trained perceptron, from features to a target in their own units: a scorer.

    **Arguments:**

    - `widths`: units of the hidden layers.
    - `inputs`, `output`: the scales the weights were trained in.
    - `weights`: nnx's parameters as nested dictionaries of arrays.
    """

    widths: tuple[int, ...] = eqx.field(static=True)
    inputs: Standardizer
    output: Standardizer
    weights: dict[str, Any]

    def __call__(self, x: Float[Array, "n d"]) -> Float[Array, " n"]:
        """The values at n points."""
        return self.output.undo(_forward(self.widths, self.weights, self.inputs(x)))


class MLP(Surrogate):
    r"""A perceptron that minimises the mean squared error $\sum_i (f(x_i) - y_i)^2 / n$ of standardised targets.

    A single network has no doubt of its own: its standard deviation is 0. For doubt, make a `BootstrapEnsemble` of it.

    **Arguments:**

    - `widths`: units of the hidden layers; none makes a linear model.
    - `epochs`: passes over the data; a pass is n/batch minibatches, drawn with replacement.
    - `learning_rate`: AdamW's first rate, which falls to 0 along a cosine.
    - `batch`: points a minibatch.
    - `weight_decay`: AdamW's decoupled decay, times the learning rate the share of a weight that a step takes off.
    - `state`: what was learned; None until fitted.
    """

    vectorised: ClassVar[bool] = True

    widths: tuple[int, ...] = eqx.field(static=True, default=(64, 64))
    epochs: int = eqx.field(static=True, default=200)
    learning_rate: float = eqx.field(static=True, default=0.02)
    batch: int = eqx.field(static=True, default=64)
    weight_decay: float = eqx.field(static=True, default=1.0)
    state: Network | None = None

    def __check_init__(self) -> None:
        check_positive(self, "epochs", "batch", "learning_rate")

    def fit(self, x: Float[Arrays, "n d"], y: Float[Arrays, " n"], *, key: PRNGKeyArray) -> Self:
        """Train from random weights; x and y may be traced, as under `vmap`."""
        points, targets = (x, y) if traced(x) or traced(y) else checked(x, y)
        # Rows are repeated up to a power of two, and only the first of each is drawn: a search that adds a few points a round
        # seldom compiles. The scales count some rows twice, which costs nothing: they need not be exact.
        count = len(points)
        rows = np.arange(power_of_two(count)) % count
        first, draws = jax.random.split(key)
        weights = _initial(points.shape[1], self.widths, first)
        data = jnp.asarray(points[rows]), jnp.asarray(targets[rows]), jnp.int32(count)
        return replace(self, state=_train(replace(self, state=None), weights, *data, key=draws))

    def predict(self, x: Float[Arrays, "n d"]) -> Prediction:
        """The network's values, and 0 for the doubt it does not have."""
        network = self.scorer()
        if traced(x):
            mean = network(jnp.asarray(x))
        else:
            points = checked_points(x, network.inputs.mean.shape[0])
            mean = jax.device_put(scores(network, points, ROWS))
        return Prediction(mean, jnp.zeros_like(mean))

    def scorer(self) -> Network:
        """The network itself."""
        fitted(self, self.state)
        assert self.state is not None
        return self.state


def _layers(features: int, widths: tuple[int, ...], key: PRNGKeyArray) -> Any:
    from flax import nnx  # imported late: half a second that users of other surrogates need not wait

    rngs = nnx.Rngs(key)
    sizes = itertools.pairwise((features, *widths))
    hidden = [layer for units in sizes for layer in (nnx.Linear(*units, rngs=rngs), nnx.gelu)]
    return nnx.Sequential(*hidden, nnx.Linear((features, *widths)[-1], 1, rngs=rngs))


def _forward(widths: tuple[int, ...], weights: dict[str, Any], x: Float[Array, "n d"]) -> Float[Array, " n"]:
    from flax import nnx

    layers = nnx.eval_shape(lambda: _layers(x.shape[1], widths, jax.random.key(0)))
    return nnx.merge(nnx.graphdef(layers), weights)(x)[:, 0]


@eqx.filter_jit
def _initial(features: int, widths: tuple[int, ...], key: PRNGKeyArray) -> dict[str, Any]:
    """Random weights: they take as long to compile as the training does, but do not depend on the number of rows."""
    from flax import nnx

    return nnx.to_pure_dict(nnx.state(_layers(features, widths, key)))


@eqx.filter_jit
def _train(
    recipe: MLP,
    weights: dict[str, Any],
    x: Float[Array, "rows d"],
    y: Float[Array, " rows"],
    count: Int[Array, ""],
    *,
    key: PRNGKeyArray,
) -> Network:
    """The network after `epochs` passes over the first `count` rows."""
    network = Network(recipe.widths, Standardizer.of(x), Standardizer.of(y), weights)
    x, y = network.inputs(x), network.output(y)
    # The number of steps is traced, so that it too compiles nothing; derivatives, which would forbid that, stay inside a step.
    steps = recipe.epochs * ((count + recipe.batch - 1) // recipe.batch)
    optimiser = optax.adamw(
        lambda step: 0.5 * recipe.learning_rate * (1.0 + jnp.cos(jnp.pi * step / steps)), weight_decay=recipe.weight_decay
    )

    def loss(weights: dict[str, Any], rows: Int[Array, " batch"]) -> Float[Array, ""]:
        return jnp.mean((_forward(recipe.widths, weights, x[rows]) - y[rows]) ** 2)

    def descend(step: Int[Array, ""], carry: tuple[Any, Any]) -> tuple[Any, Any]:
        weights, moments = carry
        rows = jax.random.randint(jax.random.fold_in(key, step), (recipe.batch,), 0, count)
        updates, moments = optimiser.update(jax.grad(loss)(weights, rows), moments, weights)
        return optax.apply_updates(weights, updates), moments

    trained, _ = jax.lax.fori_loop(0, steps, descend, (weights, optimiser.init(weights)))
    return replace(network, weights=trained)
