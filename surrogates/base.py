"""What all surrogates share: the protocol, and the checks of what they are given."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar, NamedTuple, Self, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

Arrays: TypeAlias = Array | np.ndarray
"""What surrogates are given: they take NumPy's arrays as well as JAX's."""

Scorer: TypeAlias = Callable[[Float[Array, "n d"]], Float[Array, " n"]]
"""A small pytree `(n, d) -> (n,)`, higher is better: as an argument of a jitted search a new fit compiles nothing."""


class Prediction(NamedTuple):
    """What a surrogate believes of n points, in the units of its targets: mean and standard deviation of the function."""

    mean: Float[Array, " n"]
    std: Float[Array, " n"]


class Surrogate(eqx.Module):
    """A belief about a function from d features to a number.

    Surrogates are immutable: `fit` returns another one. They are made by their settings alone, so that a model that was not
    fitted is a recipe; predicting with it is an error that says so.

    `vectorised` says whether `fit` runs under `vmap`, so that an ensemble can train all its members at once, and `scores_mean`
    whether the score is the mean itself.
    """

    vectorised: ClassVar[bool] = False
    scores_mean: ClassVar[bool] = False

    @abstractmethod
    def fit(self, x: Float[Arrays, "n d"], y: Float[Arrays, " n"], *, key: PRNGKeyArray) -> Self:
        """Learn from n points, from scratch.

        **Raises:** `ValueError` naming what is wrong with `x` or `y`.
        """

    @abstractmethod
    def predict(self, x: Float[Arrays, "n d"]) -> Prediction:
        """Mean and standard deviation at n points, of any number: large inputs are worked through in chunks."""

    @abstractmethod
    def scorer(self) -> Scorer:
        """The mean (or what ranks alike) as a pytree for jitted searches."""

    def predictive(self, x: Float[Arrays, "n d"]) -> Prediction:
        """Mean and standard deviation of a measurement at n points: `predict` plus the noise, where the model knows of any."""
        return self.predict(x)


def with_noise(prediction: Prediction, noise: Float[Array, ""]) -> Prediction:
    """The prediction of measurements that scatter around the function with a standard deviation."""
    return Prediction(prediction.mean, jnp.hypot(prediction.std, noise))


def checked(x: object, y: object, *, least: int = 2) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, " n"]]:
    """The points as float32 arrays.

    **Raises:** `ValueError` unless x is (n, d) and y is (n,) with n >= `least`, all finite.
    """
    points, targets = checked_points(x), np.asarray(y, np.float32)
    if targets.shape != points.shape[:1]:
        raise ValueError(f"y: shape {targets.shape} must be ({len(points)},), a target for each of x's {len(points)} rows.")
    if len(points) < least:
        raise ValueError(f"x: {len(points)} points are too few to learn from; at least {least} are needed.")
    if not np.isfinite(targets).all():
        raise ValueError(
            f"y: row {int(np.argmin(np.isfinite(targets)))} is not finite; give failed points a number, 0 for example."
        )
    return points, targets


def checked_points(x: object, columns: int | None = None) -> Float[np.ndarray, "n d"]:
    """Points to predict as a float32 array.

    **Raises:** `ValueError` unless x is (n, d), finite, and d is `columns` where that is given.
    """
    points = np.asarray(x, np.float32)
    if points.ndim != 2 or not points.shape[1]:
        raise ValueError(f"x: shape {points.shape} must be (n, d), a row for each point.")
    if columns is not None and points.shape[1] != columns:
        raise ValueError(f"x: {points.shape[1]} columns, but the model was fitted on {columns}.")
    if not np.isfinite(points).all():
        row, column = (int(i) for i in np.argwhere(~np.isfinite(points))[0])
        raise ValueError(f"x: row {row}, column {column} is not finite.")
    return points


def check_positive(model: object, *names: str) -> None:
    """Refuse a model whose settings of these names are not above 0.

    **Raises:** `ValueError` naming the first of them.
    """
    for name in names:
        if not getattr(model, name) > 0:
            raise ValueError(f"{name}: {getattr(model, name)} must be above 0.")


def fitted(surrogate: Surrogate, state: object) -> None:
    """Refuse to predict with a recipe.

    **Raises:** `ValueError` if `state` is None.
    """
    if state is None:
        raise ValueError(f"{type(surrogate).__name__} knows nothing yet; call `fit` and use what it returns.")


def traced(x: object) -> bool:
    """Whether x is being traced by JAX, when its values cannot be looked at."""
    return isinstance(x, jax.core.Tracer)
