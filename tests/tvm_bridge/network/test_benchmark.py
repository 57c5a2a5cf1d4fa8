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


def test_the_hypervolume_of_the_slides():
    """Sun et al., ICCV 2021, slides: 93.17 % less search and 3.26 % less latency give an HV of 3.03."""
    reduced = hypervolume(1 - 0.0326, 1 - 0.9317, reference_latency=1, reference_search_seconds=1)
    assert reduced == pytest.approx(3.0307, abs=0.01)


def test_wrong_input_is_told_before_any_work():
    with pytest.raises(ValueError, match="networks: there is none"):
        benchmark({})
    with pytest.raises(ValueError, match="must be at least 1 for each of default"):
        benchmark({"default": None}, runs={"other": 3})
    with pytest.raises(ValueError, match="reference_latency: 0"):
        hypervolume(1, 1, reference_latency=0, reference_search_seconds=1)
