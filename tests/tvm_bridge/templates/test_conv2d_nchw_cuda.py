"""The dense template on CUDA: right results, exact limits, the papers' space."""

import re

import jax
import numpy as np
import pytest
import tvm
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
from tvm_bridge.templates.conv2d_nchw_cuda import enlarged_space, space

RB1 = layer("resnet-18", "rb1-conv1").workload

WITHOUT = {"num_thread_n": (1,), "num_thread_c": (1,), "vthread_n": (1,), "vthread_c": (1,), "layout": (0,)}
"""The other knobs of the enlarged space as AutoTVM's template has them."""


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


@settings(max_examples=6, deadline=None)
@given(checks.configured())
def test_schedule_computes_the_convolution_and_becomes_cuda(case):
    checks.computes_the_reference(checks.run_serially, checks.LLVM, *case)
    checks.declares_what_the_predicate_tells(*case)


@checks.needs_nvcc
@settings(max_examples=2, deadline=None)
@given(checks.configured(largest=8))
def test_ptxas_accepts_every_shape(case):
    checks.ptxas_accepts(*case)


@checks.needs_compiler
@settings(max_examples=2, deadline=None)
@given(checks.configured(largest=8))
def test_cuda_source_computes_the_convolution(case):
    checks.computes_the_reference(checks.run_emulated, checks.CUDA, *case)


@pytest.mark.parametrize(
    ("run", "target"),
    [(checks.run_serially, checks.LLVM), pytest.param(checks.run_emulated, checks.CUDA, marks=checks.needs_compiler)],
)
def test_epilogue_is_carried(run, target):
    """By blocks that divide the output, by blocks that reach beyond it, in NHWC inside, and by what adds up parts."""
    workload = Conv2d((2, 4, 9, 8), (6, 4, 3, 3), (2, 1), (1, 1, 1, 1))
    data, weight, bias, shortcut = inputs = checks.normal(workload.data, workload.weight, (1, 6, 1, 1), workload.output)
    before = workload.reference(data, weight) + bias + shortcut
    tiled, enlarged = space(workload, checks.CUDA), enlarged_space(workload, checks.CUDA)
    overhanging = replaced(enlarged, {"num_thread_n": (4,), "vthread_c": (4,), "layout": (0,)})
    nhwc, parts = replaced(enlarged, {"layout": (1,)}), replaced(enlarged, {"split_reduction": (2,)})
    for knobs in (tiled, overhanging, nhwc, parts):
        (row,) = knobs.sample(jax.random.key(0), 1)
        result = run(checks.scheduled(workload, knobs.to_config(row), target, checks.fused(Residual)), inputs, workload.output)
        np.testing.assert_allclose(result, before / (1 + np.exp(-before)), rtol=1e-4, atol=1e-4)


@settings(max_examples=8, deadline=None)
@given(checks.configured(valid=False, largest=80))
def test_predicate_tells_what_the_kernel_declares(case):
    checks.declares_what_the_predicate_tells(*case)


@settings(max_examples=4, deadline=None)
@given(checks.configured(enlarged=True))
def test_new_knobs_compute_the_convolution_and_become_cuda(case):
    checks.computes_the_reference(checks.run_serially, checks.LLVM, *case)
    checks.declares_what_the_predicate_tells(*case)


@checks.needs_compiler
@settings(max_examples=1, deadline=None)
@given(checks.configured(enlarged=True, other={"num_thread_n": (2, 3), "vthread_c": (2,)}, largest=8))
def test_cuda_source_of_new_knobs_computes_the_convolution(case):
    checks.computes_the_reference(checks.run_emulated, checks.CUDA, *case)


@checks.needs_compiler
@settings(max_examples=1, deadline=None)
@given(checks.configured(enlarged=True, other={"layout": (1,)}, largest=8))
def test_cuda_source_in_nhwc_computes_the_convolution(case):
    checks.computes_the_reference(checks.run_emulated, checks.CUDA, *case)


