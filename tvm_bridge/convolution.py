"""Convolutions as workloads, dense and depthwise, in NCHW and NHWC, written and read as AutoTVM's task arguments."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float

OPERATORS = {
    "conv2d_nchw": ("NCHW", "OIHW"),
    "depthwise_conv2d_nchw": ("NCHW", "OIHW"),
    "conv2d_nhwc": ("NHWC", "HWIO"),
    "depthwise_conv2d_nhwc": ("NHWC", "HWOI"),
}
"""The operators, with the order in which the axes of data and output, and of weight, lie in memory."""

LAYOUTS = tuple(dict.fromkeys(layout for layout, _ in OPERATORS.values()))
"""The layouts of data and output."""

CHOSEN = "chosen"
"""In place of one layout: for each convolution of a network the faster one, by what was measured."""

Pair = tuple[int, int]
Padding = tuple[int, int, int, int]
T = TypeVar("T")


@dataclass(frozen=True)
class Conv2d:
    """A two-dimensional convolution, dense or depthwise.

    Whatever the layout, `data` and `weight` name their axes in one order; `shapes` are those of the arrays in memory.

    - `data`: (N, C, H, W) of the input.
    - `weight`: (C_out, C / groups, KH, KW).
    - `stride`, `dilation`: (vertical, horizontal).
    - `padding`: (top, left, bottom, right).
    - `groups`: 1 for a dense convolution, C for a depthwise one.
    - `layout`: "NCHW", with weight as OIHW; or "NHWC", with weight as HWIO, or HWOI if depthwise.
    """

    data: tuple[int, int, int, int]
    weight: tuple[int, int, int, int]
    stride: Pair = (1, 1)
    padding: Padding = (0, 0, 0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    dtype: str = "float32"
    layout: str = "NCHW"

    def __post_init__(self) -> None:
        channels, (out_channels, per_group) = self.data[1], self.weight[:2]
        _, weight_axes = array_axes(self.layout, self.groups)
        if min(*self.data, *self.weight, *self.stride, *self.dilation) < 1 or min(self.padding) < 0:
            raise ValueError(f"conv2d: extents, strides and dilations of {self} must be positive, padding not negative.")
        if self.groups not in (1, channels):
            raise ValueError(f"groups: {self.groups} is neither 1 (dense) nor the {channels} input channels (depthwise).")
        if per_group * self.groups != channels or out_channels % self.groups:
            wanted = reordered(("C_out", str(channels // self.groups), "KH", "KW"), "OIHW", weight_axes)
            raise ValueError(
                f"weight: shape {self.shapes[1]} does not fit {channels} input channels in {self.groups} group(s); "
                f"it must be ({', '.join(wanted)})."
            )
        if self.groups > 1 and out_channels != channels:
            raise ValueError(f"weight: a depthwise convolution has {channels} filters, one a channel, not {out_channels}.")
        if min(self.output) < 1:
            raise ValueError(f"weight: the kernel of {self.shapes[1]} is larger than the padded data {self.shapes[0]}.")
        if self.dtype != "float32":
            raise ValueError(f"dtype: {self.dtype!r} is not supported; use 'float32'.")

    @property
    def depthwise(self) -> bool:
        """Whether every channel is convolved alone."""
        return self.groups > 1

    @property
    def operator(self) -> str:
        """The operator's name in records and in the registry of templates."""
        return _operator(self.layout, self.groups)

    @property
    def summary(self) -> str:
        """The convolution in a few words: "conv2d 3×3 / 2, 64 → 128, 56×56"."""
        kernel, extent = ("×".join(map(str, axes[2:])) for axes in (self.weight, self.data))
        stride = f" / {max(self.stride)}" if max(self.stride) > 1 else ""
        channels = f"{self.data[1]}" if self.depthwise else f"{self.data[1]} → {self.weight[0]}"
        return f"{'depthwise' if self.depthwise else 'conv2d'} {kernel}{stride}, {channels}, {extent}"

    @property
    def output(self) -> tuple[int, int, int, int]:
        """(N, C_out, OH, OW) of the result."""
        rows, columns = (
            (extent + before + after - (kernel - 1) * dilation - 1) // stride + 1
            for extent, before, after, kernel, dilation, stride in zip(
                self.data[2:], self.padding[:2], self.padding[2:], self.weight[2:], self.dilation, self.stride, strict=True
            )
        )
        return self.data[0], self.weight[0], rows, columns

    @property
    def shapes(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """Shapes of the arrays: data, weight and output."""
        data, weight = array_axes(self.layout, self.groups)
        return (
            reordered(self.data, "NCHW", data),
            reordered(self.weight, "OIHW", weight),
            reordered(self.output, "NCHW", data),
        )

    @property
    def flop(self) -> int:
        """Floating-point operations of the direct algorithm: a multiplication and an addition for every tap."""
        return 2 * math.prod(self.output) * math.prod(self.weight[1:])

    @property
    def args(self) -> list[Any]:
        """AutoTVM's task arguments: data, weight, stride, padding, dilation, dtype of the result."""
        tensors = [["TENSOR", list(shape), self.dtype] for shape in self.shapes[:2]]
        return [*tensors, list(self.stride), list(self.padding), list(self.dilation), self.dtype]

    @classmethod
    def from_args(cls, name: str, args: Sequence[Any]) -> Conv2d:
        """Read AutoTVM's task arguments; strides may be a number, padding a number, a pair, four numbers, "SAME" or "VALID".

        **Raises:** `ValueError` if they are not those of the operator.
        """
        try:
            if name not in OPERATORS:
                raise ValueError(f"the operators are {', '.join(OPERATORS)}")
            (_, data, dtype), (_, weight, _), stride, padding, dilation, *_ = args
            data_axes, weight_axes = OPERATORS[name]
            data, weight = reordered(data, data_axes, "NCHW"), reordered(weight, weight_axes, "OIHW")
            stride, dilation = pair("stride", stride), pair("dilation", dilation)
            if isinstance(padding, str):
                padding = _named_padding(padding, weight[2:], dilation)
            groups = data[1] if name.startswith("depthwise") else 1
            return cls(data, weight, stride, four_sides(padding), dilation, groups, dtype, data_axes)
        except (TypeError, ValueError, IndexError) as error:
            raise ValueError(f"args: {args!r} are not the arguments of {name}: {error}") from error

    def prim_func(self) -> Any:
        """The operator as TVM's own PrimFunc `(data, weight, output)`, with its anchor block and a padding block."""
        from tvm import te, topi

        (data_shape, weight_shape, _), axes = self.shapes, array_axes(self.layout, self.groups)
        data = te.placeholder(data_shape, self.dtype, name="data")
        weight = te.placeholder(weight_shape, self.dtype, name="weight")
        geometry = self.stride, self.padding, self.dilation, self.groups
        output = topi.nn.conv(data, weight, *geometry, *axes, self.dtype)
        return te.create_prim_func([data, weight, output])

    def reference(
        self, data: Float[np.ndarray, "_ _ _ _"], weight: Float[np.ndarray, "_ _ _ _"]
    ) -> Float[np.ndarray, "_ _ _ _"]:
        """The result by NumPy: a sum over kernel taps of matrix products with shifted windows of the padded data.

        The arrays have the workload's `shapes`.
        """
        data_axes, weight_axes = array_axes(self.layout, self.groups)
        data = data.transpose(reordered(range(4), data_axes, "NCHW"))
        weight = weight.transpose(reordered(range(4), weight_axes, "OIHW"))
        top, left, bottom, right = self.padding
        padded = np.pad(data, ((0, 0), (0, 0), (top, bottom), (left, right)))
        batch, filters, rows, columns = self.output
        result = np.zeros(self.output, self.dtype)
        for ky in range(self.weight[2]):
            for kx in range(self.weight[3]):
                y, x = ky * self.dilation[0], kx * self.dilation[1]
                window = padded[
                    :, :, y : y + rows * self.stride[0] : self.stride[0], x : x + columns * self.stride[1] : self.stride[1]
                ][:, :, :rows, :columns]
                if self.depthwise:
                    result += window * weight[:, 0, ky, kx][:, None, None]
                else:
                    product = weight[:, :, ky, kx] @ window.reshape(batch, self.data[1], rows * columns)
                    result += product.reshape(batch, filters, rows, columns)
        return result.transpose(reordered(range(4), "NCHW", data_axes))


def array_axes(layout: str, groups: int) -> tuple[str, str]:
    """The order in memory of the axes of data and output, and of weight, in groups of 1 or of one channel each.

    **Raises:** `ValueError` for another layout than NCHW and NHWC.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"layout: {layout!r} is not supported; use {' or '.join(map(repr, LAYOUTS))}.")
    return OPERATORS[_operator(layout, groups)]


def reordered(values: Sequence[T], axes: str, wanted: str) -> tuple[T, T, T, T]:
    """Four values, one an axis, in another order of the axes."""
    by_axis = dict(zip(axes, values, strict=True))
    first, second, third, fourth = (by_axis[axis] for axis in wanted)
    return first, second, third, fourth


def _operator(layout: str, groups: int) -> str:
    return f"{'depthwise_' if groups > 1 else ''}conv2d_{layout.lower()}"


def pair(name: str, value: int | Sequence[int]) -> Pair:
    """One number for both directions, or (vertical, horizontal)."""
    first, second = _sides(name, value, {1: (0, 0), 2: (0, 1)}, "a number or (vertical, horizontal)")
    return first, second


def four_sides(value: int | Sequence[int]) -> Padding:
    """One number for all sides, (vertical, horizontal), or (top, left, bottom, right)."""
    wanted = "a number, (vertical, horizontal) or (top, left, bottom, right)"
    top, left, bottom, right = _sides("padding", value, {1: (0,) * 4, 2: (0, 1, 0, 1), 4: (0, 1, 2, 3)}, wanted)
    return top, left, bottom, right


def _sides(name: str, value: int | Sequence[int], spread: dict[int, tuple[int, ...]], wanted: str) -> list[int]:
    """Whole numbers, spread over the directions."""
    try:
        numbers = [operator.index(number) for number in ([value] if not isinstance(value, Iterable) else value)]
        return [numbers[place] for place in spread[len(numbers)]]
    except (TypeError, KeyError):
        raise ValueError(f"{name}: {value!r} is not {wanted}.") from None


def _named_padding(name: str, kernel: Sequence[int], dilation: Pair) -> Padding:
    """TensorFlow's names as TOPI reads them: "SAME" pads kernel - 1 in all, the larger half above and left; "VALID" nothing."""
    if name == "VALID":
        return 0, 0, 0, 0
    if name != "SAME":
        raise ValueError(f"padding {name!r} is neither 'SAME' nor 'VALID'")
    totals = [(k - 1) * d for k, d in zip(kernel, dilation, strict=True)]
    before = [(total + 1) // 2 for total in totals]
    return before[0], before[1], totals[0] - before[0], totals[1] - before[1]
