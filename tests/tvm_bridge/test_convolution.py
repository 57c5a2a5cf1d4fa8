"""Workloads: AutoTVM's arguments in all their spellings, and what a convolution is: JAX's, TVM's and NumPy's agree."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tvm_bridge.strategies import convolutions
from tvm_bridge.convolution import OPERATORS, Conv2d

LAW = settings(deadline=None)
any_convolution = st.one_of(
    convolutions(depthwise=depthwise, layout=layout) for depthwise in (False, True) for layout in ("NCHW", "NHWC")
)
RESNET = Conv2d((1, 64, 56, 56), (64, 64, 3, 3), padding=(1, 1, 1, 1))
DEPTHWISE = Conv2d((1, 32, 112, 112), (32, 1, 3, 3), padding=(1, 1, 1, 1), groups=32)


def operands(workload: Conv2d) -> tuple[np.ndarray, np.ndarray]:
    """Random data and weight, as they lie in memory."""
    random = np.random.default_rng(0)
    data, weight, _ = workload.shapes
    return random.normal(size=data).astype(np.float32), random.normal(size=weight).astype(np.float32)


# Arguments


@LAW
@given(any_convolution)
def test_args_round_trip(workload):
    assert Conv2d.from_args(workload.operator, workload.args) == workload


@LAW
@given(any_convolution, st.booleans(), st.data())
def test_every_spelling_of_args_is_read(workload, symmetric, data):
    """Numbers for equal pairs, a number or a pair for symmetric padding, tuples for lists, a layout before the dtype."""
    if symmetric:
        workload = replace(workload, padding=tuple(map(max, workload.padding, workload.padding[2:] + workload.padding[:2])))
    (top, left, bottom, right), tensors = workload.padding, workload.args[:2]

    def pairs(value):
        return st.sampled_from([list(value), tuple(value)] + [value[0]] * (value[0] == value[1]))

    paddings = [list(workload.padding), workload.padding]
    paddings += [[top, left]] * ((top, left) == (bottom, right)) + [top] * (len(set(workload.padding)) == 1)
    stride, padding, dilation = pairs(workload.stride), st.sampled_from(paddings), pairs(workload.dilation)
    end = st.sampled_from([["float32"], [workload.layout, "float32"]])
    args = [*tensors, data.draw(stride), data.draw(padding), data.draw(dilation), *data.draw(end)]
    assert Conv2d.from_args(workload.operator, args) == workload


@LAW
@given(any_convolution, st.sampled_from(["SAME", "VALID"]))
def test_named_padding_is_what_topi_makes_of_it(workload, name):
    from tvm.topi.nn.utils import get_pad_tuple

    args = workload.args
    args[3] = name
    kernel = [(k - 1) * d + 1 for k, d in zip(workload.weight[2:], workload.dilation, strict=True)]
    expected = get_pad_tuple(name, kernel)
    if name == "VALID" and any(k > extent for k, extent in zip(kernel, workload.data[2:], strict=True)):
        with pytest.raises(ValueError, match="larger than"):
            Conv2d.from_args(workload.operator, args)
    else:
        assert Conv2d.from_args(workload.operator, args) == replace(workload, padding=expected)


@pytest.mark.parametrize(
    "args",
    [
        [],
        None,
        ["float32"] * 6,
        RESNET.args[:3],
        [*RESNET.args[:3], "HALF", [1, 1], "float32"],
        [*RESNET.args[:3], [1, 1, 1], [1, 1], "float32"],
        [*RESNET.args[:2], [1, 1, 1], [1, 1], [1, 1], "float32"],
        [["TENSOR", [1, 64, 56], "float32"], *RESNET.args[1:]],
        [["TENSOR", ["a", "b", "c", "d"], "float32"], *RESNET.args[1:]],
    ],
)
def test_other_args_are_an_error_that_shows_them(args):
    with pytest.raises(ValueError, match=r"args: .* are not the arguments of conv2d_nchw"):
        Conv2d.from_args("conv2d_nchw", args)


@pytest.mark.parametrize(
    ("workload", "data", "weight"),
    [(RESNET, [1, 56, 56, 64], [3, 3, 64, 64]), (DEPTHWISE, [1, 112, 112, 32], [3, 3, 32, 1])],
    ids=["dense", "depthwise"],
)
def test_args_in_nhwc_are_the_shapes_of_its_arrays(workload, data, weight):
    tensors = [["TENSOR", data, "float32"], ["TENSOR", weight, "float32"]]
    assert replace(workload, layout="NHWC").args == [*tensors, *workload.args[2:]]


@pytest.mark.parametrize("operator", ["dense", "conv2d_hwcn", "conv2d_nchw_winograd", ""])
def test_other_operators_are_an_error_however_like_their_args(operator):
    with pytest.raises(ValueError, match=f"args: .* are not the arguments of {operator}"):
        Conv2d.from_args(operator, RESNET.args)


# What is computed


@settings(deadline=None, max_examples=15)
@given(any_convolution)
def test_reference_is_the_convolution_of_jax(workload):
    data, weight = operands(workload)
    top, left, bottom, right = workload.padding
    layout, kernel_layout = OPERATORS[workload.operator]
    expected = jax.lax.conv_general_dilated(
        data,
        weight,
        window_strides=workload.stride,
        padding=[(top, bottom), (left, right)],
        rhs_dilation=workload.dilation,
        feature_group_count=workload.groups,
        dimension_numbers=(layout, kernel_layout, layout),
        precision="highest",
    )
    assert expected.shape == workload.shapes[2]
    np.testing.assert_allclose(workload.reference(data, weight), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "workload",
    [
        Conv2d((2, 3, 9, 7), (4, 3, 3, 2), (2, 1), (0, 1, 2, 1), (1, 2)),
        Conv2d((1, 4, 8, 8), (4, 1, 3, 3), (2, 2), (1, 0, 1, 2), groups=4),
    ],
    ids=lambda workload: workload.operator,
)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_prim_func_computes_the_reference(workload, layout):
    import tvm

    workload = replace(workload, layout=layout)
    data, weight = operands(workload)
    output = tvm.runtime.tensor(np.zeros(workload.shapes[2], np.float32))
    kernel = tvm.compile(workload.prim_func(), target=tvm.target.Target("llvm"))
    kernel(tvm.runtime.tensor(data), tvm.runtime.tensor(weight), output)
    np.testing.assert_allclose(output.numpy(), workload.reference(data, weight), rtol=1e-4, atol=1e-4)


def test_flop_is_two_for_every_multiply_add():
    """ResNet-18's rb1-conv1 as everyone counts it, and MobileNet's first depthwise convolution."""
    assert RESNET.flop == 231_211_008
    assert DEPTHWISE.flop == 7_225_344


@LAW
@given(any_convolution, st.integers(1, 5))
def test_flop_grows_with_the_batch(workload, times):
    batch, *rest = workload.data
    assert replace(workload, data=(times * batch, *rest)).flop == times * workload.flop


# What is refused


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"data": (1, 64, 0, 56)}, r"data=\(1, 64, 0, 56\).*must be positive"),
        ({"stride": (0, 1)}, r"stride=\(0, 1\).*must be positive"),
        ({"dilation": (1, -1)}, r"dilation=\(1, -1\).*must be positive"),
        ({"padding": (0, 0, -1, 0)}, r"padding=\(0, 0, -1, 0\).*not negative"),
        ({"groups": 2}, r"groups: 2 is neither 1 .*64"),
        ({"weight": (64, 32, 3, 3)}, r"weight: .*\(C_out, 64, KH, KW\)"),
        ({"weight": (64, 64, 59, 3)}, r"weight: .*larger than the padded data"),
        ({"groups": 64}, r"weight: .*\(C_out, 1, KH, KW\)"),
        ({"groups": 64, "weight": (128, 1, 3, 3)}, r"weight: .*64 filters.*not 128"),
        ({"dtype": "float16"}, r"dtype: 'float16' is not supported; use 'float32'"),
        ({"layout": "NHCW"}, r"layout: 'NHCW' is not supported; use 'NCHW' or 'NHWC'"),
        ({"layout": "NHWC", "weight": (64, 32, 3, 3)}, r"weight: shape \(3, 3, 32, 64\) .*\(KH, KW, 64, C_out\)"),
    ],
)
def test_errors_name_the_argument_and_its_value(change, complaint):
    with pytest.raises(ValueError, match=complaint):
        replace(RESNET, **change)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_operator_is_named_by_its_groups_and_layout(layout):
    dense, depthwise = (replace(workload, layout=layout) for workload in (RESNET, DEPTHWISE))
    assert (dense.operator, dense.depthwise) == (f"conv2d_{layout.lower()}", False)
    assert (depthwise.operator, depthwise.depthwise) == (f"depthwise_conv2d_{layout.lower()}", True)
