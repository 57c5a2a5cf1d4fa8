"""Boosted trees as AutoTVM's cost model uses them (Chen et al., NeurIPS 2018); needs the extra `xgboost`."""

from __future__ import annotations

import functools
from dataclasses import replace
from types import ModuleType
from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt8

from surrogates.base import Prediction, Surrogate, checked, checked_points, fitted, traced
from surrogates.pooling import scale_of

LEAST_WEIGHT = 0.05
"""A base model that would weigh less is dropped."""

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


class Trees(eqx.Module):
    """Boosted trees, maybe on top of a base model's: a scorer that works on NumPy arrays, outside jit.

    **Arguments:**

    - `raw`: the booster in XGBoost's own binary JSON.
    - `columns`: how many features it was fitted on.
    - `threads`: how many threads it uses.
    - `slope`, `offset`: the line from the trees' margin to the target's units.
    - `base`, `weight`: trees that were there before, and how much of their margin is added.
    """

    raw: UInt8[np.ndarray, " bytes"]
    columns: int = eqx.field(static=True)
    threads: int = eqx.field(static=True)
    slope: float = 1.0
    offset: float = 0.0
    base: Trees | None = None
    weight: float = 0.0

    def __call__(self, x: Float[Array | np.ndarray, "n d"]) -> Float[Array, " n"]:
        """The margins of n points: higher is better, in no particular unit.

        **Raises:** `ValueError` inside jit, where trees cannot be walked.
        """
        if traced(x):
            raise ValueError(
                "x: XGBoost cannot score inside jit; give NumPy arrays, or search with a surrogate written in JAX."
            )
        return jnp.asarray(self.margin(checked_points(x, self.columns)))

    def margin(self, x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
        """The sum of the trees' leaves at n points, with the base's share."""
        booster = _booster(np.asarray(self.raw).tobytes(), self.threads)
        return booster.inplace_predict(x, predict_type="margin", base_margin=self.below(x))

    def below(self, x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"] | None:
        """The base's share of the margins; None without a base."""
        return None if self.base is None else np.float32(self.weight) * self.base.margin(x)


class XGBoost(Surrogate):
    r"""Gradient-boosted trees with AutoTVM's settings.

    Targets are divided by their maximum; failed points have target 0. Boosting stops when the average recall of the best points
    of the training data has not risen for `patience` rounds, and keeps the trees of those rounds, as AutoTVM does.

    The "rank" loss orders pairs of points and its margins have no unit: `predict` puts them on the least-squares line through
    the training targets, the scorer gives them as they are. There is no doubt: the standard deviation is 0.

    Pure in effect, but no JAX program: `fit`, `predict` and the scorer work on NumPy arrays, outside jit.

    **Arguments:**

    - `loss`: "rank" (AutoTVM to 0.12) or "reg" (later).
    - `depth`, `eta`, `gamma`, `min_child_weight`: XGBoost's parameters of the same names.
    - `rounds`: at most so many trees.
    - `patience`: rounds without a better recall before boosting stops.
    - `top`: N of the recall, AutoTVM's plan size.
    - `halving`: points after which the weight of an adapted model's base has halved; `math.inf` continues boosting it whole.
    - `threads`: XGBoost's threads.
    - `state`: what was learned; None until fitted.

    **Raises:** `ValueError` for an unknown loss.
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
    state: Trees | None = None

    def __check_init__(self) -> None:
        if self.loss not in OBJECTIVES:
            raise ValueError(f"loss: {self.loss!r} is not one of {sorted(OBJECTIVES)}.")

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
        x: Float[Array, "n d"],
        y: Float[Array, " n"],
        *,
        key: PRNGKeyArray,
        groups: Int[Array, " n"] | None = None,
    ) -> Self:
        """Boost from nothing.

        **Arguments:**

        - `groups`: the task of each point, where several are pooled: targets are divided by their own task's maximum, the rank
          loss compares points of the same task only, the recall is the mean over tasks, and what is predicted is the share of
          a task's maximum. None: all belong to one.

        **Raises:** `ValueError` for bad points, `ImportError` naming the extra if XGBoost is not installed.
        """
        return self._boost(x, y, key=key, groups=groups)

    def adapt(self, x: Float[Array, "n d"], y: Float[Array, " n"], *, key: PRNGKeyArray) -> Self:
        r"""Boost on top of what this model knows of other tasks: AutoTVM's transfer.

        The known trees' margin is added with weight $2^{-n / 64}$, where 64 is `halving`; below 0.05 they are dropped. With a
        weight of 1 (`halving=math.inf`) this is boosting continued.

        **Raises:** as `fit`, and `ValueError` if this model is not fitted.
        """
        base = self.scorer()
        weight = 2.0 ** -(len(np.asarray(y)) / self.halving)
        return self._boost(x, y, key=key, base=base, weight=weight) if weight >= LEAST_WEIGHT else self.fit(x, y, key=key)

    def predict(self, x: Float[Array, "n d"]) -> Prediction:
        """The trees' values in the targets' units, and 0 for the doubt they do not have."""
        trees = self.scorer()
        mean = jnp.float32(trees.offset) + jnp.float32(trees.slope) * trees(x)
        return Prediction(mean, jnp.zeros_like(mean))

    def scorer(self) -> Trees:
        """The margins: a callable for NumPy arrays, not for jit."""
        fitted(self, self.state)
        assert self.state is not None
        return self.state

    def _boost(
        self, x: Any, y: Any, *, key: PRNGKeyArray, groups: Any = None, base: Trees | None = None, weight: float = 0.0
    ) -> Self:
        xgboost = _xgboost()
        points, targets = checked(x, y)
        if base is not None:
            checked_points(points, base.columns)
        tasks = np.zeros(len(targets), int) if groups is None else _numbered(groups, len(targets))
        shuffle, seed = jax.random.split(key)
        # Shuffled, because the first trees leave ties, which the recall breaks by position; then by task, as XGBoost wants.
        order = np.asarray(jax.random.permutation(shuffle, len(targets)))
        order = order[np.argsort(tasks[order], kind="stable")]
        sizes = np.bincount(tasks)
        scales = np.array([scale_of(targets[tasks == task]) for task in range(len(sizes))], np.float32)
        points, scaled = points[order], targets[order] / np.repeat(scales, sizes)
        trees = Trees(np.empty(0, np.uint8), points.shape[1], self.threads, base=base, weight=weight)
        data = xgboost.DMatrix(points, scaled, base_margin=trees.below(points), qid=tasks[order], nthread=self.threads)
        booster = xgboost.train(
            {**self.parameters(), "seed": int(jax.random.randint(seed, (), 0, 1 << 30))},
            data,
            num_boost_round=self.rounds,
            evals=[(data, "train")],
            custom_metric=lambda scores, _: ("recall", _mean_recall(scores, scaled, sizes, self.top)),
            callbacks=[
                xgboost.callback.EarlyStopping(rounds=self.patience, metric_name="recall", data_name="train", maximize=True)
            ],
            verbose_eval=False,
        )
        trees = replace(trees, raw=np.frombuffer(bytes(booster.save_raw("ubj")), np.uint8))
        slope, offset = _line(trees.margin(points), scaled) if self.loss == "rank" else (1.0, 0.0)
        unit = float(scales[0]) if groups is None else 1.0
        return replace(self, state=replace(trees, slope=slope * unit, offset=offset * unit))


def average_recall(scores: Float[np.ndarray, " n"], values: Float[np.ndarray, " n"], top: int) -> float:
    r"""How many of the best points the best scores find: $\frac1N \sum_{i=1}^N |B_i \cap S_i| / i$.

    B is the best i points, S the i points with the best scores: AutoTVM's `a-recall@N`, the area under its recall curve.

    **Arguments:**

    - `scores`, `values`: what was predicted and what is; higher is better, ties go to the earlier point.
    - `top`: N, at most n of which are counted.

    **Returns:** a number from 0 to 1.
    """
    last = np.maximum(_ranks(scores), _ranks(values))  # from i = last + 1 on a point is in both lists
    found = np.cumsum(np.bincount(last, minlength=len(last)))[:top]
    return float((found / np.arange(1, len(found) + 1)).mean())


def _ranks(values: Float[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    ranks = np.empty(len(values), int)
    ranks[np.argsort(-values, kind="stable")] = np.arange(len(values))
    return ranks


def _mean_recall(
    scores: Float[np.ndarray, " n"], values: Float[np.ndarray, " n"], sizes: Int[np.ndarray, " tasks"], top: int
) -> float:
    """The mean over tasks that lie one after the other."""
    ends = np.cumsum(sizes)[:-1]
    tasks = zip(np.split(scores, ends), np.split(values, ends), strict=True)
    return float(np.mean([average_recall(*task, top) for task in tasks]))


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


@functools.lru_cache(maxsize=32)
def _booster(raw: bytes, threads: int) -> Any:
    """The booster that these bytes describe; a search asks for the same one again and again."""
    booster = _xgboost().Booster(model_file=bytearray(raw))
    booster.set_param({"nthread": threads})
    return booster


def _xgboost() -> ModuleType:
    try:
        import xgboost
    except ImportError as error:
        raise ImportError("XGBoost is not installed; install the extra: pip install gausstune[xgboost]") from error
    return xgboost
