"""Layouts chosen over a small network: what the choice costs, that the network computes the same, what is on record."""

from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import tvm
from hypothesis import given, settings
from hypothesis import strategies as st
from tvm import relax

from tvm_bridge.convolution import LAYOUTS, Conv2d
from tvm_bridge.measure.base import Measurement
from tvm_bridge.network.extract import extract_tasks
from tvm_bridge.network.layout_graph import LayoutGraph
from tvm_bridge.network.layout_operators import name_of, workload_of_call
from tvm_bridge.network.layouts import cheapest_layouts, choose_layouts, in_layout
from tvm_bridge.network.load import Network
from tvm_bridge.network.transposition import Transposition
from tvm_bridge.record_log import RecordLog
from tvm_bridge.records import Record, TaskKey
from tvm_bridge.target import Target

INPUT = (1, 4, 6, 8)
TARGET = Target.parse("llvm -mcpu=x86-64 -num-cores=1").resolve()


def constant(*shape, low=-0.5):
    return relax.const(np.random.default_rng(shape).uniform(low, 0.5, shape).astype(np.float32))


def statistics(channels):
    """Scale, shift, mean and variance of a batch normalisation."""
    return (*(constant(channels) for _ in range(3)), constant(channels, low=0.2))


def network_of(emit, layout="NCHW"):
    """A network from `emit(builder, data)`, which returns its result."""
    builder = relax.BlockBuilder()
    shape = tuple(INPUT["NCHW".index(axis)] for axis in layout)
    data = relax.Var("data", relax.TensorType(shape, "float32"))
    with builder.function("main", [data]):
        with builder.dataflow():
            output = builder.emit_output(emit(builder, data))
        builder.emit_func_output(output)
    return Network(builder.get(), "small")


def residual(builder, data):
    """Three convolutions, the second depthwise; a skip connection around them and a concatenation."""
    first = relax.op.nn.conv2d(data, constant(8, 4, 3, 3), padding=1)
    first = builder.emit(relax.op.nn.relu(relax.op.nn.batch_norm(first, *statistics(8), axis=1, training=False)[0]))
    second = relax.op.add(relax.op.nn.conv2d(first, constant(8, 1, 3, 3), padding=1, groups=8), constant(8, 1, 1))
    second = builder.emit(relax.op.nn.relu(second))
    third = builder.emit(relax.op.add(relax.op.nn.conv2d(second, constant(8, 8, 1, 1)), first))
    pooled = relax.op.nn.max_pool2d(relax.op.concat([third, second], axis=-3), (2, 2), strides=(2, 2))
    averaged = relax.op.nn.adaptive_avg_pool2d(builder.emit(pooled), 1)
    return builder.emit(relax.op.linear(relax.op.reshape(averaged, (1, 16)), constant(3, 16), constant(3)))


def medley(builder, data):
    """Two convolutions, and between them whatever else can have either layout."""
    value = builder.emit(relax.op.nn.conv2d(data, constant(8, 4, 3, 3), padding=(0, 1, 2, 1)))
    value = builder.emit(relax.op.multiply(relax.op.clip(value, -2, 2), relax.const(0.5, "float32")))
    value = builder.emit(relax.op.maximum(relax.op.nn.leakyrelu(value, 0.1), constant(8)))
    value = builder.emit(relax.op.nn.avg_pool2d(value, (3, 2), strides=(1, 2), padding=(1, 0, 1, 0), ceil_mode=True))
    shares = builder.emit(relax.op.nn.softmax(value, axis=1))
    value = builder.emit(relax.op.nn.batch_norm(value, *statistics(8), axis=1, training=False)[0])
    scale = builder.emit(relax.op.mean(value, axis=[-1, 1], keepdims=True))
    value = builder.emit(relax.op.divide(relax.op.add(value, shares), relax.op.exp(scale)))
    value = builder.emit(relax.op.nn.conv2d(value, constant(6, 8, 1, 2), strides=(2, 1), dilation=(1, 2)))
    return builder.emit(relax.op.sum(value, axis=[2, 3]))


@dataclass
class Given:
    """Costs by a table of kernels, a default for what is not in it, and seconds a byte transposed."""

    per_byte: float = 0.0
    kernels: dict[Conv2d, float] = field(default_factory=dict)
    otherwise: float = 1.0

    def kernel(self, workload):
        return self.kernels.get(workload, self.otherwise)

    def transpositions(self, needed):
        return {each: self.per_byte * each.bytes if each.moves else 0.0 for each in needed}


def operators(network):
    return [binding.value for block in network.module["main"].body.blocks for binding in block.bindings]


