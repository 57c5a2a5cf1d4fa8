"""Sampling: valid, distinct, as many as there are, uniform or in turns from the parts of a space."""

import equinox as eqx
import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search import KnobSpace, Option, Split, sampling
from tests.search.spaces import DIGITS_12, DIGITS_25, Sieve, admitted, as_set, chi_square, critical, everything, keys, spaces

LAW = settings(deadline=None)


@LAW
@given(spaces(), keys, st.integers(0, 3000))
def test_samples_are_valid_distinct_and_as_many_as_there_are(space, key, n):
    rows = space.sample(key, n)
    assert rows.dtype == np.int32
    assert rows.shape == (min(n, len(admitted(space))), len(space.knobs))
    assert as_set(rows) <= admitted(space)


@LAW
@given(spaces(), keys, st.data())
def test_sampling_leaves_out_what_is_excluded(space, key, data):
    rows = everything(space)
    kept_back = rows[data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=len(rows) // 2))]
    rest = admitted(space) - set(map(tuple, kept_back.tolist()))
    assert as_set(space.sample(key, len(rows), exclude=kept_back)) == rest
    assert as_set(space.sample(key, 3, exclude=kept_back)) <= rest


@pytest.mark.parametrize("space", [DIGITS_12, DIGITS_25], ids=["1e12", "1e25"])
def test_spaces_too_large_to_list_are_sampled(space):
    key, other = jax.random.split(jax.random.key(0))
    rows = space.sample(key, 5000)
    assert len(as_set(rows)) == 5000
    assert (rows == space.sample(key, 5000)).all()
    assert as_set(rows).isdisjoint(as_set(space.sample(other, 5000)))
    assert as_set(rows).isdisjoint(as_set(space.sample(key, 5000, exclude=rows)))
    counts = np.apply_along_axis(np.bincount, 0, rows, minlength=10)
    assert chi_square(counts, 500).max() < critical(9)


@LAW
@given(spaces(), keys)
def test_same_key_samples_the_same(space, key):
    assert (space.sample(key, 20) == space.sample(key, 20)).all()


def test_different_keys_sample_differently():
    space = KnobSpace([Split("split0", 64, 4), Split("split1", 56, 4)])
    drawn = {space.sample(key, 5).tobytes() for key in jax.random.split(jax.random.key(0), 50)}
    assert len(drawn) == 50


TWELVE = KnobSpace([Option("option0", tuple(range(6))), Option("option1", tuple(range(4)))], Sieve(2, 1))


@pytest.mark.parametrize(
    ("space", "n"),
    [(TWELVE, 3), (TWELVE, 30), (TWELVE.confine(everything(TWELVE)[2:]), 3)],
    ids=["drawn", "listed", "confined"],
)
def test_sampling_is_uniform(space, n):
    """The first, second and third samples are each uniform over the valid configurations, whichever way they are found."""
    rows = np.stack([space.sample(key, n)[:3] for key in jax.random.split(jax.random.key(1), 1200)])
    valid = space.valid(everything(space))
    for place in range(3):
        counts = np.bincount(space.to_index(rows[:, place]), minlength=24)[space.to_index(everything(space))]
        assert (counts[~valid] == 0).all()
        assert chi_square(counts[valid], 1200 / 12) < critical(11)


@pytest.mark.parametrize(("length", "repeats"), [(16, 300), (1000, 1)])
def test_the_only_valid_configuration_is_always_found(length, repeats):
    """One in 256, one in a million: rejection alone misses it now and then."""
    options = tuple(range(length))
    space = KnobSpace([Option("a", options), Option("b", options)], lambda choice: (choice["a"] == 7) & (choice["b"] == 11))
    for key in jax.random.split(jax.random.key(0), repeats):
        assert space.sample(key, 2).tolist() == [[7, 11]]
    assert len(space.sample(key, 2, exclude=np.array([[7, 11]]))) == 0


ALGORITHMS = KnobSpace(
    [Option("kind", (0, 1)), Split("split0", 64, 4), Split("split1", 56, 4)],
    lambda choice: (choice["kind"] == 0) | (choice["split0"][..., 3] == 8),
    parts=[
        (range(1), range(84), range(80)),
        ((1,), np.flatnonzero(Split("split0", 64, 4).table[:, 3] == 8).tolist(), range(80)),
    ],
)
"""The second kind has a tenth of the other's configurations, and is drawn as often."""


@given(keys, st.integers(0, 400))
def test_parts_take_turns(key, n):
    rows = ALGORITHMS.sample(key, n)
    assert len(as_set(rows)) == n
    assert ALGORITHMS.valid(rows).all()
    assert (rows[2:, 0] == rows[:-2, 0]).all()
    assert abs((rows[:, 0] == 0).sum() - (rows[:, 0] == 1).sum()) <= 1


SHARED = KnobSpace(ALGORITHMS.knobs, ALGORITHMS.predicate, parts=ALGORITHMS.parts, shares=(2, 5))


@given(keys, st.integers(0, 400))
def test_parts_have_their_shares_of_the_turns(key, n):
    rows = SHARED.sample(key, n)
    assert len(as_set(rows)) == n
    for first in range(n - 6):
        assert (rows[first : first + 7, 0] == 0).sum() == 2


def test_samples_of_one_have_the_shares():
    drawn = [int(SHARED.sample(key, 1)[0, 0]) for key in jax.random.split(jax.random.key(0), 210)]
    assert chi_square(np.bincount(drawn, minlength=2), np.array([60, 150])) < critical(1)


@pytest.mark.parametrize("shares", [(1,), (1, 2, 3), (0, 1)])
def test_shares_are_one_a_part(shares):
    with pytest.raises(ValueError, match="shares:"):
        KnobSpace(ALGORITHMS.knobs, ALGORITHMS.predicate, parts=ALGORITHMS.parts, shares=shares)


def test_every_part_is_drawn_in_samples_of_one():
    drawn = [int(ALGORITHMS.sample(key, 1)[0, 0]) for key in jax.random.split(jax.random.key(0), 200)]
    assert chi_square(np.bincount(drawn, minlength=2), 100) < critical(1)


@given(keys, st.integers(1, 300))
def test_parts_leave_out_what_is_excluded(key, n):
    rows = ALGORITHMS.sample(key, n)
    assert as_set(rows).isdisjoint(as_set(ALGORITHMS.sample(key, n, exclude=rows)))


def test_a_space_with_parts_goes_through_jit():
    rows = ALGORITHMS.sample(jax.random.key(0), 10)
    np.testing.assert_array_equal(eqx.filter_jit(lambda space, knobs: space.valid(knobs))(ALGORITHMS, rows), True)


def test_where_a_part_has_no_more_the_others_go_on():
    few = int((Split("split0", 64, 4).table[:, 3] == 8).sum()) * 80
    rows = ALGORITHMS.sample(jax.random.key(0), 2 * few + 100)
    assert len(as_set(rows)) == 2 * few + 100
    assert (rows[:, 0] == 1).sum() == few


def test_where_a_part_of_a_large_share_has_no_more_the_others_go_on():
    few = int((Split("split0", 64, 4).table[:, 3] == 8).sum()) * 80
    rows = SHARED.sample(jax.random.key(0), few + 2000)
    assert len(as_set(rows)) == few + 2000
    assert (rows[:, 0] == 1).sum() == few


SCARCE = KnobSpace(
    [Option("kind", (0, 1, 2)), Option("number", tuple(range(200)))],
    lambda choice: choice["number"] < 4 + 26 * (choice["kind"] > 0) + 170 * (choice["kind"] > 1),
    parts=[((kind,), range(200)) for kind in range(3)],
    shares=(1, 9, 2),
)
"""Parts of 4, 30 and 200 configurations."""


@given(keys, st.integers(0, 300))
def test_parts_of_a_few_configurations_give_all_they_have(key, n):
    rows = SCARCE.sample(key, n)
    assert len(as_set(rows)) == len(rows) == min(n, 234)
    assert SCARCE.valid(rows).all()


LARGE = KnobSpace(
    [Option("kind", (0, 1)), *(Option(f"digit{place}", tuple(range(10))) for place in range(7))],
    lambda choice: (choice["kind"] == 0) | (choice["digit0"] < 2),
    parts=[((kind,), *[range(10)] * 7) for kind in range(2)],
    shares=(1, 2),
)
"""Parts too large to list."""


@given(keys, st.integers(0, 400))
def test_large_parts_have_their_shares_of_the_turns(key, n):
    assert all(np.prod([len(options) for options in part]) > sampling.LISTED for part in LARGE.parts)
    rows = LARGE.sample(key, n)
    assert len(as_set(rows)) == n
    assert LARGE.valid(rows).all()
    for first in range(n - 2):
        assert (rows[first : first + 3, 0] == 0).sum() == 1
    assert as_set(rows).isdisjoint(as_set(LARGE.sample(key, n, exclude=rows)))


def test_a_part_is_drawn_from_uniformly():
    rows = np.concatenate([ALGORITHMS.sample(key, 200) for key in jax.random.split(jax.random.key(0), 40)])
    second = rows[rows[:, 0] == 1]
    assert chi_square(np.bincount(second[:, 2], minlength=80), len(second) / 80) < critical(79)