@checks.needs_compiler
@settings(max_examples=2, deadline=None)
@given(checks.configured(enlarged=True, other={**WITHOUT, "stages": (2, 3, 4), "fetch_weight": (1, 2, 4)}, largest=8))
def test_cuda_source_of_stages_computes_the_convolution(case):
    """Copies that arrive as late as they may."""
    checks.computes_the_reference(checks.run_emulated, checks.CUDA, *case)


@checks.needs_compiler
@pytest.mark.parametrize("more", [{}, {"stages": 4, "row_padding": 4}, {"split_reduction": 2, "stages": 2, "fetch_data": 4}])
def test_vectors_are_fetched_whole(more):
    """Four floats at once, of data, of weights or of both, by the thread itself or asynchronously."""
    workload = Conv2d((1, 16, 4, 8), (8, 16, 1, 1))
    config = {
        **{"tile_f": (2, 1, 4, 1), "tile_y": (1, 1, 2, 2), "tile_x": (1, 2, 2, 2)},
        **{"tile_rc": (4, 4), "tile_ry": (1, 1), "tile_rx": (1, 1), "auto_unroll_max_step": 0, "unroll_explicit": 1},
        **{"fetch_data": 1, "fetch_weight": 4, **more},
    }
    knobs = enlarged_space(workload, checks.CUDA)
    row = knobs.from_config(config)
    assert knobs.valid(row[None]).all()
    checks.computes_the_reference(checks.run_emulated, checks.CUDA, workload, knobs, row)
    source = checks.cuda_source(checks.scheduled(workload, config, checks.CUDA))
    fetched = {name for name in ("data", "weight") if re.search(rf"(float4\*\)\(|cg_16_4_4\(\w+, [^;]*, ){name}_ptr", source)}
    assert fetched == {name for name in ("data", "weight") if config[f"fetch_{name}"] == 4}


def test_more_shared_memory_is_asked_for_at_the_launch():
    """Of an architecture that has it, up to its limit; the kernel's own memory stays what every device has."""
    config = {
        **{"tile_f": (1, 1, 16, 4), "tile_y": (14, 1, 4, 1), "tile_x": (4, 1, 14, 1)},
        **{"tile_rc": (2, 32), "tile_ry": (1, 3), "tile_rx": (1, 3), "auto_unroll_max_step": 0, "unroll_explicit": 1},
    }
    (launch,) = launches(checks.scheduled(RB1, config, checks.CUDA), checks.CUDA)
    assert launch.static == []
    assert launch.dynamic_bytes == 4 * (32 * 6 * 16 + 64 * 32 * 9) > 49_152
    admitted = {
        arch: enlarged_space(RB1, Target("cuda", (("arch", arch),))).valid(
            enlarged_space(RB1, checks.CUDA).from_config(config)[None]
        )
        for arch in ("sm_60", "sm_80", "sm_86", "sm_90")
    }
    assert admitted == {"sm_60": False, "sm_80": True, "sm_86": True, "sm_90": True}


def test_parts_of_a_reduction_are_added_up_by_a_second_kernel():
    config = {
        **{"tile_f": (16, 1, 4, 1), "tile_y": (14, 1, 4, 1), "tile_x": (4, 1, 14, 1)},
        **{"tile_rc": (16, 4), "tile_ry": (1, 3), "tile_rx": (1, 3), "auto_unroll_max_step": 0, "unroll_explicit": 0},
    }
    summing, adding = launches(checks.scheduled(RB1, config | {"split_reduction": 8}, checks.CUDA), checks.CUDA)
    assert summing.extents("blockIdx") == (8 * 16, 14, 4)
    assert adding.extents("blockIdx")[2] * adding.extents("threadIdx")[2] == 64 * 56 * 56


def test_devices_without_asynchronous_copies_have_one_stage():
    knobs = {arch: enlarged_space(RB1, Target("cuda", (("arch", arch),))) for arch in ("sm_75", "sm_80")}
    stages = [dict(zip(each.names, each.shape, strict=True))["stages"] for each in knobs.values()]
    assert stages == [1, 4]


