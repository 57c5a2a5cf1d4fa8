"""The convolutions of the networks that the papers tune, for one image of 3x224x224.

AlexNet, ResNet-18, VGG-16 and MobileNet-v1 are tables 2 to 5 of Sun et al. (ICCV 2021, appendix): their layers, names and task
order (last layer first), with the misprints put right. SqueezeNet-v1.1 and ResNet-50 follow from their architectures, first
layer first.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from tvm_bridge.convolution import Conv2d


@dataclass(frozen=True)
class Layer:
    """A distinct convolution of a network.

    - `name`: unique in the network; that of the first place where the convolution occurs.
    - `count`: in how many places of the network it occurs.
    """

    name: str
    workload: Conv2d
    count: int = 1


def layers(network: str) -> tuple[Layer, ...]:
    """The distinct convolutions of a network.

    **Raises:** `ValueError` listing the networks there are.
    """
    try:
        return NETWORKS[network]
    except KeyError:
        raise ValueError(f"network: {network!r} is not one of {', '.join(NETWORKS)}.") from None


def layer(network: str, name: str) -> Layer:
    """One convolution of a network by its name.

    **Raises:** `ValueError` listing the networks or the network's layers, whichever was not found.
    """
    named = {each.name: each for each in layers(network)}
    if name not in named:
        close = difflib.get_close_matches(name, named, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"layer: {name!r} is not in {network}, whose layers are {', '.join(named)}.{hint}")
    return named[name]


def _dense(
    name: str, data: tuple[int, int], filters: tuple[int, int], *, stride: int = 1, padding: int | None = None, count: int = 1
) -> Layer:
    """A square convolution of (channels, extent) with (filters, kernel); unless padded otherwise, stride 1 keeps the extent."""
    (channels, extent), (number, kernel) = data, filters
    side = kernel // 2 if padding is None else padding
    workload = Conv2d((1, channels, extent, extent), (number, channels, kernel, kernel), (stride, stride), (side,) * 4)
    return Layer(name, workload, count)


def _depthwise(name: str, channels: int, extent: int, stride: int) -> Layer:
    """A 3x3 depthwise convolution, padded so that stride 1 keeps the extent."""
    data, weight = (1, channels, extent, extent), (channels, 1, 3, 3)
    return Layer(name, Conv2d(data, weight, (stride, stride), (1, 1, 1, 1), groups=channels))


def _distinct(every: Iterable[Layer]) -> tuple[Layer, ...]:
    """Merge the layers that compute the same: the first gives the name."""
    merged: dict[Conv2d, Layer] = {}
    for place in every:
        first = merged.setdefault(place.workload, replace(place, count=0))
        merged[place.workload] = replace(first, count=first.count + place.count)
    return tuple(merged.values())


# Krizhevsky's one-tower AlexNet (2014). Conv5 is 3x3: the appendix prints the extent of its data as its kernel.
ALEXNET = (
    _dense("conv5", (256, 13), (256, 3)),
    _dense("conv4", (384, 13), (256, 3)),
    _dense("conv3", (192, 13), (384, 3)),
    _dense("conv2", (64, 27), (192, 5)),
    _dense("conv1", (3, 224), (64, 11), stride=4, padding=2),
)

# The layers of the pre-activation ResNet-18 that TVM shipped, whose first stage projects its shortcut too: rb1-sc does not
# occur in He et al.'s first ResNet-18 (torchvision's), where all else is the same. The sizes of the spaces show that the
# shortcuts have no padding and strides 1, 2, 2, 2; the appendix prints p = 1 and s = 1 for all four.
RESNET_18 = (
    _dense("rb4-conv2", (512, 7), (512, 3), count=3),
    _dense("rb4-conv1", (256, 14), (512, 3), stride=2),
    _dense("rb3-conv2", (256, 14), (256, 3), count=3),
    _dense("rb3-conv1", (128, 28), (256, 3), stride=2),
    _dense("rb2-conv2", (128, 28), (128, 3), count=3),
    _dense("rb2-conv1", (64, 56), (128, 3), stride=2),
    _dense("rb1-conv1", (64, 56), (64, 3), count=4),
    _dense("conv0", (3, 224), (64, 7), stride=2),
    _dense("rb1-sc", (64, 56), (64, 1)),
    _dense("rb2-sc", (64, 56), (128, 1), stride=2),
    _dense("rb3-sc", (128, 28), (256, 1), stride=2),
    _dense("rb4-sc", (256, 14), (512, 1), stride=2),
)

# The appendix's "conv4-3" is all three convolutions of the fifth stage (14x14); conv4-2 and conv3-2 occur twice.
VGG_16 = (
    _dense("conv4-3", (512, 14), (512, 3), count=3),
    _dense("conv4-2", (512, 28), (512, 3), count=2),
    _dense("conv4-1", (256, 28), (512, 3)),
    _dense("conv3-2", (256, 56), (256, 3), count=2),
    _dense("conv3-1", (128, 56), (256, 3)),
    _dense("conv2-2", (128, 112), (128, 3)),
    _dense("conv2-1", (64, 112), (128, 3)),
    _dense("conv1-2", (64, 224), (64, 3)),
    _dense("conv1-1", (3, 224), (64, 3)),
)


def _mobilenet_v1() -> Iterator[Layer]:
    """Howard et al. (2017), table 1: thirteen depthwise-separable blocks; blocks 7 to 11 are alike.

    The appendix misprints two strides, which are 1: those of sp-13-dp1 and sp-7-conv2.
    """
    yield _dense("conv1", (3, 224), (32, 3), stride=2)
    channels, extent = 32, 112
    blocks = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
    for block, (filters, stride) in enumerate(blocks, start=1):
        yield _depthwise(f"sp-{block}-dp1", channels, extent, stride)
        extent //= stride
        pointwise = "conv1" if block == 1 else "conv2"  # as the appendix names them
        yield _dense(f"sp-{block}-{pointwise}", (channels, extent), (filters, 1))
        channels = filters


def _squeezenet_v1_1() -> Iterator[Layer]:
    """Iandola et al. (2016), release 1.1: pooling, 3x3 with stride 2, follows conv1, fire3 and fire5."""
    yield _dense("conv1", (3, 224), (64, 3), stride=2, padding=0)
    channels = 64
    pairs = [(55, 16, 64), (27, 32, 128), (13, 48, 192), (13, 64, 256)]  # fires 2 and 3, 4 and 5, 6 and 7, 8 and 9
    for fire in range(2, 10):
        extent, squeezed, expanded = pairs[fire // 2 - 1]
        yield _dense(f"fire{fire}-squeeze", (channels, extent), (squeezed, 1))
        yield _dense(f"fire{fire}-expand1x1", (squeezed, extent), (expanded, 1))
        yield _dense(f"fire{fire}-expand3x3", (squeezed, extent), (expanded, 3))
        channels = 2 * expanded
    yield _dense("conv10", (512, 13), (1000, 1))


def _resnet_50() -> Iterator[Layer]:
    """He et al. (2016), table 1, with the stride in the 3x3 convolution as torchvision has it ("v1.5").

    "rb2-1-conv3" is the third convolution of the second stage's first block. The first stage's shortcut is its conv3 once more.
    """
    yield _dense("conv0", (3, 224), (64, 7), stride=2)
    channels, extent = 64, 56
    for stage, (width, blocks) in enumerate([(64, 3), (128, 4), (256, 6), (512, 3)], start=1):
        for block in range(1, blocks + 1):
            stride = 2 if stage > 1 and block == 1 else 1
            yield _dense(f"rb{stage}-{block}-conv1", (channels, extent), (width, 1))
            yield _dense(f"rb{stage}-{block}-conv2", (width, extent), (width, 3), stride=stride)
            yield _dense(f"rb{stage}-{block}-conv3", (width, extent // stride), (4 * width, 1))
            if block == 1:
                yield _dense(f"rb{stage}-sc", (channels, extent), (4 * width, 1), stride=stride)
            channels, extent = 4 * width, extent // stride


NETWORKS: dict[str, tuple[Layer, ...]] = {
    "alexnet": ALEXNET,
    "resnet-18": RESNET_18,
    "vgg-16": VGG_16,
    "mobilenet-v1": _distinct(_mobilenet_v1())[::-1],
    "squeezenet-v1.1": _distinct(_squeezenet_v1_1()),
    "resnet-50": _distinct(_resnet_50()),
}
"""Every network by name."""
