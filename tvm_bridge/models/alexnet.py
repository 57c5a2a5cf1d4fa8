"""AlexNet, in its form of one tower (Krizhevsky, arXiv:1404.5997)."""

from __future__ import annotations

from tvm_bridge.models.layers import Layers, Node


def alexnet(net: Layers, data: Node) -> Node:
    """Five convolutions, three of them before a pooling, and three fully connected layers."""
    data = net.relu(net.conv(data, 64, 11, stride=4, padding=2))
    data = net.max_pool(data, 3, stride=2)
    data = net.relu(net.conv(data, 192, 5, padding=2))
    data = net.max_pool(data, 3, stride=2)
    for filters in (384, 256, 256):
        data = net.relu(net.conv(data, filters, 3, padding=1))
    data = net.flatten(net.max_pool(data, 3, stride=2))
    for _ in range(2):
        data = net.relu(net.dense(data, 4096))
    return net.softmax(net.dense(data, 1000))
