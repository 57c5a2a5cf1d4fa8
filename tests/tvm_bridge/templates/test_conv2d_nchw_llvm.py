"""The dense template on CPUs: right results, epilogues, whole vectors in registers, a predicate for every workload."""

import math
import pickle
import re
from dataclasses import replace

import jax
import numpy as np
import pytest
import tvm
from hypothesis import given, settings
from hypothesis import strategies as st
from tvm import s_tir
from tvm.script import ir as I
from tvm.script import relax as R

from search import KnobSpace
from tests.tvm_bridge.strategies import convolutions
from tests.tvm_bridge.templates import cpu_checks as checks
from tests.tvm_bridge.templates import space_checks
from tvm_bridge.convolution import Conv2d
from tvm_bridge.networks import layer, layers
from tvm_bridge.templates.conv2d_nchw_llvm import enlarged_space, schedule, space
from tvm_bridge.templates.cpu_direct import DirectPredicate
from tvm_bridge.templates.spans import tile_loops

RB1 = layer("resnet-18", "rb1-conv1").workload


@I.ir_module
class Residual:
    """The end of a residual block, with an activation that reads its argument twice."""

    @R.function
    def main(
        data: R.Tensor((2, 4, 9, 8), "float32"),
        weight: R.Tensor((6, 4, 3, 3), "float32"),
        bias: R.Tensor((1, 6, 1, 1), "float32"),
        shortcut: R.Tensor((2, 6, 5, 8), "float32"),
    ):
        with R.dataflow():
            convolved = R.nn.conv2d(data, weight, strides=(2, 1), padding=(1, 1, 1, 1))
            result = R.nn.silu(R.add(R.add(convolved, bias), shortcut))
            R.output(result)
        return result


def nhwc_inside(workload: Conv2d, seed: int = 0):
    """A configuration with data tiles in the layout of NHWC, whether or not that pays."""
    demands = replace(DirectPredicate.of(workload, checks.HOST), copies=True)
    copied = KnobSpace(space(workload, checks.HOST).knobs, demands)
    return copied.to_config(*copied.sample(jax.random.key(seed), 1)) | {"layout": 1}


@settings(max_examples=8, deadline=None)
@given(checks.configured(), st.booleans())
def test_schedule_computes_the_convolution(case, packed):
    workload, config = case
    inputs = checks.normal(workload.data, workload.weight)
    checks.computes(checks.scheduled(workload, config), inputs, workload.reference(*inputs), ways=[packed])


@settings(max_examples=6, deadline=None)
@given(convolutions(), st.integers(0, 99))
def test_either_layout_inside_computes_the_convolution(workload, seed):
    config = nhwc_inside(workload, seed)
    inputs = checks.normal(workload.data, workload.weight)
    checks.computes(checks.scheduled(workload, config), inputs, workload.reference(*inputs))


@pytest.mark.parametrize("layout", [0, 1])
def test_trace_applies_to_the_plain_function(layout):
    """As a database does it: from JSON."""
    workload = Conv2d((2, 4, 9, 8), (6, 4, 3, 3), (2, 1), (1, 1, 1, 1))
    function = checks.fused(Residual)
    scheduled = schedule(function, nhwc_inside(workload) | {"layout": layout}, checks.HOST)
    again = s_tir.Schedule(function)
    s_tir.schedule.Trace.apply_json_to_schedule(tvm.ir.load_json(tvm.ir.save_json(scheduled.trace.as_json())), again)
    tvm.ir.assert_structural_equal(again.mod, scheduled.mod)


@pytest.mark.parametrize("layout", [0, 1])
def test_epilogue_is_carried(layout):
    workload = Conv2d((2, 4, 9, 8), (6, 4, 3, 3), (2, 1), (1, 1, 1, 1))
    inputs = data, weight, bias, shortcut = checks.normal(workload.data, workload.weight, (1, 6, 1, 1), workload.output)
    before = workload.reference(data, weight) + bias + shortcut
    function = checks.scheduled(workload, nhwc_inside(workload) | {"layout": layout}, function=checks.fused(Residual))
    checks.computes(function, inputs, before / (1 + np.exp(-before)))
    packing, kernel = function.body.block.body.seq
    assert "layout_rewrite_preproc" in packing.script()
    assert "T.parallel" in kernel.script()


@pytest.mark.parametrize("target", checks.VECTOR_ARITHMETIC, ids=str)
def test_arithmetic_is_on_whole_vectors(target):
    workload = Conv2d((1, 32, 14, 14), (32, 32, 3, 3), padding=(1, 1, 1, 1))
    whole, partial = checks.VECTOR_ARITHMETIC[target]
    config = checks.sample(workload, target)
    assembly = checks.assembly(checks.scheduled(workload, config, target), target)
    assert len(re.findall(whole, assembly)) >= config["tile_f"][2] * config["tile_y"][3] * config["tile_x"][3]
    assert not re.findall(partial, assembly)


