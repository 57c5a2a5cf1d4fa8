"""Tensor cores: right results in TF32, exact limits, registers without spills."""

import itertools
from dataclasses import replace

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search import KnobSpace, Option
from tests.tvm_bridge.strategies import convolutions
from tests.tvm_bridge.templates import cuda_checks as checks
from tests.tvm_bridge.templates import mma_emulation, space_checks
from tvm_bridge import templates
from tvm_bridge.candidates import replaced
from tvm_bridge.convolution import LAYOUTS, Conv2d
from tvm_bridge.ptxas import resources
from tvm_bridge.target import Target
from tvm_bridge.templates import cuda_tensor_cores as tensor_cores
from tvm_bridge.templates.cuda_limits import Limits

RB1 = {layout: Conv2d((1, 64, 56, 56), (64, 64, 3, 3), padding=(1, 1, 1, 1), layout=layout) for layout in LAYOUTS}
SMALL = {"warps_f": 2, "warps_p": 1, "fragments_f": 1, "fragments_p": 2, "depth": 16, "kernel_innermost": 0}
SMALL |= {"fetch_data": 1, "fetch_weight": 1, "stages": 1, "split_reduction": 1}
STAGING = [Option("fetch_data", (1, 0, 2, 4)), Option("fetch_weight", (1, 0, 2, 4)), Option("stages", (1, 2, 3, 4))]
STAGING += [Option("split_reduction", (1, 2, 4))]
ROUNDING = 2.0**-11
"""The largest relative error of a number rounded to TF32, which has eleven significant bits."""


def space(workload, target=checks.CUDA, limits=None):
    """All that a schedule heeds but unrolling."""
    predicate = tensor_cores.TensorCoresFit.of(workload, target, limits or Limits.at_launch(target))
    return KnobSpace([*tensor_cores.knobs(workload), *STAGING], predicate)


def scheduled(workload, config, target=checks.CUDA, function=None):
    return tensor_cores.schedule(function or workload.prim_func(), config, target, workload.layout)


@st.composite
def configured(draw, *, valid=True, largest=12):
    workload = draw(convolutions(layout=draw(st.sampled_from(LAYOUTS)), largest=largest))
    knobs, seed = space(workload), draw(st.integers(0, 2**32 - 1))
    if valid:
        (row,) = knobs.sample(jax.random.key(seed), 1)
    else:
        row = np.random.default_rng(seed).integers(0, knobs.shape)
    return workload, knobs, row


@settings(max_examples=4, deadline=None)
@given(configured())
def test_schedule_computes_the_convolution(case):
    workload, knobs, row = case
    *shapes, output = workload.shapes
    inputs = checks.normal(*shapes)
    result = checks.run_serially(scheduled(workload, knobs.to_config(row), checks.LLVM), inputs, output)
    np.testing.assert_allclose(result, workload.reference(*inputs), rtol=1e-4, atol=1e-4)


@settings(max_examples=3, deadline=None)
@given(configured(valid=False, largest=80))
def test_predicate_tells_what_the_kernel_declares(case):
    """Of what it refuses for its vectors too, but for those that no kernel can have."""
    workload, knobs, row = case
    config = knobs.to_config(row)
    shared_bytes, _, threads, _ = checks.declared(scheduled(workload, config))
    choice = knobs.choice(row[None])
    assert knobs.predicate.shared_bytes(choice).item() == shared_bytes
    assert threads == 32 * config["warps_f"] * config["warps_p"]
    if knobs.valid(row[None]).item():
        assert shared_bytes <= knobs.predicate.limits.shared_bytes


@checks.needs_compiler
def test_cuda_source_multiplies_in_tf32():
    """The result is exact for rounded inputs, and as far from the exact one as rounding can bring it."""
    workload = Conv2d((1, 5, 6, 7), (18, 5, 3, 2), (1, 2), (1, 0, 2, 1), (2, 1))
    config = SMALL | {"kernel_innermost": 1}
    *shapes, output = workload.shapes
    data, weight = checks.normal(*shapes)
    result = mma_emulation.run_emulated(scheduled(workload, config), checks.CUDA, [data, weight], output)
    np.testing.assert_allclose(result, workload.reference(*map(mma_emulation.tf32, (data, weight))), rtol=1e-5, atol=1e-5)
    error = np.abs(result - workload.reference(data, weight))
    assert error.max() > 1e-4
    assert (error <= 2 * ROUNDING * workload.reference(np.abs(data), np.abs(weight)) + 1e-5).all()


@checks.needs_compiler
def test_epilogue_is_carried():
    """By a pipeline that copies vectors, and by the kernel that adds up what others summed in parts."""
    workload = Conv2d((2, 4, 9, 8), (6, 4, 3, 3), (2, 1), (1, 1, 1, 1), layout="NHWC")
    *shapes, output = workload.shapes
    data, weight, bias, shortcut = inputs = checks.normal(*shapes, (1, 1, 1, 6), output)
    before = workload.reference(mma_emulation.tf32(data), mma_emulation.tf32(weight)) + bias + shortcut
    config = SMALL | {"depth": 8, "stages": 2, "fetch_data": 4, "fetch_weight": 2, "split_reduction": 2}
    schedule = scheduled(workload, config, function=checks.fused(checks.Residual))
    result = mma_emulation.run_emulated(schedule, checks.CUDA, inputs, output)
    np.testing.assert_allclose(result, before / (1 + np.exp(-before)), rtol=1e-5, atol=1e-5)


