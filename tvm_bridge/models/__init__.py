"""The networks that the papers tune, written down once each, for any batch and image, with random weights of a fixed seed.

AlexNet, ResNet-18, VGG-16, MobileNet-v1 and SqueezeNet-v1.1 are those of Sun et al. (DATE 2021, section V); ResNet-18 to
MobileNet-v1 are as TVM shipped them. A network is a function of a vocabulary, `Layers`; what that writes down is turned into
Relax here, into PyTorch by the experiments, into workloads by the tests. Only `build` needs TVM.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any

from tvm_bridge.models.alexnet import alexnet
from tvm_bridge.models.layers import Layers, Node
from tvm_bridge.models.mobilenet import mobilenet_v1
from tvm_bridge.models.resnet import resnet_18, resnet_50
from tvm_bridge.models.squeezenet import squeezenet_v1_1
from tvm_bridge.models.vgg import vgg_16

MODELS: dict[str, Callable[[Layers, Node], Node]] = {
    "alexnet": alexnet,
    "resnet-18": resnet_18,
    "vgg-16": vgg_16,
    "mobilenet-v1": mobilenet_v1,
    "squeezenet-v1.1": squeezenet_v1_1,
    "resnet-50": resnet_50,
}
"""Every network by name, with the names of `tvm_bridge.networks`."""


def nodes(name: str, *, batch: int = 1, image: int = 224) -> tuple[Node, ...]:
    """A network's operations in the order of their computation: the input first, the output last.

    **Arguments:**

    - `batch`: how many images at once.
    - `image`: their height and width, of three channels.

    **Raises:** `ValueError` listing the networks if there is none of that name, or if the image is too small for it.
    """
    if name not in MODELS:
        close = difflib.get_close_matches(name, MODELS, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"network: {name!r} is not one of {', '.join(MODELS)}.{hint}")
    if min(batch, image) < 1:
        raise ValueError(f"batch, image: {batch} and {image} must be positive.")
    layers = Layers((batch, 3, image, image))
    MODELS[name](layers, layers.nodes[0])
    return tuple(layers.nodes)


def build(name: str, *, batch: int = 1, image: int = 224, seed: int = 0) -> Any:
    """A network as a Relax IRModule: "main" takes "data" of (batch, 3, image, image) and returns the classes' probabilities.

    **Arguments:**

    - `batch`, `image`: as for `nodes`.
    - `seed`: of the weights, which are constants of the module.

    **Raises:** `ValueError` as `nodes` does.
    """
    from tvm_bridge.models import relax_builder

    return relax_builder.build(nodes(name, batch=batch, image=image), seed)
