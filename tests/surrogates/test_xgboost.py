"""The laws of AutoTVM's cost model: its settings, its recall, its transfer, and what holds in any unit of the targets."""

import math
import sys

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surrogates.ensemble import BootstrapEnsemble
from surrogates.xgboost import XGBoost, average_recall

pytest.importorskip("xgboost", reason="needs the extra xgboost")

KEY = jax.random.key(0)
LOSSES = ["rank", "reg"]


def smooth(x: np.ndarray) -> np.ndarray:
    return np.exp(x[:, 0]) + np.sin(3 * x[:, 1])


def related(x: np.ndarray) -> np.ndarray:
    return 50 * (smooth(x) + 0.3 * x[:, 2])


def points(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (n, 4)).astype(np.float32)


def rank_correlation(a, b) -> float:
    ranks = [np.argsort(np.argsort(np.asarray(values))) for values in (a, b)]
    return float(np.corrcoef(*ranks)[0, 1])


def test_settings_are_autotvms():
    model = XGBoost()
    told = model.parameters()
    assert {name: told[name] for name in ("max_depth", "eta", "gamma", "min_child_weight", "nthread")} == {
        "max_depth": 3,
        "eta": 0.3,
        "gamma": 1e-4,
        "min_child_weight": 1,
        "nthread": 1,
    }
    assert (told["objective"], XGBoost(loss="reg").parameters()["objective"]) == ("rank:pairwise", "reg:squarederror")
    assert (told["lambdarank_pair_method"], told["lambdarank_num_pair_per_sample"]) == ("mean", 1)
    assert (model.rounds, model.patience, model.top, model.halving) == (8000, 20, 64, 64)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=30), st.integers(1, 40))
def test_recall_is_the_mean_overlap_of_the_lists(pairs, top):
    scores, values = np.array(pairs, float).T
    predicted, best = (np.argsort(-column, kind="stable") for column in (scores, values))
    lengths = range(1, min(top, len(pairs)) + 1)
    expected = np.mean([len(set(predicted[:i]) & set(best[:i])) / i for i in lengths])
    assert math.isclose(average_recall(scores, values, top), expected)
    assert average_recall(values, values, top) == 1.0


@pytest.mark.parametrize("loss", LOSSES)
def test_orders_unseen_points(loss):
    x, unseen = points(300), points(400, seed=1)
    model = XGBoost(loss=loss).fit(x, smooth(x), key=KEY)
    assert rank_correlation(model.scorer()(unseen), smooth(unseen)) > 0.9
    prediction = model.predict(unseen)
    assert np.std(prediction.mean - smooth(unseen)) < 0.5 * smooth(unseen).std()
    assert not prediction.std.any()


@pytest.mark.parametrize("loss", LOSSES)
def test_the_unit_of_the_targets_does_not_matter(loss):
    x = points(80)
    model, scaled = (XGBoost(loss=loss).fit(x, unit * (smooth(x) + 2), key=KEY) for unit in (1, 1024))
    np.testing.assert_array_equal(model.scorer()(x), scaled.scorer()(x))
    np.testing.assert_allclose(scaled.predict(x).mean, 1024 * model.predict(x).mean, rtol=1e-4)


def test_regression_predicts_shares_of_the_maximum():
    x = points(80)
    model = XGBoost(loss="reg").fit(x, smooth(x), key=KEY)
    np.testing.assert_allclose(model.predict(x).mean, smooth(x).max() * model.scorer()(x), rtol=1e-6)


def test_pooled_tasks_are_scaled_apart():
    x, tasks = points(80), np.repeat(["b", "a"], 40)
    y = smooth(x) + 2
    model, other = (XGBoost().fit(x, np.where(tasks == "a", unit, 1) * y, key=KEY, groups=tasks) for unit in (1, 1024))
    np.testing.assert_array_equal(model.scorer()(x), other.scorer()(x))
    np.testing.assert_array_equal(model.predict(x).mean, other.predict(x).mean)
    assert model.predict(x).mean.max() < 1.5


def test_pooled_tasks_are_not_compared():
    """One task is near its best everywhere: a pool that is one group learns that, pairs within tasks cannot."""
    x, task = points(200), np.repeat([0, 1], 100)
    x[:, 3] = task
    y = smooth(x) + 2 + 50 * task
    for groups, apart in ((task, False), (np.zeros(200), True)):
        scores = np.asarray(XGBoost().fit(x, y, key=KEY, groups=groups).scorer()(x))
        gap = scores[task == 1].mean() - scores[task == 0].mean()
        assert (gap > scores[task == 0].std()) == apart


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("halving", [64.0, math.inf])
def test_adapting_with_few_points_beats_scratch(loss, halving):
    x, few, unseen = points(400), points(12, seed=1), points(400, seed=2)
    pretrained = XGBoost(loss=loss, halving=halving).fit(x, smooth(x), key=KEY)
    adapted, scratch = pretrained.adapt(few, related(few), key=KEY), pretrained.fit(few, related(few), key=KEY)
    gained = [rank_correlation(model.scorer()(unseen), related(unseen)) for model in (adapted, scratch)]
    assert gained[0] > gained[1] + 0.05


@pytest.mark.parametrize(("count", "weight"), [(64, 0.5), (128, 0.25), (276, 2 ** (-276 / 64))])
def test_a_base_fades_with_the_points(count, weight):
    pretrained = XGBoost(rounds=3).fit(points(50), smooth(points(50)), key=KEY)
    x = points(count, seed=1)
    state = pretrained.adapt(x, related(x), key=KEY).state
    below = state.base.margins(x)[:, -1]
    np.testing.assert_allclose(below, weight * pretrained.scorer()(x), rtol=1e-5)
    np.testing.assert_array_equal(state.all_trees().margins(x)[:, -1], state.trees.margins(x, below)[:, -1])


