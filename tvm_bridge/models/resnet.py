"""Residual networks: ResNet-18 as TVM shipped it, and ResNet-50.

Each batch normalisation is told the variance of what it normalises: with every block the sum has that of a branch more, and a
convolution doubles the mean square of its data.
"""

from __future__ import annotations

from tvm_bridge.models.layers import Layers, Node

POOLED = 2.6
"""The mean square of the largest of nine normal numbers of variance 1, which the first pooling leaves."""


def resnet_18(net: Layers, data: Node) -> Node:
    """The pre-activation ResNet-18 (He et al., ECCV 2016), whose every stage projects its first shortcut.

    So does the 64-channel stage, which needs it for no shape: TVM's ResNet-18 has a layer that He et al.'s has not.
    """

    def block(data: Node, variance: float, filters: int, stride: int, project: bool) -> Node:
        active = net.relu(net.batch_norm(data, variance=variance))
        branch = net.conv(active, filters, 3, stride=stride, padding=1, bias=False)
        branch = net.conv(net.relu(net.batch_norm(branch)), filters, 3, padding=1, bias=False)
        return net.add(branch, net.conv(active, filters, 1, stride=stride, bias=False) if project else data)

    data = net.conv(net.batch_norm(data), 64, 7, stride=2, padding=3, bias=False)
    data = net.max_pool(net.relu(net.batch_norm(data, variance=2.0)), 3, stride=2, padding=1)
    variance = POOLED
    for stage, filters in enumerate((64, 128, 256, 512)):
        data = block(data, variance, filters, 1 if stage == 0 else 2, project=True)
        data = block(data, 2.0, filters, 1, project=False)
        variance = 3.0
    data = net.relu(net.batch_norm(data, variance=variance))
    return net.softmax(net.dense(net.flatten(net.global_pool(data)), 1000))


def resnet_50(net: Layers, data: Node) -> Node:
    """He et al. (CVPR 2016, table 1), with the stride in the 3x3 convolution as torchvision has it."""

    def normalised(data: Node, filters: int, kernel: int, stride: int = 1, variance: float = 1.0) -> Node:
        convolved = net.conv(data, filters, kernel, stride=stride, padding=kernel // 2, bias=False)
        return net.batch_norm(convolved, variance=variance)

    def block(data: Node, variance: float, width: int, stride: int, project: bool) -> Node:
        branch = net.relu(normalised(data, width, 1, variance=variance))
        branch = net.relu(normalised(branch, width, 3, stride))
        branch = normalised(branch, 4 * width, 1)
        shortcut = normalised(data, 4 * width, 1, stride, variance) if project else data
        return net.relu(net.add(branch, shortcut))

    data = net.max_pool(net.relu(normalised(data, 64, 7, 2, variance=2.0)), 3, stride=2, padding=1)
    variance = 2 * POOLED
    for stage, (width, blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3))):
        data = block(data, variance, width, 1 if stage == 0 else 2, project=True)
        variance = 2.0
        for _ in range(blocks - 1):
            data = block(data, variance, width, 1, project=False)
            variance += 1.0
    return net.softmax(net.dense(net.flatten(net.global_pool(data)), 1000))
