"""The registry of workloads: every operator reads its own arguments, and no other operator is taken for one."""

import pytest
from hypothesis import given, settings

from tests.tvm_bridge.strategies import convolutions, products
from tvm_bridge.workload import WORKLOADS, from_args


@settings(deadline=None)
@given(convolutions() | convolutions(depthwise=True) | convolutions(layout="NHWC") | products())
def test_args_of_every_operator_are_read(workload):
    assert from_args(workload.operator, workload.args) == workload
    assert workload.operator in WORKLOADS


def test_an_unknown_operator_is_refused():
    with pytest.raises(ValueError, match="operator: 'conv3d' is not one of conv2d_nchw"):
        from_args("conv3d", [])
