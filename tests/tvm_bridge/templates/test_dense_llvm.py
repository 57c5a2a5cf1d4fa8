"""The matrix product on CPUs: right results, epilogues, packed panels, whole vectors, a predicate for every workload."""

import pickle
import re

import jax
import numpy as np
import pytest
import tvm
from hypothesis import given, settings
from hypothesis import strategies as st
from tvm import relax, te, topi

from tests.tvm_bridge.strategies import products
from tests.tvm_bridge.templates import cpu_checks as checks
from tests.tvm_bridge.templates import space_checks
from tvm_bridge import packing
from tvm_bridge.build import compiled
from tvm_bridge.dense import Dense
from tvm_bridge.target import Target
from tvm_bridge.templates.dense_llvm import space

BERT = Dense((128, 768), (3072, 768))
NETWORKS = (Dense((1, 512), (1000, 512)), Dense((1, 25088), (4096, 25088)), Dense((197, 768), (768, 768)), BERT)


@st.composite
def configured(draw):
    workload = draw(products())
    return workload, checks.sample(workload, seed=draw(st.integers(0, 2**32 - 1)))


@st.composite
def awkward(draw) -> tuple[Dense, Target]:
    """A product of any size, only to be counted, and a target of any width and number of cores."""
    extents = st.integers(1, 300) | st.sampled_from([997, 1000, 1024, 4096, 25088, 50257])
    rows, columns, depth = (draw(extents) for _ in range(3))
    target = draw(st.sampled_from([checks.AVX512, checks.AVX2, checks.NEON]))
    cores = draw(st.sampled_from([1, 2, 7, 64]))
    return Dense((rows, depth), (columns, depth)), Target.parse(target.to_json() | {"num-cores": cores})


@settings(max_examples=8, deadline=None)
@given(configured(), st.booleans())
def test_schedule_computes_the_product(case, packed):
    workload, config = case
    inputs = checks.normal(workload.data, workload.weight)
    checks.computes(checks.scheduled(workload, config), inputs, workload.reference(*inputs), ways=[packed])


@pytest.mark.parametrize("workload", [Dense((1, 20), (50, 20)), Dense((37, 20), (48, 20))], ids=str)
def test_epilogue_is_carried(workload):
    shapes = workload.data, workload.weight, workload.output[1:], workload.output
    data, weight, bias, shortcut = (te.placeholder(shape, "float32") for shape in shapes)
    result = topi.nn.relu(topi.add(topi.add(topi.nn.dense(data, weight), bias), shortcut))
    function = te.create_prim_func([data, weight, bias, shortcut, result])
    inputs = checks.normal(*shapes)
    expected = np.maximum(workload.reference(*inputs[:2]) + inputs[2] + inputs[3], 0)
    for seed in range(2):
        checks.computes(checks.scheduled(workload, checks.sample(workload, seed=seed), function=function), inputs, expected)


def test_network_packs_its_weights_once():
    """TVM's own passes take the packing out of a network, zeros included, and fold it into its constants."""
    workload = Dense((37, 20), (50, 20))
    data, weight = checks.normal(workload.data, workload.weight)
    builder = relax.BlockBuilder()
    product = builder.add_func(checks.scheduled(workload, checks.sample(workload)).without_attr("global_symbol"), "product")
    argument = relax.Var("data", relax.TensorType(workload.data, "float32"))
    with builder.function("main", [argument]):
        with builder.dataflow():
            called = relax.call_tir(product, [argument, relax.const(weight)], relax.TensorType(workload.output, "float32"))
            result = builder.emit_output(builder.emit(called))
        builder.emit_func_output(result)
    network = relax.transform.FoldConstant()(relax.transform.SplitLayoutRewritePreproc()(builder.get()))
    assert network["main"].script().count("call_tir(") == 1
    machine = relax.VirtualMachine(tvm.compile(network, target=checks.HOST.tvm), tvm.cpu())
    result = machine["main"](tvm.runtime.tensor(data)).numpy()
    np.testing.assert_allclose(result, workload.reference(data, weight), rtol=1e-4, atol=1e-4)


@settings(max_examples=5, deadline=None)
@given(configured())
def test_packer_lays_panels_side_by_side(case):
    """A panel holds the columns of x3 vectors, along the reduction; zeros fill the last ones."""
    workload, config = case
    kernel, packers = packing.split(checks.scheduled(workload, config))
    (weight,) = checks.normal(workload.weight)
    shape = panels, depth, width = tuple(int(extent) for extent in kernel.params[1].shape)
    assert depth == workload.weight[1]
    assert panels == np.prod(config["tile_x"][:3])
    filled = np.zeros((panels * width, depth), np.float32)
    filled[: len(weight)] = weight
    pack = compiled({"pack": packers[1]}, checks.HOST)["pack"]
    np.testing.assert_array_equal(checks.call(pack, [weight], shape), filled.reshape(panels, width, depth).swapaxes(1, 2))


