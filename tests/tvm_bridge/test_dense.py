"""Matrix products: AutoTVM's arguments, what is computed, what is refused, and a whole round through `tune` and its records."""

from dataclasses import replace

import jax
import numpy as np
import pytest
import tvm
from hypothesis import given, settings

import tvm_bridge as bridge
from tests.tvm_bridge.strategies import products
from tvm_bridge import records, workload
from tvm_bridge.dense import Dense
from tvm_bridge.target import Target

LAW = settings(deadline=None)
CLASSIFIER = Dense((1, 512), (1000, 512))
LLVM = {"kind": "llvm", "mcpu": "skylake-avx512", "num-cores": 2}
CUDA = {"kind": "cuda", "arch": "sm_80"}


def operands(product: Dense) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    return generator.standard_normal(product.data, np.float32), generator.standard_normal(product.weight, np.float32)


# Arguments


@LAW
@given(products())
def test_args_round_trip(product):
    assert workload.from_args("dense", product.args) == product


def test_args_are_autotvms():
    tensors = [["TENSOR", [1, 512], "float32"], ["TENSOR", [1000, 512], "float32"]]
    assert CLASSIFIER.args == [*tensors, None, "float32"]
    assert Dense.from_args("dense", (*map(tuple, tensors), None, None)) == CLASSIFIER


@pytest.mark.parametrize(
    "args",
    [
        [],
        None,
        CLASSIFIER.args[:2],
        [*CLASSIFIER.args[:2], ["TENSOR", [1000], "float32"], "float32"],
        [CLASSIFIER.args[0], ["TENSOR", [125, 512, 8], "float32"], None, "float32"],
        [CLASSIFIER.args[0], ["TENSOR", [1000, 500], "float32"], None, "float32"],
        [*CLASSIFIER.args[:3], "float16"],
        [["TENSOR", ["a", "b"], "float32"], *CLASSIFIER.args[1:]],
    ],
)
def test_other_args_are_an_error_that_shows_them(args):
    with pytest.raises(ValueError, match=r"args: .* are not the arguments of dense"):
        Dense.from_args("dense", args)


def test_other_operators_are_an_error_however_like_their_args():
    with pytest.raises(ValueError, match=r"args: .* are not the arguments of conv2d_nchw: the operator is dense"):
        Dense.from_args("conv2d_nchw", CLASSIFIER.args)


# What is computed


@settings(deadline=None, max_examples=10)
@given(products())
def test_reference_is_the_product_of_jax(product):
    data, weight = operands(product)
    expected = jax.numpy.einsum("nk,mk->nm", data, weight, precision="highest")
    assert expected.shape == product.output == product.shapes[2]
    np.testing.assert_allclose(product.reference(data, weight), expected, rtol=1e-4, atol=1e-4)


def test_prim_func_computes_the_reference():
    product = Dense((3, 7), (5, 7))
    data, weight = operands(product)
    output = tvm.runtime.tensor(np.full(product.output, np.nan, np.float32))
    kernel = tvm.compile(product.prim_func(), target=tvm.target.Target("llvm"))
    kernel(tvm.runtime.tensor(data), tvm.runtime.tensor(weight), output)
    np.testing.assert_allclose(output.numpy(), data @ weight.T, rtol=1e-4, atol=1e-4)


def test_flop_is_two_for_every_multiply_add():
    assert CLASSIFIER.flop == 1_024_000
    assert replace(CLASSIFIER, data=(7, 512)).flop == 7 * CLASSIFIER.flop


# What is refused


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"data": (0, 512)}, r"data=\(0, 512\).*must be positive"),
        ({"weight": (1000, 256)}, r"weight: shape \(1000, 256\) does not fit data \(1, 512\); it must be \(M, 512\)"),
        ({"dtype": "int8"}, r"dtype: 'int8' is not supported; use 'float32'"),
        ({"data": (512,)}, r"data and weight must have two extents each, not \(512,\)"),
        ({"weight": (1000, 512, 1)}, r"data and weight .*\(1000, 512, 1\)"),
        ({"target": "rocm"}, r"target: kind 'rocm'"),
    ],
    ids=str,
)
def test_errors_name_the_argument_and_its_value(change, complaint):
    with pytest.raises(ValueError, match=complaint):
        bridge.dense(**{"data": (1, 512), "weight": (1000, 512), "target": LLVM, **change})


# As a task


@pytest.mark.parametrize("target", [LLVM, CUDA], ids=["llvm", "cuda"])
def test_task_has_the_space_of_its_template(target):
    """Also on CUDA, where there may be no GPU."""
    task = bridge.dense(data=[1, 512], weight=np.array([1000, 512]), target=target)
    assert (task.operator, task.target) == ("dense", Target.parse(target))
    assert task.name == f"dense.{target['kind']}"
    assert task.flop == CLASSIFIER.flop
    assert task.workload == CLASSIFIER
    assert task.space.names[:3] == ("tile_y", "tile_x", "tile_k")


def test_tuned_recorded_and_replayed(tmp_path):
    task = bridge.dense(data=(3, 20), weight=(19, 20), target="llvm")
    options = {"method": "random", "trials": 4, "log": tmp_path / "log.jsonl", "progress": False}
    with bridge.Local(min_repeat_ms=5, repeat=2, builders=1) as measurer:
        result = bridge.tune(task, measurer=measurer, **options)
    assert [record.index == records.DEFAULT_INDEX for record in result.records] == [True, *[False] * 4]
    assert result.errors == {}
    assert result.best.seconds == min(record.measurement.cost for record in result.records)
    logged = bridge.read_records(tmp_path / "log.jsonl")
    assert {record.key for record in logged} == {task.key}
    (again,) = bridge.replay(tmp_path / "log.jsonl")
    assert again.workload == task.workload
    replayed = bridge.tune(again, method="random", trials=4, progress=False)
    tuned = min(record.measurement.cost for record in logged if record.config is not None)
    assert replayed.best.seconds == tuned


def test_built_kernel_computes_the_product():
    task = bridge.dense(data=(5, 20), weight=(19, 20), target="llvm")
    data, weight = operands(task.workload)
    for config in (None, task.space.to_config(task.space.sample(jax.random.key(0), 1)[0])):
        output = tvm.runtime.empty(task.workload.output, "float32")
        bridge.build(task, config)["main"](tvm.runtime.tensor(data), tvm.runtime.tensor(weight), output)
        np.testing.assert_allclose(output.numpy(), data @ weight.T, atol=1e-4)
