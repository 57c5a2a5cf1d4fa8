"""CHAMELEON begins at random, measures few stand-ins at a time, and finds what chance does not."""

import jax
import numpy as np
import pytest

from search.methods.chameleon import chameleon
from search.ppo import PPO
from tests.search.methods.landscape import gflops, layer, watch
from tests.search.ridge import Ridge

KEY = jax.random.key(0)
SPACE = layer(64)
WALKS = {"walkers": 16, "settings": PPO(steps=40, horizon=20, minibatch=160)}


@pytest.fixture(scope="module")
def walked():
    """A space larger than the walkers can see."""
    assert SPACE.size > 16 * 40
    return watch(chameleon(SPACE, key=KEY, surrogate=Ridge(), plan=32, **WALKS), SPACE, 100)


def test_first_plan_is_whole_and_later_ones_are_clusters(walked):
    sizes = [len(batch) for batch in walked[0]]
    assert sizes[0] == 32
    assert all(8 <= size <= 32 for size in sizes[1:])
    assert min(sizes) < 32


def test_later_plans_are_better_than_chance(walked):
    first, *later = walked[1]
    assert np.concatenate(later).mean() > 2 * first.mean()
    assert np.concatenate(later).max() > first.max()


def test_walks_propose_the_same_again(walked):
    again, _ = watch(chameleon(SPACE, key=KEY, surrogate=Ridge(), plan=32, **WALKS), SPACE, 100)
    np.testing.assert_array_equal(np.concatenate(again), np.concatenate(walked[0]))


def test_small_space_is_scored_in_full():
    """Then no candidate is missed: once the model is right, the best is measured."""
    batches, told = watch(chameleon(SPACE, key=KEY, surrogate=Ridge(), plan=32, walkers=64), SPACE, 160)
    everything = SPACE.sample(KEY, SPACE.size)
    assert np.concatenate(told).max() > 0.95 * gflops(SPACE, everything).max()
    assert len(np.unique(np.concatenate(batches), axis=0)) == sum(map(len, batches))


def test_nothing_to_learn_means_random_plans():
    search = chameleon(SPACE, key=KEY, surrogate=Ridge(), plan=32)
    batches, _ = watch(search, SPACE, 96, throughput=lambda space, knobs: np.zeros(len(knobs)))
    assert [len(batch) for batch in batches] == [32, 32, 32]


@pytest.mark.parametrize("name", ["plan", "walkers"])
def test_numbers_out_of_range_are_refused_at_once(name):
    with pytest.raises(ValueError, match=f"{name}: 0 must be at least 1"):
        chameleon(SPACE, key=KEY, **{name: 0})
