"""Tasks: what `conv2d` accepts and refuses, and what identifies a task."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tvm_bridge.record_strategies import TABLE
from tvm_bridge import conv2d
from tvm_bridge.target import Target
from tvm_bridge.task import Task

LLVM = {"kind": "llvm", "mcpu": "skylake-avx512", "num-cores": 2}
CUDA = {"kind": "cuda", "arch": "sm_80"}
SHAPE = {"data": (1, 16, 14, 14), "weight": (32, 16, 3, 3), "padding": 1}
DEPTHWISE = {"data": (1, 16, 14, 14), "weight": (16, 1, 3, 3), "padding": 1, "groups": 16}
NHWC = {"data": (1, 14, 14, 16), "weight": (3, 3, 16, 32), "padding": 1, "layout": "NHWC"}


@pytest.mark.parametrize("target", [LLVM, CUDA], ids=["llvm", "cuda"])
@pytest.mark.parametrize(
    ("shape", "operator", "columns"), [(SHAPE, "conv2d_nchw", 20), (DEPTHWISE, "depthwise_conv2d_nchw", 14)]
)
def test_task_has_the_space_of_its_template(shape, operator, columns, target):
    """Also on CUDA, where there may be no GPU."""
    task = conv2d(**shape, target=target)
    assert (task.operator, task.target) == (operator, Target.parse(target))
    assert task.name == f"{operator}.{target['kind']}"
    assert len(task.space.feature_names) == columns
    assert task.flop == task.workload.flop > 0
    assert task.measurer is None


@pytest.mark.parametrize(
    "spelling",
    [
        {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1)},
        {"stride": [1, 1], "padding": [1, 1, 1, 1], "dilation": [1, 1]},
        {"data": [1, 16, 14, 14], "weight": np.array([32, 16, 3, 3])},
        {"stride": np.int64(1), "padding": np.int64(1), "dilation": np.int32(1)},
        {"stride": np.array([1, 1]), "padding": np.array([1, 1]), "dilation": np.array([1, 1])},
        {"target": "llvm -mcpu=skylake-avx512 -num-cores=2"},
        {"label": "a name for people"},
    ],
    ids=str,
)
def test_spellings_are_one_task(spelling):
    assert conv2d(**{**SHAPE, "target": LLVM, **spelling}).key == conv2d(**SHAPE, target=LLVM).key


@pytest.mark.parametrize(
    "change",
    [
        {"stride": 2},
        {"stride": (1, 2)},
        {"padding": (1, 0, 1, 0)},
        {"dilation": 2},
        {"data": (2, 16, 14, 14)},
        {"target": CUDA},
    ],
    ids=str,
)
def test_other_workloads_and_targets_are_other_tasks(change):
    assert conv2d(**{**SHAPE, "target": LLVM, **change}).key != conv2d(**SHAPE, target=LLVM).key


def test_numbers_stand_for_both_directions_and_pairs_for_opposite_sides():
    workload = conv2d(**SHAPE | {"stride": 2, "padding": (1, 2)}, target=LLVM).workload
    assert (workload.stride, workload.padding) == ((2, 2), (1, 2, 1, 2))


@pytest.mark.parametrize("depthwise", [False, True])
def test_shapes_in_nhwc_are_those_of_the_arrays(depthwise):
    shape = NHWC | {"weight": (3, 3, 16, 1), "groups": 16} if depthwise else NHWC
    task, same = conv2d(**shape, target=LLVM), conv2d(**(DEPTHWISE if depthwise else SHAPE), target=LLVM)
    assert task.operator == same.operator.replace("nchw", "nhwc")
    assert task.workload.shapes[:2] == (shape["data"], shape["weight"])
    assert (task.workload.data, task.workload.weight, task.flop) == (same.workload.data, same.workload.weight, same.flop)
    assert task.space.names == same.space.names
    assert task.space.size == same.space.size


def test_label_names_the_task():
    assert conv2d(**SHAPE, target=LLVM, label="rb1-conv1").name == "rb1-conv1"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"layout": "HWCN"}, r"layout: 'HWCN' is not supported; use 'NCHW' or 'NHWC'"),
        ({"layout": "NHWC"}, r"weight: shape \(32, 16, 3, 3\) .*\(KH, KW, 14, C_out\)"),
        (NHWC | {"groups": 16}, r"weight: shape \(3, 3, 16, 32\) .*\(KH, KW, C_out, 1\)"),
        ({"dtype": "float16"}, r"dtype: 'float16' is not supported; use 'float32'"),
        ({"groups": 4}, r"groups: 4 is neither 1"),
        ({"groups": 0}, r"groups: 0 is neither 1"),
        ({"target": "rocm"}, r"target: kind 'rocm' is not supported; use 'llvm' or 'cuda'"),
        ({"target": ""}, r"target: '' is not a target"),
        ({"data": (16, 14, 14)}, r"data .*\(16, 14, 14\)"),
        ({"weight": (32, 16, 3)}, r"weight .*\(32, 16, 3\)"),
        ({"weight": (32, 8, 3, 3)}, r"weight: .*\(C_out, 16, KH, KW\)"),
        ({"stride": 0}, r"stride.*0"),
        ({"stride": (1, 1, 1)}, r"stride: .*\(1, 1, 1\)"),
        ({"stride": 1.5}, r"stride: .*1\.5"),
        ({"stride": "2"}, r"stride: .*'2'"),
        ({"dilation": (1, 1, 1)}, r"dilation: .*\(1, 1, 1\)"),
        ({"padding": (1, 1, 1)}, r"padding: .*\(1, 1, 1\)"),
        ({"padding": -1}, r"padding.*-1"),
        ({"padding": "SAME"}, r"padding: .*'SAME'"),
    ],
    ids=str,
)
def test_errors_name_the_argument_and_its_value(change, complaint):
    with pytest.raises(ValueError, match=complaint):
        conv2d(**{**SHAPE, "target": LLVM, **change})


@settings(deadline=None)
@given(st.floats(1e-7, 1e3))
def test_throughput_is_operations_over_time(seconds):
    task = conv2d(**SHAPE, target=LLVM)
    assert task.gflops(seconds) * 1e9 * seconds == pytest.approx(task.flop)
    unknown = Task(TABLE["kernel"], [TABLE["task_id"]], Target("table"), task.space)
    assert unknown.gflops(seconds) == 1 / seconds
