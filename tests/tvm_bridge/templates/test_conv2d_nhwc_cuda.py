"""The NHWC template on CUDA: right results, exact limits, the report's space."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from tvm.script import ir as I
from tvm.script import relax as R

from tests.tvm_bridge.templates import cuda_checks as checks
from tests.tvm_bridge.templates import space_checks
from tvm_bridge.candidates import replaced
from tvm_bridge.convolution import Conv2d
from tvm_bridge.ptxas import resources
from tvm_bridge.target import Target
from tvm_bridge.templates.conv2d_nhwc_cuda import enlarged_space, space

RB1 = Conv2d((1, 64, 56, 56), (64, 64, 3, 3), padding=(1, 1, 1, 1), layout="NHWC")
ODD = {"tile_n": (1, 3), "num_thread_n": (1, 5), "num_thread_c": (2, 7), "vthread_n": (1, 3), "step": (1, 5, 96)}
"""Candidates that divide nothing, or reach beyond everything."""


@I.ir_module
class Biased:
    """One image, the pixels of which no tile divides, and an epilogue that reads the convolution by rows and columns."""

    @R.function
    def main(
        data: R.Tensor((1, 7, 7, 4), "float32"),
        weight: R.Tensor((1, 1, 4, 6), "float32"),
        bias: R.Tensor((1, 1, 1, 6), "float32"),
    ):
        with R.dataflow():
            convolved = R.nn.conv2d(data, weight, data_layout="NHWC", kernel_layout="HWIO")
            result = R.nn.relu(R.add(convolved, bias))
            R.output(result)
        return result


@settings(max_examples=4, deadline=None)
@given(checks.configured(layout="NHWC"))
def test_schedule_computes_the_convolution_and_becomes_cuda(case):
    checks.computes_the_reference(checks.run_serially, checks.LLVM, *case)
    checks.declares_what_the_predicate_tells(*case)


@settings(max_examples=4, deadline=None)
@given(checks.configured(layout="NHWC", other=ODD))
def test_other_candidates_compute_the_convolution_and_become_cuda(case):
    checks.computes_the_reference(checks.run_serially, checks.LLVM, *case)
    checks.declares_what_the_predicate_tells(*case)


@checks.needs_compiler
@settings(max_examples=1, deadline=None)
@given(checks.configured(layout="NHWC", largest=6))
def test_cuda_source_computes_the_convolution(case):
    checks.computes_the_reference(checks.run_emulated, checks.CUDA, *case)


@pytest.mark.parametrize(
    ("run", "target"),
    [(checks.run_serially, checks.LLVM), pytest.param(checks.run_emulated, checks.CUDA, marks=checks.needs_compiler)],
)
def test_epilogue_is_carried(run, target):
    workload = Conv2d((2, 4, 9, 8), (6, 4, 3, 3), (2, 1), (1, 1, 1, 1), layout="NHWC")
    *shapes, output = workload.shapes
    data, weight, bias, shortcut = inputs = checks.normal(*shapes, (1, 1, 1, 6), output)
    before = workload.reference(data, weight) + bias + shortcut
    parts = replaced(enlarged_space(workload, checks.CUDA), {"split_reduction": (2,), "step": (2,)})
    for knobs in (space(workload, checks.CUDA), parts):
        (row,) = knobs.sample(jax.random.key(0), 1)
        result = run(checks.scheduled(workload, knobs.to_config(row), target, checks.fused(checks.Residual)), inputs, output)
        np.testing.assert_allclose(result, before / (1 + np.exp(-before)), rtol=1e-4, atol=1e-4)


def test_an_epilogue_leaves_a_block_as_it_is():
    """It needs the memory that the predicate tells, also where blocks reach beyond the pixels."""
    workload = Conv2d((1, 4, 7, 7), (6, 4, 1, 1), layout="NHWC")
    knobs = space(workload, checks.CUDA)
    rows = knobs.sample(jax.random.key(0), 8)
    for row, told in zip(rows, knobs.predicate.shared_bytes(knobs.choice(rows)), strict=True):
        shared_bytes, *_ = checks.declared(checks.scheduled(workload, knobs.to_config(row), checks.CUDA, checks.fused(Biased)))
        assert shared_bytes == told


@settings(max_examples=3, deadline=None)
@given(checks.configured(layout="NHWC", enlarged=True))
def test_enlarged_space_computes_the_convolution_and_becomes_cuda(case):
    checks.computes_the_reference(checks.run_serially, checks.LLVM, *case)
    checks.declares_what_the_predicate_tells(*case)


@settings(max_examples=4, deadline=None)
@given(checks.configured(layout="NHWC", enlarged=True, valid=False, largest=80))
def test_predicate_tells_what_the_kernel_of_the_enlarged_space_declares(case):
    checks.declares_what_the_predicate_tells(*case)


@checks.needs_compiler
@pytest.mark.parametrize("more", [{"fetch_weight": 4}, {"stages": 3, "fetch_weight": 2, "split_reduction": 2}])
def test_cuda_source_of_stages_and_parts_computes_the_convolution(more):
    workload = Conv2d((1, 32, 5, 6), (8, 32, 3, 3), padding=(1, 1, 1, 1), layout="NHWC")
    config = {"tile_n": 2, "tile_c": 2, "num_thread_n": 4, "num_thread_c": 4, "vthread_n": 1, "vthread_c": 1, "step": 16}
    knobs = enlarged_space(workload, checks.CUDA)
    row = knobs.from_config(config | {"unroll_explicit": 1} | more)
    assert knobs.valid(row[None]).all()
    checks.computes_the_reference(checks.run_emulated, checks.CUDA, workload, knobs, row)


def test_enlarged_space_keeps_its_indices():
    target = Target("cuda", (("arch", "sm_80"), ("max_shared_memory_per_block", 49_152)))
    space_checks.keeps_its_indices(space(RB1, target), enlarged_space(RB1, target))


@settings(max_examples=4, deadline=None)
@given(checks.configured(layout="NHWC", valid=False, largest=80))
def test_predicate_tells_what_the_kernel_declares(case):
    checks.declares_what_the_predicate_tells(*case)


@checks.needs_nvcc
def test_ptxas_keeps_the_largest_tile_in_registers():
    knobs = space(RB1, checks.CUDA)
    config = {"tile_n": 8, "tile_c": 8, "num_thread_n": 8, "num_thread_c": 8, "vthread_n": 2, "vthread_c": 1, "step": 16}
    checks.ptxas_accepts(RB1, knobs, knobs.from_config(config))
    assert resources(checks.cuda_source(checks.scheduled(RB1, config, checks.CUDA)), "sm_80").spill_bytes == 0


def test_space_is_the_reports():
    knobs = space(RB1, checks.CUDA)
    assert knobs.size == 1296
    assert knobs.names == ("tile_n", "tile_c", "num_thread_n", "num_thread_c", "vthread_n", "vthread_c", "step")
    assert len(knobs.feature_names) == 7


def test_predicate_is_a_value_and_runs_under_jit():
    knobs, again = space(RB1, checks.CUDA), space(RB1, checks.CUDA)
    assert (knobs.predicate, hash(knobs.predicate)) == (again.predicate, hash(again.predicate))
    space_checks.is_the_same_under_jit(knobs)


def test_tighter_targets_are_obeyed():
    usual = space(RB1, checks.CUDA)
    tight = space(RB1, Target("cuda", (("max_num_threads", 64), ("max_shared_memory_per_block", 8192))))
    rows = usual.from_index(range(usual.size))
    choice = usual.choice(rows)
    within = (choice["num_thread_n"] * choice["num_thread_c"] <= 64) & (usual.predicate.shared_bytes(choice) <= 8192)
    np.testing.assert_array_equal(tight.valid(rows), usual.valid(rows) & within)


def test_grids_are_no_higher_than_a_device_takes():
    """Pixels are dealt out along y, where a grid has at most 65 535 blocks."""
    knobs = space(Conv2d((1, 3, 1024, 1025), (8, 3, 1, 1), layout="NHWC"), checks.CUDA)
    config = {"tile_n": 2, "tile_c": 2, "num_thread_n": 4, "num_thread_c": 4, "vthread_n": 1, "vthread_c": 1, "step": 3}
    assert not knobs.valid(knobs.from_config(config)[None]).any()
    assert knobs.valid(knobs.from_config(config | {"vthread_n": 2, "tile_n": 4})[None]).all()
