"""What adaptive sampling proposes can be measured, is new, and stands for all clusters."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search import KnobSpace, Option
from search.adaptive_sampling import adaptive_sample
from search.pool import Pool

KEY = jax.random.key(0)
GRID = KnobSpace([Option("a", tuple(range(12))), Option("b", tuple(range(12)))])
SIEVED = KnobSpace(GRID.knobs, lambda choice: (choice["a"] + choice["b"]) % 3 != 0)


def pool(*rows):
    return Pool(np.array(rows, np.int32).reshape(-1, 2), GRID.shape)


def sample(candidates, measured=(), *, space=GRID, **options):
    return adaptive_sample(space, np.array(candidates, np.int32), key=KEY, measured=pool(*measured), **options)


@settings(deadline=None, max_examples=50)
@given(st.sampled_from([GRID, SIEVED]), st.integers(0, 99), st.integers(1, 64), st.integers(0, 60))
def test_proposals_are_valid_new_and_distinct(space, seed, count, known):
    rows = space.sample(jax.random.key(seed), count + known)
    candidates, measured = rows[:count], rows[count:]
    chosen = sample(candidates, measured, space=space)
    assert 1 <= len(chosen) <= count
    assert space.valid(chosen).all()
    assert not Pool(measured, space.shape).contains(chosen).any()
    assert len(np.unique(chosen, axis=0)) == len(chosen)


def test_each_cluster_is_stood_for():
    corners = np.array([[1, 1], [1, 10], [10, 1], [10, 10]])
    around = np.array([[0, 0], [0, 1], [1, 0], [0, -1], [-1, 0]])
    chosen = sample((corners[:, None] + around).reshape(-1, 2), counts=(4,))
    assert sorted(chosen.tolist()) == corners.tolist()


def test_clusters_multiply_while_the_loss_falls():
    spread = [[a, b] for a in (0, 4, 8, 11) for b in (0, 4, 8, 11)]
    assert len(sample(spread, counts=(2, 4, 8, 16), threshold=1.0)) == 16
    assert len(sample(spread, counts=(2, 4, 8, 16), threshold=100.0)) == 4


def test_measured_centroid_makes_way_for_the_mode():
    candidates = [[0, 5], [2, 5], [2, 1], [4, 7], [7, 2]]
    (centroid,) = sample(candidates, counts=(1,))
    assert centroid.tolist() == [3, 4]
    (mode,) = sample(candidates, [[3, 4]], counts=(1,))
    assert mode.tolist() == [2, 5]


def test_useless_mode_makes_way_for_a_candidate():
    (chosen,) = sample([[0, 5], [2, 1], [2, 4], [7, 5]], [[3, 4], [2, 5]], counts=(1,))
    assert chosen.tolist() == [2, 4]


def test_invalid_centroid_makes_way_for_the_nearest_candidate():
    (chosen,) = sample([[0, 4], [4, 4], [5, 6]], space=SIEVED, counts=(1,))  # the centroid is (3, 4.67), rounded to (3, 5)
    assert chosen.tolist() == [3, 5]
    (chosen,) = sample([[0, 2], [4, 4], [5, 3]], space=SIEVED, counts=(1,))  # rounded to (3, 3), whose sum is refused
    assert chosen.tolist() == [4, 4]


def test_same_key_proposes_the_same():
    candidates = GRID.sample(KEY, 64)
    np.testing.assert_array_equal(sample(candidates), sample(candidates))


@pytest.mark.parametrize("candidate", [[0, 0], [11, 11]])
def test_single_candidate_is_proposed(candidate):
    assert sample([candidate]).tolist() == [candidate]
