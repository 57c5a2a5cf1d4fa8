"""Boosted trees as AutoTVM's cost model uses them (Chen et al., NeurIPS 2018); needs the extra `xgboost`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, PRNGKeyArray

from surrogates.base import Arrays, Prediction, Surrogate, check_positive, checked, checked_points, fitted, traced
from surrogates.chunks import scores
from surrogates.pooling import scale_of
from surrogates.trees import Trees, chained

LEAST_WEIGHT = 0.05
"""A base model that would weigh less is dropped."""

DEEPEST = 6
"""The deepest trees: the scorer compares all splits of a tree, twice as many with each level, with every point."""

STRETCH = 32
"""Rounds that are boosted before their recall is looked at."""

OBJECTIVES: dict[str, dict[str, Any]] = {
    "reg": {"objective": "reg:squarederror"},
    # As XGBoost ranked in AutoTVM's days: each point is compared with one random other, not the best points with all others,
    # and a comparison counts in full however far apart the two scores are.
    "rank": {
        "objective": "rank:pairwise",
        "lambdarank_pair_method": "mean",
        "lambdarank_num_pair_per_sample": 1,
        "lambdarank_score_normalization": False,
    },
}


class Boosted(eqx.Module):
    """What was learned.

    - `trees`: the trees that were boosted.
    - `base`: trees of other tasks that these were boosted on, faded already; None without.
    - `columns`: how many features they look at.
    - `slope`, `offset`: the line from the margin, the sum of all trees, to the target's units.
    """

    trees: Trees
    base: Trees | None
    columns: int = eqx.field(static=True)
    slope: float
    offset: float

    def all_trees(self) -> Trees:
        """The base's trees and those on top of them."""
        return self.trees if self.base is None else chained([self.base, self.trees])


