"""The depthwise template on CUDA: right results, exact limits, the papers' space."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from tvm.script import ir as I
from tvm.script import relax as R

from tests.records_folder import needs_records
from tests.tvm_bridge.templates import cuda_checks as checks
from tests.tvm_bridge.templates import space_checks
from tests.tvm_bridge.templates.cuda_emulator import launches
from tvm_bridge.candidates import replaced
from tvm_bridge.convolution import Conv2d
from tvm_bridge.networks import layer
from tvm_bridge.target import Target
from tvm_bridge.templates.depthwise_conv2d_nchw_cuda import enlarged_space, space


@I.ir_module
class Normalised:
    """Batch normalisation as inference leaves it, a scale and a shift, and the activation of MobileNet."""

    @R.function
    def main(
        data: R.Tensor((2, 6, 9, 8), "float32"),
        weight: R.Tensor((6, 1, 3, 3), "float32"),
        scale: R.Tensor((1, 6, 1, 1), "float32"),
        shift: R.Tensor((1, 6, 1, 1), "float32"),
    ):
        with R.dataflow():
            convolved = R.nn.conv2d(data, weight, strides=(2, 1), padding=(0, 0, 0, 0), groups=6)
            result = R.clip(R.add(R.multiply(convolved, scale), shift), 0, 6)
            R.output(result)
        return result


@settings(max_examples=6, deadline=None)
@given(checks.configured(depthwise=True))
def test_schedule_computes_the_convolution_and_becomes_cuda(case):
    checks.computes_the_reference(checks.run_serially, checks.LLVM, *case)
    checks.declares_what_the_predicate_tells(*case)


@checks.needs_nvcc
@settings(max_examples=2, deadline=None)
@given(checks.configured(depthwise=True, largest=8))
def test_ptxas_accepts_every_shape(case):
    checks.ptxas_accepts(*case)


@checks.needs_compiler
@settings(max_examples=2, deadline=None)
@given(checks.configured(depthwise=True, largest=8))
def test_cuda_source_computes_the_convolution(case):
    checks.computes_the_reference(checks.run_emulated, checks.CUDA, *case)


@pytest.mark.parametrize(
    ("run", "target"),
    [(checks.run_serially, checks.LLVM), pytest.param(checks.run_emulated, checks.CUDA, marks=checks.needs_compiler)],
)
def test_epilogue_is_carried(run, target):
    workload = Conv2d((2, 6, 9, 8), (6, 1, 3, 3), (2, 1), groups=6)
    data, weight, scale, shift = inputs = checks.normal(workload.data, workload.weight, (1, 6, 1, 1), (1, 6, 1, 1))
    expected = np.clip(workload.reference(data, weight) * scale + shift, 0, 6)
    for knobs in (space(workload, checks.CUDA), replaced(enlarged_space(workload, checks.CUDA), {"layout": (1,)})):
        (row,) = knobs.sample(jax.random.key(0), 1)
        scheduled = checks.scheduled(workload, knobs.to_config(row), target, checks.fused(Normalised))
        np.testing.assert_allclose(run(scheduled, inputs, workload.output), expected, rtol=1e-4, atol=1e-4)


@settings(max_examples=6, deadline=None)
@given(checks.configured(depthwise=True, valid=False, largest=80))
def test_predicate_tells_what_the_kernel_declares(case):
    checks.declares_what_the_predicate_tells(*case)


@checks.needs_compiler
@settings(max_examples=1, deadline=None)
@given(checks.configured(depthwise=True, enlarged=True, other={"layout": (1,)}, largest=8))
def test_cuda_source_in_nhwc_computes_the_convolution(case):
    checks.computes_the_reference(checks.run_emulated, checks.CUDA, *case)


@pytest.mark.parametrize("layout", [0, 1])
def test_threads_do_without_shared_memory(layout):
    workload = Conv2d((1, 6, 9, 8), (6, 1, 3, 3), (2, 1), (1, 1, 1, 1), groups=6)
    knobs = replaced(enlarged_space(workload, checks.CUDA), {"layout": (layout,), "through_shared": (0,)})
    (row,) = knobs.sample(jax.random.key(0), 1)
    checks.computes_the_reference(checks.run_serially, checks.LLVM, workload, knobs, row)
    checks.declares_what_the_predicate_tells(workload, knobs, row)
    (launch,) = launches(checks.scheduled(workload, knobs.to_config(row), checks.CUDA), checks.CUDA)
    assert launch.static == []


@settings(max_examples=5, deadline=None)
@given(checks.configured(depthwise=True, enlarged=True, valid=False, largest=80))
def test_predicate_tells_what_the_kernel_of_either_layout_declares(case):
    checks.declares_what_the_predicate_tells(*case)


def test_the_layout_of_autotvm_keeps_its_indices():
    workload = layer("mobilenet-v1", "sp-7-dp1").workload
    target = Target("cuda", (("arch", "sm_80"), ("max_shared_memory_per_block", 49_152)))
    space_checks.keeps_its_indices(space(workload, target), enlarged_space(workload, target))


@needs_records
def test_predicate_agrees_with_every_recorded_run():
    grids_too_deep = 0
    for knobs, choice, errors in checks.recorded("v100"):
        too_deep = knobs.predicate.workload.data[0] * choice["tile_f"][:, 0] > 65_535
        np.testing.assert_array_equal(knobs.predicate(choice), (errors != checks.INSTANTIATION) & ~too_deep)
        assert (errors[too_deep] != 0).all()  # AutoTVM let them pass, and every one failed
        grids_too_deep += too_deep.sum()
    assert grids_too_deep


def test_space_is_the_papers():
    first = space(layer("mobilenet-v1", "sp-1-dp1").workload, checks.CUDA)
    space_checks.has_the_papers_knobs(first, depthwise=True)


@checks.needs_nvcc
def test_ptxas_finds_the_predicted_shared_memory():
    workload = layer("mobilenet-v1", "sp-1-dp1").workload
    knobs = space(workload, checks.CUDA)
    tiles = {"tile_f": (8, 1, 4, 1), "tile_y": (14, 1, 8, 1), "tile_x": (14, 2, 4, 1)}
    config = tiles | {"auto_unroll_max_step": 256, "unroll_explicit": 1}
    checks.ptxas_accepts(workload, knobs, knobs.from_config(config))
