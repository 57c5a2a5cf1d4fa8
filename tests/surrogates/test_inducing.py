"""The laws of inducing points: as many as asked for, each the mean of some points, the same for a key."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surrogates.inducing import inducing_points

KEY = jax.random.key(0)


def blobs(seed: int, n: int = 200) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return (10 * generator.integers(0, 3, size=(n, 2)) + generator.normal(size=(n, 2))).astype(np.float32)


def owners(x: np.ndarray, centres: np.ndarray) -> np.ndarray:
    return ((x[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)


@given(seed=st.integers(0, 1000), count=st.integers(1, 60), distinct=st.integers(2, 100))
@settings(max_examples=30, deadline=None)
def test_there_are_as_many_as_asked_for_or_as_distinct_rows(seed, count, distinct):
    x = np.random.default_rng(seed).normal(size=(distinct, 3)).astype(np.float32)[np.arange(150) % distinct]
    centres = inducing_points(x, count, key=KEY)
    assert len(centres) == min(count, distinct)
    assert len(np.unique(centres, axis=0)) == len(centres)


def test_no_centre_is_empty():
    x = blobs(1)
    assert set(owners(x, inducing_points(x, 50, key=KEY))) == set(range(50))


def test_centres_are_the_means_of_their_points():
    x = blobs(2)
    centres = inducing_points(x, 9, key=KEY, iterations=100)
    for number, centre in enumerate(centres):
        np.testing.assert_allclose(centre, x[owners(x, centres) == number].mean(axis=0), rtol=1e-4)


def test_clusters_are_found():
    x = blobs(3, n=900)
    within = ((x - inducing_points(x, 9, key=KEY)[owners(x, inducing_points(x, 9, key=KEY))]) ** 2).sum(axis=1)
    assert within.mean() < 0.1 * x.var(axis=0).sum()


def test_better_than_random_rows():
    x = blobs(4)

    def error(centres):
        return ((x - centres[owners(x, centres)]) ** 2).sum()

    assert error(inducing_points(x, 20, key=KEY)) < 0.8 * error(x[:20])


def test_few_points_are_returned_as_they_are():
    x = np.array([[1.0, 2.0], [3.0, 4.0], [1.0, 2.0]], np.float32)
    np.testing.assert_array_equal(inducing_points(x, 5, key=KEY), [[1, 2], [3, 4]])


@pytest.mark.parametrize("subsample", [50, 1000])
def test_a_key_decides(subsample):
    x = blobs(5)
    first, again = (inducing_points(x, 10, key=KEY, subsample=subsample) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, inducing_points(x, 10, key=jax.random.key(1), subsample=subsample))