@settings(max_examples=6, deadline=None)
@given(checks.configured(enlarged=True, valid=False, largest=80))
def test_predicate_tells_what_the_kernel_of_new_knobs_declares(case):
    checks.declares_what_the_predicate_tells(*case)


def test_new_knobs_are_as_good_as_absent_at_one():
    """Such a configuration has the index that it has among AutoTVM's knobs, the same kernel and the same answer."""
    declaring = Target("cuda", (("arch", "sm_80"), ("max_shared_memory_per_block", 49_152)))
    plain, enlarged = space(RB1, declaring), enlarged_space(RB1, declaring)
    rows = np.random.default_rng(0).integers(0, plain.shape, (256, 8))
    configs = [plain.to_config(row) for row in rows]
    named = np.stack([enlarged.from_config(config) for config in configs])
    assert enlarged.to_index(named) == plain.to_index(rows)
    np.testing.assert_array_equal(enlarged.valid(named), plain.valid(rows))
    kernels = [checks.scheduled(RB1, config, checks.CUDA).mod for config in (configs[0], enlarged.to_config(named[0]))]
    tvm.ir.assert_structural_equal(*kernels)


def test_the_layout_orders_the_threads():
    config = {
        **{"tile_f": (2, 2, 16, 1), "tile_y": (14, 1, 2, 2), "tile_x": (14, 1, 4, 1)},
        **{"tile_rc": (16, 4), "tile_ry": (1, 3), "tile_rx": (1, 3), "auto_unroll_max_step": 0, "unroll_explicit": 0},
    }
    for layout, order in enumerate(("fyx", "yxf")):
        axes = checks.axes(checks.scheduled(RB1, config | {"layout": layout}, checks.CUDA))
        assert [axes[f"threadIdx.{axis}"] for axis in "zyx"] == [config[f"tile_{tile}"][2] for tile in order]
        assert [axes[f"blockIdx.{axis}"] for axis in "zyx"] == [config[f"tile_{tile}"][0] for tile in order]


def test_tiles_reach_beyond_what_they_do_not_divide():
    """Four threads share the seven rows of the last layers, and a filter more than a block has takes another block."""
    workload = Conv2d((1, 4, 7, 7), (9, 4, 3, 3), padding=(1, 1, 1, 1))
    config = {
        **{"tile_f": (9, 1, 1, 1), "tile_y": (7, 1, 1, 1), "tile_x": (7, 1, 1, 1)},
        **{"tile_rc": (2, 2), "tile_ry": (3, 1), "tile_rx": (1, 3), "auto_unroll_max_step": 0, "unroll_explicit": 0},
        **{"num_thread_n": 4, "num_thread_c": 4, "vthread_n": 2, "vthread_c": 1},
    }
    axes = checks.axes(checks.scheduled(workload, config, checks.CUDA))
    assert [axes[f"threadIdx.{axis}"] for axis in "zyx"] == [4, 4, 1]
    assert [axes[f"blockIdx.{axis}"] for axis in "zyx"] == [3, 1, 7]
    knobs = enlarged_space(workload, checks.CUDA)
    checks.computes_the_reference(checks.run_serially, checks.LLVM, workload, knobs, knobs.from_config(config))


def test_loops_are_unrolled_as_the_knobs_say():
    config = space(RB1, checks.CUDA).to_config([0] * 8) | {"tile_f": (16, 1, 1, 4), "tile_rc": (16, 4)}

    def source(steps, explicit):
        unrolling = {"auto_unroll_max_step": steps, "unroll_explicit": explicit}
        return checks.cuda_source(checks.scheduled(RB1, config | unrolling, checks.CUDA))

    rolled, marked, written_out = source(0, 1), source(512, 0), source(512, 1)
    assert "#pragma unroll" not in rolled
    assert "#pragma unroll" in marked
    assert "#pragma unroll" not in written_out
    assert written_out.count("for (") < rolled.count("for (")


@needs_records
@pytest.mark.parametrize("device", ["rtx3080", "gtx1650"])
def test_predicate_agrees_with_every_recorded_run(device):
    tasks = list(checks.recorded(device))
    assert tasks
    for knobs, choice, errors in tasks:
        np.testing.assert_array_equal(knobs.predicate(choice), errors != checks.INSTANTIATION)


