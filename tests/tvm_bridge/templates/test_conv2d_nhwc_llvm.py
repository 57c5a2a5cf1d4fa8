"""The dense template in NHWC on CPUs: right results, epilogues, whole vectors in registers, a predicate for every workload."""

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
from tvm_bridge.networks import layer, layers
from tvm_bridge.templates.conv2d_nhwc_llvm import enlarged_space, space

RB1 = replace(layer("resnet-18", "rb1-conv1").workload, layout="NHWC")


@I.ir_module
class Residual:
    """The end of a residual block, with an activation that reads its argument twice."""

    @R.function
    def main(
        data: R.Tensor((2, 9, 8, 4), "float32"),
        weight: R.Tensor((3, 3, 4, 6), "float32"),
        bias: R.Tensor((6,), "float32"),
        shortcut: R.Tensor((2, 5, 8, 6), "float32"),
    ):
        with R.dataflow():
            convolved = R.nn.conv2d(
                data, weight, strides=(2, 1), padding=(1, 1, 1, 1), data_layout="NHWC", kernel_layout="HWIO"
            )
            result = R.nn.silu(R.add(R.add(convolved, bias), shortcut))
            R.output(result)
        return result


@settings(max_examples=8, deadline=None)
@given(checks.configured(layout="NHWC"), st.booleans())
def test_schedule_computes_the_convolution(case, packed):
    workload, config = case
    inputs = checks.normal(*workload.shapes[:2])
    checks.computes(checks.scheduled(workload, config), inputs, workload.reference(*inputs), ways=[packed])


def test_schedule_computes_what_tvm_computes_unscheduled():
    workload = Conv2d((1, 8, 9, 7), (16, 8, 3, 3), (1, 2), (1, 0, 1, 2), layout="NHWC")
    inputs = checks.normal(*workload.shapes[:2])
    unscheduled = compiled({"main": workload.prim_func()}, checks.HOST)["main"]
    expected = checks.call(unscheduled, inputs, workload.shapes[2])
    checks.computes(checks.scheduled(workload, checks.sample(workload)), inputs, expected)


@pytest.mark.parametrize("seed", [0, 1])
def test_epilogue_is_carried(seed):
    workload = Conv2d((2, 4, 9, 8), (6, 4, 3, 3), (2, 1), (1, 1, 1, 1), layout="NHWC")
    data_shape, weight_shape, output_shape = workload.shapes
    inputs = data, weight, bias, shortcut = checks.normal(data_shape, weight_shape, (6,), output_shape)
    before = workload.reference(data, weight) + bias + shortcut
    function = checks.scheduled(workload, checks.sample(workload, seed=seed), function=checks.fused(Residual))
    checks.computes(function, inputs, before / (1 + np.exp(-before)))
    copy, kernel = function.body.block.body.seq
    assert "layout_rewrite_preproc" in copy.script()
    assert "T.parallel" in kernel.script()


def test_weights_are_packed_as_in_nchw():
    in_nhwc = Conv2d((1, 8, 9, 7), (32, 8, 3, 2), layout="NHWC")
    in_nchw = replace(in_nhwc, layout="NCHW")
    config = checks.sample(in_nhwc)
    (weight,) = checks.normal(in_nchw.weight)
    packed = []
    for workload, array in ((in_nhwc, weight.transpose(2, 3, 1, 0)), (in_nchw, weight)):
        kernel, packers = packing.split(checks.scheduled(workload, config))
        packed.append(checks.call(compiled({"pack": packers[1]}, checks.HOST)["pack"], [array], kernel.params[1].shape))
    np.testing.assert_array_equal(*packed)


@pytest.mark.parametrize("target", checks.VECTOR_ARITHMETIC, ids=str)
def test_arithmetic_is_on_whole_vectors(target):
    workload = Conv2d((1, 32, 14, 14), (32, 32, 3, 3), padding=(1, 1, 1, 1), layout="NHWC")
    whole, partial = checks.VECTOR_ARITHMETIC[target]
    config = checks.sample(workload, target)
    assembly = checks.assembly(checks.scheduled(workload, config, target), target)
    assert len(re.findall(whole, assembly)) >= config["tile_f"][2] * config["tile_y"][3] * config["tile_x"][3]
    assert not re.findall(partial, assembly)


@pytest.mark.parametrize("target", [checks.AVX512, checks.AVX2], ids=str)
def test_accumulators_stay_in_registers(target):
    workload = Conv2d((1, 32, 16, 16), (64, 32, 3, 3), padding=(1, 1, 1, 1), layout="NHWC")
    whole, _ = checks.VECTOR_ARITHMETIC[target]
    arithmetic = spills = 0
    for seed in range(4):
        assembly = checks.assembly(checks.scheduled(workload, checks.sample(workload, target, seed), target), target)
        arithmetic += len(re.findall(whole, assembly))
        spills += len(re.findall(r"\(%rsp\).*%[yz]mm|%[yz]mm.*\(%rsp\)", assembly))
    assert spills < arithmetic / 4


@settings(max_examples=24, deadline=None)
@given(checks.awkward(layout="NHWC"))
def test_every_workload_keeps_a_configuration(case):
    workload, target = case
    assert len(space(workload, target).sample(jax.random.key(0), 1)) == 1


@pytest.mark.parametrize("target", checks.VECTOR_ARITHMETIC, ids=str)
def test_networks_are_sampled_by_few_rejections(target):
    in_nhwc = [replace(each.workload, layout="NHWC") for each in layers("resnet-18")]
    assert min(checks.accepted(workload, target) for workload in in_nhwc) > 1e-3


@pytest.mark.parametrize(
    ("target", "channels", "filters", "shared"),
    [
        (checks.AVX512, 32, 64, False),
        (checks.AVX512, 33, 64, True),
        (checks.AVX512, 32, 256, False),  # more than a register tile holds
        (checks.AVX512, 32, 250, False),  # vectors overhang
        (checks.AVX2, 16, 64, False),
        (checks.AVX2, 32, 64, True),
    ],
)
def test_cores_do_not_share_pixels_of_few_products(target, channels, filters, shared):
    knobs = enlarged_space(Conv2d((1, channels, 8, 8), (filters, channels, 1, 1), layout="NHWC"), target)
    parallel = [knobs.to_config(row)["tile_f"][0] for row in knobs.sample(jax.random.key(0), 100)]
    assert (max(parallel) > 1) == shared


def test_space_is_the_papers():
    knobs = space(RB1, checks.AVX512)
    space_checks.has_the_papers_knobs(knobs)
    assert knobs.size == 90_316_800


def test_predicate_runs_under_jit():
    space_checks.is_the_same_under_jit(space(RB1, checks.AVX2))
