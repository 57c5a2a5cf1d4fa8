"""The deep Gaussian process of Sun et al. (ICCV 2021): doubly stochastic variational inference, and transfer by MAP."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from gpjax.parameters import PositiveReal
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from surrogates.base import Arrays, Prediction, Surrogate, check_positive, checked, checked_points, fitted, traced, with_noise
from surrogates.chunks import scores
from surrogates.deep_gp_layer import Composition, Layer, MeanComposition, mean_projection
from surrogates.deep_gp_prediction import predict, predict_rows, predictor_of
from surrogates.gaussian_process import padded, standardizers
from surrogates.inducing import inducing_points
from surrogates.scaling import Standardizer
from surrogates.training import parameters_of, train


class DeepGP(Surrogate):
    r"""A deep Gaussian process that is fitted to many tasks and adapted to one.

    `fit` maximises the evidence lower bound of Salimbeni & Deisenroth (NeurIPS 2017, equation 17)

    $$\mathcal L(\theta) = \sum_i \mathbb E_{q(f_i^L)} \log p(y_i \mid f_i^L) - \sum_l \mathrm{KL}[q(u^l) \,\|\, p(u^l)],$$

    the expectation over inner layers by sampling, over the last in closed form. `adapt` finds the maximum a posteriori given a
    new task's data (Formulation 2 of the ICCV slides): with the pre-trained parameters $\tilde\theta$ as the prior's centre,

    $$\max_\theta\; \mathcal L(\theta) - |\theta - \tilde\theta|^2 / (2 \tau^2),$$

    over the unconstrained parameters: kernels, inducing points, q(u) and noise alike.

    A new task has its own unit. After `pool`, targets are shares of a task's best; the new task's are divided by the unit in
    which the pre-trained mean fits them best: least squares, where the largest target counts as a tenth of a point of share 1.
    (The largest alone, the pooled tasks' unit, is too low where few random points are known: the RMSE is a fifth higher at 64.)
    Predictions are in the new task's unit. Targets that may be negative, such as logarithms, have none and stay as they are.

    The default is the fast form of the model; `paper` has the ICCV paper's settings.

    **Attributes:**

    - `hidden`: the widths of the inner layers; none makes it a sparse variational Gaussian process.
    - `inducing`: inducing points in each layer; fewer where there are fewer distinct points.
    - `inner`: the covariance of q in inner layers, "diagonal" or "full". The last layer's is full.
    - `epochs`, `batch`, `learning_rate`, `patience`: of the training, see `train`.
    - `samples`: of the inner layers in each step.
    - `adapt_epochs`, `adapt_learning_rate`: of the adaptation.
    - `prior_variance`: tau^2; None adapts without a prior, a mere continuation of the training on other data.
    - `adapted`: "all" layers or the "last" alone.
    - `state`: what was learned; None before `fit`.
    """

    hidden: tuple[int, ...] = eqx.field(default=(10, 14), static=True)
    inducing: int = eqx.field(default=64, static=True)
    inner: Literal["diagonal", "full"] = eqx.field(default="diagonal", static=True)
    epochs: int = eqx.field(default=300, static=True)
    batch: int = eqx.field(default=256, static=True)
    learning_rate: float = eqx.field(default=0.04, static=True)
    patience: int = eqx.field(default=10, static=True)
    samples: int = eqx.field(default=1, static=True)
    adapt_epochs: int = eqx.field(default=300, static=True)
    adapt_learning_rate: float = eqx.field(default=0.04, static=True)
    prior_variance: float | None = eqx.field(default=0.01, static=True)
    adapted: Literal["all", "last"] = eqx.field(default="all", static=True)
    state: Composition | None = None

    def __check_init__(self) -> None:
        check_positive(self, "inducing", "epochs", "batch", "learning_rate", "patience", "samples")
        check_positive(self, "adapt_epochs", "adapt_learning_rate")
        if min(self.hidden, default=1) <= 0:
            raise ValueError(f"hidden: {self.hidden} must be widths above 0, one for each inner layer.")
        if self.prior_variance is not None and self.prior_variance <= 0:
            raise ValueError(f"prior_variance: {self.prior_variance} must be above 0, or None for no prior.")
        for name, choices in (("inner", ("diagonal", "full")), ("adapted", ("all", "last"))):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name}: {getattr(self, name)!r} is not one of {', '.join(map(repr, choices))}.")

    @classmethod
    def paper(cls, **settings: Any) -> Self:
        """The settings of the ICCV paper's appendix, section 2, unless told otherwise.

        Where the paper is silent (the learning rate's schedule, q, the start) ours hold, with a full q in every layer.
        """
        published = {"hidden": (10, 14), "inducing": 128, "epochs": 3000, "batch": 256, "learning_rate": 0.04}
        return cls(**{**published, "adapt_epochs": 2000, "adapt_learning_rate": 0.04, "inner": "full", **settings})

    def fit(
        self,
        x: Float[Arrays, "n d"],
        y: Float[Arrays, " n"],
        *,
        key: PRNGKeyArray,
        progress: Callable[[int, float], None] | None = None,
    ) -> Self:
        """Learn from n points, from scratch; `progress` hears of the epochs done and the RMSE of standardised targets.

        **Raises:** `ValueError` naming what is wrong with `x` or `y`; `FloatingPointError` if the learning rate is so high that
        the parameters become no numbers.
        """
        points, targets = checked(x, y)
        start_key, key = jax.random.split(key)
        trained = train(
            self._start(points, targets, start_key),
            NegativeELBO(self.samples),
            points,
            targets,
            key=key,
            epochs=self.epochs,
            batch=self.batch,
            learning_rate=self.learning_rate,
            patience=self.patience,
            progress=progress,
        )
        return replace(self, state=trained.model)

    def adapt(self, x: Float[Arrays, "n d"], y: Float[Arrays, " n"], *, key: PRNGKeyArray) -> Self:
        """Transfer to a task of which n points are known, one or more.

        **Raises:** `ValueError` before `fit`, or naming what is wrong with `x` or `y`; `FloatingPointError` as `fit`.
        """
        state = self._known()
        points, targets = checked(x, y, least=1)
        checked_points(points, columns=len(state.features.mean))
        start, bound, variance = _rescaled(state, points, targets), NegativeELBO(self.samples), self.prior_variance
        trained = train(
            start,
            bound if variance is None else NegativeLogPosterior(bound, start, jnp.float32(variance)),
            points,
            targets,
            key=key,
            epochs=self.adapt_epochs,
            batch=self.batch,
            learning_rate=self.adapt_learning_rate,
            patience=self.patience,
            trainable=_last_layer(start) if self.adapted == "last" else None,
        )
        return replace(self, state=trained.model)

    def predict(self, x: Float[Arrays, "n d"], *, samples: int = 0, key: PRNGKeyArray | None = None) -> Prediction:
        """Mean and standard deviation of the function, noise excluded, at n points of any number.

        **Arguments:**

        - `samples`: 0 propagates the means of inner layers and takes the last layer's variance. A number s takes the moments of
          the mixture over s samples of the inner layers instead, s times slower, and needs a `key`.

        **Raises:** `ValueError` before `fit`, for points that are not finite or have other columns, or for samples without key.
        """
        state = self._known()
        if bool(samples) != (key is not None):
            raise ValueError(f"key: {key} with {samples} samples; give a random key to draw samples with, and only then.")
        predictor = predictor_of(state, samples, key)
        if traced(x):
            return predict(predictor, jnp.asarray(x))
        return predict_rows(predictor, checked_points(x, len(state.features.mean)))

    def scorer(self) -> MeanComposition:
        """The mean as a pytree of a few small arrays, `(n, d) -> (n,)`.

        **Raises:** `ValueError` before `fit`.
        """
        return _means_only(self._known())

    def predictive(self, x: Float[Arrays, "n d"]) -> Prediction:
        """Mean and standard deviation of a measurement: with the noise that was learned."""
        state = self._known()
        return with_noise(self.predict(x), state.targets.scale * state.noise_variance() ** 0.5)

    def _known(self) -> Composition:
        fitted(self, self.state)
        assert self.state is not None
        return self.state

    def _start(
        self, x: Float[np.ndarray, "n d"], y: Float[np.ndarray, " n"], key: PRNGKeyArray, noise: float = 0.1
    ) -> Composition:
        """The untrained model: k-means inducing points and mean functions, propagated through the inner layers.

        Inner layers begin as their mean function, almost without uncertainty; the last one begins as its prior.
        """
        features, targets = standardizers(*padded(x, y))
        h = features.on_host(x)
        z = inducing_points(h, self.inducing, key=key)
        layers = []
        for width in self.hidden:
            projection = mean_projection(h, width)
            layers.append(_layer(h, z, projection, deviation=1e-5, full=self.inner == "full"))
            h, z = h @ projection, z @ projection
        layers.append(_layer(h, z, np.zeros((h.shape[1], 1), np.float32), deviation=1.0, full=True))
        return Composition(features, targets, jnp.float32(_peak(y)), tuple(layers), _positive(jnp.float32(noise)))


class NegativeELBO(eqx.Module):
    """The evidence lower bound, negated, estimated from a batch with samples of the inner layers."""

    samples: int = eqx.field(default=1, static=True)

    def __call__(
        self,
        model: Composition,
        x: Float[Array, "b d"],
        y: Float[Array, " b"],
        weight: Float[Array, " b"],
        *,
        key: PRNGKeyArray,
    ) -> tuple[Float[Array, ""], Float[Array, " b"]]:
        """The loss on all data, and the squared errors of this batch's standardised targets."""
        noise = jax.random.normal(key, (self.samples if model.width else 1, len(x), model.width), x.dtype)
        mean, variance = model.sampled_moments(x, model.whiteners(), noise)
        squared, level = (model.targets(y) - mean) ** 2, model.noise_variance()
        expected = -0.5 * (jnp.log(2 * jnp.pi * level) + (squared + variance) / level)
        return model.kl() - weight @ expected.mean(axis=0), squared.mean(axis=0)


class NegativeLogPosterior(eqx.Module):
    r"""The negative evidence lower bound plus $|\theta - \tilde\theta|^2 / (2 \tau^2)$: a normal prior on the parameters."""

    evidence: NegativeELBO
    centre: Composition
    variance: Float[Array, ""]

    def __call__(
        self,
        model: Composition,
        x: Float[Array, "b d"],
        y: Float[Array, " b"],
        weight: Float[Array, " b"],
        *,
        key: PRNGKeyArray,
    ) -> tuple[Float[Array, ""], Float[Array, " b"]]:
        """The loss on all data, and the squared errors of this batch's standardised targets."""
        loss, squared = self.evidence(model, x, y, weight, key=key)
        moved = jax.tree.map(lambda now, before: ((now - before) ** 2).sum(), model, self.centre)
        return loss + sum(jax.tree.leaves(moved)) / (2 * self.variance), squared


def _layer(
    h: Float[np.ndarray, "n d"],
    z: Float[np.ndarray, "m d"],
    projection: Float[np.ndarray, "d p"],
    *,
    deviation: float,
    full: bool,
) -> Layer:
    """An untrained layer whose lengthscale is the spread of its inputs, so that its functions are neither flat nor noise."""
    spread = float(np.sqrt(h.var(axis=0).sum())) or 1.0
    return _initial(jnp.asarray(z), jnp.asarray(projection), lengthscale=jnp.float32(spread), deviation=deviation, full=full)


def _rescaled(state: Composition, x: Float[np.ndarray, "n d"], y: Float[np.ndarray, " n"], weight: float = 0.1) -> Composition:
    """The same beliefs in the unit of the task that these points are of; `weight` is that of the largest target as a point."""
    peak = _peak(y)
    if not (peak and state.peak):
        return state
    mean = _means_only(state)
    share = np.maximum(scores(mean, x), 0.0) / np.asarray(state.peak)
    unit = np.float32((share @ y + weight * peak) / (share @ share + weight))
    scale, offset = (np.asarray(value) * (unit / np.asarray(state.peak)) for value in (state.targets.scale, state.targets.mean))
    return replace(state, targets=Standardizer(*jax.device_put((offset, scale))), peak=jax.device_put(unit))


def _peak(y: Float[np.ndarray, " n"]) -> float:
    """The largest target, or 0 where targets may be negative and have no unit."""
    return float(y.max()) if y.min() >= 0 else 0.0


def _last_layer(state: Composition) -> PyTree[bool]:
    """The prefix of the model that trains the last layer and the noise alone."""
    inner = len(state.layers) - 1
    return eqx.tree_at(lambda prefix: prefix.layers[:inner], parameters_of(state), (False,) * inner)


_means_only, _initial, _positive = (eqx.filter_jit(part) for part in (Composition.means_only, Layer.initial, PositiveReal))
