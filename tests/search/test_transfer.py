"""Other tasks' best configurations arrive here valid, in order, and as much alike as this space allows."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search import KnobSpace, Option, Source, Split
from search.history import remembered
from search.transfer import elites, exact_elites, modelled, pooled
from surrogates import ExactGP

KEY = jax.random.key(0)


def layer(extent, predicate=None, **options):
    return KnobSpace([Split("tile", extent, 3), Option("unroll", (0, 512, 1500))], predicate, **options)


def few_threads(choice):
    return choice["tile"][..., 2] <= 4


def source(space, seed=0, count=20):
    knobs = space.sample(jax.random.key(seed), count)
    return Source(f"source {seed}", space, knobs, np.random.default_rng(seed).permutation(len(knobs)).astype(float))


def test_pooled_throughput_is_the_share_of_each_sources_best():
    first, second = source(layer(64)), source(layer(12), 1, count=7)
    pool = pooled([first, second], layer(16))
    assert pool.sizes == (20, 7)
    np.testing.assert_allclose(pool.y[:20], first.throughput / first.throughput.max(), rtol=1e-6)
    assert pool.y[20:].max() == 1
    np.testing.assert_array_equal(pool.x[20:], second.space.features(second.knobs))


@pytest.mark.parametrize("other", [KnobSpace([Split("tile", 64, 2)]), layer(64, encoding="raw")], ids=["knobs", "encoding"])
def test_other_features_are_refused_by_name(other):
    with pytest.raises(ValueError, match="history: source 0 has the features"):
        pooled([source(other)], layer(16))


def test_a_model_has_the_merit_of_what_it_explains_of_its_source():
    space = layer(64)
    knobs = space.from_index(range(space.product))
    smooth = 1 + np.asarray(space.features(knobs))[:, 0] ** 2
    noise = np.random.default_rng(0).uniform(size=(9, len(knobs)))
    rough = smooth + smooth.std() * noise[0] * 4
    (_, _), (high, low) = modelled([Source("", space, knobs, y) for y in (smooth, rough)], ExactGP(), limit=84)
    assert 1 >= high > 0.9 > low > 0
    _, chance = modelled([Source("", space, knobs, y) for y in noise], ExactGP(), limit=84)
    assert sum(chance) / len(noise) < 0.3


def test_a_model_learns_the_best_and_the_latest_of_its_source():
    space = layer(64)
    knobs = space.from_index(range(space.product))
    known = Source("", space, knobs, 1 + np.asarray(space.features(knobs))[:, 0] ** 2)
    (model,), _ = modelled([known], ExactGP(), limit=16)
    rows = remembered(known.throughput, 16)
    unseen = np.setdiff1d(np.arange(len(knobs)), rows)
    assert len(model.left_out()) == 16
    doubts = [model.predict(np.asarray(space.features(knobs[which]))).std.mean() for which in (rows, unseen)]
    assert doubts[0] < doubts[1]


def test_sources_in_which_all_are_alike_have_no_model():
    space = layer(64)
    flat = Source("", space, space.from_index(range(space.product)), np.full(space.product, 0.1, np.float32))
    assert modelled([flat], ExactGP(), limit=64) == ((), ())


def test_sources_of_one_row_or_none_have_no_model():
    space = layer(64)
    sources = [Source("", space, space.from_index(list(range(n))), np.arange(1.0, n + 1)) for n in (0, 1)]
    assert modelled(sources, ExactGP(), limit=64) == ((), ())


@settings(deadline=None)
@given(st.sampled_from([1, 12, 60]), st.integers(0, 9), st.integers(0, 30))
def test_same_space_gives_back_its_own_best_in_order(extent, seed, count):
    known = source(layer(extent), seed)
    order = np.argsort(-known.throughput)
    working = order[known.throughput[order] > 0]
    np.testing.assert_array_equal(elites([known], known.space, count, key=KEY), known.knobs[working][:count])


def test_best_of_all_sources_come_before_the_second_best():
    first, second = source(layer(60), 1), source(layer(60), 2)
    found = elites([first, second], layer(60), 3, key=KEY)
    leaders = [each.knobs[each.throughput.argmax()] for each in (first, second)]
    np.testing.assert_array_equal(found[:2], leaders)


@settings(deadline=None)
@given(st.sampled_from([1, 6, 32]), st.integers(0, 9))
def test_no_option_is_nearer_than_the_translation(extent, seed):
    known, here = source(layer(64), seed, count=1), layer(extent)
    wanted = known.space.features(known.knobs)
    (found,) = elites([Source("", known.space, known.knobs, np.ones(1))], here, 1, key=KEY)
    everything = ((here.features(here.from_index(range(here.product))) - wanted) ** 2).sum(axis=1)
    assert ((here.features(found[None]) - wanted) ** 2).sum() == pytest.approx(everything.min())


@settings(deadline=None, max_examples=30)
@given(st.sampled_from([1, 7, 48]), st.integers(0, 9))
def test_what_arrives_is_valid_and_distinct(extent, seed):
    whole = layer(extent)
    for space in (layer(extent, few_threads), whole.confine(whole.sample(jax.random.key(seed), 5))):
        found = elites([source(layer(64), seed), source(layer(36), seed + 1)], space, 8, key=KEY)
        assert 1 <= len(found) <= 16
        assert space.valid(found).all()
        assert len(np.unique(found, axis=0)) == len(found)


@pytest.mark.parametrize("space", [layer(16), layer(16).confine(np.empty((0, 2), np.int32))], ids=["whole", "empty"])
@pytest.mark.parametrize("history", [[], [Source("failed", layer(64), layer(64).from_index([1, 2]), np.zeros(2))]])
def test_without_successes_there_are_no_elites(space, history):
    assert elites(history, space, 8, key=KEY).shape == (0, 2)


def test_space_without_valid_configurations_has_no_elites():
    assert elites([source(layer(64))], layer(16).confine(np.empty((0, 2), np.int32)), 8, key=KEY).shape == (0, 2)


def test_exact_elites_are_those_that_need_no_translation():
    same, other = source(layer(64), 1), source(layer(36), 2)
    np.testing.assert_array_equal(exact_elites([same, other], layer(64), 5), elites([same], layer(64), 5, key=KEY))
    assert exact_elites([other], layer(64), 5).shape == exact_elites([], layer(64), 5).shape == (0, 2)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 9))
def test_exact_elites_are_valid_and_the_same_as_elsewhere(seed):
    known, space = source(layer(64), seed), layer(64, few_threads)
    found, best = exact_elites([known], space, 8), known.knobs[np.argsort(-known.throughput)[:8]]
    np.testing.assert_array_equal(found, best[space.valid(best)])
