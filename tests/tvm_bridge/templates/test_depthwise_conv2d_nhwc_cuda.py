"""The depthwise template for NHWC on CUDA: right results, exact limits, the knobs of NCHW."""

import jax
import numpy as np
from hypothesis import given, settings
from tvm.script import ir as I
from tvm.script import relax as R

from tests.tvm_bridge.templates import cuda_checks as checks
from tests.tvm_bridge.templates import space_checks
from tvm_bridge.convolution import Conv2d
from tvm_bridge.templates.depthwise_conv2d_nhwc_cuda import space

SP1 = Conv2d((1, 32, 112, 112), (32, 1, 3, 3), padding=(1, 1, 1, 1), groups=32, layout="NHWC")


@I.ir_module
class Clipped:
    """A shift and the activation of MobileNet."""

    @R.function
    def main(
        data: R.Tensor((2, 9, 8, 6), "float32"),
        weight: R.Tensor((3, 3, 6, 1), "float32"),
        shift: R.Tensor((1, 1, 1, 6), "float32"),
    ):
        with R.dataflow():
            convolved = R.nn.conv2d(data, weight, (2, 1), groups=6, data_layout="NHWC", kernel_layout="HWOI")
            result = R.clip(R.add(convolved, shift), 0, 6)
            R.output(result)
        return result


@settings(max_examples=4, deadline=None)
@given(checks.configured(depthwise=True, layout="NHWC"))
def test_schedule_computes_the_convolution_and_becomes_cuda(case):
    checks.computes_the_reference(checks.run_serially, checks.LLVM, *case)
    checks.declares_what_the_predicate_tells(*case)


@checks.needs_compiler
@settings(max_examples=1, deadline=None)
@given(checks.configured(depthwise=True, layout="NHWC", largest=8))
def test_cuda_source_computes_the_convolution(case):
    checks.computes_the_reference(checks.run_emulated, checks.CUDA, *case)


@settings(max_examples=2, deadline=None)
@given(checks.configured(depthwise=True, layout="NHWC", enlarged=True))
def test_enlarged_space_computes_the_convolution(case):
    checks.computes_the_reference(checks.run_serially, checks.LLVM, *case)
    checks.declares_what_the_predicate_tells(*case)


@settings(max_examples=4, deadline=None)
@given(checks.configured(depthwise=True, layout="NHWC", enlarged=True, valid=False, largest=80))
def test_predicate_tells_what_the_kernel_of_the_enlarged_space_declares(case):
    checks.declares_what_the_predicate_tells(*case)


@settings(max_examples=4, deadline=None)
@given(checks.configured(depthwise=True, layout="NHWC", valid=False, largest=80))
def test_predicate_tells_what_the_kernel_declares(case):
    checks.declares_what_the_predicate_tells(*case)


def test_epilogue_is_carried():
    workload = Conv2d((2, 6, 9, 8), (6, 1, 3, 3), (2, 1), groups=6, layout="NHWC")
    *shapes, output = workload.shapes
    data, weight, shift = inputs = checks.normal(*shapes, (1, 1, 1, 6))
    knobs = space(workload, checks.CUDA)
    (row,) = knobs.sample(jax.random.key(0), 1)
    scheduled = checks.scheduled(workload, knobs.to_config(row), checks.LLVM, checks.fused(Clipped))
    expected = np.clip(workload.reference(data, weight) + shift, 0, 6)
    np.testing.assert_allclose(checks.run_serially(scheduled, inputs, output), expected, rtol=1e-4, atol=1e-4)


def test_neighbouring_threads_compute_neighbouring_channels():
    config = {"tile_f": (2, 1, 16, 1), "tile_y": (56, 1, 2, 1), "tile_x": (28, 1, 4, 1)}
    unrolling = {"auto_unroll_max_step": 0, "unroll_explicit": 0}
    axes = checks.axes(checks.scheduled(SP1, config | unrolling, checks.CUDA))
    assert [axes[f"threadIdx.{axis}"] for axis in "zyx"] == [2, 4, 16]
    assert [axes[f"blockIdx.{axis}"] for axis in "zyx"] == [56, 28, 2]


def test_space_is_that_of_nchw():
    space_checks.has_the_papers_knobs(space(SP1, checks.CUDA), depthwise=True)
    space_checks.is_the_same_under_jit(space(SP1, checks.CUDA))
