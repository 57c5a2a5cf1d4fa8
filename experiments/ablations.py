"""The surrogates that the accuracy experiment compares: one line of `ABLATIONS` each is a row of its tables.

An ablation is given what the other layers taught and a few points of a new layer, and returns a surrogate of the new layer.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from surrogates import MLP, BootstrapEnsemble, DeepGP, ExactGP, Prediction, Residual, SquareRoot, Surrogate, XGBoost, load, save
from surrogates.base import Arrays, Scorer
from surrogates.pooling import Pool, pool

Points = tuple[Float[np.ndarray, "n d"], Float[np.ndarray, " n"]]


@dataclass(frozen=True)
class Sources:
    """What the other layers taught: their points, pooled, and the models that were fitted to them."""

    pooled: Pool
    deep_gp: SquareRoot
    trees: XGBoost

    @classmethod
    def of(cls, tasks: Sequence[Points], *, key: PRNGKeyArray, folder: Path) -> Self:
        """Pool the layers and fit the models, or load them from the folder where an earlier run has left them."""
        pooled = pool(tasks)
        folder.mkdir(parents=True, exist_ok=True)
        recipes = SquareRoot(DeepGP()), XGBoost("reg", halving=math.inf)
        paths = [folder / f"{type(recipe).__name__}-{_digest(recipe, pooled)}" for recipe in recipes]
        if not paths[0].exists():
            save(paths[0], recipes[0].fit(pooled.x, pooled.y, key=key), features=())
        if not paths[1].exists():
            save(paths[1], recipes[1].fit(pooled.x, pooled.y, key=key, groups=_groups(pooled)), features=())
        deep_gp, trees = (load(path) for path in paths)
        assert isinstance(deep_gp, SquareRoot)
        assert isinstance(trees, XGBoost)
        return cls(pooled, deep_gp, trees)


Ablation = Callable[[Sources, Float[np.ndarray, "s d"], Float[np.ndarray, " s"], PRNGKeyArray], Surrogate]


def _deep(**settings: Any) -> Ablation:
    """The pre-trained deep GP, adapted with other settings."""
    return lambda sources, x, y, key: SquareRoot(replace(sources.deep_gp.base, **settings)).adapt(x, y, key=key)


def _corrected(sources: Sources, x: np.ndarray, y: np.ndarray, key: PRNGKeyArray) -> Surrogate:
    return SquareRoot(Residual(sources.deep_gp.base)).adapt(x, y, key=key)


def _zero_shot(sources: Sources, x: np.ndarray, y: np.ndarray, key: PRNGKeyArray) -> Surrogate:
    return InUnit(sources.deep_gp, float(y.max()))


def _alone(recipe: Surrogate) -> Ablation:
    """A surrogate that knows this layer's points only."""
    return lambda sources, x, y, key: recipe.fit(x, y, key=key)


def _warm_start(sources: Sources, x: np.ndarray, y: np.ndarray, key: PRNGKeyArray) -> Surrogate:
    return sources.trees.adapt(x, y, key=key)


def _pooled_trees(sources: Sources, x: np.ndarray, y: np.ndarray, key: PRNGKeyArray) -> Surrogate:
    together, groups = pool([(sources.pooled.x, sources.pooled.y), (x, y)]), _groups(sources.pooled)
    groups = np.append(groups, np.full(len(y), groups.max() + 1))
    return InUnit(XGBoost("reg").fit(together.x, together.y, key=key, groups=groups), float(y.max()))


ABLATIONS: dict[str, Ablation] = {
    "deep GP, MAP + exact GP": _corrected,
    "deep GP, MAP": _deep(),
    "deep GP, zero-shot": _zero_shot,
    "deep GP, no prior": _deep(prior_variance=None),
    "deep GP, last layer": _deep(adapted="last"),
    "exact GP": _alone(SquareRoot(ExactGP())),
    "exact GP, no root": _alone(ExactGP()),
    "SVGP": _alone(SquareRoot(DeepGP(hidden=()))),
    "MLP ensemble": _alone(SquareRoot(BootstrapEnsemble(MLP(), members=8))),
    "XGBoost, regression": _alone(XGBoost("reg")),
    "XGBoost, rank": _alone(XGBoost("rank")),
    "XGBoost, warm start": _warm_start,
    "XGBoost, pooled": _pooled_trees,
}


class InUnit(Surrogate):
    """A model of shares of a task's best, in the unit of a task whose best is known."""

    shares: Surrogate
    best: float

    def fit(self, x: Float[Arrays, "n d"], y: Float[Arrays, " n"], *, key: PRNGKeyArray) -> Self:
        """Learn shares of the best."""
        return replace(self, shares=self.shares.fit(x, y / self.best, key=key))

    def predict(self, x: Float[Arrays, "n d"]) -> Prediction:
        """Shares of the best, times the best."""
        return Prediction(*(values * self.best for values in self.shares.predict(x)))

    def scorer(self) -> Scorer:
        """The shares."""
        return self.shares.scorer()

    def predictive(self, x: Float[Arrays, "n d"]) -> Prediction:
        """Shares of the best, with their noise, times the best."""
        return Prediction(*(values * self.best for values in self.shares.predictive(x)))


def _digest(recipe: Surrogate, pooled: Pool) -> str:
    """What tells a fit from those of other settings and of other points."""
    return hashlib.sha256(repr(recipe).encode() + pooled.x.tobytes() + pooled.y.tobytes()).hexdigest()[:16]


def _groups(pooled: Pool) -> np.ndarray:
    """The layer of each pooled point."""
    return np.repeat(np.arange(len(pooled.sizes)), pooled.sizes)


def seeded(*numbers: int) -> PRNGKeyArray:
    """A key of several whole numbers."""
    key = jax.random.key(0)
    for number in numbers:
        key = jax.random.fold_in(key, number)
    return key
