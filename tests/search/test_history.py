"""Which of many measurements are kept: the best and the latest, in their order."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from search.history import remembered

THROUGHPUT = st.lists(st.integers(0, 20), min_size=1, max_size=30).map(lambda values: np.array(values, float))


def test_half_are_the_best_and_half_the_latest():
    throughput = np.arange(10.0)[::-1].copy()
    np.testing.assert_array_equal(remembered(throughput, 10), np.arange(10))
    np.testing.assert_array_equal(remembered(throughput, 4), [0, 1, 8, 9])


@given(THROUGHPUT, st.integers(2, 40))
def test_the_best_is_never_forgotten(throughput, limit):
    rows = remembered(throughput, limit)
    assert len(rows) == min(limit, len(throughput))
    assert (np.diff(rows) > 0).all()
    assert throughput[rows].max() == throughput.max()


@given(THROUGHPUT, st.integers(2, 40))
def test_what_is_forgotten_is_older_than_what_is_kept_without_being_among_the_best(throughput, limit):
    rows = remembered(throughput, limit)
    best = np.argsort(-throughput, kind="stable")[: limit // 2]
    forgotten, latest = np.setdiff1d(np.arange(len(throughput)), rows), np.setdiff1d(rows, best)
    assert set(best) <= set(rows)
    if len(forgotten) and len(latest):
        assert forgotten.max() < latest.min()
