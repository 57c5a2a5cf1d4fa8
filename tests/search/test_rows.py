"""Rows: what is distinct keeps its order, what is nearest is nearest."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from search.rows import distinct, nearest

options = st.integers(-3, 3)


@given(st.tuples(st.integers(0, 12), st.integers(1, 3)).flatmap(lambda shape: arrays(np.int32, shape, elements=options)))
def test_distinct_keeps_the_first_of_each_in_order(rows):
    assert distinct(rows).tolist() == [list(row) for row in dict.fromkeys(map(tuple, rows.tolist()))]


@given(arrays(np.int32, (5, 2), elements=options), arrays(np.int32, (7, 2), elements=options))
def test_nearest_is_the_first_of_the_nearest(points, among):
    squared = ((points[:, None] - among) ** 2).sum(axis=-1)
    row, distance = nearest(points, among)
    assert row.tolist() == squared.argmin(axis=1).tolist()
    assert distance.tolist() == squared.min(axis=1).tolist()
