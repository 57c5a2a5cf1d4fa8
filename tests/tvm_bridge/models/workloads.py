"""What a network asks of a machine: its convolutions and dense layers as workloads, without a weight being drawn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from tvm_bridge.convolution import Conv2d
from tvm_bridge.dense import Dense
from tvm_bridge.models.layers import Node


def convolutions(nodes: Iterable[Node]) -> Counter[Conv2d]:
    """The distinct convolutions of a network, with how often each occurs, in the order of their first occurrence."""
    return Counter(_convolution(node) for node in nodes if node.operator == "conv")


def dense_layers(nodes: Iterable[Node]) -> Counter[Dense]:
    """The distinct fully connected layers of a network, with how often each occurs."""
    return Counter(_dense(node) for node in nodes if node.operator == "dense")


def _convolution(node: Node) -> Conv2d:
    filters, kernel, stride, padding, groups = (
        node.options[name] for name in ("filters", "kernel", "stride", "padding", "groups")
    )
    batch, channels, height, width = node.inputs[0].shape
    weight = (filters, channels // groups, kernel, kernel)
    return Conv2d((batch, channels, height, width), weight, (stride, stride), (padding,) * 4, groups=groups)


def _dense(node: Node) -> Dense:
    batch, inputs = node.inputs[0].shape
    return Dense((batch, inputs), (node.options["units"], inputs))
