"""VGG-16 (Simonyan and Zisserman, ICLR 2015, table 1, column D)."""

from __future__ import annotations

from tvm_bridge.models.layers import Layers, Node


def vgg_16(net: Layers, data: Node) -> Node:
    """Thirteen 3x3 convolutions in five stages, each followed by a pooling, and three fully connected layers."""
    for convolutions, filters in ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)):
        for _ in range(convolutions):
            data = net.relu(net.conv(data, filters, 3, padding=1))
        data = net.max_pool(data, 2, stride=2)
    data = net.flatten(data)
    for _ in range(2):
        data = net.relu(net.dense(data, 4096))
    return net.softmax(net.dense(data, 1000))
