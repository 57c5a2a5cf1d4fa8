"""Functions whose axes are rounded up compute what they computed."""

import numpy as np
import pytest
import tvm
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tvm_bridge.strategies import convolutions
from tests.tvm_bridge.templates import cuda_checks as checks
from tvm_bridge.templates.overhang import overhanging


@settings(max_examples=10, deadline=None)
@given(convolutions(), st.integers(1, 5), st.integers(1, 5))
def test_results_are_the_same(workload, filters, rows):
    function = overhanging(workload.prim_func(), {1: filters, 2: rows})
    inputs = checks.normal(*workload.shapes[:2])
    result = checks.run_serially(tvm.s_tir.Schedule(function), inputs, workload.output)
    np.testing.assert_allclose(result, workload.reference(*inputs), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("multiples", [{}, {1: 1, 2: 1}, {1: 8, 2: 3}])
def test_whole_multiples_leave_the_function_alone(multiples):
    function = checks.Conv2d((1, 4, 6, 6), (8, 4, 3, 3), padding=(1, 1, 1, 1)).prim_func()
    assert overhanging(function, multiples) is function