def test_a_faded_base_is_dropped():
    pretrained = XGBoost(rounds=3).fit(points(50), smooth(points(50)), key=KEY)
    x = points(277, seed=1)
    adapted, scratch = pretrained.adapt(x, related(x), key=KEY), pretrained.fit(x, related(x), key=KEY)
    assert adapted.state.base is None
    np.testing.assert_array_equal(adapted.scorer()(x), scratch.scorer()(x))


@pytest.mark.parametrize("loss", LOSSES)
def test_trees_are_those_xgboost_would_stop_at(loss):
    """Boosting looks at the recall a stretch at a time; what is kept are the rounds until it has stood for `patience`."""
    x, patience = points(150), 5
    y = smooth(x)
    model = XGBoost(loss=loss, patience=patience, top=20).fit(x, y, key=KEY)
    order = np.random.default_rng(np.asarray(jax.random.key_data(KEY))).permutation(len(y))  # ties of the recall go by it
    margins = model.state.trees.margins(x[order])[:, 1:]
    recalls = [float(average_recall(scores, y[order], 20)) for scores in margins.T]
    assert len(recalls) == np.argmax(recalls) + patience + 1
    rises = np.flatnonzero(np.diff(np.maximum.accumulate([-1.0, *recalls])))
    assert np.diff(rises).max() <= patience


@pytest.mark.parametrize("rounds", [1, 32, 40])
def test_rounds_are_the_most_trees(rounds):
    x = points(100)
    assert len(XGBoost(rounds=rounds, patience=100).fit(x, smooth(x), key=KEY).state.trees.leaf) == rounds


def test_recall_of_many_scores_is_that_of_each():
    generator = np.random.default_rng(0)
    scores, values = generator.integers(0, 9, (4, 30)), generator.normal(size=30)
    np.testing.assert_array_equal(average_recall(scores, values, 7), [average_recall(row, values, 7) for row in scores])


@pytest.mark.parametrize("loss", LOSSES)
def test_predictions_are_the_same_inside_jit(loss):
    x = points(40)
    model = XGBoost(loss=loss, rounds=9).fit(x, smooth(x), key=KEY).adapt(x[:9], related(x[:9]), key=KEY)
    np.testing.assert_array_equal(jax.jit(model.scorer().__call__)(x), model.scorer()(x))
    np.testing.assert_allclose(jax.jit(lambda x: model.predict(x).mean)(x), model.predict(x).mean, rtol=1e-6)
    assert model.predict(x[:0]).mean.shape == (0,)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("y", [np.zeros(8), np.full(8, 5.0), -np.arange(1.0, 9.0), np.eye(8)[0]])
def test_constant_failed_and_negative_targets_give_no_nan(loss, y):
    x = points(8)
    x[:, 1] = 3.0
    model = XGBoost(loss=loss).fit(x, y, key=KEY)
    assert np.isfinite(model.predict(x)).all()
    if len(set(y)) == len(y):
        assert rank_correlation(model.scorer()(x), y) > 0
    if len(set(y)) == 1:
        np.testing.assert_allclose(model.predict(x).mean, y, atol=0.1)


@pytest.mark.parametrize("loss", LOSSES)
def test_same_key_gives_the_same_bits(loss):
    x = points(60)
    first, again = (XGBoost(loss=loss).fit(x, smooth(x), key=KEY) for _ in range(2))
    np.testing.assert_array_equal(first.predict(x).mean, again.predict(x).mean)
    np.testing.assert_array_equal(first.predict(x[:1]).mean, first.predict(x).mean[:1])


def test_is_the_papers_base_of_an_ensemble():
    x = points(60)
    ensemble = BootstrapEnsemble(XGBoost(rounds=10)).fit(x, smooth(x), key=KEY)
    scores = [model.scorer()(x) for model in ensemble.state]
    np.testing.assert_array_equal(ensemble.scorer()(x), scores[0] + scores[1])
    assert ensemble.predict(x).std.max() > 0


def test_refusals_name_what_is_wrong():
    x = points(10)
    model = XGBoost(rounds=2).fit(x, smooth(x), key=KEY)
    with pytest.raises(ValueError, match="3 columns, but the model was fitted on 4"):
        model.predict(x[:, :3])
    with pytest.raises(ValueError, match="3 columns, but the model was fitted on 4"):
        model.adapt(x[:, :3], smooth(x), key=KEY)
    with pytest.raises(ValueError, match="XGBoost knows nothing yet"):
        XGBoost().adapt(x, smooth(x), key=KEY)
    with pytest.raises(ValueError, match="loss: 'ranking' is not one of"):
        XGBoost(loss="ranking")
    with pytest.raises(ValueError, match=r"depth: 7 must lie in 1 \.\. 6"):
        XGBoost(depth=7)
    with pytest.raises(ValueError, match=r"groups: shape \(3,\) must be \(10,\)"):
        model.fit(x, smooth(x), key=KEY, groups=[1, 2, 3])


def test_a_missing_extra_is_named_at_once_and_not_missed_by_a_fitted_model(monkeypatch):
    model = XGBoost(rounds=2).fit(points(10), smooth(points(10)), key=KEY)
    monkeypatch.setitem(sys.modules, "xgboost", None)
    with pytest.raises(ImportError, match=r"pip install gausstune\[xgboost\]"):
        XGBoost()
    assert np.isfinite(model.predict(points(10)).mean).all()
