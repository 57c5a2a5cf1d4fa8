"""The depthwise template on CPUs: right results with vectors in both directions, epilogues, a predicate for every workload."""

import re

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tvm.script import ir as I
from tvm.script import relax as R

from tests.tvm_bridge.templates import cpu_checks as checks
from tests.tvm_bridge.templates import space_checks
from tvm_bridge.convolution import Conv2d
from tvm_bridge.networks import layer, layers
from tvm_bridge.templates.depthwise_conv2d_nchw_llvm import COLUMNS, enlarged_space, space

SQUARE = Conv2d((1, 32, 16, 16), (32, 1, 3, 3), padding=(1, 1, 1, 1), groups=32)


@I.ir_module
class Normalised:
    """A convolution and its batch norm, which Relax writes as many blocks, some of them on the statistics alone."""

    @R.function
    def main(
        data: R.Tensor((2, 6, 9, 8), "float32"),
        weight: R.Tensor((6, 1, 3, 3), "float32"),
        scale: R.Tensor((6,), "float32"),
        shift: R.Tensor((6,), "float32"),
        mean: R.Tensor((6,), "float32"),
        variance: R.Tensor((6,), "float32"),
    ):
        with R.dataflow():
            convolved = R.nn.conv2d(data, weight, strides=(2, 1), padding=(0, 1, 1, 1), groups=6)
            result = R.nn.batch_norm(convolved, scale, shift, mean, variance, axis=1, epsilon=0.5)[0]
            R.output(result)
        return result


def either_vector(workload, target=checks.HOST):
    """A configuration with vectors along channels, and one with vectors along columns."""
    knobs = space(workload, target)
    configs = [knobs.to_config(row) for row in knobs.sample(jax.random.key(0), 64)]
    return [next(config for config in configs if (config["tile_f"][3] > 1) == by_channel) for by_channel in (True, False)]


@settings(max_examples=8, deadline=None)
@given(checks.configured(depthwise=True), st.booleans())
def test_schedule_computes_the_convolution(case, packed):
    workload, config = case
    inputs = checks.normal(workload.data, workload.weight)
    checks.computes(checks.scheduled(workload, config), inputs, workload.reference(*inputs), ways=[packed])


def test_epilogue_is_carried_with_vectors_in_both_directions():
    workload = Conv2d((2, 6, 9, 8), (6, 1, 3, 3), (2, 1), (0, 1, 1, 1), groups=6)
    data, weight, statistics = checks.normal(workload.data, workload.weight, (4, 6))
    mean, variance, scale, shift = np.abs(statistics)
    normalised = (workload.reference(data, weight) - mean[:, None, None]) / np.sqrt(variance + 0.5)[:, None, None]
    expected = normalised * scale[:, None, None] + shift[:, None, None]
    for config in either_vector(workload):
        function = checks.scheduled(workload, config, function=checks.fused(Normalised))
        checks.computes(function, [data, weight, mean, variance, scale, shift], expected)


@pytest.mark.parametrize("target", checks.VECTOR_ARITHMETIC, ids=str)
def test_arithmetic_is_on_whole_vectors(target):
    whole, partial = checks.VECTOR_ARITHMETIC[target]
    for config in either_vector(SQUARE, target):
        assembly = checks.assembly(checks.scheduled(SQUARE, config, target), target)
        assert len(re.findall(whole, assembly)) >= 4
        assert not re.findall(partial, assembly)


@pytest.mark.parametrize("target", checks.VECTOR_ARITHMETIC, ids=str)
def test_networks_are_sampled_by_few_rejections(target):
    depthwise = [each.workload for each in layers("mobilenet-v1") if each.workload.depthwise]
    assert len(depthwise) == 9
    assert min(checks.accepted(workload, target) for workload in depthwise) > 1e-4


@pytest.mark.parametrize(("stride", "gathered"), [(1, True), (2, False)])
def test_columns_that_a_stride_leaves_between_are_no_vectors(stride, gathered):
    knobs = space(Conv2d((1, 32, 33, 33), (32, 1, 2, 2), (stride, stride), groups=32), checks.AVX512)
    lanes = [knobs.to_config(row)["tile_f"][3] for row in knobs.sample(jax.random.key(0), 200)]
    assert (1 in lanes) == gathered


def test_tiles_that_are_transposed_have_columns_side_by_side():
    tiled = enlarged_space(layer("mobilenet-v1", "sp-4-dp1").workload, checks.AVX512).by_part()[0]
    configs = [tiled.to_config(row) for row in tiled.sample(jax.random.key(0), 100)]
    assert min(config["tile_x"][2] * config["tile_x"][3] for config in configs) >= COLUMNS


def test_space_is_the_papers():
    space_checks.has_the_papers_knobs(space(SQUARE, checks.AVX512), depthwise=True)


def test_predicate_runs_under_jit():
    space_checks.is_the_same_under_jit(space(SQUARE, checks.AVX2))
