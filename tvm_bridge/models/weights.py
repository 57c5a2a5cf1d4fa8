"""Random weights, the same for a seed whatever is built of a network; NumPy alone draws them."""

from __future__ import annotations

import numpy as np

from tvm_bridge.models.layers import Node


def draw(node: Node, seed: int) -> dict[str, np.ndarray]:
    """The float32 weights of an operation by name; none if it has no weights.

    Kernels have the variance that keeps the activations' through a ReLU, 2 / (inputs of a unit) (He et al., ICCV 2015,
    equation 10). They depend on the seed, the operation and its place in the network, and on nothing before it.

    **Returns:** for "conv" its `weight` (C_out, C / groups, KH, KW) and `bias` (C_out,) if it has one; for "dense" its
    `weight` (units, inputs) and `bias` (units,); for "batch_norm" its `scale`, `shift`, `mean` and `variance`, each (C,).
    """
    generator = np.random.default_rng([seed, node.position])

    def normal(shape: tuple[int, ...], deviation: float) -> np.ndarray:
        return generator.standard_normal(shape, np.float32) * np.float32(deviation)

    def around(size: int, middle: float) -> np.ndarray:
        return generator.uniform(0.8 * middle, 1.2 * middle, size).astype(np.float32)

    if node.operator == "batch_norm":
        (channels, variance) = node.shape[1], node.options["variance"]
        deviation = 0.1 * variance**0.5
        return {
            "scale": around(channels, 1.0),
            "shift": normal((channels,), 0.1),
            "mean": normal((channels,), deviation),
            "variance": around(channels, variance),
        }
    if node.operator not in ("conv", "dense"):
        return {}
    channels = node.inputs[0].shape[1] // node.options.get("groups", 1)
    shape = (node.shape[1], channels, *(node.options["kernel"],) * 2) if node.operator == "conv" else (node.shape[1], channels)
    weights = {"weight": normal(shape, (2 / int(np.prod(shape[1:]))) ** 0.5)}
    if node.options.get("bias", True):
        weights["bias"] = normal(shape[:1], 0.1)
    return weights
