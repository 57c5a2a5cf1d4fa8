"""Random search draws every valid configuration once, in an order that only the seed decides."""

import itertools

import jax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search import KnobSpace, Option, Split
from search.methods.random import random_search

KNOBS = [Split("split", 12, 3), Option("unroll", (0, 512, 1500)), Option("explicit", (0, 1))]
WHOLE = KnobSpace(KNOBS)
SIEVED = KnobSpace(KNOBS, lambda choice: (choice["split"][..., 2] + choice["unroll"]) % 3 != 0)


def draws(space, seed, **options):
    """The batches that random search yields, as indices."""
    return [space.to_index(batch) for batch in random_search(space, key=jax.random.key(seed), **options)]


@pytest.mark.parametrize(
    "space", [WHOLE, SIEVED, SIEVED.confine(WHOLE.from_index(range(5, 90, 4)))], ids=["whole", "sieved", "confined"]
)
@settings(deadline=None, max_examples=25)
@given(batch=st.integers(1, 130), seed=st.integers(0, 2**32))
def test_every_valid_configuration_is_drawn_once(space, batch, seed):
    batches = draws(space, seed, batch=batch)
    valid = space.valid(space.from_index(range(space.product))).nonzero()[0].tolist()
    assert sorted(itertools.chain(*batches)) == valid
    assert all(len(each) == batch for each in batches[:-1])


def test_batches_of_nothing_are_refused():
    with pytest.raises(ValueError, match="batch: 0 must be at least 1"):
        random_search(WHOLE, key=jax.random.key(0), batch=0)


def test_seeds_differ():
    assert len({tuple(itertools.chain(*draws(WHOLE, seed))) for seed in range(20)}) == 20


def test_first_draw_is_uniform():
    """Six configurations, 300 seeds: each is first about fifty times (five standard deviations are 32)."""
    space = KnobSpace([Option("a", (0, 1, 2)), Option("b", (0, 1, 2))], lambda choice: choice["a"] != choice["b"])
    firsts = [space.to_index(next(random_search(space, key=jax.random.key(seed))))[0] for seed in range(300)]
    counts = [firsts.count(index) for index in set(firsts)]
    assert len(counts) == 6
    assert all(abs(count - 50) < 32 for count in counts)