@pytest.mark.parametrize("target", [checks.AVX512, checks.AVX2], ids=str)
def test_accumulators_stay_in_registers(target):
    workload = Conv2d((1, 32, 16, 16), (64, 32, 3, 3), padding=(1, 1, 1, 1))
    whole, _ = checks.VECTOR_ARITHMETIC[target]
    arithmetic = spills = 0
    for seed in range(4):
        assembly = checks.assembly(checks.scheduled(workload, checks.sample(workload, target, seed), target), target)
        arithmetic += len(re.findall(whole, assembly))
        spills += len(re.findall(r"\(%rsp\).*%[yz]mm|%[yz]mm.*\(%rsp\)", assembly))
    assert spills < arithmetic / 4


@pytest.mark.parametrize(
    ("target", "lanes", "most"), [(checks.AVX512, 16, 16), (checks.AVX2, 8, 8), (checks.NEON, 4, 16)], ids=str
)
def test_register_tile_suits_the_vector_unit(target, lanes, most):
    knobs = space(RB1, target)
    for row in knobs.sample(jax.random.key(0), 64):
        config = knobs.to_config(row)
        pixels = config["tile_y"][3] * config["tile_x"][3]
        assert config["tile_f"][3] == lanes
        assert pixels >= 2
        assert 4 <= config["tile_f"][2] * pixels <= most
        assert config["tile_f"][0] * config["tile_y"][0] * config["tile_x"][0] >= target.threads


@settings(max_examples=24, deadline=None)
@given(checks.awkward())
def test_every_workload_keeps_a_configuration(case):
    workload, target = case
    assert len(space(workload, target).sample(jax.random.key(0), 1)) == 1


@pytest.mark.parametrize("target", checks.VECTOR_ARITHMETIC, ids=str)
def test_networks_are_sampled_by_few_rejections(target):
    assert min(checks.accepted(each.workload, target) for each in layers("resnet-18")) > 1e-3


def test_cores_do_not_share_rows():
    knobs = enlarged_space(RB1, checks.AVX512)
    for row in knobs.sample(jax.random.key(0), 200):
        config = knobs.to_config(row)
        m = config["winograd"]
        assert config["tile_f"][0] * (tile_loops(config["tile_y"], m)[0] if m else config["tile_y"][0]) > 1


def test_data_that_is_read_again_stays_in_the_second_cache():
    """10x10 pixels of 64 channels are 25 600 bytes, and the smallest register tile reads 3x4 of them."""
    bare, told = (space(RB1, replace(checks.AVX512, caches=caches)) for caches in ((), (1 << 15, 25_600)))
    drawn = bare.sample(jax.random.key(0), 500)
    within = []
    for row in drawn:
        config = bare.to_config(row)
        read = math.prod(math.prod(config[name][2:]) + 2 for name in ("tile_y", "tile_x"))
        within.append(config["tile_f"][1] == 1 or read <= 100)
    assert (told.valid(drawn) == within).all()
    assert 0 < sum(within) < 500


@settings(max_examples=16, deadline=None)
@given(checks.awkward())
def test_unrolling_is_told_in_one_way(case):
    workload, target = case
    knobs = space(workload, target)
    (row,) = knobs.sample(jax.random.key(0), 1)
    config = knobs.to_config(row)
    unrolling = [{"auto_unroll_max_step": step, "unroll_explicit": explicit} for step in (0, 512, 1500) for explicit in (0, 1)]
    valid = knobs.valid(np.array([knobs.from_config(config | each) for each in unrolling]))
    explicit = np.array([each["unroll_explicit"] for each in unrolling], bool)
    assert valid[explicit].sum() <= 1
    assert valid[~explicit].sum() <= 1


def test_enlarged_space_keeps_indices():
    for workload in (RB1, Conv2d((1, 4, 9, 8), (6, 4, 1, 1), (2, 2))):
        space_checks.keeps_its_indices(space(workload, checks.AVX2), enlarged_space(workload, checks.AVX2))


@pytest.mark.parametrize(
    ("network", "name", "copied"),
    [
        ("resnet-18", "rb1-sc", True),
        ("resnet-18", "rb2-conv1", True),
        ("resnet-18", "rb1-conv1", False),  # Winograd's algorithm saves more
        ("squeezenet-v1.1", "fire2-squeeze", False),  # 16 filters
    ],
)
def test_where_nhwc_inside_is_offered(network, name, copied):
    assert bool(checks.parts(layer(network, name).workload, checks.AVX512, "layout")) == copied


def test_space_is_the_papers():
    rb1 = space(RB1, checks.AVX512)
    space_checks.has_the_papers_knobs(rb1)
    assert rb1.size == 90_316_800


def test_predicate_is_a_value_and_runs_under_jit():
    rb1, again = space(RB1, checks.AVX2), space(RB1, checks.AVX2)
    space_checks.is_the_same_under_jit(rb1)
    assert rb1.predicate == again.predicate == pickle.loads(pickle.dumps(rb1.predicate))
    assert rb1.predicate != space(RB1, checks.NEON).predicate
