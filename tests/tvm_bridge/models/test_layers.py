"""Shapes are those of the workloads, and of NumPy's windows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tvm_bridge.models.workloads import convolutions
from tvm_bridge.models.layers import Layers

windows = st.tuples(st.integers(1, 12), st.integers(1, 5), st.integers(1, 3), st.integers(0, 2))


@given(windows)
def test_windows_are_as_many_as_fit(window):
    extent, size, stride, padding = window
    net = Layers((1, 4, extent, extent))
    if extent + 2 * padding < size:
        for write in (net.conv, net.max_pool):
            with pytest.raises(ValueError, match=rf"image: {extent} is too small"):
                write(net.nodes[0], *((8, size) if write == net.conv else (size,)), stride=stride, padding=padding)
        return
    convolved = net.conv(net.nodes[0], 8, size, stride=stride, padding=padding)
    pooled = net.max_pool(net.nodes[0], size, stride=stride, padding=padding)
    ((workload, count),) = convolutions(net.nodes).items()
    assert (workload.output, count) == (convolved.shape, 1)
    padded = np.zeros((1, 4, extent + 2 * padding, extent + 2 * padding))
    fitting = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(2, 3))[:, :, ::stride, ::stride]
    assert pooled.shape == fitting.shape[:4]
