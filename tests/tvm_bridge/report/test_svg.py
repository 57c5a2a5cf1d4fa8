"""Axes: their ticks are round, ordered and cover what they are for."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tvm_bridge.report import svg

values = st.floats(1e-12, 1e12)


@given(values)
def test_ticks_cover_the_largest_value_and_not_much_more(largest):
    ticks = svg.ticks(largest)
    assert ticks[0] == 0
    assert ticks[-1] >= largest * (1 - 1e-6)
    assert ticks[-2] < largest * (1 + 1e-6)
    assert len(ticks) <= 6


@given(values, st.floats(2.6, 1e8))
def test_decades_lie_in_their_range_in_order(smallest, ratio):
    ticks = svg.decades(smallest, smallest * ratio)
    assert ticks
    assert all(smallest <= tick <= smallest * ratio for tick in ticks)
    assert all(one < other for one, other in pairwise(ticks))


@given(values, st.floats(1.1, 1e6))
def test_scales_hit_their_ends(start, ratio):
    for scale in (svg.linear, svg.logarithmic):
        x = scale(start, start * ratio, 10, 90)
        assert (x(start), x(start * ratio)) == pytest.approx((10, 90))


def test_shortened_text_ends_in_an_ellipsis():
    assert svg.shortened("abcdef", 6) == "abcdef"
    assert svg.shortened("abcdefg", 6) == "abcde…"