def seconds_of(network, costs):
    """What a network's convolutions and transpositions cost, counted in its module."""
    total = 0.0
    for call in operators(network):
        if (workload := workload_of_call(call)) is not None:
            total += costs.kernel(workload)
        elif name_of(call) == "relax.permute_dims":
            tensor = Transposition(tuple(map(int, call.args[0].ty.shape)), tuple(map(int, call.attrs.axes)))
            total += costs.transpositions([tensor])[tensor]
    return total


def transpositions_in(network):
    return sum(name_of(call) == "relax.permute_dims" for call in operators(network))


def run(network):
    data = np.random.default_rng(0).standard_normal(INPUT, np.float32)
    machine = relax.VirtualMachine(tvm.compile(network.module, target="llvm"), tvm.cpu())
    return machine["main"](tvm.runtime.tensor(data)).numpy()


@pytest.fixture(scope="module")
def graph():
    return LayoutGraph.of(network_of(residual).module)


@pytest.fixture(scope="module")
def network(graph):
    """The residual network, its batch normalisation folded already, which would take a second each time."""
    return Network(graph.module, "small")


def workloads(graph, layout="NCHW"):
    return [replace(workload, layout=layout) for _, _, workload in graph.convolutions]


def test_graph_has_the_convolutions_and_joins_what_follows_them(graph):
    assert [workload.operator for workload in workloads(graph)] == ["conv2d_nchw", "depthwise_conv2d_nchw", "conv2d_nchw"]
    assert sum(graph.free) == 7  # three convolutions, the skip connection, the concatenation, two pools
    first = next(passed for passed in graph.passed if passed.producer == graph.convolutions[0][1])
    assert len(first.consumers) == 2  # batch normalisation and ReLU lie inside


def test_one_fast_kernel_pays_for_its_transpositions_only_if_it_saves_more(network, graph):
    depthwise = workloads(graph)[1]
    bytes_ = 4 * 8 * 6 * 8
    for saved, chosen in ((1.9, "NCHW"), (2.1, "NHWC")):
        costs = Given(1 / bytes_, {depthwise: 10.0, replace(depthwise, layout="NHWC"): 10.0 - saved}, 5.0)
        for workload in workloads(graph, "NHWC"):
            costs.kernels.setdefault(workload, 100.0)
        choice = cheapest_layouts(network, costs, graph=graph)
        assert [each.workload.layout for each in choice.convolutions] == ["NCHW", chosen, "NCHW"]
        assert choice.seconds == pytest.approx(20.0 if chosen == "NCHW" else 20.0 - saved + 2.0)
        assert choice.pure["NCHW"] == pytest.approx(20.0)
        assert len(choice.transpositions) == transpositions_in(choice.network) == 2 * (chosen == "NHWC")


SECONDS = st.one_of(st.floats(0, 10), st.just(float("inf")))


@settings(deadline=None, max_examples=30)
@given(st.lists(SECONDS, min_size=6, max_size=6), st.floats(0, 1e-3))
def test_a_choice_costs_what_its_network_does_and_no_more_than_either_pure_layout(network, graph, seconds, per_byte):
    both = [workload for layout in LAYOUTS for workload in workloads(graph, layout)]
    costs = Given(per_byte, dict(zip(both, seconds, strict=True)))
    choice = cheapest_layouts(network, costs, graph=graph)
    assert choice.seconds <= min(choice.pure.values())
    assert len(choice.transpositions) == transpositions_in(choice.network)
    known = [each for each in choice.convolutions if np.isfinite(min(each.seconds.values()))]
    assert all(np.isfinite(each.seconds[each.workload.layout]) for each in known)
    unknown = [each.workload for each in choice.convolutions if each not in known]
    costs.kernels |= dict.fromkeys(unknown, 0.0)
    assert choice.seconds == pytest.approx(seconds_of(choice.network, costs))
    assert {each.layout for each in unknown} <= {"NCHW"}


def test_outputs_of_a_mixture_are_those_of_the_network(network, graph):
    first, depthwise, last = workloads(graph, "NHWC")
    choice = cheapest_layouts(
        network, Given(1e-9, {first: 1.0, last: 1.0, replace(depthwise, layout="NCHW"): 1.0}, 0.0), graph=graph
    )
    assert [each.workload.layout for each in choice.convolutions] == ["NCHW", "NHWC", "NCHW"]
    assert len(choice.transpositions) == transpositions_in(choice.network) == 2
    np.testing.assert_allclose(run(choice.network), run(network_of(residual)), rtol=1e-4, atol=1e-4)


