"""Training by stochastic gradients, written once: Adam, minibatches, a learning rate lowered when the error stops falling.

A run is one compiled loop. Whatever may differ between two fits of the same shape (data, keys, limits, rates) is an argument of
that loop, so the second fit compiles nothing.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Generic, NamedTuple, Protocol, Self, TypeAlias, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree
from paramax import AbstractUnwrappable

from surrogates.chunks import power_of_two

Model = TypeVar("Model", bound=eqx.Module)

Step: TypeAlias = tuple[Float[Array, " q"], optax.OptState, Float[Array, ""]]

ADAM = optax.scale_by_adam()


class Objective(Protocol):
    """What is minimised: a pytree, so that the arrays it holds (a prior, a count) can change without compiling."""

    def __call__(
        self, model: Any, x: Float[Array, "b d"], y: Float[Array, " b"], weight: Float[Array, " b"], *, key: PRNGKeyArray
    ) -> tuple[Float[Array, ""], Float[Array, " b"]]:
        """An unbiased estimate of the loss on all data from one batch, and the batch's squared errors.

        `weight` says how many rows of the data each row stands for: a sum over the data is estimated by `weight @ values`.
        Rows of weight 0 are padding.
        """


class Trained(NamedTuple, Generic[Model]):
    """A model, the epochs it was trained for, and the root mean squared error over the last of them."""

    model: Model
    epochs: int
    rmse: float


def train(
    model: Model,
    objective: Objective,
    x: Float[np.ndarray, "n d"],
    y: Float[np.ndarray, " n"],
    *,
    key: PRNGKeyArray,
    epochs: int,
    batch: int = 256,
    learning_rate: float = 0.04,
    decay: float = 0.5,
    patience: int = 10,
    tolerance: float = 1e-3,
    least_rate: float = 1e-3,
    trainable: PyTree[bool] | None = None,
    resident: int = 1 << 18,
    progress: Callable[[int, float], None] | None = None,
) -> Trained[Model]:
    """Minimise an objective over a model's parameters.

    The learning rate is multiplied by `decay` when the RMSE has not fallen by the fraction `tolerance` for `patience` epochs;
    training ends early when it would come below `least_rate`.

    **Arguments:**

    - `model`: what is trained; its GPJax parameters change, its other arrays do not.
    - `objective`: what is minimised.
    - `x`, `y`: the data. More than `resident` rows are not held by the device but streamed in shards of that many random rows,
      each of which counts as an epoch for `patience`, `progress` and the result; a memory map will do.
    - `key`: of the shuffles, and of what the objective draws.
    - `epochs`: at most so many passes over the data.
    - `batch`: rows in a step; fewer where there are fewer points.
    - `trainable`: a prefix of the model with a bool for each part, where not all parameters are to change.
    - `progress`: called every ten epochs, or after every shard, with the epochs done and the RMSE.

    **Returns:** the trained model, the epochs and the last RMSE.

    **Raises:** `FloatingPointError` if the RMSE has become infinite or no number.
    """
    theta, frozen = eqx.partition(model, parameters_of(model) if trainable is None else trainable)
    batch = min(batch, power_of_two(min(len(x), resident)))
    shards, limit = -(-len(x) // resident), epochs * -(-len(x) // resident)
    stride = 1 if shards > 1 else 10 if progress is not None else limit
    # no arithmetic of arrays between the compiled parts: each operation by itself would compile, too
    schedule = Schedule(*(jnp.float32(number) for number in (decay, patience, tolerance, least_rate)))
    run = _begin(theta, jnp.float32(learning_rate), key)
    for data in _shards(x, y, batch, resident, np.random.default_rng(np.asarray(jax.random.key_data(key)))):
        if int(run.epoch) >= limit or float(run.rate) < least_rate:
            break
        run = _advance(run, frozen, objective, data, schedule, jnp.int32(min(int(run.epoch) + stride, limit)))
        if progress is not None:
            progress(int(run.epoch), float(run.rmse))
    trained = Trained(eqx.combine(run.theta, frozen), int(run.epoch), float(run.rmse))
    if trained.epochs and not math.isfinite(trained.rmse):
        raise FloatingPointError(
            f"training: the error is {trained.rmse} after {trained.epochs} epochs; try a learning rate below {learning_rate}."
        )
    return trained


def parameters_of(model: eqx.Module) -> PyTree[bool]:
    """Which parts of a model are GPJax parameters: the prefix of it that `train` takes as `trainable`."""
    return jax.tree.map(_is_parameter, model, is_leaf=_is_parameter)


def _is_parameter(part: object) -> bool:
    return isinstance(part, AbstractUnwrappable)


class Schedule(NamedTuple):
    """When the learning rate is lowered, and how far; `train` names the numbers."""

    decay: Float[Array, ""]
    patience: Float[Array, ""]
    tolerance: Float[Array, ""]
    least_rate: Float[Array, ""]


class Run(eqx.Module):
    """A training run between two epochs: parameters, Adam's moments, the rate, and how long the lowest RMSE has stood."""

    theta: PyTree[Array]
    moments: optax.OptState
    rate: Float[Array, ""]
    lowest: Float[Array, ""]
    waited: Int[Array, ""]
    rmse: Float[Array, ""]
    epoch: Int[Array, ""]
    key: PRNGKeyArray

    def after(
        self, theta: PyTree[Array], moments: optax.OptState, rmse: Float[Array, ""], key: PRNGKeyArray, rule: Schedule
    ) -> Self:
        """The run after an epoch that ended with these parameters and this RMSE."""
        fallen = rmse < self.lowest * (1 - rule.tolerance)
        waited = jnp.where(fallen, 0, self.waited + 1)
        lower = waited >= rule.patience
        return type(self)(
            theta=theta,
            moments=moments,
            rate=jnp.where(lower, self.rate * rule.decay, self.rate),
            lowest=jnp.where(fallen, rmse, self.lowest),
            waited=jnp.where(lower, 0, waited),
            rmse=rmse,
            epoch=self.epoch + 1,
            key=key,
        )