class XGBoost(Surrogate):
    r"""Gradient-boosted trees with AutoTVM's settings.

    Targets are divided by their maximum; failed points have target 0. Boosting stops when the average recall of the best points
    of the training data has not risen for `patience` rounds, and keeps the trees of those rounds, as AutoTVM does.

    The "rank" loss orders pairs of points and its margins have no unit: `predict` puts them on the least-squares line through
    the training targets, the scorer gives them as they are. There is no doubt: the standard deviation is 0.

    XGBoost makes the trees on the host and JAX walks them: `fit` and `adapt` work outside jit only, `predict` and the scorer
    anywhere. A fitted model needs XGBoost no more.

    **Arguments:**

    - `loss`: "rank" (AutoTVM to 0.12) or "reg" (later).
    - `depth`, `eta`, `gamma`, `min_child_weight`: XGBoost's parameters of the same names; the depth is 1 to 6.
    - `rounds`: at most so many trees.
    - `patience`: rounds without a better recall before boosting stops.
    - `top`: N of the recall, AutoTVM's plan size.
    - `halving`: points after which the weight of an adapted model's base has halved; `math.inf` continues boosting it whole.
    - `threads`: how many XGBoost boosts with.
    - `state`: what was learned; None until fitted.

    **Raises:** `ValueError` for an unknown loss or a number out of range, `ImportError` naming the extra if XGBoost is missing.
    """

    loss: str = eqx.field(static=True, default="rank")
    depth: int = eqx.field(static=True, default=3)
    eta: float = eqx.field(static=True, default=0.3)
    gamma: float = eqx.field(static=True, default=1e-4)
    min_child_weight: float = eqx.field(static=True, default=1.0)
    rounds: int = eqx.field(static=True, default=8000)
    patience: int = eqx.field(static=True, default=20)
    top: int = eqx.field(static=True, default=64)
    halving: float = eqx.field(static=True, default=64.0)
    threads: int = eqx.field(static=True, default=1)
    state: Boosted | None = None

    def __check_init__(self) -> None:
        if self.loss not in OBJECTIVES:
            raise ValueError(f"loss: {self.loss!r} is not one of {sorted(OBJECTIVES)}.")
        if not 1 <= self.depth <= DEEPEST:
            raise ValueError(f"depth: {self.depth} must lie in 1 .. {DEEPEST}.")
        check_positive(self, "eta", "rounds", "patience", "top", "halving", "threads")
        _xgboost()  # now, and not after a search has measured its first configurations

    def parameters(self) -> dict[str, Any]:
        """What XGBoost is told."""
        return {
            "max_depth": self.depth,
            "eta": self.eta,
            "gamma": self.gamma,
            "min_child_weight": self.min_child_weight,
            "base_score": 0.5,  # XGBoost's default in AutoTVM's days; now it would estimate one
            "nthread": self.threads,
            "disable_default_eval_metric": True,
            **OBJECTIVES[self.loss],
        }

    def fit(
        self,
        x: Float[Arrays, "n d"],
        y: Float[Arrays, " n"],
        *,
        key: PRNGKeyArray,
        groups: Int[Arrays, " n"] | None = None,
    ) -> Self:
        """Boost from nothing.

        **Arguments:**

        - `groups`: the task of each point, where several are pooled: targets are divided by their own task's maximum, the rank
          loss compares points of the same task only, the recall is the mean over tasks, and what is predicted is the share of
          a task's maximum. None: all belong to one.

        **Raises:** `ValueError` for bad points.
        """
        return self._boost(x, y, key=key, groups=groups)

    def adapt(self, x: Float[Arrays, "n d"], y: Float[Arrays, " n"], *, key: PRNGKeyArray) -> Self:
        r"""Boost on top of what this model knows of other tasks: AutoTVM's transfer.

        The known trees' margin is added with weight $2^{-n / 64}$, where 64 is `halving`; below 0.05 they are dropped. With a
        weight of 1 (`halving=math.inf`) this is boosting continued.

        **Raises:** as `fit`, and `ValueError` if this model is not fitted.
        """
        known = self._known()
        checked_points(x, known.columns)
        weight = 2.0 ** -(len(np.asarray(y)) / self.halving)
        base = known.all_trees().faded(weight) if weight >= LEAST_WEIGHT else None
        return self._boost(x, y, key=key, base=base)

    def predict(self, x: Float[Arrays, "n d"]) -> Prediction:
        """The trees' values in the targets' units, and 0 for the doubt they do not have."""
        known = self._known()
        # outside jit on the host, but for the walk through the trees: nothing is compiled for each number of points
        margin: Any = self.scorer()(x) if traced(x) else scores(self.scorer(), checked_points(x, known.columns))
        mean = np.float32(known.offset) + np.float32(known.slope) * margin
        return Prediction(jnp.asarray(mean), jnp.asarray(np.zeros(mean.shape, np.float32)))

    def scorer(self) -> Trees:
        """The margins, in no particular unit. Fits of up to 256 trees share compiled code, those of up to 512, and so on.

        **Raises:** `ValueError` before `fit`.
        """
        return self._known().all_trees().with_room()

    def _known(self) -> Boosted:
        fitted(self, self.state)
        assert self.state is not None
        return self.state

    def _boost(self, x: Any, y: Any, *, key: PRNGKeyArray, groups: Any = None, base: Trees | None = None) -> Self:
        xgboost = _xgboost()
        points, targets = checked(x, y)
        tasks = np.zeros(len(targets), int) if groups is None else _numbered(groups, len(targets))
        # On the host: a search adds points with every fit, and JAX would compile for each number of them.
        generator = np.random.default_rng(np.asarray(jax.random.key_data(key)))
        # Shuffled, because the first trees leave ties, which the recall breaks by position; then by task, as XGBoost wants.
        order = generator.permutation(len(targets))
        order = order[np.argsort(tasks[order], kind="stable")]
        sizes = np.bincount(tasks)
        scales = np.array([scale_of(targets[tasks == task]) for task in range(len(sizes))], np.float32)
        points, scaled = points[order], targets[order] / np.repeat(scales, sizes)
        below = None if base is None else base.margins(points)[:, -1]
        data = xgboost.DMatrix(points, scaled, base_margin=below, qid=tasks[order], nthread=self.threads)
        told = {**self.parameters(), "seed": int(generator.integers(1 << 30))}
        trees, margin = self._until_recall_stands(
            xgboost.Booster(told, [data]), data, points, below, lambda scores: _mean_recall(scores, scaled, sizes, self.top)
        )
        slope, offset = _line(margin, scaled) if self.loss == "rank" else (1.0, 0.0)
        unit = float(scales[0]) if groups is None else 1.0
        return replace(self, state=Boosted(trees, base, points.shape[1], slope * unit, offset * unit))

    def _until_recall_stands(
        self,
        booster: Any,
        data: Any,
        points: Float[np.ndarray, "n d"],
        below: Float[np.ndarray, " n"] | None,
        recall: Callable[[Float[np.ndarray, "rounds n"]], Float[np.ndarray, " rounds"]],
    ) -> tuple[Trees, Float[np.ndarray, " n"]]:
        """Boost until the recall has not risen for `patience` rounds: the trees, and their margin with what is below.

        A stretch of rounds at a time: asking XGBoost for the scores after every round would take longer than the rounds.
        """
        parts: list[Trees] = []
        best, best_at = -1.0, 0
        for first in range(0, self.rounds, STRETCH):
            last = min(first + STRETCH, self.rounds)
            for number in range(first, last):
                booster.update(data, number)
            parts.append(Trees.of(bytes(booster[first:last].save_raw("json")), self.depth))
            margins = parts[-1].margins(points, below)
            below = margins[:, -1]
            for number, value in enumerate(recall(margins[:, 1:].T), first):
                if value > best:
                    best, best_at = value, number
                elif number >= best_at + self.patience:
                    return chained(parts).first(number + 1), margins[:, number + 1 - first]
        return chained(parts), margins[:, -1]