@pytest.mark.parametrize("target", checks.VECTOR_ARITHMETIC, ids=str)
@pytest.mark.parametrize("rows", [1, 24, 197])
def test_arithmetic_is_on_whole_vectors(rows, target):
    workload = Dense((rows, 64), (1000, 64))
    whole, partial = checks.VECTOR_ARITHMETIC[target]
    for seed in range(2):
        config = checks.sample(workload, target, seed)
        assembly = checks.assembly(checks.scheduled(workload, config, target), target)
        assert len(re.findall(whole, assembly)) >= config["tile_y"][2] * np.prod(config["tile_x"][2:])
        assert not re.findall(partial, assembly)


@pytest.mark.parametrize("target", [checks.AVX512, checks.AVX2], ids=str)
def test_accumulators_stay_in_registers(target):
    for seed in range(4):
        assembly = checks.assembly(checks.scheduled(BERT, checks.sample(BERT, target, seed), target), target)
        assert len(re.findall(r"\(%rsp\).*%[yz]mm|%[yz]mm.*\(%rsp\)", assembly)) < 4


@pytest.mark.parametrize(
    ("target", "lanes", "registers"), [(checks.AVX512, 16, 32), (checks.AVX2, 8, 16), (checks.NEON, 4, 32)], ids=str
)
def test_register_tile_suits_the_vector_unit(target, lanes, registers):
    knobs = space(BERT, target)
    assert knobs.knobs[1].extent * lanes == 3072
    for row in knobs.sample(jax.random.key(0), 64):
        config = knobs.to_config(row)
        rows, vectors = config["tile_y"][2], np.prod(config["tile_x"][2:])
        assert rows >= 2
        assert 4 <= rows * vectors < registers - vectors
        assert rows * vectors * config["tile_k"][1] <= 512
        assert config["tile_y"][0] * config["tile_x"][0] >= target.threads


@settings(max_examples=40, deadline=None)
@given(awkward())
def test_every_workload_keeps_a_configuration_and_few_rows_are_added(case):
    workload, target = case
    knobs = space(workload, target)
    assert len(knobs.sample(jax.random.key(0), 1)) == 1
    assert 0 <= knobs.knobs[0].extent - workload.output[0] <= 3


@pytest.mark.parametrize(
    ("extent", "target", "rows", "vectors"),
    [
        (1, checks.AVX512, 1, 1),
        (10, checks.AVX512, 10, 1),
        (10, checks.AVX2, 10, 2),
        (61, checks.NEON, 63, 16),
        (197, checks.AVX2, 198, 25),
        (1000, checks.AVX512, 1000, 63),
    ],
    ids=str,
)
def test_extents_are_rounded_up_to_what_tiles_divide(extent, target, rows, vectors):
    assert [knob.extent for knob in space(Dense((extent, 7), (extent, 7)), target).knobs] == [rows, vectors, 7]


@pytest.mark.parametrize("target", checks.VECTOR_ARITHMETIC, ids=str)
def test_networks_are_sampled_by_few_rejections(target):
    assert min(checks.accepted(workload, target) for workload in NETWORKS) > 1e-2


def test_predicate_does_not_overflow():
    knobs = space(Dense((1 << 20, 1 << 20), (1 << 20, 1 << 20)), checks.AVX512)
    last = np.array([knobs.shape]) - 1  # the register tile is the whole product, 2^36 vectors, which are 0 modulo 2^32
    assert not knobs.valid(last).any()
    assert not jax.jit(knobs.valid)(last).any()
    chunks = {"tile_y": (1 << 18, 1, 4), "tile_x": (1 << 15, 1, 1, 2), "tile_k": (1 << 20, 1)}
    assert knobs.valid(knobs.from_config(chunks)[None]).all()


def test_predicate_is_a_value_and_runs_under_jit():
    knobs, again = space(BERT, checks.AVX2), space(BERT, checks.AVX2)
    space_checks.is_the_same_under_jit(knobs)
    assert knobs.predicate == again.predicate == pickle.loads(pickle.dumps(knobs.predicate))
    assert hash(knobs.predicate) == hash(again.predicate)
    assert knobs.predicate != space(BERT, checks.NEON).predicate
