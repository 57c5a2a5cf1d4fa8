"""Workloads: what an operator computes, apart from how; written and read as AutoTVM's task arguments."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

DENSE, DEPTHWISE = OPERATORS = ("conv2d_nchw", "depthwise_conv2d_nchw")

Pair = tuple[int, int]
Padding = tuple[int, int, int, int]


@dataclass(frozen=True)
class Conv2d:
    """A two-dimensional convolution in NCHW, dense or depthwise.

    - `data`: (N, C, H, W) of the input.
    - `weight`: (C_out, C / groups, KH, KW).
    - `stride`, `dilation`: (vertical, horizontal).
    - `padding`: (top, left, bottom, right).
    - `groups`: 1 for a dense convolution, C for a depthwise one.
    """

    data: tuple[int, int, int, int]
    weight: tuple[int, int, int, int]
    stride: Pair = (1, 1)
    padding: Padding = (0, 0, 0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    dtype: str = "float32"

    def __post_init__(self) -> None:
        channels, (out_channels, per_group) = self.data[1], self.weight[:2]
        if min(*self.data, *self.weight, *self.stride, *self.dilation) < 1 or min(self.padding) < 0:
            raise ValueError(f"conv2d: extents, strides and dilations of {self} must be positive, padding not negative.")
        if self.groups not in (1, channels):
            raise ValueError(f"groups: {self.groups} is neither 1 (dense) nor the {channels} input channels (depthwise).")
        if per_group * self.groups != channels or out_channels % self.groups:
            raise ValueError(
                f"weight: shape {self.weight} does not fit {channels} input channels in {self.groups} group(s); "
                f"it must be (C_out, {channels // self.groups}, KH, KW)."
            )
        if self.groups > 1 and out_channels != channels:
            raise ValueError(f"weight: a depthwise convolution has {channels} filters, one a channel, not {out_channels}.")
        if min(self.output) < 1:
            raise ValueError(f"weight: the kernel of {self.weight} is larger than the padded data {self.data}.")
        if self.dtype != "float32":
            raise ValueError(f"dtype: {self.dtype!r} is not supported; use 'float32'.")

    @property
    def depthwise(self) -> bool:
        """Whether every channel is convolved alone."""
        return self.groups > 1

    @property
    def operator(self) -> str:
        """The operator's name in records and in the registry of templates."""
        return DEPTHWISE if self.depthwise else DENSE

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
    def flop(self) -> int:
        """Floating-point operations of the direct algorithm: a multiplication and an addition for every tap."""
        return 2 * math.prod(self.output) * math.prod(self.weight[1:])

    @property
    def args(self) -> list[Any]:
        """AutoTVM's task arguments: data, weight, stride, padding, dilation, dtype of the result."""
        tensors = [["TENSOR", list(shape), self.dtype] for shape in (self.data, self.weight)]
        return [*tensors, list(self.stride), list(self.padding), list(self.dilation), self.dtype]

    @classmethod
    def from_args(cls, name: str, args: Sequence[Any]) -> Conv2d:
        """Read AutoTVM's task arguments; strides may be a number, padding a number, a pair, four numbers, "SAME" or "VALID".

        **Raises:** `ValueError` if they are not those of a convolution in NCHW.
        """
        try:
            if name not in OPERATORS:
                raise ValueError(f"the operators are {' and '.join(OPERATORS)}")
            (_, data, dtype), (_, weight, _), stride, padding, dilation, *_ = args
            data, weight, stride, dilation = tuple(data), tuple(weight), pair("stride", stride), pair("dilation", dilation)
            if isinstance(padding, str):
                padding = _named_padding(padding, data[2:], weight[2:], stride, dilation)
            groups = data[1] if name == DEPTHWISE else 1
            return cls(data, weight, stride, four_sides(padding), dilation, groups, dtype)
        except (TypeError, ValueError, IndexError) as error:
            raise ValueError(f"args: {args!r} are not the arguments of {name}: {error}") from error

    def prim_func(self) -> Any:
        """The operator as TVM's own PrimFunc `(data, weight, output)`, with its anchor block and a padding block."""
        from tvm import te, topi

        data = te.placeholder(self.data, self.dtype, name="data")
        weight = te.placeholder(self.weight, self.dtype, name="weight")
        arguments = (data, weight, self.stride, self.padding, self.dilation)
        if self.depthwise:
            output = topi.nn.group_conv2d_nchw(*arguments, self.groups, self.dtype)
        else:
            output = topi.nn.conv2d_nchw(*arguments, self.dtype)
        return te.create_prim_func([data, weight, output])

    def reference(
        self, data: Float[np.ndarray, "n c h w"], weight: Float[np.ndarray, "f c kh kw"]
    ) -> Float[np.ndarray, "n f oh ow"]:
        """The result by NumPy: a sum over kernel taps of matrix products with shifted windows of the padded data."""
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
        return result


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


def _named_padding(name: str, extents: Sequence[int], kernel: Sequence[int], stride: Pair, dilation: Pair) -> Padding:
    """TensorFlow's names as TOPI reads them: "SAME" pads kernel - 1 in all, the larger half above and left; "VALID" nothing."""
    if name == "VALID":
        return 0, 0, 0, 0
    if name != "SAME":
        raise ValueError(f"padding {name!r} is neither 'SAME' nor 'VALID'")
    totals = [(k - 1) * d for k, d in zip(kernel, dilation, strict=True)]
    before = [(total + 1) // 2 for total in totals]
    return before[0], before[1], totals[0] - before[0], totals[1] - before[1]
