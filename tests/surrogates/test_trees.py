"""The laws of trees as arrays: they are what following each path by hand gives, and bit for bit what XGBoost predicts."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surrogates.trees import Trees, chained

FEATURES = 3
LAW = settings(deadline=None, max_examples=40)
NUMBERS = [-2.5, -1.0, 0.0, 0.25, 1.0, 3.0]


def forest(feature, threshold, leaf, start=0.0) -> Trees:
    """Trees of the arrays' right types."""
    arrays = zip((feature, threshold, leaf, start, len(feature)), (np.int32, *[np.float32] * 3, np.int32), strict=True)
    return Trees(*(np.asarray(values, dtype) for values, dtype in arrays))


@st.composite
def forests(draw, *, most: int = 5) -> Trees:
    """A few trees of depth 1 to 3 with thresholds from a short list, so that points often lie on them."""
    depth, count = draw(st.integers(1, 3)), draw(st.integers(1, most))
    splits, leaves = (count, (1 << depth) - 1), (count, 1 << depth)
    generator = np.random.default_rng(draw(st.integers(0, 1000)))
    features, thresholds = generator.integers(0, FEATURES, splits), generator.choice(NUMBERS, splits)
    return forest(features, thresholds, generator.normal(size=leaves), generator.normal())


points = st.lists(st.tuples(*[st.sampled_from(NUMBERS)] * FEATURES), min_size=16, max_size=16).map(
    lambda rows: np.array(rows, np.float32)
)


def by_hand(trees: Trees, x: np.ndarray) -> np.ndarray:
    """Follow every path, one point and one tree at a time, and add in float32."""
    sums = []
    for point in x:
        total = np.float32(trees.start)
        for feature, threshold, leaf in zip(trees.feature, trees.threshold, trees.leaf, strict=True):
            node = 0
            while node < len(feature):
                node = 2 * node + (1 if point[feature[node]] < threshold[node] else 2)
            total += leaf[node - len(feature)]
        sums.append(total)
    return np.array(sums)


@LAW
@given(forests(), points)
def test_a_walk_is_every_path_followed_by_hand(trees, x):
    expected = by_hand(trees, x)
    np.testing.assert_array_equal(trees.with_room()(x), expected)
    np.testing.assert_array_equal(trees.margins(x)[:, -1], expected)


@LAW
@given(forests(), points)
def test_margins_are_the_sums_of_the_first_trees(trees, x):
    for count, margin in enumerate(trees.margins(x).T):
        np.testing.assert_array_equal(margin, by_hand(trees.first(count), x))


@LAW
@given(forests(), forests(), points)
def test_chained_trees_add_up_whatever_their_depths(below, above, x):
    both = chained([below, above])
    assert both.depth == max(below.depth, above.depth)
    np.testing.assert_array_equal(both.margins(x)[:, -1], above.margins(x, by_hand(below, x))[:, -1])
    np.testing.assert_array_equal(both.with_room()(x), both.margins(x)[:, -1])


@LAW
@given(forests(), points, st.floats(0, 1, width=32))
def test_faded_trees_are_worth_their_weight(trees, x, weight):
    np.testing.assert_allclose(by_hand(trees.faded(weight), x), weight * by_hand(trees, x), rtol=1e-5, atol=1e-6)


def test_other_trees_compile_nothing():
    traces = []

    @eqx.filter_jit
    def score(scorer, x):
        traces.append(len(x))
        return scorer(x)

    generator = np.random.default_rng(0)
    for count in (1, 3, 200):
        trees = forest(np.zeros((count, 3)), np.full((count, 3), 0.5), generator.normal(size=(count, 4)), 0.5)
        np.testing.assert_allclose(score(trees.with_room(), jnp.eye(3)), by_hand(trees, np.eye(3)), rtol=1e-5)
    assert traces == [3]


def boosted(xgboost, objective: str, depth: int, rounds: int = 40, method: str = "hist"):
    """A booster of coarse features, whose thresholds are values that points have."""
    generator = np.random.default_rng(depth)
    x = generator.integers(-3, 4, (200, FEATURES)).astype(np.float32) / 8
    y = np.exp(x[:, 0]) + x[:, 1] * x[:, 2] + generator.normal(size=200)
    data = xgboost.DMatrix(x, y, qid=np.zeros(200, int), nthread=1)
    told = {"objective": objective, "max_depth": depth, "nthread": 1, "base_score": 0.5, "gamma": 0.05, "tree_method": method}
    return xgboost.train(told, data, num_boost_round=rounds)


@pytest.mark.parametrize("objective", ["reg:squarederror", "rank:pairwise"])
@pytest.mark.parametrize(("depth", "method"), [(1, "hist"), (3, "hist"), (3, "exact"), (5, "hist")])
def test_sums_are_xgboosts_bit_for_bit(objective, depth, method):
    xgboost = pytest.importorskip("xgboost", reason="needs the extra xgboost")
    booster = boosted(xgboost, objective, depth, method=method)
    trees = Trees.of(bytes(booster.save_raw("json")), depth)
    on = np.unique(trees.threshold)
    near = np.concatenate([on, np.nextafter(on, -np.inf), np.nextafter(on, np.inf)]).astype(np.float32)
    near[np.abs(near) < np.finfo(np.float32).tiny] = 0  # XLA takes subnormal numbers for 0
    x = np.random.default_rng(0).choice(near, (512, FEATURES))
    expected = booster.inplace_predict(x, predict_type="margin")
    np.testing.assert_array_equal(trees.with_room()(x), expected)
    np.testing.assert_array_equal(trees.margins(x)[:, -1], expected)
    np.testing.assert_array_equal(jax.jit(lambda scorer, x: scorer(x))(trees.with_room(), x), expected)


def test_trees_that_stopped_early_are_read():
    xgboost = pytest.importorskip("xgboost", reason="needs the extra xgboost")
    x = np.eye(4, dtype=np.float32)
    constant = xgboost.train({"nthread": 1, "base_score": 0.5}, xgboost.DMatrix(x, np.ones(4)), num_boost_round=2)
    trees = Trees.of(bytes(constant.save_raw("json")), 3)
    np.testing.assert_array_equal(trees.with_room()(x), constant.inplace_predict(x))


def test_64_bit_points_are_compared_in_32_bits():
    """What XGBoost does: it knows no others."""
    trees = forest([[0]], [[0.1]], [[0, 1]])
    with jax.enable_x64(True):
        assert trees.with_room()(np.array([[0.1], [0.09]])).tolist() == [1, 0]
