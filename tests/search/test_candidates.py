"""Candidates are valid, new and distinct, and hold the neighbourhood of the best; the highest are the highest."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search import KnobSpace, Option, Split
from search.candidates import highest, one_knob_away, promising

KNOBS = [Split("split", 24, 3), Option("unroll", (0, 512, 1500)), Option("explicit", (0, 1))]


def even_sum(choice):
    return (choice["split"].sum(axis=-1) + choice["unroll"]) % 2 == 0


def test_one_knob_away_is_every_other_option_of_each_knob():
    space = KnobSpace(KNOBS)
    centre = np.array([3, 1, 0], np.int32)
    near = one_knob_away(space, centre)
    assert ((near != centre).sum(axis=1) == 1).all()
    assert len(near) == len({tuple(row) for row in near}) == sum(space.shape) - len(space.shape)


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 60), st.integers(0, 5), st.booleans(), st.integers(0, 99))
def test_candidates_are_valid_new_and_hold_the_neighbours_of_the_best(measured, pool, leaders, confined, seed):
    space = KnobSpace(KNOBS, even_sum)
    if confined:
        space = space.confine(space.from_index(range(0, space.product, 2)))
    knobs = space.sample(jax.random.key(seed), measured)
    throughput = np.random.default_rng(seed).uniform(size=len(knobs))
    found = promising(space, knobs, throughput, pool=pool, leaders=leaders, key=jax.random.key(seed + 1))
    assert np.asarray(space.valid(found)).all()
    indices, known = set(space.to_index(found)), set(space.to_index(knobs))
    assert len(indices) == len(found)
    assert not indices & known
    near = one_knob_away(space, knobs[np.argmax(throughput)])[: None if leaders else 0]
    assert set(space.to_index(near[np.asarray(space.valid(near))])) <= indices | known


@pytest.mark.parametrize("n", [1, 63, 64, 5000])
def test_highest_are_the_highest_of_any_number(n):
    space = KnobSpace([Option("a", tuple(range(8192)))], encoding="raw")
    candidates = space.sample(jax.random.key(0), n)
    chosen = highest(space, jax.tree_util.Partial(jnp.sum, axis=1), candidates, 3, key=jax.random.key(0))
    np.testing.assert_array_equal(chosen, -np.sort(-candidates, axis=0)[:3])
