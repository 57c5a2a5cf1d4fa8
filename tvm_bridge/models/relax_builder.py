"""A network as Relax, as an importer would leave it: biases added, batch normalisations whole, weights constants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tvm import IRModule, relax

from tvm_bridge.models.layers import Node
from tvm_bridge.models.weights import draw

Weights = dict[str, np.ndarray]


def build(nodes: Sequence[Node], seed: int) -> IRModule:
    """The network whose function "main" takes "data" and returns the last node's result; weights drawn from `seed`."""
    builder = relax.BlockBuilder()
    data = relax.Var("data", relax.TensorType(nodes[0].shape, "float32"))
    with builder.function("main", [data]):
        with builder.dataflow():
            results: dict[Node, Any] = {nodes[0]: data}
            for node in nodes[1:]:
                inputs = [results[each] for each in node.inputs]
                results[node] = builder.emit(OPERATORS[node.operator](node, inputs, draw(node, seed)))
            output = builder.emit_output(results[nodes[-1]])
        builder.emit_func_output(output)
    return builder.get()


def _conv(node: Node, inputs: list[Any], weights: Weights) -> Any:
    geometry = {"strides": node.options["stride"], "padding": node.options["padding"], "groups": node.options["groups"]}
    result = relax.op.nn.conv2d(*inputs, relax.const(weights["weight"]), **geometry)
    return relax.op.add(result, relax.const(weights["bias"][:, None, None])) if "bias" in weights else result


def _batch_norm(node: Node, inputs: list[Any], weights: Weights) -> Any:
    ordered = (relax.const(weights[name]) for name in ("scale", "shift", "mean", "variance"))
    return relax.op.nn.batch_norm(*inputs, *ordered, axis=1, training=False)[0]


def _max_pool(node: Node, inputs: list[Any], weights: Weights) -> Any:
    window = (node.options[name] for name in ("size", "stride", "padding"))
    return relax.op.nn.max_pool2d(*inputs, *window)


OPERATORS: dict[str, Callable[[Node, list[Any], Weights], Any]] = {
    "conv": _conv,
    "batch_norm": _batch_norm,
    "relu": lambda node, inputs, weights: relax.op.nn.relu(*inputs),
    "max_pool": _max_pool,
    "global_pool": lambda node, inputs, weights: relax.op.nn.adaptive_avg_pool2d(*inputs, output_size=1),
    "dense": lambda node, inputs, weights: relax.op.linear(*inputs, *map(relax.const, weights.values())),
    "add": lambda node, inputs, weights: relax.op.add(*inputs),
    "concat": lambda node, inputs, weights: relax.op.concat(inputs, axis=1),
    "flatten": lambda node, inputs, weights: relax.op.reshape(*inputs, node.shape),
    "softmax": lambda node, inputs, weights: relax.op.nn.softmax(*inputs, axis=1),
}
"""How each operation is written in Relax, of its node, its inputs and its weights."""