@checks.needs_nvcc
@pytest.mark.parametrize(("layout", "arch"), [("NCHW", "sm_80"), ("NHWC", "sm_90")])
def test_ptxas_keeps_fragments_in_registers(layout, arch):
    config = SMALL | {"fragments_f": 4, "fragments_p": 4, "warps_p": 2}
    knobs = space(RB1[layout])
    used = resources(checks.cuda_source(scheduled(RB1[layout], config)), arch)
    assert used.spill_bytes == 0
    assert used.shared_bytes == knobs.predicate.shared_bytes(knobs.choice(knobs.from_config(config)[None])).item()


@pytest.mark.parametrize(
    "target", [checks.LLVM, Target("cuda"), Target("cuda", (("arch", "sm_75"),))], ids=["llvm", "unknown", "sm_75"]
)
def test_devices_without_tf32_have_none_of_it(target):
    knobs = space(RB1["NCHW"], target)
    assert not knobs.valid(np.random.default_rng(0).integers(0, knobs.shape, (4096, len(knobs.shape)))).any()
    assert len(space(RB1["NCHW"], Target("cuda", (("arch", "sm_90a"),))).sample(jax.random.key(0), 1))


def test_predicate_is_a_value_and_runs_under_jit():
    knobs, again = space(RB1["NCHW"]), space(RB1["NCHW"])
    assert (knobs.predicate, hash(knobs.predicate)) == (again.predicate, hash(again.predicate))
    space_checks.is_the_same_under_jit(knobs)


def test_no_warp_is_idle_and_fragments_fit():
    """At most so many warps that each has pixels and filters, and registers enough for all."""
    workload = Conv2d((1, 8, 7, 7), (24, 8, 1, 1))
    knobs = replaced(space(workload), {"fetch_data": (1,), "fetch_weight": (1,), "stages": (1,), "split_reduction": (1,)})
    rows = knobs.from_index(range(knobs.size))
    for row, valid in zip(rows, knobs.valid(rows), strict=True):
        c = knobs.to_config(row)
        idle = 16 * c["fragments_f"] * (c["warps_f"] - 1) >= 24 or 8 * c["fragments_p"] * (c["warps_p"] - 1) >= 49
        registers = 4 * c["fragments_f"] * c["fragments_p"] + 4 * c["fragments_f"] + 2 * c["fragments_p"]
        assert valid == (not idle and registers * 32 * c["warps_f"] * c["warps_p"] <= 65_536)


def test_vectors_are_of_neighbours():
    """Where a vector would be gathered, no pipeline may copy it as one."""
    pointwise = Conv2d((1, 8, 6, 6), (12, 8, 1, 1))
    for workload, data, weight in (
        (pointwise, 4, 4),
        (replace(pointwise, data=(1, 8, 5, 6)), 2, 4),
        (replace(pointwise, data=(1, 8, 11, 11), stride=(2, 2)), 1, 4),
        (replace(pointwise, padding=(1, 1, 1, 1)), 1, 4),
        (replace(pointwise, layout="NHWC", weight=(6, 8, 3, 3)), 4, 2),
        (replace(pointwise, data=(1, 7, 6, 6), weight=(6, 7, 3, 3)), 1, 1),
    ):
        knobs = space(workload)
        for fetch_data, fetch_weight in itertools.product((0, 1, 2, 4), repeat=2):
            config = SMALL | {"warps_f": 1, "depth": 8, "fetch_data": fetch_data, "fetch_weight": fetch_weight}
            valid = knobs.valid(knobs.from_config(config)[None]).item()
            assert valid == (0 < fetch_data <= data and 0 < fetch_weight <= weight)
    three_by_three = space(replace(pointwise, weight=(6, 8, 3, 3), padding=(1, 1, 1, 1)))
    config = SMALL | {"warps_f": 1, "fetch_weight": 4}
    valid = [three_by_three.valid(three_by_three.from_config(config | {"kernel_innermost": k})[None]).item() for k in (0, 1)]
    assert valid == [False, True]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_enlarged_space_has_them(layout):
    """A configuration that asks for them has a kernel of theirs, whose results are checked as TF32 lets them be."""
    workload = Conv2d((1, 8, 6, 6), (16, 8, 3, 3), layout=layout)
    knobs, template = templates.space(workload, checks.CUDA, enlarged=True), templates.find(workload.operator, "cuda")
    for chosen, terms in ((0, 0), (1, 8 * 3 * 3)):
        asked = replaced(knobs, {"tensor_cores": (chosen,)})
        config = asked.to_config(asked.sample(jax.random.key(0), 1)[0])
        assert templates.tf32_terms(template, workload, config) == terms
        source = checks.cuda_source(checks.scheduled(workload, config, checks.CUDA))
        assert ("mma.sync" in source) == bool(terms)
