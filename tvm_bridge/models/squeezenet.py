"""SqueezeNet, release 1.1 (Iandola et al., arXiv:1602.07360)."""

from __future__ import annotations

from tvm_bridge.models.layers import Layers, Node


def squeezenet_v1_1(net: Layers, data: Node) -> Node:
    """Eight fire modules between two convolutions, the second of which has a filter for each class."""

    def fire(data: Node, squeezed: int, expanded: int) -> Node:
        data = net.relu(net.conv(data, squeezed, 1))
        narrow, wide = net.conv(data, expanded, 1), net.conv(data, expanded, 3, padding=1)
        return net.concat(net.relu(narrow), net.relu(wide))

    data = net.relu(net.conv(data, 64, 3, stride=2))
    for stage in (((16, 64),) * 2, ((32, 128),) * 2, ((48, 192),) * 2 + ((64, 256),) * 2):
        data = net.max_pool(data, 3, stride=2)
        for squeezed, expanded in stage:
            data = fire(data, squeezed, expanded)
    data = net.relu(net.conv(data, 1000, 1))
    return net.softmax(net.flatten(net.global_pool(data)))
