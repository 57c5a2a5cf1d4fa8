"""Relax computes what the vocabulary says, and its networks look as imported ones do."""

import numpy as np
import pytest
from tvm import ir, relax

from tests.tvm_bridge.models.workloads import convolutions
from tests.tvm_bridge.relax_run import run
from tvm_bridge import models
from tvm_bridge.models import relax_builder
from tvm_bridge.models.layers import Layers
from tvm_bridge.models.weights import draw


def every_operation():
    """A network of each operation at least once."""
    net = Layers((2, 3, 9, 9))
    data = net.relu(net.batch_norm(net.conv(net.nodes[0], 4, 3, stride=2, padding=1, bias=False), variance=2.0))
    data = net.add(net.conv(data, 4, 3, padding=1, groups=4), data)
    data = net.concat(net.max_pool(data, 3, stride=2, padding=1), net.conv(data, 6, 1, stride=2))
    net.softmax(net.add(net.dense(net.flatten(data), 5), net.dense(net.flatten(net.global_pool(data)), 5)))
    return net.nodes


def reference(nodes, seed, data):
    """The output by NumPy."""
    results = {nodes[0]: data}
    for node in nodes[1:]:
        inputs, weights = [results[each] for each in node.inputs], draw(node, seed)
        results[node] = REFERENCES[node.operator](node, weights, *inputs)
        assert results[node].shape == node.shape
    return results[nodes[-1]]


def convolve(node, weights, data):
    (workload,) = convolutions([node])
    return workload.reference(data, weights["weight"]) + weights.get("bias", np.zeros(1, "float32"))[:, None, None]


def normalise(node, weights, data):
    scale, shift, mean, variance = (weights[name][:, None, None] for name in ("scale", "shift", "mean", "variance"))
    return (data - mean) / np.sqrt(variance + 1e-5) * scale + shift


def pool(node, weights, data):
    size, stride, padding = (node.options[name] for name in ("size", "stride", "padding"))
    padded = np.pad(data, ((0, 0), (0, 0), (padding, padding), (padding, padding)), constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(2, 3))
    return windows[:, :, ::stride, ::stride].max((4, 5))


REFERENCES = {
    "conv": convolve,
    "batch_norm": normalise,
    "relu": lambda node, weights, data: np.maximum(data, 0),
    "max_pool": pool,
    "global_pool": lambda node, weights, data: data.mean((2, 3), keepdims=True),
    "dense": lambda node, weights, data: data @ weights["weight"].T + weights["bias"],
    "add": lambda node, weights, left, right: left + right,
    "concat": lambda node, weights, *parts: np.concatenate(parts, 1),
    "flatten": lambda node, weights, data: data.reshape(len(data), -1),
    "softmax": lambda node, weights, data: np.exp(data) / np.exp(data).sum(1, keepdims=True),
}


def calls(module):
    """The names of the operators that "main" calls, in order."""
    bindings = module["main"].body.blocks[0].bindings
    return [each.value.op.name for each in bindings if isinstance(each.value, relax.Call)]


def test_relax_computes_what_the_vocabulary_says():
    nodes = every_operation()
    assert {node.operator for node in nodes} == {"input", *REFERENCES} == {"input", *relax_builder.OPERATORS}
    data = np.random.default_rng(0).standard_normal(nodes[0].shape, np.float32)
    (output,) = run(relax_builder.build(nodes, 7), data)
    np.testing.assert_allclose(output, reference(nodes, 7, data), atol=1e-5)


@pytest.mark.parametrize("name", ["resnet-18", "squeezenet-v1.1"])
def test_a_network_has_its_operators_one_by_one_and_takes_its_data_alone(name):
    module, nodes = models.build(name, image=32), models.nodes(name, image=32)
    found = calls(module)
    for operator, written in {"conv": "relax.nn.conv2d", "batch_norm": "relax.nn.batch_norm", "dense": "relax.matmul"}.items():
        assert found.count(written) == sum(node.operator == operator for node in nodes)
    (data,) = module["main"].params
    assert data.name == "data"
    assert [int(extent) for extent in data.ty.shape] == [1, 3, 32, 32]


def test_the_seed_is_the_only_chance():
    first, again, other = (models.build("squeezenet-v1.1", image=32, seed=seed) for seed in (1, 1, 2))
    ir.assert_structural_equal(first, again)
    with pytest.raises(ValueError, match="StructuralEqual"):
        ir.assert_structural_equal(first, other)


@pytest.mark.parametrize("name", ["resnet-18", "mobilenet-v1", "squeezenet-v1.1"])
def test_activations_neither_vanish_nor_explode(name):
    nodes = models.nodes(name, image=32)
    output = reference(nodes, 0, np.random.default_rng(0).standard_normal((1, 3, 32, 32), np.float32))
    assert output.sum() == pytest.approx(1, abs=1e-4)
    assert 0.1 < np.log(output).std() < 10
