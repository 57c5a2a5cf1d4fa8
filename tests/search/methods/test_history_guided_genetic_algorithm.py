"""The guided genetic algorithm begins with what history found best, breeds better ones, and does without history too."""

import jax
import numpy as np
import pytest

from search.methods.history_guided_genetic_algorithm import history_guided_genetic_algorithm
from search.transfer import elites
from surrogates.base import Prediction
from tests.search.methods.landscape import gflops, layer, measured, watch
from tests.search.ridge import Ridge

KEY = jax.random.key(0)
SPACE = layer(64)
HISTORY = [measured(32), measured(16)]
MEAN = gflops(SPACE, SPACE.sample(KEY, SPACE.size)).mean()
SMALL = {"surrogate": Ridge(), "generation": 16, "candidates": 256}


class Constant(Ridge):
    """A cost model without opinion."""

    def predict(self, x):
        return Prediction(np.zeros(len(x)), np.zeros(len(x)))


class Oracle(Ridge):
    """A cost model that knows how fast every configuration is."""

    def predict(self, x):
        everything = SPACE.sample(KEY, SPACE.size)
        known = {row.tobytes(): speed for row, speed in zip(SPACE.features(everything), gflops(SPACE, everything), strict=True)}
        return Prediction(np.array([known[row.tobytes()] for row in np.asarray(x, np.float32)]), np.zeros(len(x)))


def search(space=SPACE, **options):
    return history_guided_genetic_algorithm(space, key=KEY, **{**SMALL, **options})


def test_search_begins_with_the_sources_best():
    (first, *_), _ = watch(search(history=HISTORY, elite=3), SPACE, 16)
    seeds = elites(HISTORY, SPACE, 3, key=KEY)  # all of them are valid, so that no key matters
    np.testing.assert_array_equal(first[: len(seeds)], seeds)


def test_history_takes_at_most_half_of_the_first_generation():
    (with_history,), _ = watch(search(history=HISTORY, surrogate=Constant(), elite=100), SPACE, 1)
    (without,), _ = watch(search(surrogate=Constant()), SPACE, 1)
    assert len(with_history) == 16
    listed = {tuple(row) for row in elites(HISTORY, SPACE, 100, key=KEY).tolist()}
    assert all(tuple(row) in listed for row in with_history[:8].tolist())
    assert not all(tuple(row) in listed for row in with_history[8:].tolist())
    assert len(without) == 16


def test_history_is_worth_more_than_chance():
    _, told = watch(search(history=HISTORY), SPACE, 16)
    assert told[0][:8].mean() > 3 * MEAN


@pytest.mark.parametrize(("history", "factor"), [((), 1.5), (HISTORY, 2.2)], ids=["alone", "with history"])
def test_children_are_better_than_chance_without_a_cost_model(history, factor):
    _, told = watch(search(history=history, surrogate=Constant()), SPACE, 160)
    assert np.concatenate(told[1:]).mean() > factor * MEAN


def test_cost_model_chooses_among_the_children():
    _, told = watch(search(surrogate=Oracle()), SPACE, 64)
    _, plain = watch(search(surrogate=Constant()), SPACE, 64)
    assert told[1].mean() > 1.5 * plain[1].mean()
    assert np.concatenate(told).max() > 0.95 * gflops(SPACE, SPACE.sample(KEY, SPACE.size)).max()


def test_children_of_a_pool_stay_in_it_and_near_the_good():
    pool = SPACE.confine(SPACE.sample(KEY, 400))
    batches, told = watch(search(pool, surrogate=Constant()), pool, 128)
    assert pool.valid(np.concatenate(batches)).all()
    assert np.concatenate(told[1:]).mean() > 1.5 * gflops(pool, pool.pool.rows).mean()


@pytest.mark.parametrize(
    ("name", "value"),
    [("generation", 0), ("offspring", 0), ("population", 0), ("candidates", 0), ("elite", -1), ("mutation", 2)],
)
def test_numbers_out_of_range_are_refused_at_once(name, value):
    with pytest.raises(ValueError, match=f"{name}: {value} must"):
        search(**{name: value})