def test_space_is_the_papers():
    rb1 = space(RB1, checks.CUDA)
    space_checks.has_the_papers_knobs(rb1)
    assert rb1.size == 90_316_800


@pytest.mark.parametrize("space", [space, enlarged_space])
def test_predicate_is_a_value_and_runs_under_jit(space):
    rb1, again = space(RB1, checks.CUDA), space(RB1, checks.CUDA)
    assert rb1.predicate == again.predicate
    assert hash(rb1.predicate) == hash(again.predicate)
    space_checks.is_the_same_under_jit(rb1)


def test_predicate_does_not_overflow():
    huge = space(Conv2d((1, 2048, 1024, 1024), (2048, 2048, 1, 1)), checks.CUDA)
    last = np.array([huge.shape]) - 1  # every inner factor is the whole extent: 8 GiB of data, which is 0 modulo 2^32
    assert not huge.valid(last).any()
    assert not jax.jit(huge.valid)(last).any()


def test_tighter_targets_are_obeyed():
    usual = space(RB1, checks.CUDA)
    tight = space(RB1, Target("cuda", (("max_num_threads", 256), ("max_shared_memory_per_block", 8192))))
    knobs = np.random.default_rng(0).integers(0, usual.shape, (4096, 8))
    choice = usual.choice(knobs)
    threads = np.prod([choice[name][:, 2] for name in ("tile_f", "tile_y", "tile_x")], axis=0)
    within = (threads <= 256) & (usual.predicate.shared_bytes(choice) <= 8192)
    np.testing.assert_array_equal(tight.valid(knobs), usual.valid(knobs) & within)


@checks.needs_nvcc
@pytest.mark.parametrize(
    ("name", "config"),
    [
        (
            "rb1-conv1",
            {
                **{"tile_f": (2, 2, 8, 2), "tile_y": (14, 1, 4, 1), "tile_x": (4, 1, 14, 1)},
                **{"tile_rc": (16, 4), "tile_ry": (1, 3), "tile_rx": (1, 3)},
                **{"auto_unroll_max_step": 512, "unroll_explicit": 0},
            },
        ),
        (
            "rb4-sc",  # data of 39 x 8 elements: the weights behind it start at the next multiple of 64 bytes
            {
                **{"tile_f": (16, 2, 16, 1), "tile_y": (1, 1, 7, 1), "tile_x": (7, 1, 1, 1)},
                **{"tile_rc": (32, 8), "tile_ry": (1, 1), "tile_rx": (1, 1)},
                **{"auto_unroll_max_step": 1500, "unroll_explicit": 1},
            },
        ),
    ],
)
def test_ptxas_finds_the_predicted_shared_memory(name, config):
    workload = layer("resnet-18", name).workload
    knobs = space(workload, checks.CUDA)
    checks.ptxas_accepts(workload, knobs, knobs.from_config(config))


@checks.needs_nvcc
@pytest.mark.parametrize("stages", [3, 4])
def test_ptxas_accepts_asynchronous_copies(stages):
    """Into memory that the kernel declares, and with one stage more into what is asked for at the launch."""
    config = {
        **{"tile_f": (2, 2, 8, 2), "tile_y": (14, 1, 4, 1), "tile_x": (4, 1, 14, 1)},
        **{"tile_rc": (8, 8), "tile_ry": (1, 3), "tile_rx": (1, 3), "auto_unroll_max_step": 0, "unroll_explicit": 1},
        **{"fetch_data": 1, "fetch_weight": 4, "row_padding": 4, "stages": stages, "split_reduction": 2},
    }
    knobs = enlarged_space(RB1, checks.CUDA)
    row = knobs.from_config(config)
    assert knobs.valid(row[None]).all()
    checks.ptxas_accepts(RB1, knobs, row)
    source = checks.cuda_source(checks.scheduled(RB1, config, checks.CUDA))
    assert ("extern __shared__" in source) == (stages == 4)