@eqx.filter_jit
def _begin(theta: PyTree[Array], rate: Float[Array, ""], key: PRNGKeyArray) -> Run:
    infinite, none = jnp.full((), jnp.inf, jnp.float32), jnp.zeros((), jnp.int32)
    moments, key = ADAM.init(ravel_pytree(theta)[0]), jax.random.fold_in(key, 0)
    return Run(theta, moments, rate, lowest=infinite, waited=none, rmse=infinite, epoch=none, key=key)


class Shard(eqx.Module):
    """Rows on the device, padded to whole batches, and how many rows of the data each stands for in its batch."""

    x: Float[Array, "r d"]
    y: Float[Array, " r"]
    weight: Float[Array, " r"]
    batch: int = eqx.field(static=True)

    @classmethod
    def of(cls, x: Float[np.ndarray, "n d"], y: Float[np.ndarray, " n"], batch: int, total: int) -> Self:
        """The shard that holds these rows of `total`. A batch of it is a random part of them, padding included."""
        steps, padding = -(-len(x) // batch), -len(x) % batch
        weight = np.pad(np.full(len(x), steps * total / len(x), np.float32), (0, padding))
        x, y = np.pad(x, ((0, padding), (0, 0)), mode="edge"), np.pad(y, (0, padding), mode="edge")
        return cls(jnp.asarray(x), jnp.asarray(y), jnp.asarray(weight), batch)


def _shards(
    x: Float[np.ndarray, "n d"], y: Float[np.ndarray, " n"], batch: int, resident: int, generator: np.random.Generator
) -> Iterator[Shard]:
    """All data again and again where they fit; else a random part at a time, every row once before any comes again."""
    if len(x) <= resident:
        yield from itertools.repeat(Shard.of(x, y, batch, len(x)))
    while True:
        rows = generator.permutation(len(x))
        rows = np.append(rows, rows[: -len(x) % resident])  # the last shard is as long as the others
        for part in rows.reshape(-1, resident):
            yield Shard.of(x[part], y[part], batch, len(x))


@eqx.filter_jit
def _advance(  # noqa: PLR0917
    run: Run, frozen: PyTree[Array], objective: Objective, data: Shard, schedule: Schedule, until: Int[Array, ""]
) -> Run:
    """Train to the epoch `until`, or until the learning rate has come below the least.

    Parameters are one vector meanwhile: Adam is then a handful of operations and not as many for each array, a fifth of a step.
    """
    vector, tree_of = ravel_pytree(run.theta)

    def step(state: Step, rows_and_key: tuple[Int[Array, " b"], PRNGKeyArray]) -> tuple[Step, Float[Array, ""]]:
        (vector, moments, rate), (rows, key) = state, rows_and_key
        x, y, weight = data.x[rows], data.y[rows], data.weight[rows]

        def loss(vector: Float[Array, " q"]) -> tuple[Float[Array, ""], Float[Array, " b"]]:
            return objective(eqx.combine(tree_of(vector), frozen), x, y, weight, key=key)

        gradient, squared = jax.grad(loss, has_aux=True)(vector)
        direction, moments = ADAM.update(gradient, moments)
        return (vector - rate * direction, moments, rate), weight @ squared

    def epoch(run: Run) -> Run:
        key, shuffle_key, step_key = jax.random.split(run.key, 3)
        rows = jax.random.permutation(shuffle_key, len(data.y)).reshape(-1, data.batch)
        batches = rows, jax.random.split(step_key, len(rows))
        (vector, moments, _), squared = jax.lax.scan(step, (run.theta, run.moments, run.rate), batches)
        return run.after(vector, moments, jnp.sqrt(squared.sum() / data.weight.sum()), key, schedule)

    def unfinished(run: Run) -> Bool[Array, ""]:
        return (run.epoch < until) & (run.rate >= schedule.least_rate)

    run = jax.lax.while_loop(unfinished, epoch, replace(run, theta=vector))
    return replace(run, theta=tree_of(run.theta))
