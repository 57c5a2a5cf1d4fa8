"""Winograd's algorithm in the enlarged space: right results, epilogues, weights transformed ahead, a part of its own."""

import pickle
import re

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tvm import te, topi
from tvm.script import ir as I
from tvm.script import relax as R

from tests.tvm_bridge.templates import cpu_checks as checks
from tests.tvm_bridge.templates import space_checks
from tvm_bridge import packing
from tvm_bridge.convolution import Conv2d
from tvm_bridge.networks import layer
from tvm_bridge.target import Target
from tvm_bridge.templates.conv2d_nchw_llvm import enlarged_space, space
from tvm_bridge.templates.cpu import VectorUnit
from tvm_bridge.templates.winograd import applies, minimal_filter

LANES = VectorUnit.of(checks.HOST).lanes
RB1 = layer("resnet-18", "rb1-conv1").workload


@st.composite
def configured(draw):
    """A convolution that tiles cover, and a configuration with tiles."""
    m = draw(st.sampled_from([2, 4]))
    rows, columns = (m * draw(st.integers(1, 4)) for _ in range(2))
    padding = tuple(draw(st.integers(0, 1)) for _ in range(4))
    channels = draw(st.sampled_from([LANES, 2 * LANES, LANES - 1]))
    data = (draw(st.integers(1, 2)), channels, rows + 2 - padding[0] - padding[2], columns + 2 - padding[1] - padding[3])
    workload = Conv2d(data, (draw(st.integers(1, 3 * LANES)), channels, 3, 3), padding=padding)
    return workload, tiled(workload, m, seed=draw(st.integers(0, 2**32 - 1)))


def tiled(workload: Conv2d, m: int, seed: int = 0, target=checks.HOST):
    knobs = enlarged_space(workload, target)
    drawn = knobs.sample(jax.random.key(seed), 64)
    return knobs.to_config(drawn[knobs.choice(drawn)["winograd"] == m][0])


@given(st.integers(2, 6), st.integers(2, 4), st.integers(0, 2**32 - 1))
def test_minimal_filter_filters(m, taps, seed):
    random = np.random.default_rng(seed)
    filter_, data = random.normal(size=taps), random.normal(size=m + taps - 1)
    A, B, G = minimal_filter(m, taps)
    np.testing.assert_allclose(A.T @ ((G @ filter_) * (B.T @ data)), np.correlate(data, filter_), atol=1e-8)


@settings(max_examples=10, deadline=None)
@given(configured())
def test_schedule_computes_the_convolution(case):
    workload, config = case
    inputs = checks.normal(workload.data, workload.weight)
    checks.computes(checks.scheduled(workload, config), inputs, workload.reference(*inputs))


@pytest.mark.parametrize("m", [2, 4])
def test_rounding_errors_are_small(m):
    workload = Conv2d((1, 64, 10, 10), (64, 64, 3, 3))
    data, weight = checks.normal(workload.data, workload.weight)
    kernel, packers = packing.split(checks.scheduled(workload, tiled(workload, m)))
    library = checks.compiled({"main": kernel, **packing.by_name(packers)}, checks.HOST)
    packed = checks.call(library["pack_1"], [weight], kernel.params[1].shape)
    result = checks.call(library["main"], [data, packed], workload.output)
    exact = workload.reference(data.astype(float), weight.astype(float))
    assert np.abs(result - exact).max() < 1e-5 * np.abs(exact).max()


@I.ir_module
class Residual:
    """The end of a residual block, with an activation that reads its argument twice."""

    @R.function
    def main(
        data: R.Tensor((2, 16, 8, 4), "float32"),
        weight: R.Tensor((6, 16, 3, 3), "float32"),
        bias: R.Tensor((1, 6, 1, 1), "float32"),
        shortcut: R.Tensor((2, 6, 8, 4), "float32"),
    ):
        with R.dataflow():
            convolved = R.nn.conv2d(data, weight, padding=(1, 1, 1, 1))
            result = R.nn.silu(R.add(R.add(convolved, bias), shortcut))
            R.output(result)
        return result


def test_epilogue_is_carried():
    workload = Conv2d((2, 16, 8, 4), (6, 16, 3, 3), padding=(1, 1, 1, 1))
    inputs = data, weight, bias, shortcut = checks.normal(workload.data, workload.weight, (1, 6, 1, 1), workload.output)
    before = workload.reference(data, weight) + bias + shortcut
    function = checks.scheduled(workload, tiled(workload, 4), function=checks.fused(Residual))
    checks.computes(function, inputs, before / (1 + np.exp(-before)))


