"""Grid search walks the valid configurations in the order of their index."""

import itertools

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search import KnobSpace, Option, Split
from search.methods.grid import grid_search

KNOBS = [Split("split", 12, 3), Option("unroll", (0, 512, 1500)), Option("explicit", (0, 1))]
WHOLE = KnobSpace(KNOBS)
SIEVED = KnobSpace(KNOBS, lambda choice: (choice["split"][..., 2] + choice["unroll"]) % 3 != 0)
DIGITS = KnobSpace([Option(f"digit{place}", tuple(range(10))) for place in range(25)])
KEY = jax.random.key(0)


def walk(space, **options):
    """The batches that grid search yields, as indices."""
    return [space.to_index(batch) for batch in grid_search(space, key=KEY, **options)]


@pytest.mark.parametrize(
    "space", [WHOLE, SIEVED, SIEVED.confine(WHOLE.from_index(range(90, 5, -4)))], ids=["whole", "sieved", "confined"]
)
@settings(deadline=None, max_examples=25)
@given(batch=st.integers(1, 130), chunk=st.integers(1, 130))
def test_grid_is_every_valid_configuration_in_ascending_order(space, batch, chunk):
    batches = walk(space, batch=batch, chunk=chunk)
    valid = space.valid(space.from_index(range(space.product))).nonzero()[0].tolist()
    assert list(itertools.chain(*batches)) == valid
    assert all(len(each) == batch for each in batches[:-1])


@pytest.mark.parametrize("name", ["batch", "chunk"])
def test_steps_of_nothing_are_refused(name):
    with pytest.raises(ValueError, match=f"{name}: 0 must be at least 1"):
        grid_search(WHOLE, key=KEY, **{name: 0})


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(0, 10**25 - 1), min_size=1, max_size=20, unique=True))
def test_grid_ascends_in_a_pool_of_a_huge_space(listed):
    assert list(itertools.chain(*walk(DIGITS.confine(DIGITS.from_index(listed))))) == sorted(listed)


def test_grid_begins_without_walking_a_huge_space():
    batches = grid_search(DIGITS, key=KEY)
    assert DIGITS.to_index(next(batches)) == list(range(64))
    assert DIGITS.to_index(next(batches)) == list(range(64, 128))


def test_grid_passes_over_stretches_that_are_refused():
    space = KnobSpace([Option("a", tuple(range(1000))), Option("b", tuple(range(1000)))], lambda choice: choice["b"] >= 998)
    first = next(grid_search(space, key=KEY))
    assert space.to_index(first) == list(range(998_000, 998_064))


def test_grid_needs_no_luck():
    assert all(
        (a == b).all() for a, b in zip(grid_search(SIEVED, key=KEY), grid_search(SIEVED, key=jax.random.key(1)), strict=True)
    )


def test_grid_of_nothing_ends():
    assert walk(WHOLE.confine(np.empty((0, 3), np.int32))) == []
