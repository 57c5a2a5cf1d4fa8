"""MobileNet-v1 (Howard et al., arXiv:1704.04861, table 1)."""

from __future__ import annotations

from tvm_bridge.models.layers import Layers, Node

BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))
"""The filters of each separable block's pointwise convolution, and the stride of its depthwise one.

The paper's table prints stride 2 for the last too; the extents that it prints are those of stride 1.
"""


def mobilenet_v1(net: Layers, data: Node) -> Node:
    """A convolution and thirteen depthwise-separable blocks, each convolution followed by a batch normalisation."""

    def normalised(data: Node, filters: int, kernel: int, stride: int = 1, groups: int = 1) -> Node:
        convolved = net.conv(data, filters, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False)
        return net.relu(net.batch_norm(convolved))

    data = normalised(data, 32, 3, stride=2)
    for filters, stride in BLOCKS:
        channels = data.shape[1]
        data = normalised(data, channels, 3, stride=stride, groups=channels)
        data = normalised(data, filters, 1)
    return net.softmax(net.dense(net.flatten(net.global_pool(data)), 1000))