@pytest.mark.parametrize("target", checks.VECTOR_ARITHMETIC, ids=str)
def test_arithmetic_is_on_whole_vectors(target):
    workload = Conv2d((1, 32, 16, 16), (32, 32, 3, 3), padding=(1, 1, 1, 1))
    whole, partial = checks.VECTOR_ARITHMETIC[target]
    config = tiled(workload, 4, target=target)
    assembly = checks.assembly(checks.scheduled(workload, config, target), target)
    assert len(re.findall(whole, assembly)) >= config["tile_f"][2] * config["tile_y"][3] * config["tile_x"][3] // 16
    assert not re.findall(partial, assembly)


def test_direct_configurations_keep_their_index():
    direct, enlarged = space(RB1, checks.AVX512), enlarged_space(RB1, checks.AVX512)
    for row in direct.sample(jax.random.key(0), 16):
        config = direct.to_config(row)
        assert enlarged.to_index(enlarged.from_config(config)) == direct.to_index(row)
        assert enlarged.valid(enlarged.from_config(config)[None]).all()
    assert len(enlarged.feature_names) == len(direct.feature_names) + 1


def test_every_algorithm_is_drawn():
    knobs = enlarged_space(RB1, checks.AVX512)
    drawn = knobs.sample(jax.random.key(0), 60)
    assert knobs.valid(drawn).all()
    assert len(np.unique(drawn, axis=0)) == 60
    np.testing.assert_array_equal(np.bincount(knobs.choice(drawn)["winograd"])[[0, 2, 4]], 20)


@st.composite
def tileable(draw):
    """A convolution that some tiles cover, only to be counted, and a target of any width and number of cores."""
    rows, columns = (2 * draw(st.integers(1, 30)) for _ in range(2))
    channels, filters = (draw(st.sampled_from([16, 32, 48, 64, 512])) for _ in range(2))
    workload = Conv2d((draw(st.integers(1, 2)), channels, rows + 2, columns + 2), (filters, channels, 3, 3))
    target = draw(st.sampled_from([checks.AVX512, checks.AVX2, checks.NEON]))
    return workload, Target.parse(target.to_json() | {"num-cores": draw(st.sampled_from([1, 2, 3, 6, 7, 64]))})


@settings(max_examples=60, deadline=None)
@given(tileable())
def test_every_part_has_a_configuration_and_all_are_in_parts(case):
    workload, target = case
    knobs = enlarged_space(workload, target)
    extents = [m for m in (2, 4) if applies(workload, VectorUnit.of(target), m)]
    assert len(knobs.parts) == 1 + len(extents) > 1
    drawn = knobs.sample(jax.random.key(0), 3 * len(knobs.parts))
    assert set(knobs.choice(drawn)["winograd"].tolist()) == {0, *extents}
    random = np.random.default_rng(0)
    for part in knobs.parts:
        rows = np.stack([random.choice(options, 2000) for options in part], axis=1)
        rows[:1000] = random.integers(0, knobs.shape, (1000, len(knobs.shape)))
        within = [np.all([np.isin(*pair) for pair in zip(rows.T, each, strict=True)], axis=0) for each in knobs.parts]
        assert (np.sum(within, axis=0)[knobs.valid(rows)] == 1).all()


def test_what_precedes_the_convolution_is_refused():
    workload = Conv2d((1, 16, 10, 10), (16, 16, 3, 3))
    data, weight = (te.placeholder(shape, name=name) for shape, name in zip(workload.shapes, ("data", "weight"), strict=False))
    before = te.create_prim_func([data, weight, topi.nn.conv2d_nchw(topi.nn.relu(data), weight, 1, 0, 1)])
    with pytest.raises(ValueError, match=r"function: Winograd's algorithm takes data and weight as they are"):
        checks.scheduled(workload, tiled(workload, 2), function=before)


@pytest.mark.parametrize(
    ("workload", "m", "suits"),
    [
        (RB1, 4, True),
        (layer("resnet-18", "rb4-conv2").workload, 2, False),  # 7x7
        (layer("resnet-18", "rb3-conv2").workload, 2, True),  # 14x14
        (layer("resnet-18", "rb3-conv2").workload, 4, False),
        (layer("resnet-18", "rb2-conv1").workload, 2, False),  # stride 2
        (layer("resnet-18", "rb2-sc").workload, 2, False),  # 1x1
        (layer("vgg-16", "conv1-1").workload, 2, False),  # 3 channels
    ],
)
def test_where_it_applies(workload, m, suits):
    assert applies(workload, VectorUnit.of(checks.AVX512), m) == suits


def test_predicate_is_a_value_and_runs_under_jit():
    knobs, again = enlarged_space(RB1, checks.AVX2), enlarged_space(RB1, checks.AVX2)
    drawn = np.concatenate([knobs.sample(jax.random.key(0), 30), np.random.default_rng(0).integers(0, knobs.shape, (4096, 9))])
    space_checks.is_the_same_under_jit(knobs, drawn)
    assert knobs.predicate == again.predicate == pickle.loads(pickle.dumps(knobs.predicate))