def test_outputs_do_not_depend_on_the_layout_there_and_back():
    small = network_of(medley)
    other = in_layout(small, "NHWC")
    back = in_layout(other, "NCHW")
    for network, layout, count in ((other, "NHWC", 1), (back, "NCHW", 2)):  # at the end there is no layout left
        assert {each.layout for call in operators(network) if (each := workload_of_call(call))} == {layout}
        assert transpositions_in(network) == count
        assert network.inputs == small.inputs
    expected = run(small)
    np.testing.assert_allclose(run(other), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(run(back), expected, rtol=1e-4, atol=1e-4)


def test_a_network_may_be_nhwc_to_begin_with():
    def emit(builder, data):
        value = relax.op.nn.conv2d(data, constant(3, 3, 4, 8), padding=1, data_layout="NHWC", kernel_layout="HWIO")
        return builder.emit(relax.op.nn.max_pool2d(relax.op.nn.relu(value), (2, 2), strides=(2, 2), layout="NHWC"))

    small = network_of(emit, "NHWC")
    assert transpositions_in(in_layout(small, "NHWC")) == 0
    calls = operators(in_layout(small, "NCHW"))
    assert [name_of(call).rpartition(".")[2] for call in calls[:5]] == [
        "permute_dims",
        "conv2d",
        "relu",
        "max_pool2d",
        "permute_dims",
    ]


def test_tasks_are_those_of_the_chosen_layouts(network):
    tasks = extract_tasks(in_layout(network, "NHWC"), TARGET).tasks
    assert Counter(each.task.operator for each in tasks) == {"conv2d_nhwc": 2, "depthwise_conv2d_nhwc": 1, "dense": 1}


# Records


def logged(path, seconds_by_workload, target=TARGET, function=""):
    keys = {TaskKey.of(target, each.operator, each.args, function): its for each, its in seconds_by_workload.items()}
    return logged_keys(path, keys)


def logged_keys(path, seconds_by_key):
    log = RecordLog(path)
    for key, seconds in seconds_by_key.items():
        log.append(Record(key, -1, None, Measurement((seconds,))))
    return path


def test_the_fastest_records_of_this_target_decide(network, graph, tmp_path):
    times = {workload: 2e-3 for layout in LAYOUTS for workload in workloads(graph, layout)}
    records = logged(tmp_path / "records.jsonl", times)
    first, depthwise, last = workloads(graph, "NHWC")
    logged(records, {depthwise: 0.5e-3}, function="0123456789abcdef")  # of a task with an epilogue
    logged(records, {first: 1e-9, last: 1e-9}, target=Target.parse("llvm -mcpu=x86-64 -num-cores=64"))
    moves = [graph.transposition(passed, label) for passed in graph.passed for label in (0, 1)]
    log = logged_keys(tmp_path / "transpositions.jsonl", {each.task(TARGET).key: 1e-4 for each in moves})
    choice = choose_layouts(network, TARGET, records=records, log=log)
    assert choice.convolutions[1].workload == depthwise
    assert choice.convolutions[1].seconds == {"NCHW": 2e-3, "NHWC": 0.5e-3}
    assert choice.pure["NCHW"] == pytest.approx(6e-3)
    assert choice.seconds == pytest.approx(4.6e-3)
    table = str(choice)
    assert "8x1x3x3" in table
    assert "2000.0" in table
    assert table.splitlines()[-1] == "chosen 4600.0 us with 1 transposition(s); all NCHW 6000.0, all NHWC 4600.0"


def test_records_of_one_layout_alone_are_an_error_with_the_way_out(network, graph, tmp_path):
    records = logged(tmp_path / "records.jsonl", dict.fromkeys(workloads(graph), 1e-3))
    with pytest.raises(ValueError, match=r"records: no convolution of small .* in both layouts; tune .*in_layout"):
        choose_layouts(network, TARGET, records=records)


def test_records_of_several_devices_do_not_mix(network, graph):
    def record(workload, device):
        key = TaskKey.of(TARGET, workload.operator, workload.args)
        return Record(key, -1, None, Measurement((1e-3,), device=device))

    records = [record(workload, layout) for layout in LAYOUTS for workload in workloads(graph, layout)]
    with pytest.raises(ValueError, match="records: they are of several devices, NCHW, NHWC; give those of one"):
        choose_layouts(network, TARGET, records=records)


# What is refused


def test_other_layouts_are_an_error(network):
    with pytest.raises(ValueError, match="layout: 'NCHW4c' is not supported; use 'NCHW' or 'NHWC'"):
        in_layout(network, "NCHW4c")


def test_a_network_without_convolutions_is_an_error():
    with pytest.raises(ValueError, match=r"network: its convolutions with constant weights have layouts \[\]"):
        in_layout(network_of(lambda builder, data: builder.emit(relax.op.nn.relu(data))), "NHWC")


def test_a_network_of_both_layouts_is_an_error(network, graph):
    mixed = cheapest_layouts(network, Given(0.0, dict.fromkeys(workloads(graph)[:1], 2.0)), graph=graph).network
    with pytest.raises(ValueError, match=r"layouts \['NCHW', 'NHWC'\]; give one whose convolutions are all"):
        in_layout(mixed, "NCHW")
