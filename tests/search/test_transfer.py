"""Other tasks' best configurations arrive here valid, in order, and as much alike as this space allows."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search import KnobSpace, Option, Source, Split
from search.history import remembered
from search.transfer import ENOUGH, LEAST_MERIT, elites, exact_elites, lessons, pooled, stacked
from surrogates import ExactGP

KEY = jax.random.key(0)


def layer(extent, predicate=None, **options):
    return KnobSpace([Split("tile", extent, 3), Option("unroll", (0, 512, 1500))], predicate, **options)


def few_threads(choice):
    return choice["tile"][..., 2] <= 4


def source(space, seed=0, count=20):
    knobs = space.sample(jax.random.key(seed), count)
    return Source(f"source {seed}", space, knobs, np.random.default_rng(seed).permutation(len(knobs)).astype(float))


WHOLE = layer(64)


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


def smooth(count=WHOLE.product, noise=0.0, seed=0):
    """A source that follows a rule, as far as there is no noise."""
    knobs = WHOLE.sample(jax.random.key(seed), count)
    rule = np.asarray(WHOLE.features(knobs))[:, 0] ** 2
    return Source(f"smooth {noise}", WHOLE, knobs, 1 + rule + noise * np.random.default_rng(seed).uniform(size=count))


def test_merit_is_what_a_process_explains_of_points_it_has_not_seen():
    high, low = lessons([smooth(), smooth(noise=9.0)], ExactGP(), limit=84, most=9)
    assert 1 >= high.merit > 0.95 > low.merit > 0
    assert high.process.left_out() == pytest.approx(np.sqrt(high.source.throughput), rel=0.2)


def test_sources_that_follow_no_rule_are_left_out():
    chance = [source(layer(720), seed, count=ENOUGH) for seed in range(8)]
    assert len(lessons(chance, ExactGP(), limit=256, most=9)) <= 1


def test_of_few_measurements_nobody_can_tell():
    few = [source(layer(720), seed, count=ENOUGH - 1) for seed in range(4)]
    taught = lessons(few, ExactGP(), limit=256, most=9)
    assert [lesson.source for lesson in taught] == few
    assert all(LEAST_MERIT <= lesson.merit <= 1 for lesson in taught)


def test_a_process_learns_the_best_and_the_latest_of_its_source():
    known = smooth(count=60)
    (lesson,) = lessons([known], ExactGP(), limit=16, most=9)
    rows = remembered(known.throughput, 16)
    unseen = np.setdiff1d(np.arange(60), rows)
    assert len(lesson.process.left_out()) == 16
    doubts = [lesson.process.predict(np.asarray(WHOLE.features(known.knobs[which]))).std.mean() for which in (rows, unseen)]
    assert doubts[0] < doubts[1]


def test_sources_in_which_all_are_alike_have_no_process():
    flat = [Source("", WHOLE, WHOLE.from_index(list(range(n))), np.full(n, 0.1, np.float32)) for n in (0, 1, 40)]
    taught = lessons(flat, ExactGP(), limit=64, most=9)
    assert [lesson.process for lesson in taught] == [None] * 3
    assert stacked(taught) is None


def test_what_is_stacked_are_the_processes_with_their_merits_or_the_model_of_the_whole():
    taught = lessons([smooth(), smooth(noise=2.0), source(WHOLE, count=1)], ExactGP(), limit=64, most=9)
    model = stacked(taught)
    assert model.bases == tuple(lesson.process for lesson in taught[:2])
    assert model.merits == tuple(lesson.merit for lesson in taught[:2])
    whole = ExactGP()
    assert stacked(taught, whole).bases == stacked([], whole).bases == (whole,)


def test_the_sources_with_the_most_measurements_have_processes():
    history = [smooth(count=count) for count in (20, 40, 30, 40)]
    taught = lessons(history, ExactGP(), limit=84, most=2)
    assert [lesson.source for lesson in taught] == history
    assert [lesson.process is not None for lesson in taught] == [False, True, False, True]


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