def average_recall(
    scores: Float[np.ndarray, "*rounds n"], values: Float[np.ndarray, " n"], top: int
) -> Float[np.ndarray, "*rounds"]:
    r"""How many of the best points the best scores find: $\frac1N \sum_{i=1}^N |B_i \cap S_i| / i$.

    B is the best i points, S the i points with the best scores: AutoTVM's `a-recall@N`, the area under its recall curve.

    **Arguments:**

    - `scores`, `values`: what was predicted, maybe many times, and what is; higher is better, ties go to the earlier point.
    - `top`: N, at most n of which are counted.

    **Returns:** numbers from 0 to 1.
    """
    last = np.maximum(_ranks(scores), _ranks(values))  # from i = last + 1 on a point is in both lists
    rows = last.reshape(-1, len(values))
    entered = np.bincount((rows + len(values) * np.arange(len(rows))[:, None]).ravel(), minlength=rows.size)
    found = entered.reshape(rows.shape).cumsum(axis=1)[:, :top]
    return (found / np.arange(1, found.shape[1] + 1)).mean(axis=1).reshape(scores.shape[:-1])


def _ranks(values: Float[np.ndarray, "*rounds n"]) -> Int[np.ndarray, "*rounds n"]:
    ranks = np.empty(values.shape, int)
    order = np.argsort(-values, axis=-1, kind="stable")
    np.put_along_axis(ranks, order, np.broadcast_to(np.arange(values.shape[-1]), values.shape), axis=-1)
    return ranks


def _mean_recall(
    scores: Float[np.ndarray, "rounds n"], values: Float[np.ndarray, " n"], sizes: Int[np.ndarray, " tasks"], top: int
) -> Float[np.ndarray, " rounds"]:
    """The mean over tasks that lie one after the other."""
    ends = np.cumsum(sizes)[:-1]
    tasks = zip(np.split(scores, ends, axis=1), np.split(values, ends), strict=True)
    return np.mean([average_recall(*task, top) for task in tasks], axis=0)


def _numbered(groups: Any, n: int) -> Int[np.ndarray, " n"]:
    """Labels as numbers from 0."""
    labels = np.asarray(groups)
    if labels.shape != (n,):
        raise ValueError(f"groups: shape {labels.shape} must be ({n},), a task for each of x's rows.")
    return np.unique(labels, return_inverse=True)[1]


def _line(margins: Float[np.ndarray, " n"], values: Float[np.ndarray, " n"]) -> tuple[float, float]:
    """Slope and offset of the least-squares line from margins to values; it does not fall, whatever the margins say."""
    centred = margins.astype(float) - margins.mean(dtype=float)
    slope = max(0.0, float(centred @ values) / max(float(centred @ centred), 1e-12))
    return slope, float(values.mean(dtype=float) - slope * margins.mean(dtype=float))


def _xgboost() -> ModuleType:
    try:
        import xgboost
    except ImportError as error:
        raise ImportError("XGBoost is not installed; install the extra: pip install gausstune[xgboost]") from error
    return xgboost
