"""The measures of latency, and the papers' hypervolume."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tvm_bridge.network.benchmark import Latency, benchmark, hypervolume

seconds = st.lists(st.floats(1e-6, 10), min_size=1, max_size=50).map(np.array)


@given(seconds)
def test_percentiles_lie_between_the_extremes_in_order(values):
    latency = Latency(values)
    median, most = latency.percentile(50), latency.percentile(99)
    assert values.min() <= median <= most <= values.max()
    assert latency.variance >= 0
    assert f"{len(values)} runs" in str(latency)


@given(seconds, st.floats(0.1, 10))
def test_a_slower_clock_scales_the_mean_and_squares_into_the_variance(values, factor):
    one, other = Latency(values), Latency(values * factor)
    assert other.mean == pytest.approx(one.mean * factor)
    assert other.variance == pytest.approx(one.variance * factor**2, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize(
    ("search", "latency", "expected"),
    [
        (67.69, 14.65, 9.9168),
        *((72.16, 5.88, 4.2409), (65.96, 6.91, 4.5573)),
        *((82.56, 3.44, 2.8418), (76.83, 4.24, 3.2556)),
        *((76.67, 4.16, 3.1915), (70.43, 5.17, 3.6423)),
    ],
)
def test_the_hypervolumes_of_the_table(search, latency, expected):
    """Sun et al., ICCV 2021: by what per cent search and latency are reduced, rounded to two digits."""
    reduced = hypervolume(1 - latency / 100, 1 - search / 100, reference_latency=1, reference_search_seconds=1)
    assert reduced == pytest.approx(expected, abs=0.005)


def test_wrong_input_is_told_before_any_work():
    with pytest.raises(ValueError, match="networks: there is none"):
        benchmark({})
    with pytest.raises(ValueError, match="must be at least 1 for each of default"):
        benchmark({"default": None}, runs={"other": 3})
    with pytest.raises(ValueError, match="reference_latency: 0"):
        hypervolume(1, 1, reference_latency=0, reference_search_seconds=1)
