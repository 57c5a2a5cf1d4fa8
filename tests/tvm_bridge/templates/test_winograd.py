"""Winograd's algorithm scheduled: right results of any extent, epilogues, weights transformed ahead, whole vectors."""

import math
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
from tvm_bridge import packing, templates
from tvm_bridge.convolution import LAYOUTS, Conv2d, reordered
from tvm_bridge.templates.cpu import VectorUnit
from tvm_bridge.templates.winograd_predicate import tile_extents

UNIT = VectorUnit.of(checks.HOST)
LANES = UNIT.lanes


@st.composite
def configured(draw):
    """A convolution whose results tiles cover or overhang, and a configuration with tiles."""
    rows, columns = (draw(st.integers(2, 9)) for _ in range(2))
    padding = tuple(draw(st.integers(0, 1)) for _ in range(4))
    channels = draw(st.sampled_from([LANES, 2 * LANES, LANES - 1]))
    data = (draw(st.integers(1, 2)), channels, rows + 2 - padding[0] - padding[2], columns + 2 - padding[1] - padding[3])
    weight = (draw(st.integers(1, 3 * LANES)), channels, 3, 3)
    workload = Conv2d(data, weight, padding=padding, layout=draw(st.sampled_from(LAYOUTS)))
    m = draw(st.sampled_from(tile_extents(workload, UNIT)))
    return workload, tiled(workload, m, seed=draw(st.integers(0, 2**32 - 1)))


def tiled(workload: Conv2d, m: int, seed: int = 0, target=checks.HOST):
    knobs = templates.space(workload, target, enlarged=True)
    drawn = knobs.sample(jax.random.key(seed), sum(knobs.shares))
    return knobs.to_config(drawn[knobs.choice(drawn)["winograd"] == m][0])


@settings(max_examples=5, deadline=None)
@given(configured(), st.booleans())
def test_schedule_computes_the_convolution(case, packed):
    workload, config = case
    data, weight = checks.normal(*workload.shapes[:2])
    weight /= math.sqrt(workload.weight[1])
    checks.computes(checks.scheduled(workload, config), [data, weight], workload.reference(data, weight), ways=[packed])


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
        data: R.Tensor((2, 16, 8, 7), "float32"),
        weight: R.Tensor((6, 16, 3, 3), "float32"),
        bias: R.Tensor((1, 6, 1, 1), "float32"),
        shortcut: R.Tensor((2, 6, 8, 7), "float32"),
    ):
        with R.dataflow():
            convolved = R.nn.conv2d(data, weight, padding=(1, 1, 1, 1))
            result = R.nn.silu(R.add(R.add(convolved, bias), shortcut))
            R.output(result)
        return result


@I.ir_module
class ResidualInChannelsLast:
    """The same in NHWC."""

    @R.function
    def main(
        data: R.Tensor((2, 8, 7, 16), "float32"),
        weight: R.Tensor((3, 3, 16, 6), "float32"),
        bias: R.Tensor((1, 1, 1, 6), "float32"),
        shortcut: R.Tensor((2, 8, 7, 6), "float32"),
    ):
        with R.dataflow():
            convolved = R.nn.conv2d(data, weight, padding=(1, 1, 1, 1), data_layout="NHWC", kernel_layout="HWIO")
            result = R.nn.silu(R.add(R.add(convolved, bias), shortcut))
            R.output(result)
        return result


@pytest.mark.parametrize(("layout", "module"), [("NCHW", Residual), ("NHWC", ResidualInChannelsLast)])
def test_epilogue_is_carried(layout, module):
    workload = Conv2d((2, 16, 8, 7), (6, 16, 3, 3), padding=(1, 1, 1, 1), layout=layout)
    per_filter = reordered((1, 6, 1, 1), "NCHW", layout)
    inputs = data, weight, bias, shortcut = checks.normal(*workload.shapes[:2], per_filter, workload.shapes[2])
    before = workload.reference(data, weight) + bias + shortcut
    function = checks.scheduled(workload, tiled(workload, 4), function=checks.fused(module))
    checks.computes(function, inputs, before / (1 + np.exp(-before)))


@pytest.mark.parametrize(("target", "layout"), [(checks.AVX512, "NCHW"), (checks.AVX2, "NHWC"), (checks.NEON, "NCHW")], ids=str)
def test_arithmetic_is_on_whole_vectors(target, layout):
    workload = Conv2d((1, 32, 15, 16), (32, 32, 3, 3), padding=(1, 1, 1, 1), layout=layout)
    whole, partial = checks.VECTOR_ARITHMETIC[target]
    config = tiled(workload, 4, target=target)
    assembly = checks.assembly(checks.scheduled(workload, config, target), target)
    assert len(re.findall(whole, assembly)) >= config["tile_f"][2] * config["tile_y"][3] * config["tile_x"][3] // 16
    assert not re.findall(partial, assembly)


def test_what_precedes_the_convolution_is_refused():
    workload = Conv2d((1, 16, 10, 10), (16, 16, 3, 3))
    data, weight = (te.placeholder(shape, name=name) for shape, name in zip(workload.shapes, ("data", "weight"), strict=False))
    before = te.create_prim_func([data, weight, topi.nn.conv2d_nchw(topi.nn.relu(data), weight, 1, 0, 1)])
    with pytest.raises(ValueError, match=r"function: Winograd's algorithm takes data and weight as they are"):
        checks.scheduled(workload, tiled(workload, 2), function=before)
