"""A function of a graph is recognised as the workload that it computes, and as nothing else."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tvm import relax, te, topi

from tests.tvm_bridge.strategies import convolutions, products
from tvm_bridge.convolution import LAYOUTS, Conv2d, array_axes
from tvm_bridge.network.recognise import workload_of


@settings(max_examples=40, deadline=None)
@given(st.data(), st.booleans(), st.sampled_from(LAYOUTS), st.booleans())
def test_a_convolution_is_recognised_whatever_its_geometry_and_epilogue(data, depthwise, layout, followed):
    workload = data.draw(convolutions(depthwise=depthwise, layout=layout))
    inputs = [te.placeholder(shape, "float32") for shape in workload.shapes[:2]]
    geometry = workload.stride, workload.padding, workload.dilation, workload.groups
    result = topi.nn.conv(*inputs, *geometry, *array_axes(layout, workload.groups), "float32")
    recognised = workload_of(te.create_prim_func([*inputs, topi.nn.relu(result) if followed else result]))
    assert recognised is not None
    if min(*workload.output[2:], *workload.weight[2:]) > 1:
        assert recognised == workload
    else:  # along an extent of 1 a stride or a dilation means nothing
        assert (recognised.shapes, recognised.operator) == (workload.shapes, workload.operator)


@settings(max_examples=20, deadline=None)
@given(products())
def test_a_dense_layer_is_recognised(workload):
    assert workload_of(workload.prim_func()) == workload


def _legalised(*operators):
    """The function of some Relax operators, one after the other, on (1, 8, 6, 6)."""
    builder = relax.BlockBuilder()
    value = relax.Var("data", relax.TensorType((1, 8, 6, 6), "float32"))
    with builder.function("main", [value]):
        for operator in operators:
            value = builder.emit(operator(value))
        builder.emit_func_output(value)
    module = relax.transform.LegalizeOps()(builder.get())
    return [function for function in module.functions.values() if not isinstance(function, relax.Function)]


@pytest.mark.parametrize(
    "operator",
    [
        relax.op.nn.relu,
        lambda value: relax.op.nn.max_pool2d(value, (2, 2)),
        lambda value: relax.op.mean(value, [2, 3]),
        lambda value: relax.op.nn.conv2d(value, relax.op.ones((8, 2, 3, 3), "float32"), groups=4),
        lambda value: relax.op.nn.conv2d_transpose(value, relax.op.ones((8, 4, 3, 3), "float32")),
    ],
)
def test_other_operators_are_none_of_ours(operator):
    functions = _legalised(operator)
    assert functions
    assert not any(map(workload_of, functions))


def test_relax_counts_in_64_bits():
    weight = relax.const(np.ones((4, 8, 3, 3), "float32"))
    (function,) = _legalised(lambda value: relax.op.nn.conv2d(value, weight, strides=2, padding=1))
    assert workload_of(function) == Conv2d((1, 8, 6, 6), (4, 8, 3, 3), (2, 2), (1, 1, 1, 1))
