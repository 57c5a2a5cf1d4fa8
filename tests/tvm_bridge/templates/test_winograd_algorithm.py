"""The matrices of minimal filtering."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tvm_bridge.templates.winograd_algorithm import minimal_filter


@given(st.integers(2, 6), st.integers(2, 4), st.integers(0, 2**32 - 1))
def test_minimal_filter_filters(m, taps, seed):
    random = np.random.default_rng(seed)
    filter_, data = random.normal(size=taps), random.normal(size=m + taps - 1)
    A, B, G = minimal_filter(m, taps)
    np.testing.assert_allclose(A.T @ ((G @ filter_) * (B.T @ data)), np.correlate(data, filter_), atol=1e-8)
