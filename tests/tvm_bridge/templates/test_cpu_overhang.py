"""Vectors that overhang the filters: right results, epilogues, whole vectors, drawn where none that are as wide divide them."""

import math
import re
from dataclasses import replace

import jax
import numpy as np
import pytest
import tvm
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tvm.script import ir as I
from tvm.script import relax as R

from tests.tvm_bridge.strategies import convolutions
from tests.tvm_bridge.templates import cpu_checks as checks
from tests.tvm_bridge.templates import space_checks
from tvm_bridge import packing
from tvm_bridge.convolution import LAYOUTS, Conv2d
from tvm_bridge.networks import layer
from tvm_bridge.templates.conv2d_nchw_llvm import enlarged_space, rewritten, schedule, space
from tvm_bridge.templates.cpu import VectorUnit
from tvm_bridge.templates.cpu_overhang import offered_lanes
from tvm_bridge.templates.spans import tile_loops

CONV10 = layer("squeezenet-v1.1", "conv10").workload
PRIME = Conv2d((1, 8, 12, 12), (17, 8, 3, 3), padding=(1, 1, 1, 1))


@st.composite
def configured(draw):
    layout = draw(st.sampled_from(LAYOUTS))
    drawn = draw(convolutions(layout=layout))
    filters = draw(st.sampled_from([3, 17, 20, 37, 50]))
    workload = Conv2d(drawn.data, (filters, *drawn.weight[1:]), drawn.stride, drawn.padding, drawn.dilation, 1, layout=layout)
    config = checks.sample_part(workload, "lanes", seed=draw(st.integers(0, 2**32 - 1)))
    return workload, config | ({"layout": draw(st.sampled_from([0, 1]))} if layout == "NCHW" else {})


@settings(max_examples=8, deadline=None)
@given(configured(), st.booleans())
def test_schedule_computes_the_convolution(case, packed):
    workload, config = case
    inputs = checks.normal(*workload.shapes[:2])
    checks.computes(checks.scheduled(workload, config), inputs, workload.reference(*inputs), ways=[packed])


@I.ir_module
class Residual:
    """The end of a residual block."""

    @R.function
    def main(
        data: R.Tensor((2, 4, 9, 8), "float32"),
        weight: R.Tensor((19, 4, 3, 3), "float32"),
        bias: R.Tensor((1, 19, 1, 1), "float32"),
        shortcut: R.Tensor((2, 19, 9, 8), "float32"),
    ):
        with R.dataflow():
            convolved = R.nn.conv2d(data, weight, padding=(1, 1, 1, 1))
            result = R.nn.relu(R.add(R.add(convolved, bias), shortcut))
            R.output(result)
        return result


def test_epilogue_is_carried():
    workload = Conv2d((2, 4, 9, 8), (19, 4, 3, 3), padding=(1, 1, 1, 1))
    inputs = data, weight, bias, shortcut = checks.normal(workload.data, workload.weight, (1, 19, 1, 1), workload.output)
    expected = np.maximum(workload.reference(data, weight) + bias + shortcut, 0)
    function = checks.scheduled(workload, checks.sample_part(workload, "lanes"), function=checks.fused(Residual))
    checks.computes(function, inputs, expected)
    packing_nest, kernel = function.body.block.body.seq
    assert "layout_rewrite_preproc" in packing_nest.script()
    assert "T.parallel" in kernel.script()


def test_data_is_read_where_it_lies():
    """Rounded up or not, a convolution without padding copies no data, even where its last rows are not read."""
    workload = Conv2d((1, 8, 8, 8), (17, 8, 1, 1), (2, 2))
    kernel, _ = packing.split(checks.scheduled(workload, checks.sample_part(workload, "lanes")))
    assert len(re.findall(r"T\.sblock_alloc_buffer|T\.alloc_buffer", kernel.script())) == 1  # the accumulators


def test_schedule_starts_from_the_rewritten_function():
    """As a database has it: from JSON."""
    config = checks.sample_part(PRIME, "lanes")
    start = rewritten(PRIME.prim_func(), config)
    again = tvm.s_tir.Schedule(start)
    scheduled = schedule(PRIME.prim_func(), config, checks.HOST)
    tvm.s_tir.schedule.Trace.apply_json_to_schedule(scheduled.trace.as_json(), again)
    tvm.ir.assert_structural_equal(again.mod, scheduled.mod)
    assert rewritten(start, config) is start


@pytest.mark.parametrize("target", checks.VECTOR_ARITHMETIC, ids=str)
def test_arithmetic_is_on_whole_vectors(target):
    whole, partial = checks.VECTOR_ARITHMETIC[target]
    config = checks.sample_part(PRIME, "lanes", target=target)
    assembly = checks.assembly(checks.scheduled(PRIME, config, target), target)
    vectors = tile_loops(config["tile_f"], config["lanes"])[3] * config["tile_y"][3] * config["tile_x"][3]
    assert len(re.findall(whole, assembly)) >= vectors
    assert not re.findall(partial, assembly)


def test_weights_are_packed_with_zeros_beyond():
    _, packers = packing.split(checks.scheduled(PRIME, checks.sample_part(PRIME, "lanes")))
    packed = packers[1].params[1].shape
    vectors, lanes = int(packed[0]), int(packed[-1])
    weight = np.ones(PRIME.weight, np.float32)
    result = checks.call(checks.compiled({"main": packers[1]}, checks.HOST)["main"], [weight], packed)
    beyond = np.arange(vectors * lanes).reshape(vectors, lanes) >= PRIME.weight[0]
    np.testing.assert_array_equal(result == 0, np.broadcast_to(beyond[:, None, None, None, :], result.shape))


@pytest.mark.parametrize(
    ("filters", "lanes"), [(1000, 16), (17, 16), (24, 16), (10, 16), (6, 8), (64, 0), (8, 0), (2, 0), (1, 0)]
)
def test_where_it_is_offered(filters, lanes):
    workload = Conv2d((1, 16, 8, 8), (filters, 16, 1, 1))
    assert offered_lanes(workload, VectorUnit.of(checks.AVX512)) == lanes
    assert bool(checks.parts(workload, checks.AVX512, "lanes")) == (lanes > 0)


@settings(max_examples=4, deadline=None)
@given(checks.awkward())
def test_every_workload_keeps_a_configuration(case):
    workload, target = case
    assume(offered_lanes(workload, VectorUnit.of(target)))
    assert all(len(part.sample(jax.random.key(0), 1)) for part in checks.parts(workload, target, "lanes"))


def test_data_that_is_read_again_stays_in_the_second_cache():
    targets = (replace(checks.AVX512, caches=each) for each in ((), (1 << 15, 1 << 17)))
    bare, told = (checks.parts(CONV10, target, "lanes")[0] for target in targets)
    drawn = bare.sample(jax.random.key(0), 200)
    configs = [bare.to_config(row) for row in drawn]
    pixels = [math.prod((*config["tile_y"][2:], *config["tile_x"][2:])) for config in configs]
    within = [config["tile_f"][1] == 1 or 4 * 512 * each <= 1 << 17 for config, each in zip(configs, pixels, strict=True)]
    assert (told.valid(drawn) == within).all()
    assert 0 < sum(within) < 200


def test_enlarged_space_keeps_indices_and_runs_under_jit():
    knobs = enlarged_space(CONV10, checks.AVX512)
    space_checks.keeps_its_indices(space(CONV10, checks.AVX512), knobs)
    random = np.random.default_rng(0).integers(0, knobs.shape, (4096, len(knobs.shape)))
    space_checks.is_the_same_under_jit(knobs, np.concatenate([knobs.sample(jax.random.key(0), 30), random]))
