"""Depthwise convolution by whole rows: right results that read nothing beyond the data, whole vectors, shuffles for strides."""

import ctypes
import mmap
import re

import jax
import numpy as np
import pytest
import tvm
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.tvm_bridge.strategies import convolutions
from tests.tvm_bridge.templates import cpu_checks as checks
from tests.tvm_bridge.templates import space_checks
from tests.tvm_bridge.templates.test_depthwise_conv2d_nchw_llvm import Normalised
from tvm_bridge.build import compiled
from tvm_bridge.convolution import Conv2d
from tvm_bridge.networks import layers
from tvm_bridge.templates.cpu_rows import STACK, offered
from tvm_bridge.templates.depthwise_conv2d_nchw_llvm import enlarged_space, rewritten, schedule, space


def square(extent, stride=1, channels=16):
    data, weight = (1, channels, extent, extent), (channels, 1, 3, 3)
    return Conv2d(data, weight, (stride, stride), (1, 1, 1, 1), groups=channels)


def at_the_edge(array, end):
    """A copy of an array whose memory begins, or ends, where no memory is; and that memory, to be kept."""
    page = mmap.PAGESIZE
    room = -(-array.nbytes // page) * page
    memory = mmap.mmap(-1, room + 2 * page)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for beyond in (0, room + page):
        assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(address + beyond), ctypes.c_size_t(page), 0) == 0
    copy = np.frombuffer(memory, np.float32, array.size, page + (room - array.nbytes if end else 0)).reshape(array.shape)
    copy[...] = array
    return copy, memory


@settings(max_examples=8, deadline=None)
@given(convolutions(depthwise=True), st.integers(0, 99), st.booleans())
def test_schedule_computes_the_convolution(workload, seed, packed):
    assume(offered(workload, checks.HOST))
    config = checks.sample_part(workload, "rows", seed=seed)
    assert config["rows"] > 0
    inputs = checks.normal(workload.data, workload.weight)
    checks.computes(checks.scheduled(workload, config), inputs, workload.reference(*inputs), ways=[packed])


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mprotect"), reason="needs mprotect")
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("extent", [7, 14])
def test_nothing_beyond_the_data_is_read(extent, stride):
    workload = square(extent, stride)
    data, weight = checks.normal(workload.data, workload.weight)
    kernel = compiled({"main": checks.scheduled(workload, checks.sample_part(workload, "rows"))}, checks.HOST)["main"]
    for end in (False, True):
        guarded, _memory = at_the_edge(data, end)
        result = tvm.runtime.tensor(np.full(workload.output, np.nan, np.float32))
        kernel(tvm.runtime.from_dlpack(guarded), tvm.runtime.tensor(weight), result)
        np.testing.assert_allclose(result.numpy(), workload.reference(data, weight), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("stride", [1, 2])
def test_what_is_masked_may_be_infinite(stride):
    workload = square(12, stride)
    data, weight = checks.normal(workload.data, workload.weight)
    data[0, 1, :, 0] = data[0, 3, :, -1] = np.inf
    with np.errstate(invalid="ignore"):
        expected = workload.reference(data, weight)
    assert np.isfinite(expected).mean() > 0.9
    result = checks.call(
        compiled({"main": checks.scheduled(workload, checks.sample_part(workload, "rows"))}, checks.HOST)["main"],
        [data, weight],
        workload.output,
    )
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4)


def test_epilogue_is_carried():
    workload = Conv2d((2, 6, 9, 8), (6, 1, 3, 3), (2, 1), (0, 1, 1, 1), groups=6)
    data, weight, statistics = checks.normal(workload.data, workload.weight, (4, 6))
    mean, variance, scale, shift = np.abs(statistics)
    normalised = (workload.reference(data, weight) - mean[:, None, None]) / np.sqrt(variance + 0.5)[:, None, None]
    expected = normalised * scale[:, None, None] + shift[:, None, None]
    function = checks.scheduled(workload, checks.sample_part(workload, "rows"), function=checks.fused(Normalised))
    checks.computes(function, [data, weight, mean, variance, scale, shift], expected)


def test_function_that_computes_data_first_is_refused():
    from tvm import te, topi

    data, weight = (te.placeholder(shape, "float32") for shape in square(8).shapes[:2])
    doubled = te.compute(data.shape, lambda *place: data(*place) * 2.0)
    convolved = topi.nn.depthwise_conv2d_nchw(doubled, weight, 1, 0, 1)
    with pytest.raises(ValueError, match="takes data and weight as they are"):
        rewritten(te.create_prim_func([data, weight, convolved]), {"rows": 8})


def test_schedule_starts_from_the_rewritten_function():
    workload = square(14)
    config = checks.sample_part(workload, "rows")
    start = rewritten(workload.prim_func(), config)
    again = tvm.s_tir.Schedule(start)
    trace = schedule(workload.prim_func(), config, checks.HOST).trace
    tvm.s_tir.schedule.Trace.apply_json_to_schedule(trace.as_json(), again)
    tvm.ir.assert_structural_equal(again.mod["main"], checks.scheduled(workload, config))
    assert rewritten(start, checks.sample(workload)) is start


@pytest.mark.parametrize("target", checks.VECTOR_ARITHMETIC, ids=str)
def test_arithmetic_is_on_whole_vectors(target):
    workload = square(16)
    whole, _ = checks.VECTOR_ARITHMETIC[target]
    config = checks.sample_part(workload, "rows", target=target)
    vectors = config["tile_y"][3] * 16 // config["rows"]
    assert len(re.findall(whole, checks.assembly(checks.scheduled(workload, config, target), target))) >= 8 * vectors


def test_strides_are_shuffles_of_registers():
    workload = square(32, stride=2)
    assembly = checks.assembly(
        checks.scheduled(workload, checks.sample_part(workload, "rows", target=checks.AVX512), checks.AVX512), checks.AVX512
    )
    assert len(re.findall(r"vpermt2ps|vpermi2ps", assembly)) >= 9


@settings(max_examples=20, deadline=None)
@given(checks.awkward(depthwise=True))
def test_every_part_has_configurations(case):
    workload, target = case
    parts = enlarged_space(workload, target).by_part()
    assert len(parts) == 1 + len(offered(workload, target))
    for part in parts:
        assert len(part.sample(jax.random.key(0), 1)) == 1


@pytest.mark.parametrize("target", checks.VECTOR_ARITHMETIC, ids=str)
def test_all_of_mobilenet_is_offered_rows_that_fit(target):
    for each in layers("mobilenet-v1"):
        if each.workload.depthwise:
            tiles = checks.parts(each.workload, target, "rows")[0]
            for row in tiles.sample(jax.random.key(0), 8):
                config = tiles.to_config(row)
                assert config["tile_y"][3] * config["rows"] <= STACK
                assert config["tile_x"] == (1, 1, 1, each.workload.output[3])


@pytest.mark.parametrize(
    ("extent", "target", "widths"),
    [
        (7, checks.AVX512, [8]),
        (14, checks.AVX512, [16]),
        (56, checks.AVX512, [16, 8]),
        (56, checks.AVX2, [8]),
        (4, checks.NEON, [4]),
    ],
    ids=str,
)
def test_widths_suit_rows(extent, target, widths):
    assert [each.width for each in offered(square(extent), target)] == widths


def test_enlarged_space_keeps_indices():
    space_checks.keeps_its_indices(space(square(16), checks.AVX2), enlarged_space(square(16), checks.AVX2))


def test_predicate_runs_under_jit():
    space_checks.is_the_same_under_jit(enlarged_space(square(16), checks.AVX2))
