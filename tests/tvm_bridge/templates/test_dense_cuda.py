"""The matrix product on CUDA: right results, exact limits."""

import re

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tvm import te, topi

from tests.tvm_bridge.strategies import products
from tests.tvm_bridge.templates import cuda_checks as checks
from tests.tvm_bridge.templates import space_checks
from tvm_bridge.dense import Dense
from tvm_bridge.target import Target
from tvm_bridge.templates.dense_cuda import space

BERT = Dense((128, 768), (3072, 768))


@st.composite
def configured(draw, *, largest: int = 40):
    """A product, its space and one valid row of it, with few virtual threads: each is a copy of the code."""
    workload = draw(products(largest=largest))
    knobs = space(workload, checks.CUDA)
    return workload, knobs, checks.few_virtual_threads(knobs, knobs.sample(jax.random.key(draw(st.integers(0, 2**32 - 1))), 64))


@settings(max_examples=6, deadline=None)
@given(configured())
def test_schedule_computes_the_product_and_becomes_cuda(case):
    checks.computes_the_reference(checks.run_serially, checks.LLVM, *case)
    checks.declares_what_the_predicate_tells(*case)


@checks.needs_nvcc
@settings(max_examples=2, deadline=None)
@given(configured(largest=20))
def test_ptxas_accepts_every_shape(case):
    checks.ptxas_accepts(*case)


@checks.needs_compiler
@settings(max_examples=2, deadline=None)
@given(configured(largest=20))
def test_cuda_source_computes_the_product(case):
    checks.computes_the_reference(checks.run_emulated, checks.CUDA, *case)


@pytest.mark.parametrize(
    ("run", "target"),
    [(checks.run_serially, checks.LLVM), pytest.param(checks.run_emulated, checks.CUDA, marks=checks.needs_compiler)],
)
def test_epilogue_is_carried(run, target):
    workload = Dense((6, 20), (10, 20))
    shapes = {"data": workload.data, "weight": workload.weight, "bias": (10,)}
    data, weight, bias = (te.placeholder(shape, "float32", name) for name, shape in shapes.items())
    result = topi.nn.relu(topi.add(topi.nn.dense(data, weight), bias))
    function = te.create_prim_func([data, weight, bias, result])
    inputs = checks.normal(*shapes.values())
    expected = np.maximum(workload.reference(*inputs[:2]) + inputs[2], 0)
    knobs = space(workload, checks.CUDA)
    for row in knobs.sample(jax.random.key(0), 2):
        got = run(checks.scheduled(workload, knobs.to_config(row), target, function), inputs, workload.output)
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def test_an_epilogue_may_read_the_data():
    data, weight = te.placeholder((6, 20), "float32", "data"), te.placeholder((20, 20), "float32", "weight")
    function = te.create_prim_func([data, weight, topi.add(data, topi.nn.dense(data, weight))])
    inputs = x, w = checks.normal((6, 20), (20, 20))
    workload = Dense((6, 20), (20, 20))
    knobs = space(workload, checks.CUDA)
    config = knobs.to_config(knobs.sample(jax.random.key(0), 1)[0])
    got = checks.run_serially(checks.scheduled(workload, config, checks.LLVM, function), inputs, workload.output)
    np.testing.assert_allclose(got, x + x @ w.T, rtol=1e-4, atol=1e-4)


@settings(max_examples=6, deadline=None)
@given(products(largest=300), st.integers(0, 2**32 - 1))
def test_predicate_tells_what_the_kernel_declares(workload, seed):
    knobs = space(workload, checks.CUDA)
    rows = np.random.default_rng(seed).integers(0, knobs.shape, (64, len(knobs.shape)))
    checks.declares_what_the_predicate_tells(workload, knobs, checks.few_virtual_threads(knobs, rows))


def test_data_and_weights_are_read_along_the_reduction():
    """Neighbouring threads fetch neighbouring elements of memory."""
    tiles = {"tile_y": (4, 1, 8, 4), "tile_x": (48, 2, 16, 2), "tile_k": (96, 8)}
    config = space(BERT, checks.CUDA).to_config([0] * 5) | tiles
    source = checks.cuda_source(checks.scheduled(BERT, config, checks.CUDA))
    fetched = re.findall(r"_shared_ptr\[.*\] = (\w+)_ptr\[.* \+ \(\(\(int\)threadIdx\.x\) & 7\)\)\];", source)
    assert fetched == ["data", "weight"]


def test_knobs_are_those_of_dense_int8_and_unroll_explicit():
    assert space(BERT, checks.CUDA).names == ("tile_y", "tile_x", "tile_k", "auto_unroll_max_step", "unroll_explicit")
    assert len(space(BERT, checks.CUDA).feature_names) == 12


def test_predicate_is_a_value_and_runs_under_jit():
    knobs, again = space(BERT, checks.CUDA), space(BERT, checks.CUDA)
    assert knobs.predicate == again.predicate
    assert hash(knobs.predicate) == hash(again.predicate)
    space_checks.is_the_same_under_jit(knobs)


def test_tighter_targets_are_obeyed():
    usual = space(BERT, checks.CUDA)
    tight = space(BERT, Target("cuda", (("max_num_threads", 256), ("max_shared_memory_per_block", 8192))))
    rows = np.random.default_rng(0).integers(0, usual.shape, (4096, 5))
    choice = usual.choice(rows)
    within = (choice["tile_y"][:, 2] * choice["tile_x"][:, 2] <= 256) & (usual.predicate.shared_bytes(choice) <= 8192)
    np.testing.assert_array_equal(tight.valid(rows), usual.valid(rows) & within)


def test_blocks_beyond_a_grid_are_refused():
    knobs = space(Dense((1 << 17, 8), (8, 8)), checks.CUDA)
    one = {"tile_x": (1, 1, 8, 1), "tile_k": (8, 1), "auto_unroll_max_step": 0, "unroll_explicit": 0}
    rows = np.array([knobs.from_config(one | {"tile_y": ((1 << 17) // inner, 1, 1, inner)}) for inner in (1, 2, 4)])
    np.testing.assert_array_equal(knobs.valid(rows), [False, False, True])
