"""The depthwise template in NHWC on CPUs: right results, epilogues, whole vectors, a predicate for every workload."""

import re
from dataclasses import replace

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tvm.script import ir as I
from tvm.script import relax as R

from tests.tvm_bridge.templates import cpu_checks as checks
from tests.tvm_bridge.templates import space_checks
from tvm_bridge import packing
from tvm_bridge.build import compiled
from tvm_bridge.convolution import Conv2d
from tvm_bridge.networks import layers
from tvm_bridge.templates.depthwise_conv2d_nhwc_llvm import space

SQUARE = Conv2d((1, 32, 16, 16), (32, 1, 3, 3), padding=(1, 1, 1, 1), groups=32, layout="NHWC")


@I.ir_module
class Normalised:
    """A convolution and its batch norm, which Relax writes as many blocks, some of them on the statistics alone."""

    @R.function
    def main(
        data: R.Tensor((2, 9, 8, 6), "float32"),
        weight: R.Tensor((3, 3, 6, 1), "float32"),
        scale: R.Tensor((6,), "float32"),
        shift: R.Tensor((6,), "float32"),
        mean: R.Tensor((6,), "float32"),
        variance: R.Tensor((6,), "float32"),
    ):
        with R.dataflow():
            convolved = R.nn.conv2d(
                data,
                weight,
                strides=(2, 1),
                padding=(0, 1, 1, 1),
                groups=6,
                data_layout="NHWC",
                kernel_layout="HWOI",
            )
            result = R.nn.batch_norm(convolved, scale, shift, mean, variance, axis=3, epsilon=0.5)[0]
            R.output(result)
        return result


def ways(workload, target=checks.HOST):
    """A configuration whose taps are a loop, and one whose taps are unrolled."""
    return {config["unroll_explicit"]: config for config in (checks.sample(workload, target, seed) for seed in range(8))}


@settings(max_examples=8, deadline=None)
@given(checks.configured(depthwise=True, layout="NHWC"), st.booleans())
def test_schedule_computes_the_convolution(case, packed):
    workload, config = case
    inputs = checks.normal(*workload.shapes[:2])
    checks.computes(checks.scheduled(workload, config), inputs, workload.reference(*inputs), ways=[packed])


def test_schedule_computes_what_topi_calls_the_operator():
    from tvm import te, topi

    workload = Conv2d((1, 8, 9, 7), (8, 1, 3, 3), (1, 2), (1, 0, 1, 2), (2, 1), groups=8, layout="NHWC")
    data, weight = (te.placeholder(shape, "float32") for shape in workload.shapes[:2])
    geometry = workload.stride, workload.padding, workload.dilation
    function = te.create_prim_func([data, weight, topi.nn.depthwise_conv2d_nhwc(data, weight, *geometry)])
    inputs = checks.normal(*workload.shapes[:2])
    expected = checks.call(compiled({"main": function}, checks.HOST)["main"], inputs, workload.shapes[2])
    checks.computes(checks.scheduled(workload, checks.sample(workload)), inputs, expected)


@pytest.mark.parametrize("unrolled", [0, 1])
def test_epilogue_is_carried(unrolled):
    workload = Conv2d((2, 6, 9, 8), (6, 1, 3, 3), (2, 1), (0, 1, 1, 1), groups=6, layout="NHWC")
    data, weight, statistics = checks.normal(*workload.shapes[:2], (4, 6))
    mean, variance, scale, shift = np.abs(statistics)
    expected = (workload.reference(data, weight) - mean) / np.sqrt(variance + 0.5) * scale + shift
    function = checks.scheduled(workload, ways(workload)[unrolled], function=checks.fused(Normalised))
    checks.computes(function, [data, weight, mean, variance, scale, shift], expected)


def test_weights_need_no_packing():
    _, packers = packing.split(checks.scheduled(SQUARE, checks.sample(SQUARE)))
    assert packers == {}


def test_only_taps_in_a_loop_read_padded_copies():
    copied = {unrolled: "pad_temp" in checks.scheduled(SQUARE, config).script() for unrolled, config in ways(SQUARE).items()}
    assert copied == {0: True, 1: False}


@pytest.mark.parametrize("target", checks.VECTOR_ARITHMETIC, ids=str)
@pytest.mark.parametrize("unrolled", [0, 1])
def test_arithmetic_is_on_whole_vectors(target, unrolled):
    whole, partial = checks.VECTOR_ARITHMETIC[target]
    assembly = checks.assembly(checks.scheduled(SQUARE, ways(SQUARE, target)[unrolled], target), target)
    assert len(re.findall(whole, assembly)) >= 4
    assert not re.findall(partial, assembly)


@settings(max_examples=24, deadline=None)
@given(checks.awkward(depthwise=True, layout="NHWC"))
def test_every_workload_keeps_a_configuration(case):
    workload, target = case
    assert len(space(workload, target).sample(jax.random.key(0), 1)) == 1


@pytest.mark.parametrize("target", checks.VECTOR_ARITHMETIC, ids=str)
def test_networks_are_sampled_by_few_rejections(target):
    depthwise = [replace(each.workload, layout="NHWC") for each in layers("mobilenet-v1") if each.workload.depthwise]
    assert len(depthwise) == 9
    assert min(checks.accepted(workload, target) for workload in depthwise) > 1e-4


def test_space_is_the_papers():
    space_checks.has_the_papers_knobs(space(SQUARE, checks.AVX512), depthwise=True)


def test_predicate_runs_under_jit():
    space_checks.is_the_same_under_jit(space(SQUARE, checks.AVX2))
