"""The vocabulary in which a network is written down once, for whatever is built of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, eq=False)
class Node:
    """An operation of a network, which stands for its result.

    - `operator`: the name of the method of `Layers` that wrote it down; "input" for the network's data.
    - `inputs`: whose results it takes.
    - `shape`: of its result; (N, C, H, W) or (N, C).
    - `options`: what the method was told.
    - `position`: its place in the network.
    """

    operator: str
    inputs: tuple[Node, ...]
    shape: tuple[int, ...]
    position: int
    options: Mapping[str, Any] = field(default_factory=dict)


class Layers:
    """Writes down the operations of a network in inference form, data in NCHW; each method is one, and returns its result.

    - `nodes`: what was written down, the input first.
    """

    def __init__(self, shape: tuple[int, int, int, int]) -> None:
        self.nodes: list[Node] = []
        self._write("input", (), shape)

    def conv(
        self, data: Node, filters: int, kernel: int, *, stride: int = 1, padding: int = 0, groups: int = 1, bias: bool = True
    ) -> Node:
        """A convolution with square kernels, strided and padded alike in both directions."""
        shape = (data.shape[0], filters, *self._windows(data, kernel, stride, padding))
        return self._write(
            "conv", (data,), shape, filters=filters, kernel=kernel, stride=stride, padding=padding, groups=groups, bias=bias
        )

    def batch_norm(self, data: Node, *, variance: float = 1.0) -> Node:
        """A batch normalisation with the statistics of training; `variance` is that which the data have, roughly."""
        return self._write("batch_norm", (data,), data.shape, variance=variance)

    def relu(self, data: Node) -> Node:
        """The larger of a number and zero."""
        return self._write("relu", (data,), data.shape)

    def max_pool(self, data: Node, size: int, *, stride: int, padding: int = 0) -> Node:
        """The maxima of square windows; where the last window would not fit there is none."""
        shape = (*data.shape[:2], *self._windows(data, size, stride, padding))
        return self._write("max_pool", (data,), shape, size=size, stride=stride, padding=padding)

    def global_pool(self, data: Node) -> Node:
        """The mean of each channel, (N, C, 1, 1)."""
        return self._write("global_pool", (data,), (*data.shape[:2], 1, 1))

    def dense(self, data: Node, units: int) -> Node:
        """A fully connected layer with a bias."""
        return self._write("dense", (data,), (data.shape[0], units), units=units)

    def add(self, left: Node, right: Node) -> Node:
        """The sum of two results of one shape."""
        return self._write("add", (left, right), left.shape)

    def concat(self, first: Node, *others: Node) -> Node:
        """The channels of all."""
        channels = first.shape[1] + sum(other.shape[1] for other in others)
        return self._write("concat", (first, *others), (first.shape[0], channels, *first.shape[2:]))

    def flatten(self, data: Node) -> Node:
        """All numbers of an image in a row, (N, C * H * W)."""
        return self._write("flatten", (data,), (data.shape[0], math.prod(data.shape[1:])))

    def softmax(self, data: Node) -> Node:
        """Probabilities of the classes, (N, C)."""
        return self._write("softmax", (data,), data.shape)

    def _write(self, operator: str, inputs: tuple[Node, ...], shape: tuple[int, ...], **options: Any) -> Node:
        self.nodes.append(Node(operator, inputs, shape, len(self.nodes), options))
        return self.nodes[-1]

    def _windows(self, data: Node, size: int, stride: int, padding: int) -> tuple[int, int]:
        """How many windows there are, vertically and horizontally."""
        if min(data.shape[2:]) + 2 * padding < size:
            raise ValueError(
                f"image: {self.nodes[0].shape[2]} is too small for the network: {data.shape[2]} pixels of it, padded by "
                f"{padding}, reach a window of {size}."
            )
        rows, columns = ((extent + 2 * padding - size) // stride + 1 for extent in data.shape[2:])
        return rows, columns
